"""`multiplex`: one stream, many subscribers, and the policies for slow ones."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, get_args

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st
from reactivex import operators as rxo
from reactivex.disposable import CompositeDisposable
from reactivex.scheduler import ImmediateScheduler
from reactivex.subject import Subject

import rxllm
from rxllm import operators as ops
from rxllm.bridge import from_async
from rxllm.chunks import (
    Batch,
    Chunk,
    End,
    Json,
    Notice,
    Progress,
    Reasoning,
    Start,
    Token,
    ToolCall,
    Usage,
    text_of,
)
from rxllm.errors import LaggedBehindError, StreamError
from rxllm.iteration import to_async
from rxllm.models.scripted import ScriptedModel
from rxllm.operators import Multiplexed
from rxllm.operators.multicasting._backlogs import OnLag
from rxllm.testing import COMPLETED, Marbles, Recording, no_leaks, run_virtual
from rxllm.valve import StreamScheduler, Valve, valve_of, with_valve
from tests.operators.texts import cut_texts

START = Start("request-1", "model")


def joined(text: str, source: str | None = None) -> Batch:
    """A batch with one token for each character."""
    return Batch(tuple(Token(letter, source=source) for letter in text), text, source=source)


def reader(marbles: Marbles, stream: rx.Observable[Any], valve: Valve) -> Recording:
    """A subscriber with its own demand."""
    return Recording(stream, with_valve(marbles.scheduler, valve))


def closed() -> Valve:
    """The valve of a subscriber that doesn't take chunks yet."""
    valve = Valve()
    valve.close()
    return valve


def share(source: rx.Observable[Any], **options: Any) -> Multiplexed:
    """`source`, multiplexed."""
    return source.pipe(ops.multiplex(**options))


# One stream, many subscribers.


def test_all_subscribers_get_the_same_from_one_upstream_subscription(marbles: Marbles) -> None:
    source = marbles.cold("S-a-b--(E,|)")
    shared = share(source)
    first, second = marbles.subscribe(shared), marbles.subscribe(shared)
    marbles.advance_to(20)
    assert first.events == second.events == marbles.expect("S-a-b--(E,|)")
    assert source.subscriptions == [(0.0, 7.0)]


def test_a_late_joiner_gets_the_answer_so_far_and_then_the_rest(marbles: Marbles) -> None:
    shared = share(marbles.cold("S-a-b--c-d-(E,|)"))
    marbles.subscribe(shared)
    marbles.advance_to(5)
    late = marbles.subscribe(shared)
    marbles.advance_to(20)
    assert late.events == [
        (5.0, START),
        (5.0, joined("ab")),
        (7.0, Token("c")),
        (9.0, Token("d")),
        (11.0, End("stop")),
        (11.0, COMPLETED),
    ]


def test_replayed_tokens_are_those_that_were_sent(marbles: Marbles) -> None:
    parts = (Reasoning("hm"), Token("a", confidence=0.5), Token(" b", number=2))
    lookup = dict(zip("xyz", parts, strict=True))
    shared = share(marbles.cold("x-y-z--|", lookup=lookup))
    marbles.subscribe(shared)
    marbles.advance_to(6)
    assert marbles.subscribe(shared).chunks == [Batch(parts, "a b")]


def test_a_single_token_is_replayed_as_it_is(marbles: Marbles) -> None:
    shared = share(marbles.cold("a--"))
    marbles.subscribe(shared)
    marbles.advance_to(1)
    assert marbles.subscribe(shared).chunks == [Token("a")]


def test_only_the_newest_states_are_replayed_and_everything_else_is_unchanged(
    marbles: Marbles,
) -> None:
    lookup: dict[str, Chunk] = {
        "c": ToolCall("1", "f", "{"),
        "C": ToolCall("1", "f", "{}", complete=True),
        "d": ToolCall("2", "g", "", index=1),
        "j": Json([1]),
        "J": Json([1, 2]),
        "p": Progress(1, 0.5),
        "P": Progress(2, 0.7),
        "U": Usage(1, 1),
        "V": Usage(1, 2),
        "N": Notice("retry"),
    }
    shared = share(marbles.cold("S-N-S-a-p-c-b-j-d-C-U-x-P-J-y-V-", lookup=lookup))
    marbles.subscribe(shared)
    marbles.advance_to(100)
    expected = [START, Notice("retry"), START, Token("a"), lookup["P"], lookup["C"], Token("b")]
    expected += [lookup["J"], lookup["d"], lookup["U"], joined("xy"), lookup["V"]]
    assert marbles.subscribe(shared).chunks == expected


def test_a_value_after_a_complete_one_is_separate(marbles: Marbles) -> None:
    lookup = {"j": Json([1], complete=True), "J": Json([2], complete=True)}
    shared = share(marbles.cold("j-J-", lookup=lookup))
    marbles.subscribe(shared)
    marbles.advance_to(9)
    assert marbles.subscribe(shared).chunks == [lookup["j"], lookup["J"]]


def test_without_replay_a_late_joiner_gets_only_what_follows(marbles: Marbles) -> None:
    shared = share(marbles.cold("S-a-b--c-(E,|)"), replay="none")
    marbles.subscribe(shared)
    marbles.advance_to(5)
    late = marbles.subscribe(shared)
    marbles.advance_to(20)
    assert late.events == [(7.0, Token("c")), (9.0, End("stop")), (9.0, COMPLETED)]


def test_never_and_empty(marbles: Marbles) -> None:
    assert marbles.run(share(marbles.cold("")), until=1) == []
    assert marbles.run(share(marbles.cold("|")), until=2) == [(1.0, COMPLETED)]
    assert marbles.timers == []


def test_the_whole_answer_is_replayed_after_completion(marbles: Marbles) -> None:
    source = marbles.cold("S-a-b-(E,|)")
    shared = share(source)
    marbles.run(shared, until=10)
    assert [event for _, event in marbles.run(shared, until=20)] == [
        START,
        joined("ab"),
        End("stop"),
        COMPLETED,
    ]
    assert len(source.subscriptions) == 1


def test_an_error_reaches_all_subscribers_and_late_joiners(marbles: Marbles) -> None:
    error = ValueError("broken")
    shared = share(marbles.cold("a-#", error=error))
    first, second = marbles.subscribe(shared), marbles.subscribe(shared)
    marbles.advance_to(5)
    late = marbles.subscribe(shared)
    assert first.events[0] == (0.0, Token("a"))
    for heard, time in ((first, 2.0), (second, 2.0), (late, 5.0)):
        *_, (ended, raised) = heard.events
        assert (ended, repr(raised)) == (time, repr(error))


def test_each_subscriber_gets_its_own_copy_of_an_error(marbles: Marbles) -> None:
    """A sink writes the partial text of its own subscriber into the error."""
    error = StreamError("broken")
    shared = share(marbles.cold("a-#", error=error))
    heard = [marbles.subscribe(shared), marbles.subscribe(shared)]
    marbles.advance_to(5)
    heard.append(marbles.subscribe(shared))
    errors = [each.events[-1][1] for each in heard]
    assert len({id(each) for each in errors}) == 3
    assert {type(each) for each in errors} == {StreamError}


def test_two_applications_are_independent(marbles: Marbles) -> None:
    source = marbles.cold("a-|")
    first, second = share(source), share(source)
    marbles.subscribe(first)
    marbles.subscribe(second)
    assert len(source.subscriptions) == 2


def test_sources_of_a_merge_are_kept_apart(marbles: Marbles) -> None:
    left, right = marbles.cold("a-b-|", source="left"), marbles.cold("-x-y-|", source="right")
    shared = share(rx.merge(left, right))
    marbles.subscribe(shared)
    marbles.advance_to(4)
    assert marbles.subscribe(shared).chunks == [joined("ab", "left"), joined("xy", "right")]


def test_a_source_that_pushes_all_at_once(marbles: Marbles) -> None:
    shared = share(rx.from_([Token("a"), Token("b")], scheduler=ImmediateScheduler()))
    assert marbles.subscribe(shared).chunks == [Token("a"), Token("b")]
    assert marbles.subscribe(shared).chunks == [joined("ab")]


# Restart.


def test_a_restart_drops_the_text_before_it(marbles: Marbles) -> None:
    shared = share(marbles.cold("S-a-b-R-S-c-d-"))
    first = marbles.subscribe(shared)
    marbles.advance_to(13)
    assert first.chunks[3] == Notice("restart")
    assert marbles.subscribe(shared).chunks == [START, joined("cd")]


@pytest.mark.parametrize("on_lag", get_args(OnLag))
def test_a_restart_drops_waiting_text(marbles: Marbles, on_lag: OnLag) -> None:
    shared, valve = share(marbles.cold("S-a-b-R-S-c-")), closed()
    recording = reader(marbles, shared.with_policy(on_lag), valve)
    marbles.advance_to(11)
    valve.open()
    assert recording.chunks == [START, Notice("restart"), START, Token("c")]


def test_a_restart_drops_text_that_a_late_joiner_has_not_taken_yet(marbles: Marbles) -> None:
    shared, valve = share(marbles.cold("S-a--R-S-b-")), closed()
    marbles.subscribe(shared)
    marbles.advance_to(3)
    late = reader(marbles, shared, valve)
    marbles.advance_to(15)
    valve.open()
    assert late.chunks == [START, Notice("restart"), START, Token("b")]


@pytest.mark.parametrize("on_lag", get_args(OnLag))
def test_the_usage_of_the_first_attempt_is_sent_before_the_restart(
    marbles: Marbles, on_lag: OnLag
) -> None:
    lookup = {"U": Usage(100, 50), "V": Usage(100, 60), "N": Notice("retry", attempt=2)}
    lookup["P"] = Progress(1, 1.0)
    shared, valve = share(marbles.cold("a-U-P-E-N-R-b-V-E-|", lookup=lookup)), closed()
    recording = reader(marbles, shared.with_policy(on_lag), valve)
    marbles.advance_to(30)
    valve.open()
    kept = [lookup["U"], lookup["P"], lookup["N"], Notice("restart")]
    assert recording.chunks == [*kept, Token("b"), lookup["V"], End("stop")]
    assert marbles.subscribe(shared).chunks == [Token("b"), lookup["V"], End("stop")]


@pytest.mark.parametrize("on_lag", get_args(OnLag))
def test_progress_after_a_restart_follows_it(marbles: Marbles, on_lag: OnLag) -> None:
    lookup = {"P": Progress(9, 9.0), "Q": Progress(1, 1.0)}
    shared, valve = share(marbles.cold("P-R-Q-", lookup=lookup)), closed()
    recording = reader(marbles, shared.with_policy(on_lag), valve)
    marbles.advance_to(9)
    valve.open()
    assert recording.chunks[-2:] == [Notice("restart"), lookup["Q"]]


@pytest.mark.parametrize("on_lag", get_args(OnLag))
def test_a_restart_of_one_source_does_not_affect_the_other(marbles: Marbles, on_lag: OnLag) -> None:
    left, right = marbles.cold("a-R-b-", source="left"), marbles.cold("-x-----", source="right")
    shared, valve = share(rx.merge(left, right)), closed()
    recording = reader(marbles, shared.with_policy(on_lag), valve)
    marbles.advance_to(9)
    valve.open()
    assert recording.chunks == [
        Token("x", source="right"),
        Notice("restart", source="left"),
        Token("b", source="left"),
    ]


# Joining and leaving.


def test_the_last_leaver_stops_the_stream_and_the_next_joiner_restarts_it(
    marbles: Marbles,
) -> None:
    source = marbles.cold("a-b-c-|")
    shared = share(source)
    first, second = marbles.subscribe(shared), marbles.subscribe(shared)
    marbles.advance_to(1)
    first.dispose()
    marbles.advance_to(3)
    second.dispose()
    assert (source.subscriptions, marbles.timers, shared.lags) == ([(0.0, 3.0)], [], [])
    marbles.advance_to(10)
    third = marbles.subscribe(shared)
    marbles.advance_to(20)
    assert third.events[0] == (10.0, Token("a"))
    assert source.subscriptions[1:] == [(10.0, 16.0)]


def test_the_stream_stops_after_the_grace_period(marbles: Marbles) -> None:
    source = marbles.cold("a-b-c----------")
    shared = share(source, grace=5)
    marbles.subscribe(shared).dispose()
    marbles.advance_to(20)
    assert (source.subscriptions, marbles.timers) == ([(0.0, 5.0)], [])


def test_a_joiner_within_the_grace_period_continues_the_stream(marbles: Marbles) -> None:
    source = marbles.cold("a-b-c-d--------|")
    shared = share(source, grace=5)
    first = marbles.subscribe(shared)
    marbles.advance_to(1)
    first.dispose()
    marbles.advance_to(5)
    second = marbles.subscribe(shared)
    marbles.advance_to(20)
    assert second.events == [(5.0, joined("abc")), (6.0, Token("d")), (15.0, COMPLETED)]
    assert (source.subscriptions, marbles.timers) == ([(0.0, 15.0)], [])


def test_a_stream_that_ends_within_the_grace_period_is_replayed(marbles: Marbles) -> None:
    shared = share(marbles.cold("a-b|"), grace=5)
    marbles.subscribe(shared).dispose()
    marbles.advance_to(4)
    assert marbles.timers == []
    assert marbles.subscribe(shared).events == [(4.0, joined("ab")), (4.0, COMPLETED)]


def test_subscriptions_do_not_leak(marbles: Marbles) -> None:
    shared = share(marbles.cold("a-b-|"))
    early = [marbles.subscribe(shared) for _ in range(3)]
    early[0].dispose()
    marbles.subscribe(shared.pipe(rxo.take(1)))
    marbles.advance_to(1)
    assert len(shared.lags) == 2
    marbles.advance_to(9)
    assert (shared.lags, shared.lag, marbles.valve._callbacks) == ([], 0, {})


def test_leaving_in_on_next_does_not_affect_others(marbles: Marbles) -> None:
    shared = share(marbles.cold("a-b-|"))
    once, other = marbles.subscribe(shared.pipe(rxo.take(1))), marbles.subscribe(shared)
    marbles.advance_to(9)
    assert once.chunks == [Token("a")]
    assert other.chunks == [Token("a"), Token("b")]


def test_joining_in_on_next_loses_and_repeats_nothing(
    marbles: Marbles,
) -> None:
    shared, late = share(marbles.cold("a-b-c-|")), list[Recording]()

    def on_next(chunk: Chunk) -> None:
        if chunk == Token("b"):
            late.append(marbles.subscribe(shared))

    shared.subscribe(on_next, scheduler=marbles.scheduler)
    marbles.advance_to(9)
    assert late[0].events == [(2.0, joined("ab")), (4.0, Token("c")), (6.0, COMPLETED)]


def test_chunks_pushed_during_on_next_reach_all_in_order(marbles: Marbles) -> None:
    source = Subject[Chunk]()
    shared = share(source)
    got: list[list[str]] = [[], [], []]

    def answer(chunk: Chunk) -> None:
        got[1].append(text_of(chunk))
        if chunk == Token("a"):
            source.on_next(Token("b"))
            source.on_next(Token("c"))
            source.on_completed()

    shared.subscribe(lambda chunk: got[0].append(text_of(chunk)), scheduler=marbles.scheduler)
    shared.subscribe(answer, scheduler=marbles.scheduler)
    last = marbles.subscribe(shared)
    source.on_next(Token("a"))
    assert got[:2] == [["a", "b", "c"]] * 2
    assert [event for _, event in last.events] == [*map(Token, "abc"), COMPLETED]


@pytest.mark.parametrize("first", ["loop", "marbles"])
@pytest.mark.parametrize("who_stays", ["both", "loop", "marbles"])
def test_subscribers_may_have_different_kinds_of_scheduler(
    marbles: Marbles, first: str, who_stays: str
) -> None:
    async def main() -> None:
        said, closed = asyncio.Queue[Chunk | None](), asyncio.Event()

        async def source() -> AsyncIterator[Chunk]:
            try:
                while (chunk := await said.get()) is not None:
                    yield chunk
            finally:
                await asyncio.sleep(0)
                closed.set()

        async with no_leaks():
            shared = share(from_async(source))
            scheduler = StreamScheduler(asyncio.get_running_loop())
            on_loop: list[Chunk] = []
            if first == "marbles":
                elsewhere = marbles.subscribe(shared)
            reading = shared.subscribe(on_loop.append, scheduler=scheduler)
            if first == "loop":
                elsewhere = marbles.subscribe(shared)
            said.put_nowait(Token("a"))
            await asyncio.sleep(1)
            if who_stays == "loop":
                elsewhere.dispose()
            elif who_stays == "marbles":
                reading.dispose()
            said.put_nowait(Token("b"))
            await asyncio.sleep(1)
            assert on_loop == [*map(Token, "a" if who_stays == "marbles" else "ab")]
            assert elsewhere.chunks == [*map(Token, "a" if who_stays == "loop" else "ab")]
            if who_stays == "both":
                said.put_nowait(None)
                await asyncio.sleep(1)
                assert elsewhere.events[-1][1] is COMPLETED
            elif who_stays == "loop":
                reading.dispose()
            else:
                elsewhere.dispose()
            await closed.wait()

    run_virtual(main())


def test_a_subscriber_that_raises_does_not_end_the_stream_for_others() -> None:
    """Here it is the first subscriber, called from a pump."""

    async def words() -> AsyncIterator[Chunk]:
        for word in ("a", "b", "c"):
            await asyncio.sleep(1)
            yield Token(word)
        yield End("stop")

    def broken(chunk: Chunk) -> None:
        raise ZeroDivisionError(text_of(chunk))

    async def main() -> tuple[str, list[Any]]:
        reports: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
        async with no_leaks():
            shared = share(from_async(words))
            shared.subscribe(broken, reports.append)
            result = await rxllm.sinks.collect(shared)
        return result.text, reports

    text, reports = run_virtual(main())
    assert text == "abc"
    assert [context["message"] for context in reports] == [
        "a subscriber of a shared stream raised and was removed"
    ]
    assert repr(reports[0]["exception"]) == "ZeroDivisionError('a')"


@pytest.mark.parametrize("last", ["|", "#"])
def test_a_subscriber_that_raises_at_the_end_does_not_affect_others(last: str) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    async def main() -> tuple[list[Any], list[Any]]:
        reports, ended = list[Any](), list[Any]()
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
        end = rx.empty() if last == "|" else rx.throw(ValueError("broken"))
        shared = share(rx.timer(1.0).pipe(rxo.flat_map(lambda _: end)))
        shared.subscribe(lambda _: None, broken, broken)
        shared.subscribe(lambda _: None, ended.append, lambda: ended.append(COMPLETED))
        await asyncio.sleep(2)
        return reports, ended

    reports, ended = run_virtual(main())
    assert len(reports) == len(ended) == 1


def test_a_scheduler_without_a_loop_raises_a_subscribers_exception(marbles: Marbles) -> None:
    shared = share(marbles.cold("a-b-|"))

    def broken(_: Chunk) -> None:
        raise ZeroDivisionError

    shared.subscribe(broken, scheduler=marbles.scheduler)
    other = marbles.subscribe(shared)
    with pytest.raises(ZeroDivisionError):
        marbles.advance_to(9)
    marbles.scheduler.stop()
    marbles.advance_to(9)
    assert other.chunks == [Token("a"), Token("b")]


def test_the_upstream_does_not_depend_on_the_first_sink() -> None:
    model = ScriptedModel("a b c d", by="word", delay=1)

    async def main() -> tuple[str, str]:
        async with no_leaks():
            shared = share(model.stream("Hi"))
            first = asyncio.create_task(rxllm.sinks.collect(shared.pipe(rxo.take(2))))
            second = asyncio.create_task(rxllm.sinks.collect(shared))
            return (await first).text, (await second).text

    assert run_virtual(main()) == ("a", "a b c d")
    assert model.completed == 1


def test_the_last_sink_waits_for_the_clean_up_of_the_upstream() -> None:
    closed: list[float] = []

    async def words() -> AsyncIterator[Chunk]:
        try:
            yield Token("a")
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(2)
            closed.append(asyncio.get_running_loop().time())

    async def main() -> float:
        loop = asyncio.get_running_loop()
        async with no_leaks():
            shared = share(from_async(words))
            sink = asyncio.create_task(rxllm.sinks.collect(shared))
            loop.call_later(3, sink.cancel)
            await asyncio.wait([sink])
        return loop.time()

    assert run_virtual(main()) == 5.0
    assert closed == [5.0]


def test_a_stream_whose_event_loop_was_closed_is_started_again() -> None:
    model = ScriptedModel("a b c", by="word", delay=1)
    shared = share(model.stream("Hi"), grace=60)

    async def some() -> str:
        return (await rxllm.sinks.collect(shared.pipe(rxo.take(2)))).text

    async def everything() -> str:
        return (await asyncio.wait_for(rxllm.sinks.collect(shared), 100)).text

    assert run_virtual(some()) == "a"
    assert run_virtual(everything()) == "a b c"
    assert run_virtual(everything()) == "a b c"  # complete, so replayed
    assert len(model.requests) == 2


# Demand: each subscriber has its own, and a policy for lag.


def test_block_holds_the_source_while_the_queue_is_full(marbles: Marbles) -> None:
    """At most `capacity` chunks wait, and the source continues when half of them are taken."""
    valve = closed()
    shared = share(marbles.cold("a-b-c-d-e-f-g|", demand=True), capacity=4)
    fast, slow = marbles.subscribe(shared), reader(marbles, shared, valve)
    marbles.advance_to(20)
    assert (shared.lags, shared.lag, slow.events) == ([0, 4], 4, [])
    assert len(fast.events) == 4
    valve.open()
    assert slow.chunks == fast.chunks == [Token(letter) for letter in "abcdefg"]


def test_a_leaving_subscriber_releases_its_hold(marbles: Marbles) -> None:
    """With the policy `"block"`."""
    shared = share(marbles.cold("a-b-c-d|", demand=True), capacity=1)
    fast, slow = marbles.subscribe(shared), reader(marbles, shared, closed())
    marbles.advance_to(9)
    assert len(fast.events) == 1
    slow.dispose()
    assert fast.events[-1] == (9.0, COMPLETED)


def test_a_slow_reader_holds_a_source_behind_a_pump_and_gets_all() -> None:
    produced = 0

    async def numbers() -> AsyncIterator[Chunk]:
        nonlocal produced
        for number in range(100):
            produced += 1
            yield Token(f"{number} ")

    async def main() -> tuple[str, int]:
        async with no_leaks():
            shared = share(from_async(numbers), capacity=4)
            fast = asyncio.create_task(rxllm.sinks.collect(shared))
            taken = most = 0
            async for chunk in to_async(shared, capacity=1):
                await asyncio.sleep(1)
                taken += len(chunk.chunks) if isinstance(chunk, Batch) else 1
                most = max(most, produced - taken)
            return (await fast).text, most

    text, most = run_virtual(main())
    assert text == "".join(f"{number} " for number in range(100))
    assert most <= 4 + 2  # its queue, one in `to_async`, one in the pump


def test_block_keeps_everything_from_a_source_without_demand(
    marbles: Marbles,
) -> None:
    shared, valve = share(marbles.cold("a-b-c-d|"), capacity=1), closed()
    slow = reader(marbles, shared, valve)
    marbles.advance_to(9)
    valve.open()
    assert slow.chunks == [Token(letter) for letter in "abcd"]


def test_drop_oldest_keeps_the_newest_and_reports_the_gap(marbles: Marbles) -> None:
    shared, valve = share(marbles.cold("S-a-b-c-d-(U,E,|)", lookup={"U": Usage(1, 4)})), closed()
    slow = reader(marbles, shared.with_policy("drop_oldest", 2), valve)
    marbles.advance_to(20)
    assert shared.lag == 7
    valve.open()
    assert [event for _, event in slow.events] == [
        START,
        Notice("lagged", skipped=2),
        Token("c"),
        Token("d"),
        Usage(1, 4),
        End("stop"),
        COMPLETED,
    ]


def test_gaps_are_reported_per_source(marbles: Marbles) -> None:
    left, right = marbles.cold("a-b---", source="left"), marbles.cold("-x-y-z", source="right")
    shared, valve = share(rx.merge(left, right)), closed()
    slow = reader(marbles, shared.with_policy("drop_oldest", 2), valve)
    marbles.advance_to(9)
    valve.open()
    assert slow.chunks == [
        Notice("lagged", skipped=2, source="left"),
        Notice("lagged", skipped=1, source="right"),
        Token("y", source="right"),
        Token("z", source="right"),
    ]


def test_latest_keeps_the_newest_of_each_kind(marbles: Marbles) -> None:
    lookup = {"r": Reasoning("hm"), "p": Progress(1, 0.5), "P": Progress(2, 0.7)}
    shared, valve = share(marbles.cold("S-a-r-p-b-P-c", lookup=lookup)), closed()
    slow = reader(marbles, shared.with_policy("latest"), valve)
    marbles.advance_to(20)
    valve.open()
    assert slow.chunks == [
        START,
        Notice("lagged", skipped=2),
        Reasoning("hm"),
        Progress(2, 0.7),
        Token("c"),
    ]


def test_a_complete_tool_call_or_value_is_never_dropped(marbles: Marbles) -> None:
    lookup = {"C": ToolCall("1", "f", "{}", complete=True), "J": Json([1], complete=True)}
    policies: list[OnLag] = ["latest", "drop_oldest"]
    for policy in policies:
        marbles = Marbles()
        shared, valve = share(marbles.cold("C-J-a-b-c", lookup=lookup)), closed()
        slow = reader(marbles, shared.with_policy(policy, 1), valve)
        marbles.advance_to(20)
        valve.open()
        assert slow.chunks[:2] == [lookup["C"], lookup["J"]]


def test_coalesce_joins_waiting_chunks_and_loses_nothing(marbles: Marbles) -> None:
    valve = Valve()
    marbles.at(1, valve.close)
    marbles.at(9, valve.open)
    shared = share(marbles.cold("S-a-b-c---d-(E,|)"))
    slow = reader(marbles, shared.with_policy("coalesce"), valve)
    marbles.advance_to(20)
    assert slow.events == [
        (0.0, START),
        (9.0, joined("abc")),
        (10.0, Token("d")),
        (12.0, End("stop")),
        (12.0, COMPLETED),
    ]


def test_evict_removes_only_the_slow_subscriber(marbles: Marbles) -> None:
    shared = share(marbles.cold("a-b-c-d|"))
    fast = marbles.subscribe(shared)
    slow = reader(marbles, shared.with_policy("evict", 2), closed())
    marbles.advance_to(9)
    ((time, error),) = slow.events
    assert time == 4.0
    assert isinstance(error, LaggedBehindError)
    assert "2 chunks behind" in str(error)
    assert rxllm.errors.classify_error(error) == "raise"
    assert fast.events[-1] == (7.0, COMPLETED)


def test_a_subscriber_evicted_during_on_next_gets_the_error_afterwards(
    marbles: Marbles,
) -> None:
    source: Subject[Chunk] = Subject()
    shared, valve, heard = share(source, on_lag="evict", capacity=1), Valve(), list[Any]()

    def on_next(chunk: Chunk) -> None:
        heard.append(f"begins {text_of(chunk)}")
        for text in "cde":
            source.on_next(Token(text))
        heard.append(f"has {text_of(chunk)}")

    shared.subscribe(
        on_next,
        lambda error: heard.append(type(error)),
        scheduler=with_valve(marbles.scheduler, valve),
    )
    valve.close()
    source.on_next(Token("a"))
    valve.open()
    assert heard == ["begins a", "has a", LaggedBehindError]
    assert (shared.lags, source.observers, valve._callbacks) == ([], [], {})


def test_evicting_the_last_subscriber_stops_the_stream(marbles: Marbles) -> None:
    source = marbles.cold("a-b-c-d|")
    reader(marbles, share(source, on_lag="evict", capacity=1), closed())
    marbles.advance_to(9)
    assert source.subscriptions == [(0.0, 2.0)]


def test_by_default_1024_chunks_may_wait(marbles: Marbles) -> None:
    source = Subject[Chunk]()
    shared = share(source)
    slow = [
        reader(marbles, stream, closed())
        for stream in (share(source, on_lag="evict"), shared.with_policy("evict"))
    ]
    for _ in range(1024):
        source.on_next(Token("a"))
    assert [recording.events for recording in slow] == [[], []]
    source.on_next(Token("a"))
    assert [type(recording.events[-1][1]) for recording in slow] == [LaggedBehindError] * 2


def test_lag_of_all_and_of_one_policy(marbles: Marbles) -> None:
    shared = share(marbles.cold("a-b-c-d--"))
    patient, hasty = shared.with_policy("coalesce"), shared.with_policy("latest")
    marbles.subscribe(shared)
    reader(marbles, patient, closed())
    marbles.advance_to(3)
    reader(marbles, hasty, closed())
    marbles.advance_to(9)
    assert (shared.lags, patient.lags, hasty.lags) == ([0, 4, 4], [4], [4])
    assert (shared.lag, patient.lag, share(rx.never()).lag) == (4, 4, 0)


def test_a_chunk_sent_reentrantly_before_an_operator_raised_is_dropped() -> None:
    """Neither the subscribers that got the error nor late joiners receive it."""

    def subscribe(observer: Any, scheduler: Any) -> Any:
        upstream = valve_of(scheduler)

        def on_valve(is_open: bool) -> None:
            if not is_open:
                observer.on_next(Token("b"))
                raise KeyError("mine")

        return CompositeDisposable(
            upstream.on_change(on_valve),
            scheduler.schedule(lambda *_: observer.on_next(Token("a"))),
        )

    async def main() -> list[list[Any]]:
        shared = share(rx.create(subscribe), capacity=1)
        heard: list[list[Any]] = []
        for _ in range(2):
            got: list[Any] = []
            heard.append(got)
            loop, valve = asyncio.get_running_loop(), closed()
            shared.subscribe(got.append, got.append, scheduler=StreamScheduler(loop, valve))
            await asyncio.sleep(1)
            valve.open()
        return heard

    (first, late) = run_virtual(main())
    assert [type(each) for each in first] == [Token, KeyError]
    assert [type(each) for each in late] == [Token, KeyError]
    assert first[0] == late[0] == Token("a")


@pytest.mark.parametrize("on_lag", get_args(OnLag))
def test_the_end_follows_the_waiting_chunks(marbles: Marbles, on_lag: OnLag) -> None:
    for last in "|#":
        marbles = Marbles()
        shared, valve = share(marbles.cold(f"a-{last}")), closed()
        slow = reader(marbles, shared.with_policy(on_lag), valve)
        marbles.advance_to(5)
        assert slow.events == []
        valve.open()
        assert [time for time, _ in slow.events] == [5.0, 5.0]
        assert slow.chunks == [Token("a")]
        assert valve._callbacks == {}


def test_the_replay_for_a_late_joiner_waits_for_its_valve(marbles: Marbles) -> None:
    shared, valve = share(marbles.cold("S-a-b-c-|")), closed()
    marbles.subscribe(shared)
    marbles.advance_to(5)
    late = reader(marbles, shared.with_policy("evict", 1), valve)
    marbles.advance_to(7)
    assert (late.events, shared.lags) == ([], [0, 4])
    valve.open()
    assert late.events == [(7.0, START), (7.0, joined("ab")), (7.0, Token("c"))]


@pytest.mark.parametrize(
    ("on_lag", "most"),
    [("block", 64), ("drop_oldest", 70), ("latest", 12), ("coalesce", 12), ("evict", 64)],
)
def test_the_queue_of_a_stalled_subscriber_stays_bounded(
    marbles: Marbles, on_lag: OnLag, most: int
) -> None:
    """A stalled subscriber with a capacity of 64, and an answer of 10 000 chunks."""
    kinds: list[Chunk] = [
        Token("t"),
        Progress(1, 0.1),
        Reasoning("r"),
        ToolCall("1", "f"),
        Json({}),
    ]
    model = ScriptedModel([START, *kinds * 2000])
    shared = share(model.stream("Hi"), on_lag=on_lag, capacity=64)
    slow = reader(marbles, shared, closed())
    marbles.advance_to(9)
    readers = shared._hub.readers
    assert (readers == ()) == (on_lag == "evict")
    assert all(len(each._queue) <= most for each in readers)
    slow.dispose()


def test_a_valve_that_flickers_in_on_next_does_not_grow_the_stack(
    marbles: Marbles,
) -> None:
    got, valve = list[str](), closed()
    shared = share(rx.from_([Token("a")] * 3000, scheduler=ImmediateScheduler()))

    def on_next(chunk: Chunk) -> None:
        got.append(text_of(chunk))
        valve.close()
        valve.open()

    shared.subscribe(on_next, scheduler=with_valve(marbles.scheduler, valve))
    valve.open()
    assert len(got) == 3000


@given(cut_texts(), st.sampled_from(["block", "coalesce"]), st.data())
def test_the_joined_text_is_the_same_whenever_one_joins_and_lags(
    cut: tuple[str, list[str]], on_lag: OnLag, data: st.DataObject
) -> None:
    text, pieces = cut
    marbles, valve = Marbles(), Valve()
    shared = share(ScriptedModel([Token(piece) for piece in pieces], delay=1).stream("Hi"))
    marbles.subscribe(shared)
    joins, *times = sorted(data.draw(st.lists(st.integers(1, 20), min_size=1, unique=True)))
    marbles.advance_to(joins)
    late = reader(marbles, shared.with_policy(on_lag, 2), valve)
    for time in times:
        marbles.advance_to(time)
        valve.close() if valve.is_open else valve.open()
    valve.open()
    marbles.advance_to(100)
    assert "".join(map(text_of, late.chunks)) == text
    assert late.events[-1][1] is COMPLETED


@pytest.mark.parametrize(
    "bad", [{"replay": "some"}, {"on_lag": "wait"}, {"capacity": 0}, {"grace": -1.0}]
)
def test_bad_arguments_are_refused_at_the_call(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        ops.multiplex(**bad)


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ({"capacity": float("nan")}, TypeError),
        ({"capacity": 1.5}, TypeError),
        ({"capacity": True}, TypeError),
        ({"grace": True}, TypeError),
        ({"grace": "1"}, TypeError),
        ({"grace": float("inf")}, ValueError),
        ({"grace": float("nan")}, ValueError),
    ],
)
def test_invalid_numbers_are_refused_at_the_call(
    bad: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error, match=next(iter(bad))):
        ops.multiplex(**bad)


def test_a_bad_policy_is_refused_at_the_call() -> None:
    with pytest.raises(ValueError, match="on_lag must be one of"):
        share(rx.never()).with_policy("wait")  # type: ignore[arg-type]
