"""`error_boundary`: a handler that fails for one chunk doesn't fail the stream."""

import logging
from typing import Any

import pytest
import reactivex as rx
from hypothesis import given

from rxllm import operators as ops
from rxllm.chunks import Batch, Chunk, End, Notice, Progress, Token, Usage, text_of
from rxllm.testing import COMPLETED, Marbles
from tests.operators.texts import cut_texts, text_after


def upper(chunk: Chunk) -> Chunk | None:
    """Fails for "b", returns `None` for "c", and converts others to upper case."""
    text = text_of(chunk)
    if text == "b":
        raise ValueError("no b")
    return Token(text.upper()) if text and text != "c" else None


def silent(error: Exception, chunk: Chunk) -> None:
    """An `on_error` that ignores the failure."""


def test_content_whose_handler_fails_is_left_out(marbles: Marbles) -> None:
    stream = marbles.cold("S-a-b-a-E|").pipe(ops.error_boundary(upper, silent))
    assert [getattr(e, "text", type(e).__name__) for _, e in marbles.run(stream)[:-1]] == [
        "Start",
        "A",
        "A",
        "End",
    ]


def test_or_it_is_passed_on_unchanged(marbles: Marbles) -> None:
    stream = marbles.cold("a-b-a|").pipe(ops.error_boundary(upper, silent, on_failure="pass"))
    assert [event for _, event in marbles.run(stream)] == [*map(Token, "AbA"), COMPLETED]


def test_what_is_no_content_is_never_left_out(marbles: Marbles) -> None:
    def fail(chunk: Chunk) -> Chunk:
        raise ValueError("no")

    diagram, lookup = "S-P-U-R-n-E|", {"P": Progress(1, 0.5), "n": Notice("retry"), "U": Usage(1)}
    stream = marbles.cold(diagram, lookup=lookup).pipe(ops.error_boundary(fail, silent))
    assert marbles.run(stream) == marbles.expect(diagram, lookup=lookup)


def test_another_fate_is_rejected() -> None:
    with pytest.raises(ValueError, match="on_failure must be 'drop' or 'pass', got 'ignore'"):
        ops.error_boundary(upper, on_failure="ignore")  # type: ignore[arg-type]


def test_on_error_chooses_the_replacement(marbles: Marbles) -> None:
    failures: list[tuple[str, Chunk]] = []

    def on_error(error: Exception, chunk: Chunk) -> Chunk:
        failures.append((str(error), chunk))
        return Token("?")

    stream = marbles.cold("a-b-b|").pipe(ops.error_boundary(upper, on_error))
    assert [event for _, event in marbles.run(stream)] == [*map(Token, "A??"), COMPLETED]
    assert failures == [("no b", Token("b"))] * 2


def test_on_error_may_let_an_error_through(marbles: Marbles) -> None:
    source = marbles.cold("a-b-c|")

    def on_error(error: Exception, chunk: Chunk) -> None:
        raise error

    events = marbles.run(source.pipe(ops.error_boundary(upper, on_error)))
    assert events[0] == (0.0, Token("A"))
    assert (len(events), str(events[1][1])) == (2, "no b")
    assert source.subscriptions == [(0.0, 2.0)]


def test_an_exception_in_on_error_keeps_the_failure_as_its_context(marbles: Marbles) -> None:
    def on_error(error: Exception, chunk: Chunk) -> None:
        raise KeyError("worse")

    ((_, error),) = marbles.run(marbles.cold("b|").pipe(ops.error_boundary(upper, on_error)))
    assert isinstance(error, KeyError)
    assert isinstance(error.__context__, ValueError)


def test_the_handler_gets_every_chunk_and_none_passes_it_on(marbles: Marbles) -> None:
    seen: list[Chunk] = []
    diagram, lookup = "S-a-P-R-n-E|", {"P": Progress(1, 0.5), "n": Notice("retry")}
    stream = marbles.cold(diagram, lookup=lookup).pipe(ops.error_boundary(seen.append))
    events = marbles.run(stream)
    assert events == marbles.expect(diagram, lookup=lookup)
    assert seen == [event for _, event in events[:-1]]


def test_a_result_that_is_not_a_chunk_is_a_handler_failure(marbles: Marbles) -> None:
    failures: list[Exception] = []

    def on_error(error: Exception, chunk: Chunk) -> None:
        failures.append(error)

    stream = marbles.cold("a|").pipe(ops.error_boundary(lambda _: "A", on_error))  # type: ignore[arg-type, return-value]
    assert marbles.run(stream) == [(1.0, COMPLETED)]
    assert "handler of error_boundary must return a chunk or None" in str(failures[0])


def test_a_result_of_on_error_that_is_not_a_chunk_is_the_error(marbles: Marbles) -> None:
    stream = marbles.cold("b|").pipe(ops.error_boundary(upper, lambda *_: "A"))  # type: ignore[arg-type]
    ((_, error),) = marbles.run(stream)
    assert isinstance(error, TypeError)
    assert "on_error of error_boundary must return a chunk or None" in str(error)


def test_without_on_error_only_the_first_failure_is_a_warning(
    marbles: Marbles, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "rxllm.error_boundary")
    stream = marbles.cold("b-b-b|").pipe(ops.error_boundary(upper))
    for _ in range(2):
        caplog.clear()
        assert [event for _, event in marbles.run(stream)] == [COMPLETED]
        assert [record.levelname for record in caplog.records] == ["WARNING", "DEBUG", "DEBUG"]
    assert "the handler failed for a Token, which is dropped" in caplog.text
    assert "no b" in caplog.text


def test_a_chunk_without_a_source_gets_that_of_the_one_it_replaces(marbles: Marbles) -> None:
    def pack(chunk: Chunk) -> Chunk:
        return Batch((Token("x"),), "x") if text_of(chunk) == "a" else Token("y", source="mine")

    stream = marbles.cold("a-b|", source="left").pipe(ops.error_boundary(pack))
    assert [event for _, event in marbles.run(stream)[:-1]] == [
        Batch((Token("x", source="left"),), "x", source="left"),
        Token("y", source="mine"),
    ]


def test_a_source_error_is_passed_on(marbles: Marbles) -> None:
    failures: list[Exception] = []
    error = ValueError("broken")
    stream = marbles.cold("a#", error=error).pipe(
        ops.error_boundary(upper, lambda error, _: failures.append(error))
    )
    assert marbles.run(stream) == [(0.0, Token("A")), (1.0, error)]
    assert failures == []


def test_a_subscriber_error_is_not_caught(marbles: Marbles) -> None:
    failures: list[Exception] = []

    def on_next(_: Chunk) -> None:
        raise ValueError("the subscriber's own")

    boundary = ops.error_boundary(upper, lambda error, _: failures.append(error))
    marbles.cold("a|").pipe(boundary).subscribe(
        on_next, failures.append, scheduler=marbles.scheduler
    )
    with pytest.raises(ValueError, match="the subscriber's own"):
        marbles.advance_to(9)
    assert failures == []


def test_never_and_empty(marbles: Marbles) -> None:
    assert marbles.run(marbles.cold("").pipe(ops.error_boundary(upper)), until=1) == []
    assert marbles.run(marbles.cold("|").pipe(ops.error_boundary(upper))) == [(1.0, COMPLETED)]


def test_sources_and_subscriptions_are_independent(marbles: Marbles) -> None:
    left, right = marbles.cold("a-|", source="left"), marbles.cold("-b|", source="right")
    stream = rx.merge(left, right).pipe(ops.error_boundary(upper, silent))
    first, second = marbles.subscribe(stream), marbles.subscribe(stream)
    marbles.advance_to(9)
    assert first.chunks == [Token("A", source="left")]
    assert second.events == first.events


def test_disposal_and_demand_reach_the_source(marbles: Marbles) -> None:
    marbles.at(1, marbles.valve.close)
    source = marbles.cold("a-b-c", demand=True)
    recording = marbles.subscribe(source.pipe(ops.error_boundary(upper)))
    marbles.advance_to(9)
    recording.dispose()
    assert (recording.events, marbles.timers) == ([(0.0, Token("A"))], [])
    assert source.subscriptions == [(0.0, 9.0)]


@given(cut_texts())
def test_a_handler_that_always_fails_changes_no_text(cut: tuple[str, list[str]]) -> None:
    def fail(chunk: Chunk) -> Chunk:
        raise ValueError(str(chunk))

    text, pieces = cut
    assert text_after(pieces, ops.error_boundary(fail, silent, on_failure="pass")) == text


async def later(chunk: Any, *_: Any) -> Any:
    """A coroutine function."""


@pytest.mark.parametrize("bad", [(None,), (later,), (upper, "print"), (upper, later)])
def test_anything_but_a_plain_function_is_rejected_at_the_call(bad: Any) -> None:
    with pytest.raises(TypeError, match="error_boundary must be a plain function"):
        ops.error_boundary(*bad)


def test_the_handler_gets_the_end_too(marbles: Marbles) -> None:
    def fail_at_the_end(chunk: Chunk) -> None:
        if type(chunk) is End:
            raise ValueError("no end")

    stream = marbles.cold("a-(E,|)").pipe(ops.error_boundary(fail_at_the_end, silent))
    assert marbles.run(stream) == marbles.expect("a-(E,|)")
