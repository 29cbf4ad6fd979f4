"""`map_text`: applies a function to each piece of text."""

from typing import Any

import pytest
import reactivex as rx
from hypothesis import given

from rxllm import operators as ops
from rxllm.chunks import Batch, Chunk, End, Notice, Progress, Reasoning, Token, ToolCall
from rxllm.testing import COMPLETED, Marbles
from tests.operators.texts import cut_texts, events_of


def test_the_text_of_each_token_is_replaced(marbles: Marbles) -> None:
    stream = marbles.cold("S-a-b-(E,|)").pipe(ops.map_text(str.upper))
    assert marbles.run(stream) == marbles.expect("S-A-B-(E,|)")


def test_a_token_keeps_its_other_fields(marbles: Marbles) -> None:
    token = Token("a", confidence=0.5, number=7, source="left")
    stream = marbles.cold("t|", lookup={"t": token}).pipe(ops.map_text(lambda text: text * 2))
    assert marbles.run(stream)[0][1] == Token("aa", 0.5, 7, source="left")


def test_text_in_a_batch_is_changed_and_joined_again(marbles: Marbles) -> None:
    parts = (Token("a", 0.5), Reasoning("hm"), Token("b"))
    stream = marbles.cold("B|", lookup={"B": Batch(parts, "ab", source="left")})
    assert marbles.run(stream.pipe(ops.map_text(lambda text: text.upper() + ".")))[0][1] == Batch(
        (Token("A.", 0.5), Reasoning("hm"), Token("B.")), "A.B.", source="left"
    )


def test_everything_else_passes_unchanged(marbles: Marbles) -> None:
    lookup: dict[str, Any] = {"0": Token(""), "r": Reasoning("hm"), "P": Progress(1, 0.5)}
    lookup["c"] = ToolCall("1", "weather")
    chunks = [*lookup.values(), Notice("restart"), End("stop"), COMPLETED]
    stream = marbles.cold("0-r-P-c-R-E|", lookup=lookup).pipe(ops.map_text(lambda _: "x"))
    assert [event for _, event in marbles.run(stream)] == chunks


def test_the_function_gets_the_pieces_as_they_are_cut(marbles: Marbles) -> None:
    stream = marbles.cold("he-llo|").pipe(ops.map_text(str.capitalize))
    assert marbles.run(stream)[:2] == [(0.0, Token("He")), (3.0, Token("Llo"))]


def test_an_empty_result_is_an_empty_token(marbles: Marbles) -> None:
    assert marbles.run(marbles.cold("a|").pipe(ops.map_text(lambda _: "")))[0][1] == Token("")


def test_never_and_empty(marbles: Marbles) -> None:
    assert marbles.run(marbles.cold("").pipe(ops.map_text(str.upper)), until=1) == []
    assert marbles.run(marbles.cold("|").pipe(ops.map_text(str.upper))) == [(1.0, COMPLETED)]


def test_an_error_is_passed_on(marbles: Marbles) -> None:
    error = ValueError("broken")
    stream = marbles.cold("a#", error=error).pipe(ops.map_text(str.upper))
    assert marbles.run(stream) == [(0.0, Token("A")), (1.0, error)]


def test_a_function_error_becomes_the_stream_error_and_stops_the_source(marbles: Marbles) -> None:
    source, error = marbles.cold("a-b-c|"), ValueError("no")

    def fail(text: str) -> str:
        if text == "b":
            raise error
        return text

    assert marbles.run(source.pipe(ops.map_text(fail))) == [(0.0, Token("a")), (2.0, error)]
    assert source.subscriptions == [(0.0, 2.0)]


def test_after_a_failure_the_function_is_not_called_again() -> None:
    seen: list[str] = []

    def fail(text: str) -> str:
        seen.append(text)
        raise ValueError("no")

    def push(observer: Any, scheduler: Any) -> Any:
        for letter in "abc":
            observer.on_next(Token(letter))

    errors: list[Exception] = []
    source: rx.Observable[Chunk] = rx.create(push)
    source.pipe(ops.map_text(fail)).subscribe(on_error=errors.append)
    assert (seen, len(errors)) == (["a"], 1)


def test_a_subscriber_error_is_not_a_stream_error(marbles: Marbles) -> None:
    errors: list[Exception] = []

    def on_next(_: Chunk) -> None:
        raise ValueError("the subscriber's own")

    stream = marbles.cold("a-b|").pipe(ops.map_text(str.upper))
    stream.subscribe(on_next, errors.append, scheduler=marbles.scheduler)
    with pytest.raises(ValueError, match="the subscriber's own"):
        marbles.advance_to(9)
    assert errors == []


@pytest.mark.parametrize("result", [None, 1])
def test_a_result_that_is_not_a_string_is_an_error(marbles: Marbles, result: Any) -> None:
    ((_, error),) = marbles.run(marbles.cold("a|").pipe(ops.map_text(lambda _: result)))
    assert isinstance(error, TypeError)
    assert "use filters" in str(error)


def test_sources_and_subscriptions_are_independent(marbles: Marbles) -> None:
    left, right = marbles.cold("a-|", source="left"), marbles.cold("-b|", source="right")
    stream = rx.merge(left, right).pipe(ops.map_text(str.upper))
    first, second = marbles.subscribe(stream), marbles.subscribe(stream)
    marbles.advance_to(9)
    assert first.chunks == [Token("A", source="left"), Token("B", source="right")]
    assert second.events == first.events


def test_disposal_and_demand_reach_the_source(marbles: Marbles) -> None:
    marbles.at(1, marbles.valve.close)
    source = marbles.cold("a-b-c", demand=True)
    recording = marbles.subscribe(source.pipe(ops.map_text(str.upper)))
    marbles.advance_to(9)
    recording.dispose()
    assert (recording.events, marbles.timers) == ([(0.0, Token("A"))], [])
    assert source.subscriptions == [(0.0, 9.0)]


@given(cut_texts())
def test_a_function_of_single_characters_does_not_depend_on_the_cuts(
    cut: tuple[str, list[str]],
) -> None:
    def swap(text: str) -> str:
        return text.replace("a", "b")

    text, pieces = cut
    events = events_of(pieces, ops.map_text(swap))
    assert [event.text for event in events if type(event) is Token] == [*map(swap, pieces)]
    assert "".join(map(swap, pieces)) == swap(text)


def test_anything_but_a_plain_function_is_rejected_at_the_call() -> None:
    async def later(text: str) -> str:
        return text

    for bad in ("upper", later):
        with pytest.raises(TypeError, match="map_text takes a plain function"):
            ops.map_text(bad)  # type: ignore[arg-type]
