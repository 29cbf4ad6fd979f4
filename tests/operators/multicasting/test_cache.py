"""`cache`: a known answer is replayed instead of calling the model."""

import asyncio
from typing import Any, Literal

import msgspec
import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st
from reactivex import operators as rxo

import rxllm
from rxllm import operators as ops
from rxllm.chunks import Batch, Chunk, End, Json, Notice, Start, Token, Usage
from rxllm.errors import BadRequestError
from rxllm.models.scripted import ScriptedModel
from rxllm.operators import CacheStore, MemoryStore
from rxllm.testing import COMPLETED, Marbles, no_leaks, run_virtual
from rxllm.valve import StreamScheduler, with_valve
from tests.operators.texts import cut_texts


@pytest.fixture
def store() -> MemoryStore:
    """An empty store."""
    return MemoryStore()


def test_the_first_answer_is_unchanged(marbles: Marbles, store: MemoryStore) -> None:
    stream = marbles.cold("S-a-b-(E,|)").pipe(ops.cache(store, "key"))
    assert marbles.run(stream, until=10) == marbles.expect("S-a-b-(E,|)")
    assert (len(store), store.misses, store.under_way) == (1, 1, {})


def test_the_next_subscription_gets_a_replay_at_once(marbles: Marbles, store: MemoryStore) -> None:
    source = marbles.cold("S-a-b-(E,|)")
    stream = source.pipe(ops.cache(store, "key"))
    first = [event for _, event in marbles.run(stream, until=10)]
    assert marbles.run(stream, until=20) == [(10.0, event) for event in first]
    assert (len(source.subscriptions), store.hits, marbles.timers) == (1, 1, [])


def test_a_replay_with_the_original_pauses(marbles: Marbles, store: MemoryStore) -> None:
    stream = marbles.cold("--S-a---b-(E,|)").pipe(ops.cache(store, "key", timing="original"))
    first = marbles.run(stream, until=20)
    assert marbles.run(stream, until=50) == [(20.0 + time, event) for time, event in first]


def test_another_key_is_another_answer(marbles: Marbles, store: MemoryStore) -> None:
    keys = iter(["one", "two", "one"])
    source = marbles.cold("a(E,|)")
    stream = source.pipe(ops.cache(store, lambda: next(keys)))
    for _ in range(3):
        marbles.run(stream)
    assert (len(source.subscriptions), store.hits, store.misses) == (2, 1, 2)


def test_an_answer_expires_by_the_clock_of_the_scheduler(
    marbles: Marbles, store: MemoryStore
) -> None:
    source = marbles.cold("a-(E,|)")
    stream = source.pipe(ops.cache(store, "key", ttl=60))
    for until in (61.9, 62, 70):  # subscriptions at 0, 61.9 and 62; the answer ends at 2
        marbles.run(stream, until=until)
    assert [begun for begun, _ in source.subscriptions] == [0.0, 62.0]


def test_never_and_empty(marbles: Marbles, store: MemoryStore) -> None:
    assert marbles.run(marbles.cold("").pipe(ops.cache(store, "never")), until=1) == []
    empty = marbles.cold("|").pipe(ops.cache(store, "empty"))
    assert marbles.run(empty, until=3) == [(1.0, COMPLETED)]
    assert len(store) == 0


# Concurrent equal requests.


def test_three_concurrent_misses_make_one_call(store: MemoryStore) -> None:
    """Concurrent misses must share a call instead of making one each."""
    model = ScriptedModel("Once upon a time", by="word", delay=0.5)

    async def main() -> list[str]:
        def ask() -> Any:
            key = ops.cache_key(model, "A story")
            return rxllm.sinks.collect(model.stream("A story").pipe(ops.cache(store, key)))

        async with no_leaks():
            results = [*await asyncio.gather(ask(), ask(), ask()), await ask()]
        return [result.text for result in results]

    assert run_virtual(main()) == ["Once upon a time"] * 4
    assert (len(model.requests), model.completed, store.hits) == (1, 1, 1)


def test_a_late_joiner_of_a_call_gets_the_answer_so_far_and_the_rest(
    marbles: Marbles, store: MemoryStore
) -> None:
    source = marbles.cold("S-a-b-c-(E,|)")
    stream = source.pipe(ops.cache(store, "key"))
    marbles.subscribe(stream)
    marbles.advance_to(5)
    assert marbles.run(stream, until=20) == [
        (5.0, Start("request-1", "model")),
        (5.0, Batch((Token("a"), Token("b")), "ab")),
        (6.0, Token("c")),
        (8.0, End("stop")),
        (8.0, COMPLETED),
    ]
    assert len(source.subscriptions) == 1


def test_when_the_first_subscriber_leaves_the_others_continue(
    marbles: Marbles, store: MemoryStore
) -> None:
    source = marbles.cold("a-b-(E,|)")
    stream = source.pipe(ops.cache(store, "key"))
    first, second = marbles.subscribe(stream), marbles.subscribe(stream)
    marbles.advance_to(1)
    first.dispose()
    marbles.advance_to(9)
    assert second.events == marbles.expect("a-b-(E,|)")
    assert len(store) == 1


def test_when_the_last_subscriber_leaves_the_call_stops_and_nothing_is_stored(
    marbles: Marbles, store: MemoryStore
) -> None:
    source = marbles.cold("a-b-(E,|)")
    stream = source.pipe(ops.cache(store, "key"))
    first, second = marbles.subscribe(stream), marbles.subscribe(stream)
    marbles.advance_to(1)
    first.dispose()
    second.dispose()
    assert (source.subscriptions, marbles.timers) == ([(0.0, 1.0)], [])
    assert (len(store), store.under_way) == (0, {})


def test_a_slow_subscriber_does_not_hold_a_shared_call(
    marbles: Marbles, store: MemoryStore
) -> None:
    stream = marbles.cold("a-b-(E,|)", demand=True).pipe(ops.cache(store, "key"))
    marbles.valve.close()
    slow = marbles.subscribe(stream)
    marbles.advance_to(9)
    assert (slow.events, len(store)) == ([], 1)
    marbles.valve.open()
    assert slow.chunks == [Batch((Token("a"), Token("b")), "ab"), End("stop")]
    assert marbles.valve._callbacks == {}


# Which answers are stored.


@pytest.mark.parametrize("diagram", ["a-#", "a-b|", "a-x(E,|)", "a-c|"])
def test_an_unfinished_stream_is_not_cached(
    marbles: Marbles, store: MemoryStore, diagram: str
) -> None:
    """Failed, without an end, with a gap, and cancelled."""
    lookup = {"x": Notice("lagged", skipped=1), "c": End("cancelled")}
    source = marbles.cold(diagram, lookup=lookup)
    stream = source.pipe(ops.cache(store, "key"))
    marbles.run(stream)
    assert (len(store), store.under_way) == (0, {})
    marbles.run(stream)
    assert len(source.subscriptions) == 2


def test_a_merge_is_cached_once_every_source_has_ended(
    marbles: Marbles, store: MemoryStore
) -> None:
    left, right = marbles.cold("a(E,|)", source="left"), marbles.cold("x(E,|)", source="right")
    cut = marbles.cold("x|", source="right")
    marbles.run(rx.merge(left, right).pipe(ops.cache(store, "whole")))
    marbles.run(rx.merge(left, cut).pipe(ops.cache(store, "cut")))
    assert (len(store), store.get("cut", now=0)) == (1, None)


def test_an_answer_with_a_failed_stream_is_not_stored(marbles: Marbles, store: MemoryStore) -> None:
    attempts = iter([marbles.cold("#"), marbles.cold("b(E,|)")])
    good, bad = marbles.cold("a(E,|)"), rx.defer(lambda _: next(attempts))
    both = ops.side_by_side({"good": good, "bad": bad})
    for _ in range(3):
        events = marbles.run(both.pipe(ops.cache(store, "key")))
    texts = {event.source: event.text for _, event in events if isinstance(event, Token)}
    assert (texts, len(good.subscriptions)) == ({"good": "a", "bad": "b"}, 2)


def test_a_race_with_a_failed_loser_is_not_stored_but_the_winner_alone_is(
    marbles: Marbles, store: MemoryStore
) -> None:
    broken, good = marbles.cold("#"), marbles.cold("-a(E,|)")
    marbles.run(ops.race(broken, good).pipe(ops.cache(store, "the race")))
    marbles.run(ops.race(broken, good.pipe(ops.cache(store, "the stream"))))
    assert (len(store), store.get("the race", now=0)) == (1, None)


def test_a_source_that_failed_and_restarted_is_stored(marbles: Marbles, store: MemoryStore) -> None:
    lookup = {"F": Notice("failed", source="x"), "Q": Notice("restart", source="x")}
    marbles.run(marbles.cold("F-Q-a(E,|)", lookup=lookup).pipe(ops.cache(store, "key")))
    assert len(store) == 1


@pytest.mark.parametrize("value", [float("nan"), [float("inf")], (1, 2)])
def test_an_answer_that_json_can_not_represent_is_not_stored(value: object) -> None:
    store, script = MemoryStore(), [Json(value, complete=True)]

    async def main() -> list[str]:
        reported: list[str] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: reported.append(str(context["exception"]))
        )
        await rxllm.sinks.collect(ScriptedModel(script).stream("Hi").pipe(ops.cache(store, "Hi")))
        return reported

    [reported] = run_virtual(main())
    assert "JSON can't represent" in reported
    assert len(store) == 0


def test_chunks_before_a_restart_are_not_stored(marbles: Marbles, store: MemoryStore) -> None:
    lookup = {"C": End("cancelled")}
    stream = marbles.cold("S-a-C-R-S-b-(E,|)", lookup=lookup).pipe(ops.cache(store, "key"))
    assert Notice("restart") in [event for _, event in marbles.run(stream)]
    assert [event for _, event in marbles.run(stream)] == [
        Start("request-1", "model"),
        Token("b"),
        End("stop"),
        COMPLETED,
    ]


def test_a_restart_of_one_source_does_not_affect_the_other(
    marbles: Marbles, store: MemoryStore
) -> None:
    left = marbles.cold("a-R-b-(E,|)", source="left")
    right = marbles.cold("-x-(E,|)", source="right")
    stream = rx.merge(left, right).pipe(ops.cache(store, "key"))
    marbles.run(stream)
    texts = [event.text for _, event in marbles.run(stream) if isinstance(event, Token)]
    assert texts == ["x", "b"]


def test_leaving_a_replay_stops_it(marbles: Marbles, store: MemoryStore) -> None:
    stream = marbles.cold("a--b--(E,|)").pipe(ops.cache(store, "key", timing="original"))
    marbles.run(stream, until=10)
    recording = marbles.subscribe(stream)
    marbles.advance_to(11)
    recording.dispose()
    assert (recording.events, marbles.timers) == ([(10.0, Token("a"))], [])
    assert marbles.valve._callbacks == {}
    assert marbles.run(stream.pipe(rxo.take(1)))[-1][1] is COMPLETED
    assert marbles.timers == []


@pytest.mark.parametrize("timing", ["at_once", "original"])
def test_a_replay_waits_for_the_valve(marbles: Marbles, store: MemoryStore, timing: Any) -> None:
    stream = marbles.cold("(a,b,E,|)").pipe(ops.cache(store, "key", timing=timing))
    marbles.run(stream, until=9)
    marbles.valve.close()
    marbles.at(15, marbles.valve.open)
    assert marbles.run(stream, until=20) == [
        (15.0, Token("a")),
        (15.0, Token("b")),
        (15.0, End("stop")),
        (15.0, COMPLETED),
    ]


def test_a_subscriber_may_close_its_valve_during_a_replay(
    marbles: Marbles, store: MemoryStore
) -> None:
    stream = marbles.cold("(a,b,E,|)").pipe(ops.cache(store, "key"))
    marbles.run(stream, until=9)
    held = stream.pipe(rxo.do_action(lambda _: marbles.valve.close()))
    recording = marbles.subscribe(held)
    marbles.advance_to(15)
    assert recording.chunks == [Token("a")]


def test_a_valve_that_opens_during_a_replay_does_not_nest_calls(
    marbles: Marbles, store: MemoryStore
) -> None:
    stream = marbles.cold("(a,E,|)").pipe(ops.cache(store, "key"))
    marbles.run(stream, until=9)
    heard: list[tuple[str, Chunk]] = []

    def toggle(chunk: Chunk) -> None:
        heard.append(("begins", chunk))
        marbles.valve.close()
        marbles.valve.open()
        heard.append(("has", chunk))

    stream.subscribe(toggle, scheduler=with_valve(marbles.scheduler, marbles.valve))
    marbles.advance_to(15)
    text, end = Token("a"), End("stop")
    assert heard == [("begins", text), ("has", text), ("begins", end), ("has", end)]


def test_usage_is_replayed_too(marbles: Marbles, store: MemoryStore) -> None:
    stream = marbles.cold("a(U,E,|)", lookup={"U": Usage(3, 4, cost=0.5)})
    for _ in range(2):
        events = marbles.run(stream.pipe(ops.cache(store, "key")))
        assert events[1][1] == Usage(3, 4, cost=0.5)


def test_an_exception_of_a_replays_subscriber_is_reported_to_the_loop(store: MemoryStore) -> None:
    model = ScriptedModel("Hello")

    async def main() -> list[Any]:
        reported: list[Any] = []
        failed: list[Any] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))
        stream = model.stream("Hi").pipe(ops.cache(store, "Hi"))
        await rxllm.sinks.collect(stream)

        def broken(_: Chunk) -> None:
            raise ZeroDivisionError

        stream.subscribe(broken, failed.append, scheduler=StreamScheduler(loop))
        await asyncio.sleep(1)
        assert failed == []
        return reported

    assert [type(error) for error in run_virtual(main())] == [ZeroDivisionError]


# Custom key functions and stores.


class Failing(CacheStore):
    """A store that fails in `get` or `put`."""

    def __init__(self, fails: Literal["get", "put"]) -> None:
        self.fails = fails

    def get(self, key: str, *, now: float) -> bytes | None:
        if self.fails == "get":
            raise OSError("no such disk")
        return None

    def put(self, key: str, answer: bytes, *, now: float, ttl: float | None) -> None:
        raise OSError("the disk is full")


def test_an_exception_of_the_key_function_is_the_error(
    marbles: Marbles, store: MemoryStore
) -> None:
    stream = marbles.cold("a(E,|)").pipe(ops.cache(store, lambda: str(1 // 0)))
    ((_, error),) = marbles.run(stream)
    assert isinstance(error, ZeroDivisionError)


@pytest.mark.parametrize("name", [None, 3])
def test_a_key_function_must_return_a_string(
    marbles: Marbles, store: MemoryStore, name: Any
) -> None:
    source = marbles.cold("a(E,|)")
    ((_, error),) = marbles.run(source.pipe(ops.cache(store, lambda: name)))
    assert isinstance(error, TypeError)
    assert str(error) == f"key must return a string, and returned {name}"
    assert source.subscriptions == []


def test_an_exception_of_get_is_the_error(marbles: Marbles) -> None:
    source = marbles.cold("a(E,|)")
    ((_, error),) = marbles.run(source.pipe(ops.cache(Failing("get"), "key")))
    assert isinstance(error, OSError)
    assert source.subscriptions == []


def test_an_exception_of_put_does_not_fail_the_answer() -> None:
    async def main() -> tuple[str, list[str]]:
        reported: list[str] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: reported.append(context["message"])
        )
        stream = ScriptedModel("Hello").stream("Hi").pipe(ops.cache(Failing("put"), "Hi"))
        return (await rxllm.sinks.collect(stream)).text, reported

    assert run_virtual(main()) == ("Hello", ["an answer could not be cached"])


def test_an_answer_that_can_not_be_decoded_is_a_miss(marbles: Marbles, store: MemoryStore) -> None:
    for old in (b'{"chunks":[[0,{"type":"of_another_version"}]]}', b"\xff", b'{"chunks":[]}'):
        store.put("key", old, now=0, ttl=None)
        stream = marbles.cold("a(E,|)").pipe(ops.cache(store, "key"))
        assert marbles.run(stream)[0][1] == Token("a")


def test_a_custom_store_gets_json_and_seconds(marbles: Marbles) -> None:
    put: list[Any] = []

    class Other(CacheStore):
        def get(self, key: str, *, now: float) -> bytes | None:
            return None

        def put(self, key: str, answer: bytes, *, now: float, ttl: float | None) -> None:
            put.append((key, msgspec.json.decode(answer), now, ttl))

    marbles.run(marbles.cold("a--(E,|)").pipe(ops.cache(Other(), "key", 60)))
    chunks = [[0, {"type": "token", "text": "a"}], [3, {"type": "end", "finishReason": "stop"}]]
    assert put == [("key", {"chunks": chunks}, 3.0, 60)]


# The store in memory.


def test_the_store_is_bounded_by_count_and_evicts_the_least_recently_used(
    store: MemoryStore,
) -> None:
    store = MemoryStore(max_entries=2)
    for key in ("a", "b"):
        store.put(key, b"...", now=0, ttl=None)
    store.get("a", now=1)
    store.put("c", b"...", now=2, ttl=None)
    assert [store.get(key, now=3) for key in "abc"] == [b"...", None, b"..."]


def test_the_store_is_bounded_by_size() -> None:
    store = MemoryStore(max_bytes=10)
    for key in ("a", "b", "c"):
        store.put(key, b"1234", now=0, ttl=None)
    assert (len(store), store.size) == (2, 10)
    store.put("d", b"1234567890", now=0, ttl=None)
    assert (len(store), store.get("d", now=0)) == (2, None)
    store.put("b", b"", now=0, ttl=None)
    assert store.size == 6


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcdef"),
            st.binary(max_size=8),
            st.floats(0, 9),
            st.none() | st.floats(0.1, 9),
        )
    )
)
def test_the_bounds_always_hold(
    puts: list[tuple[str, bytes, float, float | None]],
) -> None:
    store = MemoryStore(max_entries=3, max_bytes=20)
    for key, answer, now, ttl in puts:
        store.put(key, answer, now=now, ttl=ttl)
        assert store.get(key, now=now) == answer
        assert len(store) <= 3
        assert store.size <= 20


@given(cut_texts())
def test_a_replay_equals_the_original_however_the_text_is_split(cut: tuple[str, list[str]]) -> None:
    _, pieces = cut
    marbles, store = Marbles(), MemoryStore()
    model = ScriptedModel([Token(piece) for piece in pieces], delay=1)
    stream = model.stream("Hi").pipe(ops.cache(store, "Hi"))
    first = [event for _, event in marbles.run(stream)]
    assert [event for _, event in marbles.run(stream)] == first
    assert len(model.requests) == 1


# Keys.


def test_only_equal_requests_have_the_same_key() -> None:
    model, other = ScriptedModel("Hi"), ScriptedModel("Hi", name="other")
    key = ops.cache_key(model, "Hi", extra={"a": 1, "b": 2}, stop="x")
    assert key == ops.cache_key(model, "Hi", stop=["x"], extra={"b": 2, "a": 1})
    others = [
        ops.cache_key(other, "Hi", extra={"a": 1, "b": 2}, stop="x"),
        ops.cache_key(model, "Ho", extra={"a": 1, "b": 2}, stop="x"),
        ops.cache_key(model, "Hi", extra={"a": 1, "b": 2}, stop="y"),
        ops.cache_key(model, "Hi"),
        ops.cache_key(model, "Hi", temperature=0),
    ]
    assert len({key, *others}) == 6


def test_the_salt_distinguishes_models_of_the_same_name() -> None:
    one, two = ScriptedModel("Hi"), ScriptedModel("Ho")
    assert ops.cache_key(one, "?") == ops.cache_key(two, "?")
    assert ops.cache_key(one, "?", salt="Hi") != ops.cache_key(two, "?", salt="Ho")
    assert ops.cache_key(one, "?", salt="Hi") == ops.cache_key(one, "?", salt="Hi")


@pytest.mark.parametrize("value", [object(), "\ud800", {1: object()}])
def test_a_request_that_can_not_be_encoded_has_no_key(value: object) -> None:
    with pytest.raises(BadRequestError, match="as JSON"):
        ops.cache_key(ScriptedModel("Hi"), "Hi", extra={"a": value})


def test_an_invalid_request_has_no_key() -> None:
    with pytest.raises(BadRequestError, match="temprature"):
        ops.cache_key(ScriptedModel("Hi"), "Hi", temprature=0)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ({"store": {}}, TypeError),
        ({"key": 3}, TypeError),
        ({"ttl": 0}, ValueError),
        ({"ttl": float("nan")}, ValueError),
        ({"ttl": True}, TypeError),
        ({"ttl": "1"}, TypeError),
        ({"timing": "slow"}, ValueError),
    ],
)
def test_bad_arguments_are_refused_at_the_call(
    store: MemoryStore, bad: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error, match=next(iter(bad))):
        ops.cache(**{"store": store, "key": "key", **bad})


@pytest.mark.parametrize("name", ["max_entries", "max_bytes"])
@pytest.mark.parametrize(
    ("bad", "error"), [(0, ValueError), (float("nan"), TypeError), (True, TypeError)]
)
def test_invalid_limits_of_the_store_are_refused(
    name: str, bad: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match=name):
        MemoryStore(**{name: bad})
