"""`buffered`: a bounded buffer that pauses the producer, and its status."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st

from rxllm import operators as ops
from rxllm.chunks import Chunk, End, Notice, Progress, Start, Token, Usage, text_of
from rxllm.iteration import to_async
from rxllm.models.scripted import ScriptedModel
from rxllm.testing import COMPLETED, Marbles, no_leaks, run_virtual
from rxllm.valve import StreamScheduler, Valve, clock_of, with_valve
from tests.operators.texts import cut_texts, text_after


def figures(status: ops.BufferStatus) -> tuple[int, bool, float]:
    """The queued, paused and pressure values of `status`."""
    return status.queued, status.paused, round(status.pressure, 3)


def test_chunks_pass_straight_through_an_open_valve(marbles: Marbles) -> None:
    diagram = "S-a-b-(E,|)"
    assert marbles.run(marbles.cold(diagram).pipe(ops.buffered())) == marbles.expect(diagram)


def test_chunks_wait_in_order_while_the_valve_is_closed(marbles: Marbles) -> None:
    marbles.at(3, marbles.valve.close)
    marbles.at(9, marbles.valve.open)
    assert marbles.run(marbles.cold("S-a-b-(E,|)").pipe(ops.buffered())) == [
        (0.0, Start("request-1", "model")),
        (2.0, Token("a")),
        (9.0, Token("b")),
        (9.0, End("stop")),
        (9.0, COMPLETED),
    ]


def test_never_and_empty(marbles: Marbles) -> None:
    assert marbles.run(marbles.cold("").pipe(ops.buffered()), until=1) == []
    assert marbles.run(marbles.cold("|").pipe(ops.buffered()), until=3) == [(1.0, COMPLETED)]


def test_an_error_waits_behind_queued_chunks(marbles: Marbles) -> None:
    error = ValueError("broken")
    marbles.at(1, marbles.valve.close)
    marbles.at(9, marbles.valve.open)
    stream = marbles.cold("a-b-#", error=error).pipe(ops.buffered())
    assert marbles.run(stream) == [(0.0, Token("a")), (9.0, Token("b")), (9.0, error)]


def test_a_restart_drops_queued_chunks_of_its_stream(marbles: Marbles) -> None:
    marbles.valve.close()
    marbles.at(9, marbles.valve.open)
    left = marbles.cold("a-R-b|", source="left")
    right = marbles.cold("-x----|", source="right")
    assert [event for _, event in marbles.run(rx.merge(left, right).pipe(ops.buffered()))] == [
        Token("x", source="right"),
        Notice("restart", source="left"),
        Token("b", source="left"),
        COMPLETED,
    ]


def test_a_restart_without_a_source_drops_everything(marbles: Marbles) -> None:
    marbles.valve.close()
    marbles.at(9, marbles.valve.open)
    events = marbles.run(marbles.cold("a-b-R-c|").pipe(ops.buffered()))
    assert events == [(9.0, Notice("restart")), (9.0, Token("c")), (9.0, COMPLETED)]


def test_a_restart_resumes_the_paused_producer(marbles: Marbles) -> None:
    status = ops.BufferStatus()
    marbles.valve.close()
    stream = marbles.hot("-a-b-R").pipe(ops.buffered(2, high=1, low=0.5, status=status))
    marbles.subscribe(stream)
    marbles.advance_to(4)
    assert figures(status) == (2, True, 1.0)
    marbles.advance_to(6)
    assert figures(status) == (1, False, 0.5)


def test_the_producer_pauses_at_the_high_mark() -> None:
    marbles, status = Marbles(), ops.BufferStatus()
    model = ScriptedModel([Token("x")] * 3000, delay=0.001)
    marbles.valve.close()
    recording = marbles.subscribe(model.stream("Hi").pipe(ops.buffered(status=status)))
    marbles.advance_to(60)
    assert (figures(status), status.capacity) == ((820, True, 0.801), 1024)
    assert (recording.events, marbles.timers) == ([], [])
    marbles.valve.open()
    assert (len(recording.events), figures(status)) == (820, (0, False, 0.0))
    marbles.valve.close()
    marbles.advance_to(120)
    assert figures(status) == (820, True, 0.801)


def test_the_producer_stops_when_the_reader_leaves(marbles: Marbles) -> None:
    model, status = ScriptedModel([Token("x")] * 3000, delay=1), ops.BufferStatus()
    recording = marbles.subscribe(model.stream("Hi").pipe(ops.buffered(status=status)))
    marbles.advance_to(5)
    recording.dispose()
    assert (model.active, model.cancelled, marbles.timers) == (0, 1, [])
    assert repr(status) == "BufferStatus(queued=0, capacity=0, paused=False, pressure=0.00)"


def test_the_producer_resumes_at_the_low_mark(marbles: Marbles) -> None:
    status, seen = ops.BufferStatus(), []
    marbles.valve.close()
    marbles.hot("(a,b,c,d,e,f,g,h,i,j)").pipe(ops.buffered(10, status=status)).subscribe(
        lambda _: seen.append((status.queued, status.paused)),
        scheduler=with_valve(marbles.scheduler, marbles.valve),
    )
    marbles.advance_to(1)
    assert figures(status) == (10, True, 1.0)
    marbles.valve.open()
    assert seen == [(queued, queued > 1) for queued in reversed(range(10))]


def test_with_a_low_mark_of_0_the_producer_resumes_on_an_empty_queue(marbles: Marbles) -> None:
    status, seen = ops.BufferStatus(), []
    marbles.valve.close()
    marbles.hot("(a,b,c,d)").pipe(ops.buffered(4, low=0, status=status)).subscribe(
        lambda _: seen.append((status.queued, status.paused)),
        scheduler=with_valve(marbles.scheduler, marbles.valve),
    )
    marbles.advance_to(1)
    marbles.valve.open()
    assert seen == [(3, True), (2, True), (1, True), (0, True)]
    assert figures(status) == (0, False, 0.0)


def test_functions_hear_when_the_producer_pauses_and_resumes(marbles: Marbles) -> None:
    heard: list[tuple[float, str, int]] = []
    clock = clock_of(marbles.scheduler)

    def hear(what: str) -> Callable[[int], object]:
        return lambda queued: heard.append((clock(), what, queued))

    buffer = ops.buffered(5, 0.8, 0.2, on_pause=hear("pause"), on_resume=hear("resume"))
    marbles.valve.close()
    marbles.at(12, marbles.valve.open)
    recording = marbles.subscribe(marbles.cold("a-b-c-d-e-f|", demand=True).pipe(buffer))
    marbles.advance_to(30)
    assert heard == [(6.0, "pause", 4), (12.0, "resume", 1)]
    assert recording.events[-1][1] is COMPLETED


def test_a_function_that_opens_the_valve_of_the_subscriber_does_not_stop_the_stream(
    marbles: Marbles,
) -> None:
    marbles.valve.close()
    buffer = ops.buffered(2, on_pause=lambda _: marbles.valve.open())
    recording = marbles.subscribe(marbles.cold("a-b-c-d-e|", demand=True).pipe(buffer))
    marbles.advance_to(30)
    assert recording.events[-1][1] is COMPLETED
    assert len(recording.chunks) == 5


def test_a_function_that_raises_is_the_error_of_the_stream(marbles: Marbles) -> None:
    def fail(queued: int) -> None:
        raise ValueError(f"{queued} are queued")

    marbles.valve.close()
    source = marbles.cold("a-b-c-d|", demand=True)
    recording = marbles.subscribe(source.pipe(ops.buffered(2, on_pause=fail)))
    marbles.advance_to(9)
    assert [str(event) for _, event in recording.events] == ["2 are queued"]
    assert source.subscriptions == [(0.0, 2.0)]


def test_a_function_that_cannot_be_called_is_rejected_at_the_call() -> None:
    with pytest.raises(TypeError, match="on_pause must be a function of the number of queued"):
        ops.buffered(on_pause=cast(Any, 5))

    async def too_late(queued: int) -> None: ...

    with pytest.raises(TypeError, match="asynchronous: start a task in it"):
        ops.buffered(on_resume=too_late)


def test_the_status_reports_the_true_queue_length(marbles: Marbles) -> None:
    status, rows = ops.BufferStatus(), []
    marbles.valve.close()
    marbles.subscribe(marbles.cold("a-b-c-d-e").pipe(ops.buffered(5, status=status)))
    for second in range(1, 10, 2):
        marbles.advance_to(second)
        rows.append(figures(status))
    assert rows == [
        (1, False, 0.2),
        (2, False, 0.4),
        (3, False, 0.6),
        (4, True, 0.8),
        (5, True, 1.0),
    ]
    marbles.valve.open()
    assert figures(status) == (0, False, 0.0)


def test_a_source_without_demand_loses_nothing(marbles: Marbles) -> None:
    status = ops.BufferStatus()
    marbles.valve.close()
    recording = marbles.subscribe(marbles.cold("(a,b,c,d,e)|").pipe(ops.buffered(2, status=status)))
    marbles.advance_to(1)
    assert figures(status) == (5, True, 1.0)
    marbles.valve.open()
    assert [chunk.text for chunk in recording.chunks] == list("abcde")


def test_chunks_that_arrive_while_the_buffer_drains_are_sent_after_it(marbles: Marbles) -> None:
    got: list[str] = []
    subject: rx.Subject[Chunk] = rx.Subject()

    def on_next(chunk: Any) -> None:
        got.append(chunk.text)
        if chunk.text == "a":
            subject.on_next(Token("c"))

    marbles.valve.close()
    subject.pipe(ops.buffered()).subscribe(
        on_next, scheduler=with_valve(marbles.scheduler, marbles.valve)
    )
    subject.on_next(Token("a"))
    subject.on_next(Token("b"))
    marbles.valve.open()
    assert got == ["a", "b", "c"]


def test_a_valve_that_opens_inside_on_next_does_not_nest_calls(marbles: Marbles) -> None:
    log: list[str] = []

    def toggle(chunk: Chunk) -> None:
        log.append(f"begins {text_of(chunk)}")
        marbles.valve.close()
        marbles.valve.open()
        log.append(f"has {text_of(chunk)}")

    marbles.valve.close()
    scheduler = with_valve(marbles.scheduler, marbles.valve)
    marbles.cold("a-b").pipe(ops.buffered(4)).subscribe(toggle, scheduler=scheduler)
    marbles.advance_to(5)
    marbles.valve.open()
    assert log == ["begins a", "has a", "begins b", "has b"]


def test_a_valve_that_closes_while_the_buffer_drains_is_obeyed(marbles: Marbles) -> None:
    got: list[Any] = []

    def on_next(chunk: Chunk) -> None:
        got.append(chunk)
        marbles.valve.close()

    marbles.cold("(a,b)|").pipe(ops.buffered()).subscribe(
        on_next, scheduler=with_valve(marbles.scheduler, marbles.valve)
    )
    marbles.advance_to(9)
    assert got == [Token("a")]
    marbles.valve.open()
    assert got == [Token("a"), Token("b")]


def test_a_subscriber_error_ends_the_subscription_and_is_not_a_stream_error() -> None:
    errors: list[Exception] = []
    valve = Valve()

    def on_next(_: object) -> None:
        raise KeyError("mine")

    async def main() -> None:
        scheduler = StreamScheduler(asyncio.get_running_loop(), valve)
        valve.close()
        async with no_leaks(valve):
            model = ScriptedModel("Hi")
            stream = model.stream("Hi").pipe(ops.buffered())
            stream.subscribe(on_next, errors.append, scheduler=scheduler)
            await asyncio.sleep(1)
            with pytest.raises(KeyError):
                valve.open()

    run_virtual(main())
    assert errors == []


def test_other_chunks_are_sent_before_the_restart_notice(marbles: Marbles) -> None:
    marbles.valve.close()
    marbles.at(20, marbles.valve.open)
    lookup = {"U": Usage(1, 2), "P": Progress(1, 0.5)}
    stream = marbles.cold("(S,a,U,b,P,E,R,c)|", lookup=lookup).pipe(ops.buffered())
    assert [event for _, event in marbles.run(stream)] == [
        Start("request-1", "model"),
        *lookup.values(),
        Notice("restart"),
        Token("c"),
        COMPLETED,
    ]


def test_a_producer_resumed_by_a_restart_comes_after_its_notice(marbles: Marbles) -> None:
    source = marbles.cold("a-b-c-d|", demand=True)
    marbles.valve.close()
    subject: rx.Subject[Chunk] = rx.Subject()
    stream = rx.merge(subject, source).pipe(ops.buffered(4, 0.5, 0.2))
    recording = marbles.subscribe(stream)
    marbles.advance_to(20)
    subject.on_next(Notice("restart"))
    marbles.valve.open()
    assert recording.chunks == [Notice("restart"), Token("c"), Token("d")]


def test_a_subscriber_that_raises_while_the_valve_is_open_gets_nothing_more(
    marbles: Marbles,
) -> None:
    got: list[Any] = []
    source: rx.Subject[Chunk] = rx.Subject()

    def on_next(chunk: Chunk) -> None:
        got.append(chunk)
        raise KeyError("mine")

    source.pipe(ops.buffered()).subscribe(on_next, got.append, scheduler=marbles.scheduler)
    with pytest.raises(KeyError):
        source.on_next(Token("a"))
    source.on_next(Token("b"))
    assert (got, source.observers) == ([Token("a")], [])


def test_one_status_covers_all_subscriptions(marbles: Marbles) -> None:
    status = ops.BufferStatus()
    stream = marbles.cold("a-b").pipe(ops.buffered(4, status=status))
    marbles.valve.close()
    first, second = marbles.subscribe(stream), marbles.subscribe(stream)
    marbles.advance_to(1)
    assert (status.queued, status.capacity, status.pressure) == (2, 8, 0.25)
    first.dispose()
    marbles.advance_to(3)
    assert (status.queued, status.capacity, status.pressure) == (2, 4, 0.5)
    marbles.valve.open()
    assert (first.chunks, second.chunks) == ([], [Token("a"), Token("b")])


def test_the_pressure_of_several_buffers_is_that_of_the_fullest(marbles: Marbles) -> None:
    status = ops.BufferStatus()
    marbles.valve.close()
    for diagram, capacity in (("abc", 10), ("-a-b-c", 4), ("-", 2)):
        marbles.subscribe(marbles.hot(diagram).pipe(ops.buffered(capacity, status=status)))
    marbles.advance_to(9)
    assert figures(status) == (4, False, 0.75)
    assert status.capacity == 16


@pytest.mark.parametrize("diagram", ["a|", "a#", "a"])
def test_no_valve_callback_is_left_behind(marbles: Marbles, diagram: str) -> None:
    recording = marbles.subscribe(marbles.cold(diagram).pipe(ops.buffered()))
    marbles.advance_to(9)
    recording.dispose()
    assert marbles.valve._callbacks == {}


def test_nothing_leaks_on_an_event_loop() -> None:
    async def main() -> list[Any]:
        stream = ScriptedModel("a b c", by="word", delay=0.07).stream("Hi").pipe(ops.buffered(2))
        async with no_leaks():
            return [chunk async for chunk in to_async(stream)]

    assert [chunk.text for chunk in run_virtual(main()) if type(chunk) is Token] == [
        "a",
        " b",
        " c",
    ]


@given(cut_texts(), st.integers(1, 4), st.integers(0, 9))
def test_the_joined_text_is_the_same(
    texts: tuple[str, list[str]], capacity: int, opens: int
) -> None:
    text, pieces = texts
    assert text_after(pieces, ops.buffered(capacity)) == text
    marbles = Marbles()
    marbles.valve.close()
    marbles.at(opens, marbles.valve.open)
    model = ScriptedModel([Token(piece) for piece in pieces], delay=1)
    events = marbles.run(model.stream("Hi").pipe(ops.buffered(capacity)))
    assert "".join(event.text for _, event in events if type(event) is Token) == text


@pytest.mark.parametrize(
    "bad", [{"capacity": 0}, {"high": 1.1}, {"low": -0.1}, {"low": 0.5, "high": 0.5}]
)
def test_bad_arguments_are_rejected_at_the_call(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        ops.buffered(**bad)


def test_a_bad_status_is_rejected_at_the_call() -> None:
    with pytest.raises(TypeError, match="BufferStatus"):
        ops.buffered(status={})  # type: ignore[arg-type]


@pytest.mark.parametrize("capacity", [2.5, 4.0, True, "4", float("nan")])
def test_a_capacity_that_is_not_an_integer_is_rejected_at_the_call(capacity: Any) -> None:
    with pytest.raises(TypeError, match="capacity"):
        ops.buffered(capacity)


@pytest.mark.parametrize("bad", [{"high": "1"}, {"low": True}])
def test_a_fraction_that_is_not_a_number_is_rejected_at_the_call(bad: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=next(iter(bad))):
        ops.buffered(**bad)
