"""`text_operator`: the base of synchronous operators on text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
import reactivex as rx

from rxllm.chunks import Batch, Chunk, End, Notice, Progress, Token
from rxllm.operators._text_operator import TextState, text_operator
from rxllm.testing import COMPLETED, Marbles


class Doubting(TextState):
    """Holds the last token. Raises at "!", and if "?" is held at the end."""

    def __init__(self, source: str | None) -> None:
        self.source = source
        self.held: list[Chunk] = []

    def text(self, chunk: Token | Batch) -> Iterable[Chunk]:
        if chunk.text == "!":
            raise KeyError("!")
        before, self.held = self.held, [chunk]
        return before

    def end(self) -> Iterator[Chunk]:
        yield from self.held
        if self.held == [Token("?")]:
            raise KeyError("?")


class Waiting(Doubting):
    """Holds other chunks as well."""

    def other(self, chunk: Chunk) -> Iterable[Chunk]:
        self.held.append(chunk)
        return ()


def values(stream: Any) -> list[Any]:
    return [event for _, event in Marbles().run(stream)]


def test_chunks_that_the_state_returns_are_sent_in_order(marbles: Marbles) -> None:
    assert marbles.run(marbles.cold("S-a-b-E|").pipe(text_operator("test", Doubting))) == [
        *marbles.expect("S---"),
        (4.0, Token("a")),
        (6.0, Token("b")),
        (6.0, End("stop")),
        (7.0, COMPLETED),
    ]


def test_never_and_empty(marbles: Marbles) -> None:
    assert marbles.run(marbles.cold("").pipe(text_operator("test", Doubting)), until=1) == []
    assert marbles.run(marbles.cold("|").pipe(text_operator("test", Doubting)), until=9) == [
        (1.0, COMPLETED)
    ]


def test_held_text_is_released_before_completion_and_before_an_error() -> None:
    marbles, error = Marbles(), ValueError("broken")
    for end, last in (("|", COMPLETED), ("#", error)):
        stream = marbles.cold("a-" + end, error=error).pipe(text_operator("test", Doubting))
        assert [event for _, event in marbles.run(stream)] == [Token("a"), last]


def test_a_state_is_created_at_the_first_text_of_a_source(marbles: Marbles) -> None:
    made: list[str | None] = []

    def state_of(source: str | None) -> TextState:
        made.append(source)
        return Doubting(source)

    left = marbles.cold("S-a-b-|", source="left")
    right = marbles.cold("-S-x--|", source="right")
    stream = rx.merge(left, right).pipe(text_operator("test", state_of))
    assert made == []
    sources = [event.source for _, event in marbles.run(stream)[:-1]]
    assert sources == ["left", "right", "left", "left", "right"]
    assert made == ["left", "right"]


def test_an_end_applies_to_its_source_and_without_one_to_all(marbles: Marbles) -> None:
    left = marbles.cold("a--E--|", source="left")
    right = marbles.cold("-x----|", source="right")
    whole = marbles.cold("----E-|")
    events = marbles.run(rx.merge(left, right, whole).pipe(text_operator("test", Doubting)))
    assert events[:-1] == [
        (3.0, Token("a", source="left")),
        (3.0, End("stop", source="left")),
        (4.0, Token("x", source="right")),
        (4.0, End("stop")),
    ]


def test_a_restart_drops_the_state(marbles: Marbles) -> None:
    left = marbles.cold("a--R--|", source="left")
    right = marbles.cold("-x----|", source="right")
    events = marbles.run(rx.merge(left, right).pipe(text_operator("test", Doubting)))
    assert [event for _, event in events] == [
        Notice("restart", source="left"),
        Token("x", source="right"),
        COMPLETED,
    ]


def test_a_restart_sends_the_chunks_that_the_state_keeps(marbles: Marbles) -> None:
    class Leaving(Waiting):
        def restart(self) -> Iterable[Chunk]:
            return self.held[1:]

    stream = marbles.cold("a-P-R-b|", lookup={"P": Progress(1, 0.5)}).pipe(
        text_operator("test", Leaving)
    )
    assert [event for _, event in marbles.run(stream)] == [
        Progress(1, 0.5),
        Notice("restart"),
        Token("b"),
        COMPLETED,
    ]


def test_after_disposal_the_state_is_not_iterated_further(marbles: Marbles) -> None:
    asked: list[str] = []

    class Asking(Doubting):
        def end(self) -> Iterator[Chunk]:
            yield from self.held
            asked.append("after the last text")

    def leave(_: Chunk) -> None:
        subscription.dispose()

    stream = marbles.cold("a-|").pipe(text_operator("test", Asking))
    subscription = stream.subscribe(leave, scheduler=marbles.scheduler)
    marbles.advance_to(9)
    assert asked == []


@pytest.mark.parametrize(("state", "place"), [(Doubting, 0), (Waiting, 1)])
def test_the_state_may_queue_non_text_chunks(
    state: type[TextState], place: int, marbles: Marbles
) -> None:
    lookup = {"P": Progress(1, 0.5)}
    stream = marbles.cold("a-P-|", lookup=lookup)
    events = marbles.run(stream.pipe(text_operator("test", lambda source: state(source))))  # type: ignore[call-arg]
    assert events[place][1] == lookup["P"]


def test_an_exception_of_the_state_fails_the_stream(marbles: Marbles) -> None:
    source = marbles.cold("a-!-b-|")
    [(time, error)] = marbles.run(source.pipe(text_operator("test", Doubting)))
    assert (time, type(error), source.subscriptions) == (2.0, KeyError, [(0.0, 2.0)])


@pytest.mark.parametrize("end", ["E", "|"])
def test_chunks_decided_before_a_failure_at_the_end_are_sent_first(
    end: str, marbles: Marbles
) -> None:
    lookup = {"a": Token("?")}
    stream = marbles.cold("a-" + end, lookup=lookup).pipe(text_operator("test", Doubting))
    token, failure = (event for _, event in marbles.run(stream))
    assert (token, type(failure)) == (Token("?"), KeyError)


def test_an_error_is_kept_and_gets_a_note(marbles: Marbles) -> None:
    error = ValueError("broken")
    stream = marbles.cold("a-#", lookup={"a": Token("?")}, error=error)
    events = marbles.run(stream.pipe(text_operator("test", Doubting)))
    assert [event for _, event in events] == [Token("?"), error]
    assert "KeyError" in error.__notes__[0]


def test_an_exception_of_the_subscriber_is_not_an_error_of_the_stream() -> None:
    errors: list[Exception] = []

    def on_next(_: Chunk) -> None:
        raise LookupError("of the subscriber")

    source: rx.Subject[Chunk] = rx.Subject()
    source.pipe(text_operator("test", Doubting)).subscribe(on_next, errors.append)
    source.on_next(Token("a"))
    with pytest.raises(LookupError):
        source.on_next(Token("b"))
    source.on_next(Token("c"))  # it has ended
    assert (errors, source.observers) == ([], [])


def test_two_subscriptions_and_early_disposal(marbles: Marbles) -> None:
    source = marbles.cold("a---b-")
    stream = source.pipe(text_operator("test", Doubting))
    first = marbles.subscribe(stream)
    marbles.advance_to(2)
    second = marbles.subscribe(stream)
    first.dispose()
    marbles.advance_to(9)
    assert (first.chunks, second.chunks) == ([], [Token("a")])
    assert source.subscriptions[0] == (0.0, 2.0)
    second.dispose()
    assert marbles.timers == []


def test_demand_and_the_scheduler_pass_through(marbles: Marbles) -> None:
    marbles.at(1, marbles.valve.close)
    stream = marbles.cold("a-b-c-", demand=True).pipe(text_operator("test", Doubting))
    recording = marbles.subscribe(stream)
    marbles.advance_to(9)
    assert recording.chunks == []
    marbles.valve.open()
    marbles.advance_to(20)
    assert recording.chunks == [Token("a"), Token("b")]


def test_the_failure_of_one_stream_releases_its_held_chunks(marbles: Marbles) -> None:
    failed = Notice("failed", source="left")
    left = marbles.cold("a-b-f|", source="left", lookup={"f": failed})
    right = marbles.cold("x-------y|", source="right")
    events = marbles.run(rx.merge(left, right).pipe(text_operator("test", Waiting)))
    assert [(time, event) for time, event in events if event == failed] == [(4.0, failed)]
    assert events.index((4.0, Token("b", source="left"))) < events.index((4.0, failed))
