"""`pausable`: a pause holds the source, and nothing is lost."""

import asyncio
from typing import Any

import pytest
import reactivex as rx
from reactivex.disposable import Disposable

from rxllm import operators as ops
from rxllm.chunks import Chunk, End, Notice, Token, text_of
from rxllm.iteration import to_async
from rxllm.models.scripted import ScriptedModel
from rxllm.operators import Control
from rxllm.testing import COMPLETED, Marbles, no_leaks, run_virtual


def test_without_a_pause_the_stream_passes_unchanged(marbles: Marbles, control: Control) -> None:
    diagram = "S-a-b--(E,|)"
    assert marbles.run(marbles.cold(diagram).pipe(ops.pausable(control))) == marbles.expect(diagram)


def test_during_a_pause_a_source_that_honors_demand_waits(
    marbles: Marbles, control: Control
) -> None:
    marbles.at(1, control.pause)
    marbles.at(7, control.resume)
    stream = marbles.cold("a-b-c---d|", demand=True).pipe(ops.pausable(control))
    assert marbles.run(stream) == [
        (0.0, Token("a")),
        (7.0, Token("b")),
        (7.0, Token("c")),
        (8.0, Token("d")),
        (9.0, COMPLETED),
    ]


def test_chunks_that_still_arrive_are_kept_in_order(marbles: Marbles, control: Control) -> None:
    marbles.at(1, control.pause)
    marbles.at(9, control.resume)
    stream = marbles.cold("a-b-c-R-d-E-|").pipe(ops.pausable(control))
    assert marbles.run(stream) == [
        (0.0, Token("a")),
        (9.0, Token("b")),
        (9.0, Token("c")),
        (9.0, Notice("restart")),
        (9.0, Token("d")),
        (10.0, End("stop")),
        (12.0, COMPLETED),
    ]


@pytest.mark.parametrize(("last", "status"), [("|", "completed"), ("#", "failed")])
def test_the_end_waits_behind_kept_chunks(
    marbles: Marbles, control: Control, last: str, status: str
) -> None:
    error = ValueError("broken")
    marbles.at(1, control.pause)
    recording = marbles.subscribe(
        marbles.cold(f"a-b{last}", error=error).pipe(ops.pausable(control))
    )
    marbles.advance_to(5)
    assert (recording.chunks, control.status) == ([Token("a")], "paused")
    control.resume()
    end = COMPLETED if last == "|" else error
    assert recording.events[1:] == [(5.0, Token("b")), (5.0, end)]
    assert (control.status, marbles.timers) == (status, [])


def test_a_subscriber_may_pause_again_while_kept_chunks_are_released(
    marbles: Marbles, control: Control
) -> None:
    marbles.at(1, control.pause)
    marbles.at(6, control.resume)
    marbles.at(8, control.resume)
    got: list[tuple[float, Chunk]] = []

    def on_next(chunk: Chunk) -> None:
        got.append((marbles.scheduler.to_seconds(marbles.scheduler.now), chunk))
        if chunk == Token("b"):
            control.pause()

    stream = marbles.cold("a-b-c-----d|").pipe(ops.pausable(control))
    stream.subscribe(on_next, scheduler=marbles.scheduler)
    marbles.advance_to(20)
    assert got == [
        (0.0, Token("a")),
        (6.0, Token("b")),
        (8.0, Token("c")),
        (10.0, Token("d")),
    ]


def test_pausing_and_resuming_inside_on_next_does_not_recurse(
    marbles: Marbles, control: Control
) -> None:
    got: list[str] = []

    def on_next(chunk: Chunk) -> None:
        got.append(text_of(chunk))
        control.pause()
        control.resume()

    letters = "abc" * 1000
    marbles.at(1, control.pause)
    marbles.at(3, control.resume)
    stream = marbles.cold(f"--({','.join(letters)},|)").pipe(ops.pausable(control))
    stream.subscribe(on_next, scheduler=marbles.scheduler)
    marbles.advance_to(9)
    assert "".join(got) == letters


def test_a_sink_cannot_open_what_a_user_has_paused(marbles: Marbles, control: Control) -> None:
    marbles.at(1, control.pause)
    marbles.at(2, marbles.valve.close)
    marbles.at(3, marbles.valve.open)
    stream = marbles.cold("a---b", demand=True).pipe(ops.pausable(control))
    assert marbles.run(stream, until=9) == [(0.0, Token("a"))]


def test_kept_chunks_wait_for_a_sink_that_cannot_keep_up(
    marbles: Marbles, control: Control
) -> None:
    marbles.at(1, control.pause)
    marbles.at(4, marbles.valve.close)
    marbles.at(5, control.resume)
    marbles.at(8, marbles.valve.open)
    events = marbles.run(marbles.cold("a-b---c--|").pipe(ops.pausable(control)))
    assert events[1:] == [(8.0, Token("b")), (8.0, Token("c")), (9.0, COMPLETED)]


def test_a_pause_is_not_an_abort_and_resuming_makes_no_new_request(
    marbles: Marbles, control: Control
) -> None:
    """Resuming continues the same answer: nothing is lost, and the model is called once."""
    model = ScriptedModel("a b c d", by="word", delay=1)
    marbles.at(2.5, control.pause)
    marbles.at(60, control.resume)
    recording = marbles.subscribe(model.stream("Hi").pipe(ops.pausable(control)))
    marbles.advance_to(59)
    assert (model.active, model.cancelled, control.status) == (1, 0, "paused")
    marbles.advance_to(99)
    assert "".join(map(text_of, recording.chunks)) == "a b c d"
    assert (len(model.requests), model.completed, control.status) == (1, 1, "completed")


@pytest.mark.parametrize("last", ["b", "d"])
def test_a_subscriber_that_raises_at_a_kept_chunk_ends_the_stream(
    marbles: Marbles, control: Control, last: str
) -> None:
    got: list[str] = []

    def on_next(chunk: Chunk) -> None:
        got.append(text_of(chunk))
        if got[-1] == last:
            raise ZeroDivisionError

    source = marbles.cold("a-b-c-----d--e")
    marbles.at(1, control.pause)
    source.pipe(ops.pausable(control)).subscribe(on_next, scheduler=marbles.scheduler)
    marbles.advance_to(6)
    with pytest.raises(ZeroDivisionError):
        control.resume()
        marbles.advance_to(99)
    assert (got[-1], control.status, marbles.timers) == (last, "cancelled", [])
    assert source.subscriptions == [(0.0, 6.0 if last == "b" else 10.0)]


def test_chunks_pushed_after_a_stop_are_not_kept(marbles: Marbles, control: Control) -> None:
    def push(observer: Any, _: Any) -> Disposable:
        for number in range(1000):
            observer.on_next(Token(str(number)))
        return Disposable()

    def stop(chunk: Chunk) -> None:
        if type(chunk) is Token:
            control.pause()
            control.stop()

    stream = rx.create(push).pipe(ops.pausable(control))
    stream.subscribe(stop, scheduler=marbles.scheduler)
    assert control._stream is None
    assert control.status == "cancelled"


def test_a_pause_has_a_limit(marbles: Marbles, control: Control) -> None:
    marbles.at(1, control.pause)
    source = marbles.cold("a-b|", demand=True)
    events = marbles.run(source.pipe(ops.pausable(control)))
    assert events == [(0.0, Token("a")), (301.0, End("cancelled")), (301.0, COMPLETED)]
    assert (control.status, source.subscriptions) == ("cancelled", [(0.0, 301.0)])


def test_after_a_stop_of_the_process_a_stream_may_still_be_resumed(marbles: Marbles) -> None:
    control = Control(max_pause=5)
    marbles.at(1, control.pause)
    marbles.at(2, lambda: marbles.scheduler.sleep(60))
    marbles.at(30, control.resume)
    events = marbles.run(marbles.cold("a--------b|").pipe(ops.pausable(control)))
    assert (control.status, events[-1][0]) == ("completed", 62.0)


def test_resuming_clears_the_limit(marbles: Marbles) -> None:
    control = Control(max_pause=5)
    marbles.at(1, control.pause)
    marbles.at(4, control.resume)
    events = marbles.run(marbles.cold("a-b------c|").pipe(ops.pausable(control)))
    assert events[-1] == (10.0, COMPLETED)
    assert marbles.timers == []


def test_a_run_stopped_between_two_answers_is_cancelled(marbles: Marbles, control: Control) -> None:
    marbles.at(2, control.stop)
    steps = {"S": End("tool_calls", more=True)}
    events = marbles.run(marbles.cold("aS--b|", lookup=steps).pipe(ops.pausable(control)))
    assert events[-2:] == [(2.0, End("cancelled")), (2.0, COMPLETED)]


def test_never_and_empty(marbles: Marbles, control: Control) -> None:
    recording = marbles.subscribe(marbles.cold("").pipe(ops.pausable(control)))
    marbles.advance_to(9)
    assert (recording.events, control.status) == ([], "running")
    assert marbles.run(marbles.cold("|").pipe(ops.pausable(Control()))) == [(9.0, COMPLETED)]


@pytest.mark.parametrize("diagram", ["a-|", "a-#", "a"])
def test_at_the_end_the_valve_has_no_watchers(
    marbles: Marbles, control: Control, diagram: str
) -> None:
    recording = marbles.subscribe(marbles.cold(diagram, demand=True).pipe(ops.pausable(control)))
    marbles.advance_to(9)
    recording.dispose()
    assert marbles.valve._callbacks == {}


def test_a_refused_subscription_leaves_no_watcher_of_the_valve(
    marbles: Marbles, control: Control
) -> None:
    stream = marbles.cold("a-b-|", demand=True).pipe(ops.pausable(control))
    marbles.subscribe(stream)
    marbles.subscribe(stream)  # refused: the first one is running
    marbles.advance_to(9)
    assert marbles.valve._callbacks == {}


def test_a_stream_paused_for_an_hour_resumes_and_is_complete() -> None:
    control, model = Control(max_pause=7200), ScriptedModel("a b c d", by="word", delay=1)

    async def main() -> tuple[str, float]:
        loop = asyncio.get_running_loop()
        loop.call_later(2.5, control.pause)
        loop.call_later(3602.5, control.resume)
        stream = model.stream("Hi").pipe(ops.pausable(control))
        async with no_leaks():
            text = [text_of(chunk) async for chunk in to_async(stream)]
        return "".join(text), loop.time()

    assert run_virtual(main()) == ("a b c d", 3603.5)
    assert (model.completed, control.status) == (1, "completed")


def test_anything_but_a_control_raises_at_the_call() -> None:
    with pytest.raises(TypeError, match="must be a Control"):
        ops.pausable(None)  # type: ignore[arg-type]
