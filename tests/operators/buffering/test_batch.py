"""`batch`: full by count or by time, and the last one is flushed."""

from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st

from rxllm import operators as ops
from rxllm.chunks import Batch, End, Notice, Reasoning, Start, Token, Usage, text_of
from rxllm.iteration import to_async
from rxllm.models.scripted import ScriptedModel
from rxllm.testing import COMPLETED, Marbles, no_leaks, run_virtual


def packed(text: str, source: str | None = None) -> Batch:
    """A batch with one token for each character."""
    return Batch(tuple(Token(letter, source=source) for letter in text), text, source=source)


def test_a_full_batch_is_sent_at_once_and_the_last_one_at_the_end(marbles: Marbles) -> None:
    stream = marbles.cold("S-a-b-c-d-(E,|)").pipe(ops.batch(size=3, seconds=60))
    assert marbles.run(stream) == [
        (0.0, Start("request-1", "model")),
        (6.0, packed("abc")),
        (10.0, packed("d")),
        (10.0, End("stop")),
        (10.0, COMPLETED),
    ]


def test_without_an_end_chunk_the_last_batch_is_sent_before_completion(marbles: Marbles) -> None:
    stream = marbles.cold("a-b--|").pipe(ops.batch(size=3, seconds=60))
    assert marbles.run(stream) == [(5.0, packed("ab")), (5.0, COMPLETED)]


def test_never_and_empty(marbles: Marbles) -> None:
    assert marbles.run(marbles.cold("").pipe(ops.batch()), until=1) == []
    assert marbles.run(marbles.cold("|").pipe(ops.batch()), until=2) == [(1.0, COMPLETED)]
    assert marbles.timers == []


def test_held_chunks_are_sent_before_an_error(marbles: Marbles) -> None:
    error = ValueError("broken")
    stream = marbles.cold("a-b-#", error=error).pipe(ops.batch(size=3, seconds=60))
    assert marbles.run(stream) == [(4.0, packed("ab")), (4.0, error)]


def test_a_restart_drops_held_chunks(marbles: Marbles) -> None:
    stream = marbles.cold("a-b-R-c-|").pipe(ops.batch(size=3, seconds=60))
    assert marbles.run(stream) == [
        (4.0, Notice("restart")),
        (8.0, packed("c")),
        (8.0, COMPLETED),
    ]


def test_the_timer_of_a_dropped_batch_does_not_shorten_the_next_one(marbles: Marbles) -> None:
    stream = marbles.cold("a-R-b-------|").pipe(ops.batch(size=3, seconds=5))
    assert marbles.run(stream)[1] == (9.0, packed("b"))


def test_a_restart_with_nothing_after_it_leaves_no_timer(marbles: Marbles) -> None:
    events = marbles.run(marbles.cold("a-R---------|").pipe(ops.batch(size=3, seconds=5)))
    assert events == [(2.0, Notice("restart")), (12.0, COMPLETED)]


def test_early_disposal_leaves_nothing(marbles: Marbles) -> None:
    source = marbles.cold("a-b-c-|")
    recording = marbles.subscribe(source.pipe(ops.batch(size=9, seconds=60)))
    marbles.advance_to(3)
    recording.dispose()
    assert (recording.events, marbles.timers) == ([], [])
    assert source.subscriptions == [(0.0, 3.0)]


@pytest.mark.parametrize(("size", "seconds"), [(5, 0.05), (10, 0.1)])
def test_batches_of_5_or_50_ms_and_of_10_or_100_ms_by_count(size: int, seconds: float) -> None:
    marbles = Marbles(seconds=0.001)
    stream = marbles.cold("abc" * 4 + "-x" * size + "-|").pipe(ops.batch(size, seconds))
    batches = [event for _, event in marbles.run(stream) if isinstance(event, Batch)]
    assert [len(batch.chunks) for batch in batches] == [size, 1]


@pytest.mark.parametrize(("size", "seconds"), [(5, 0.05), (10, 0.1)])
def test_a_batch_is_sent_on_time_without_another_token(size: int, seconds: float) -> None:
    marbles = Marbles(seconds=0.01)
    stream = marbles.cold("--a-b").pipe(ops.batch(size, seconds))
    assert marbles.run(stream, until=5) == [(round(0.02 + seconds, 6), packed("ab"))]
    assert marbles.timers == []


def test_no_token_is_lost_when_time_flushes() -> None:
    marbles = Marbles(seconds=0.01)
    stream = marbles.cold("a--------" * 12 + "|").pipe(ops.batch())
    batches = [event for _, event in marbles.run(stream) if isinstance(event, Batch)]
    assert sum(len(batch.chunks) for batch in batches) == 12
    assert len(batches) == 6


def test_one_timer_gives_every_batch_its_full_time(marbles: Marbles) -> None:
    recording = marbles.subscribe(marbles.hot("a-b-c--d-------").pipe(ops.batch(3, 6)))
    marbles.advance_to(4.5)
    assert (recording.events, marbles.timers) == ([(4.0, packed("abc"))], [6.0, 7.0])
    marbles.advance_to(20)
    assert recording.events[1:] == [(13.0, packed("d"))]
    assert marbles.timers == []


def test_empty_text_is_dropped_and_starts_no_batch(marbles: Marbles) -> None:
    lookup = {"n": Token(""), "r": Reasoning(""), "B": Batch((Token(""), Token("b")), "b")}
    stream = marbles.cold("(n,r)-----a-n-B|", lookup=lookup).pipe(ops.batch(size=2, seconds=3))
    assert marbles.run(stream) == [
        (13.0, packed("a")),
        (15.0, packed("b")),
        (15.0, COMPLETED),
    ]


def test_batches_of_one(marbles: Marbles) -> None:
    stream = marbles.cold("a-b|").pipe(ops.batch(size=1))
    assert marbles.run(stream)[:2] == [(0.0, packed("a")), (2.0, packed("b"))]


def test_subscriptions_are_independent(marbles: Marbles) -> None:
    stream = marbles.cold("a-b-|").pipe(ops.batch(3, 60))
    first, second = marbles.subscribe(stream), marbles.subscribe(stream)
    marbles.advance_to(9)
    assert first.events == second.events == [(4.0, packed("ab")), (4.0, COMPLETED)]


def test_sources_are_packed_separately(marbles: Marbles) -> None:
    left = marbles.cold("a-b-c-d-E|", source="left")
    right = marbles.cold("-x-y-----z|", source="right")
    stream = rx.merge(left, right).pipe(ops.batch(3, 60))
    assert marbles.run(stream) == [
        (4.0, packed("abc", "left")),
        (8.0, packed("d", "left")),
        (8.0, End("stop", source="left")),
        (9.0, packed("xyz", "right")),
        (10.0, COMPLETED),
    ]


def test_a_restart_of_one_source_leaves_the_other_alone(marbles: Marbles) -> None:
    left = marbles.cold("a-R-----|", source="left")
    right = marbles.cold("-x-y----|", source="right")
    events = marbles.run(rx.merge(left, right).pipe(ops.batch(9, 60)))
    assert events[1:] == [(8.0, packed("xy", "right")), (8.0, COMPLETED)]


def test_a_chunk_without_a_source_flushes_all_sources(marbles: Marbles) -> None:
    left, whole = marbles.cold("a---|", source="left"), marbles.cold("--E|")
    events = marbles.run(rx.merge(left, whole).pipe(ops.batch(9, 60)))
    assert events[:2] == [(2.0, packed("a", "left")), (2.0, End("stop"))]


def test_batches_are_repacked_and_reasoning_is_not_text(marbles: Marbles) -> None:
    parts = (Reasoning("hm"), Token("a"), Token("b"))
    lookup = {"B": Batch(parts, "ab"), "r": Reasoning("so"), "U": Usage(1, 2)}
    stream = marbles.cold("B-r-B-U|", lookup=lookup).pipe(ops.batch(4, 60))
    assert [event for _, event in marbles.run(stream)] == [
        Batch((*parts, Reasoning("so")), "ab"),
        Batch(parts, "ab"),
        Usage(1, 2),
        COMPLETED,
    ]


def test_a_batch_whose_time_is_up_waits_for_the_valve(marbles: Marbles) -> None:
    marbles.at(1, marbles.valve.close)
    marbles.at(9, marbles.valve.open)
    stream = marbles.cold("a-b---------c---|").pipe(ops.batch(size=9, seconds=3))
    assert marbles.run(stream) == [
        (9.0, packed("ab")),
        (15.0, packed("c")),
        (16.0, COMPLETED),
    ]


def test_after_the_valve_has_opened_the_time_limit_still_holds(marbles: Marbles) -> None:
    marbles.at(2, marbles.valve.close)
    marbles.at(9, marbles.valve.open)
    left = marbles.hot("-a" + "-" * 20, source="left")
    right = marbles.hot("-------x" + "-" * 20, source="right")
    events = marbles.run(rx.merge(left, right).pipe(ops.batch(9, 5)))
    assert events == [(9.0, packed("a", "left")), (12.0, packed("x", "right"))]


def test_at_most_a_full_batch_is_held_while_the_valve_is_closed(marbles: Marbles) -> None:
    marbles.valve.close()
    recording = marbles.subscribe(marbles.cold("a-b-c-d").pipe(ops.batch(3, 1)))
    marbles.advance_to(20)
    assert recording.events == [(4.0, packed("abc"))]


def test_demand_reaches_the_source(marbles: Marbles) -> None:
    marbles.at(1, marbles.valve.close)
    recording = marbles.subscribe(marbles.cold("a-b-c", demand=True).pipe(ops.batch(3, 60)))
    marbles.advance_to(9)
    assert recording.events == []


@pytest.mark.parametrize("diagram", ["a|", "a#", "a"])
def test_no_valve_callback_is_left_behind(marbles: Marbles, diagram: str) -> None:
    recording = marbles.subscribe(marbles.cold(diagram).pipe(ops.batch(9, 60)))
    marbles.advance_to(9)
    recording.dispose()
    assert marbles.valve._callbacks == {}


def test_nothing_leaks_on_an_event_loop() -> None:
    async def main() -> list[Any]:
        stream = ScriptedModel("a b c", by="word", delay=0.07).stream("Hi").pipe(ops.batch())
        async with no_leaks():
            return [chunk async for chunk in to_async(stream)]

    chunks = run_virtual(main())
    assert [chunk.text for chunk in chunks if isinstance(chunk, Batch)] == ["a b", " c"]


@given(
    st.lists(st.text(max_size=4)),
    st.integers(min_value=1, max_value=9),
    st.integers(min_value=1, max_value=9),
)
def test_the_joined_text_is_the_same(pieces: list[str], size: int, seconds: int) -> None:
    marbles = Marbles()
    model = ScriptedModel([Token(piece) for piece in pieces], delay=1)
    events = marbles.run(model.stream("Hi").pipe(ops.batch(size, seconds)))
    assert "".join(text_of(event) for _, event in events) == "".join(pieces)
    sizes = [len(event.chunks) for _, event in events if isinstance(event, Batch)]
    assert sum(sizes) == len(list(filter(None, pieces)))
    assert all(1 <= length <= size for length in sizes)


@pytest.mark.parametrize("bad", [{"size": 0}, {"seconds": 0}, {"seconds": float("inf")}])
def test_bad_arguments_are_rejected_at_the_call(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        ops.batch(**bad)


@pytest.mark.parametrize("size", [1.5, 2.0, True, "2", float("nan"), float("inf")])
def test_a_size_that_is_not_an_integer_is_rejected_at_the_call(size: Any) -> None:
    with pytest.raises(TypeError, match="size"):
        ops.batch(size)


@pytest.mark.parametrize("seconds", [True, "1", None])
def test_seconds_that_are_not_a_number_are_rejected_at_the_call(seconds: Any) -> None:
    with pytest.raises(TypeError, match="seconds"):
        ops.batch(5, seconds)
