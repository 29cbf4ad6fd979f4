"""`Pacer`: the base of operators that delay chunks."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import reactivex as rx
from reactivex import Observable, abc
from reactivex import operators as rx_ops

from rxllm.chunks import Batch, Chunk, End, Notice, Progress, Reasoning, Start, Token, Usage
from rxllm.models.scripted import ScriptedModel
from rxllm.operators._pacer import Pacer, is_paced
from rxllm.testing import COMPLETED, Marbles, no_leaks, run_virtual
from rxllm.valve import StreamScheduler, Valve, with_valve


class Every(Pacer):
    """Emits a character every `seconds`; `!` fails on arrival, `?` when it is due."""

    def __init__(self, observer: abc.ObserverBase[Chunk], scheduler: Any, seconds: float) -> None:
        super().__init__(observer, scheduler, capacity=4)
        self.seconds = seconds
        self.next = 0.0

    def pieces(self, chunk: Chunk, now: float) -> Iterable[tuple[float, Chunk]]:
        if type(chunk) is not Token:
            yield now, chunk
            return
        for letter in chunk.text:
            if letter == "!":
                raise KeyError(letter)
            yield now, Token(letter, source=chunk.source)

    def due(self, since: float) -> float:
        if self.queue[0][1] == Token("?"):
            raise KeyError("?")
        return max(self.next, since)

    def left(self, chunk: Chunk, due: float) -> None:
        self.next = due + self.seconds


def every(seconds: float) -> Callable[[Observable[Chunk]], Observable[Chunk]]:
    def operator(source: Observable[Chunk]) -> Observable[Chunk]:
        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            return Every(observer, scheduler, seconds).start(source)

        return Observable(subscribe)

    return operator


def test_pieces_are_released_when_due_and_completion_after_them(marbles: Marbles) -> None:
    assert marbles.run(marbles.cold("abc|").pipe(every(2))) == [
        (0.0, Token("a")),
        (2.0, Token("b")),
        (4.0, Token("c")),
        (4.0, COMPLETED),
    ]


def test_a_synchronous_source(marbles: Marbles) -> None:
    source: Observable[Chunk] = rx.of(Token("a"), Token("b"))
    assert marbles.run(source.pipe(every(2))) == [
        (0.0, Token("a")),
        (2.0, Token("b")),
        (2.0, COMPLETED),
    ]


def test_an_error_flushes_the_queue(marbles: Marbles) -> None:
    error = ValueError("broken")
    stream = marbles.cold("abc#", error=error).pipe(every(9))
    assert [time for time, _ in marbles.run(stream)] == [0.0, 3.0, 3.0, 3.0]
    assert marbles.timers == []


def test_an_exception_in_pieces_loses_no_earlier_chunk(marbles: Marbles) -> None:
    source = marbles.cold("ab-c!d-e|")
    events = marbles.run(source.pipe(every(9)))
    assert [event for _, event in events[:-1]] == [Token("a"), Token("b"), Token("c")]
    assert isinstance(events[-1][1], KeyError)
    assert source.subscriptions == [(0.0, 3.0)]


def test_an_exception_in_due_fails_the_stream_in_place_of_the_piece(marbles: Marbles) -> None:
    source = marbles.cold("ab?c----|")
    events = marbles.run(source.pipe(every(1)))
    assert [event for _, event in events[:-1]] == [Token("a"), Token("b")]
    assert isinstance(events[-1][1], KeyError)
    assert (source.subscriptions, marbles.timers) == ([(0.0, 1.0)], [])


def test_one_timer_is_set_and_not_touched_by_further_chunks(marbles: Marbles) -> None:
    marbles.subscribe(marbles.hot("(a,b,c,d)--").pipe(every(30)))
    marbles.advance_to(3)
    assert marbles.timers == [30.0]


def test_upstream_is_held_at_the_capacity_and_resumed_at_half_of_it(marbles: Marbles) -> None:
    emitted: list[Any] = []
    model = ScriptedModel([Token("x")] * 50)
    stream = model.stream("Hi").pipe(rx_ops.do_action(emitted.append), every(1))
    marbles.subscribe(stream)
    marbles.advance_to(0.5)
    assert len(emitted) == 1 + 4
    marbles.advance_to(1.5)
    assert len(emitted) == 1 + 4
    marbles.advance_to(2.5)
    assert len(emitted) == 1 + 4 + 2


def test_a_closed_valve_holds_upstream_and_due_pieces_at_once(marbles: Marbles) -> None:
    marbles.at(1.5, marbles.valve.close)
    marbles.at(7, marbles.valve.open)
    source = marbles.cold("a-b-c|", demand=True)
    assert marbles.run(source.pipe(every(1))) == [
        (0.0, Token("a")),
        (7.0, Token("b")),
        (8.0, Token("c")),
        (8.0, COMPLETED),
    ]


def test_a_valve_that_opens_inside_on_next_keeps_the_order(marbles: Marbles) -> None:
    got: list[Any] = []

    def on_next(chunk: Chunk) -> None:
        marbles.valve.close()
        marbles.valve.open()
        got.append(chunk)

    stream = marbles.cold("abc", demand=True).pipe(every(0))
    stream.subscribe(on_next, scheduler=with_valve(marbles.scheduler, marbles.valve))
    marbles.advance_to(9)
    assert got == [Token("a"), Token("b"), Token("c")]


def test_an_error_that_arrives_inside_on_next_does_not_overtake(marbles: Marbles) -> None:
    got: list[Any] = []
    subject: rx.Subject[Chunk] = rx.Subject()

    def on_next(chunk: Any) -> None:
        got.append(chunk.text)
        if chunk.text == "a":
            subject.on_next(Token("c"))
            subject.on_error(ValueError("broken"))

    subject.pipe(every(0)).subscribe(
        on_next, lambda error: got.append(str(error)), scheduler=marbles.scheduler
    )
    subject.on_next(Token("ab"))
    assert got == ["a", "b", "c", "broken"]


def test_nothing_is_sent_after_disposal_inside_on_next(marbles: Marbles) -> None:
    got: list[Any] = []
    source = marbles.cold("abc--|")

    def on_next(chunk: Chunk) -> None:
        got.append(chunk)
        subscription.dispose()

    subscription = source.pipe(every(1)).subscribe(
        on_next,
        on_completed=lambda: got.append(COMPLETED),
        scheduler=with_valve(marbles.scheduler, marbles.valve),
    )
    marbles.advance_to(9)
    assert (got, source.subscriptions) == ([Token("a")], [(0.0, 0.0)])
    assert (marbles.timers, marbles.valve._callbacks) == ([], {})


def test_a_restart_drops_only_the_queued_pieces_of_its_source(marbles: Marbles) -> None:
    left = marbles.cold("(a,b)R|", source="left")
    right = marbles.cold("-x---|", source="right")
    events = marbles.run(rx.merge(left, right).pipe(every(9)))
    assert [event for _, event in events] == [
        Token("a", source="left"),
        Token("x", source="right"),
        Notice("restart", source="left"),
        COMPLETED,
    ]


def test_non_content_chunks_are_sent_before_the_restart_notice(marbles: Marbles) -> None:
    lookup = {"U": Usage(1, 2), "P": Progress(1, 0.5), "N": Notice("degraded")}
    source = marbles.cold("(S,a,U,b,P,N,E,R,S,c)|", lookup=lookup)
    marbles.valve.close()
    marbles.at(9, marbles.valve.open)
    assert [event for _, event in marbles.run(source.pipe(every(0)))] == [
        Start("request-1", "model"),
        *lookup.values(),
        Notice("restart"),
        Start("request-1", "model"),
        Token("c"),
        COMPLETED,
    ]


def test_due_is_called_once_per_piece_even_if_later_ones_are_dropped(marbles: Marbles) -> None:
    asked: list[Chunk] = []

    class Asked(Every):
        def due(self, since: float) -> float:
            asked.append(self.queue[0][1])
            return super().due(since)

    def operator(source: Observable[Chunk]) -> Observable[Chunk]:
        def subscribe(observer: Any, scheduler: Any = None) -> abc.DisposableBase:
            return Asked(observer, scheduler, 5).start(source)

        return Observable(subscribe)

    left = marbles.cold("(a,b)---|", source="left")
    right = marbles.cold("-x-R-R|", source="right")
    marbles.run(rx.merge(left, right).pipe(operator))
    assert [chunk.text for chunk in asked if isinstance(chunk, Token)] == ["a", "b"]


def test_ready_is_called_after_on_next_returns_if_the_valve_is_open(marbles: Marbles) -> None:
    calls: list[str] = []

    class Ready(Every):
        def ready(self) -> None:
            calls.append("ready")

    def on_next(_: Chunk) -> None:
        marbles.valve.close()
        marbles.valve.open()
        calls.append("has it")

    def subscribe(observer: Any, scheduler: Any = None) -> abc.DisposableBase:
        return Ready(observer, scheduler, 1).start(marbles.cold("ab"))

    Observable[Chunk](subscribe).subscribe(
        on_next, scheduler=with_valve(marbles.scheduler, marbles.valve)
    )
    marbles.advance_to(9)
    assert calls == ["has it", "ready"] * 2


def test_non_empty_text_and_reasoning_are_paced() -> None:
    paced: list[Chunk] = [Token("a"), Reasoning("hm"), Batch((Token(""), Reasoning("hm")), "")]
    unpaced: list[Chunk] = [
        Token(""),
        Reasoning(""),
        Batch((Token(""),), ""),
        Usage(1, 2),
        End("stop"),
    ]
    assert all(map(is_paced, paced))
    assert not any(map(is_paced, unpaced))


@pytest.mark.parametrize("diagram", ["ab|", "ab#", "ab"])
def test_at_the_end_the_valve_has_no_watchers(marbles: Marbles, diagram: str) -> None:
    recording = marbles.subscribe(marbles.cold(diagram).pipe(every(1)))
    marbles.advance_to(9)
    recording.dispose()
    assert marbles.valve._callbacks == {}


@pytest.mark.parametrize("at", [0, 1])
def test_an_exception_of_the_subscriber_ends_the_stream_without_on_error(at: int) -> None:
    errors: list[Exception] = []
    reported: list[Any] = []
    valve = Valve()

    def on_next(chunk: Any) -> None:
        if chunk == Token("ab"[at]):
            raise KeyError("mine")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))
        async with no_leaks(valve):
            model = ScriptedModel([Token("abc"), 60.0])
            model.stream("Hi").pipe(every(1)).subscribe(
                on_next, errors.append, scheduler=StreamScheduler(loop, valve)
            )
            await asyncio.sleep(5)
            assert model.active == 0

    run_virtual(main())
    assert (errors, [type(error) for error in reported]) == ([], [KeyError])
