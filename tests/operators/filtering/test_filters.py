"""`filters`: ordered filters, in which `None` drops the chunk."""

from collections.abc import Callable
from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from reactivex.disposable import Disposable
from reactivex.subject import Subject

from rxllm import operators as ops
from rxllm.chunks import Batch, Chunk, End, Notice, Reasoning, Start, Token, Usage, text_of
from rxllm.testing import COMPLETED, Marbles
from tests.operators.texts import cut_texts, events_of, text_after

Filter = Callable[[Any], Chunk | None]


def only(kind: type[Chunk]) -> Filter:
    return lambda chunk: chunk if type(chunk) is kind else None


def shout(chunk: Chunk) -> Chunk:
    return Token(chunk.text.upper()) if type(chunk) is Token else chunk


def without(text: str) -> Filter:
    return lambda chunk: None if text_of(chunk) == text else chunk


def test_filters_are_applied_in_order(marbles: Marbles) -> None:
    source = marbles.cold("S-a-b-A-(E,|)")
    assert marbles.run(source.pipe(ops.filters(shout, without("A")))) == marbles.expect(
        "S---B---(E,|)"
    )
    assert marbles.run(source.pipe(ops.filters(without("A"), shout)))[1][1] == Token("A")


def test_none_drops_the_chunk_and_skips_later_filters() -> None:
    seen: list[str] = []

    def look(chunk: Chunk) -> Chunk:
        seen.append(text_of(chunk))
        return chunk

    assert text_after(["a", "b", "c"], ops.filters(without("b"), look)) == "ac"
    assert seen == ["a", "c", ""]  # the last one is the usage


def test_start_notices_and_end_bypass_the_filters(marbles: Marbles) -> None:
    lookup = {"r": Notice("retry"), "U": Usage(1, 2), "h": Reasoning("hm")}
    stream = marbles.cold("SrSa-h-R-b-U-(E,|)", lookup={**lookup, "SrSa": Start("1", "m")})
    assert marbles.run(stream.pipe(ops.filters(lambda _: None))) == marbles.expect(
        "S------R-----(E,|)", lookup={"S": Start("1", "m")}
    )
    whole = events_of(["a", Reasoning("hm"), Notice("retry")], ops.filters(only(Token)))
    assert [type(event) for event in whole[:-1]] == [Start, Token, Notice, End]


def test_without_filters_all_chunks_pass(marbles: Marbles) -> None:
    assert marbles.run(marbles.cold("S-a-E|").pipe(ops.filters())) == marbles.expect("S-a-E|")


def test_chunks_are_seen_as_they_are_cut() -> None:
    assert text_after(["b", "ad"], ops.filters(without("bad"))) == "bad"
    assert text_after(["bad"], ops.filters(without("bad"))) == ""


def test_a_new_chunk_gets_the_source_of_the_one_it_replaces(marbles: Marbles) -> None:
    def packed(chunk: Chunk) -> Chunk:
        return Batch((Token(text_of(chunk)),), text_of(chunk))

    stream = marbles.cold("a|", source="left")
    assert marbles.run(stream.pipe(ops.filters(shout)))[0][1] == Token("A", source="left")
    assert marbles.run(stream.pipe(ops.filters(packed)))[0][1] == Batch(
        (Token("a", source="left"),), "a", source="left"
    )
    moved = ops.filters(lambda chunk: Token("x", source="right"))
    assert marbles.run(stream.pipe(moved))[0][1] == Token("x", source="right")


def test_never_empty_and_error() -> None:
    marbles, error = Marbles(), ValueError("broken")
    assert marbles.run(marbles.cold("").pipe(ops.filters(shout)), until=1) == []
    assert marbles.run(marbles.cold("|").pipe(ops.filters(shout))) == [(1.0, COMPLETED)]
    marbles = Marbles()
    stream = marbles.cold("a-#", error=error).pipe(ops.filters(shout))
    assert marbles.run(stream) == [(0.0, Token("A")), (2.0, error)]


def test_a_filter_error_becomes_the_stream_error_and_disposes_the_source(marbles: Marbles) -> None:
    error, source = LookupError("no filter"), marbles.cold("a-b-c|")

    def fail(chunk: Chunk) -> Chunk:
        if text_of(chunk) == "b":
            raise error
        return chunk

    assert marbles.run(source.pipe(ops.filters(fail))) == [(0.0, Token("a")), (2.0, error)]
    assert (source.subscriptions, marbles.timers) == ([(0.0, 2.0)], [])


def test_a_subscriber_error_is_not_a_stream_error() -> None:
    errors: list[Exception] = []

    def on_next(_: Chunk) -> None:
        raise LookupError("the subscriber's")

    stream = Subject[Chunk]()
    stream.pipe(ops.filters(shout)).subscribe(on_next, errors.append)
    with pytest.raises(LookupError):
        stream.on_next(Token("a"))
    assert errors == []


@pytest.mark.parametrize("given", [True, "text", End("stop"), Start("1", "m"), Notice("restart")])
def test_other_results_and_structure_chunks_are_rejected(marbles: Marbles, given: Any) -> None:
    def wrong(_: Chunk) -> Any:
        return given

    (time, error), *rest = marbles.run(marbles.cold("a-b|").pipe(ops.filters(wrong)))
    assert (time, type(error), rest) == (0.0, TypeError, [])
    assert "wrong" in str(error)


def test_a_restart_passes(marbles: Marbles) -> None:
    stream = marbles.cold("a-R-b|").pipe(ops.filters(without("a")))
    assert marbles.run(stream) == marbles.expect("--R-b|")


def test_early_disposal_disposes_the_source(marbles: Marbles) -> None:
    source = marbles.cold("a-b-c|")
    recording = marbles.subscribe(source.pipe(ops.filters(shout)))
    marbles.advance_to(3)
    recording.dispose()
    assert (source.subscriptions, marbles.timers) == ([(0.0, 3.0)], [])


def test_subscriptions_and_sources_are_independent(marbles: Marbles) -> None:
    left, right = marbles.cold("a-E|", source="left"), marbles.cold("-b|", source="right")
    stream = rx.merge(left, right).pipe(ops.filters(shout))
    first, second = marbles.subscribe(stream), marbles.subscribe(stream)
    marbles.advance_to(9)
    assert first.events == second.events
    assert [(text_of(chunk), chunk.source) for chunk in first.chunks] == [
        ("A", "left"),
        ("B", "right"),
        ("", "left"),
    ]


def test_demand_passes_through(marbles: Marbles) -> None:
    marbles.at(1, marbles.valve.close)
    recording = marbles.subscribe(marbles.cold("a-b-c", demand=True).pipe(ops.filters(shout)))
    marbles.advance_to(9)
    assert recording.chunks == [Token("A")]


def test_a_filter_is_not_called_again_once_it_has_failed() -> None:
    called: list[Chunk] = []

    def fail(chunk: Chunk) -> Chunk:
        called.append(chunk)
        raise LookupError("no filter")

    def push(observer: Any, _: Any) -> Disposable:
        for text in "abc":
            observer.on_next(Token(text))
        return Disposable()

    [(_, error)] = Marbles().run(rx.create(push).pipe(ops.filters(fail)), until=1)
    assert (type(error), called) == (LookupError, [Token("a")])


def test_a_batch_is_passed_as_one_chunk(marbles: Marbles) -> None:
    batch = Batch((Token("a"), Token("b")), "ab")
    got: list[Chunk] = []
    stream = marbles.cold("B|", lookup={"B": batch}).pipe(ops.filters(got.append))
    assert (marbles.run(stream), got) == ([(1.0, COMPLETED)], [batch])


@given(cut_texts())
def test_a_filter_of_single_characters_does_not_depend_on_the_cuts(
    cut: tuple[str, list[str]],
) -> None:
    text, pieces = cut

    def no_a(chunk: Chunk) -> Chunk:
        return Token(chunk.text.replace("a", "")) if type(chunk) is Token else chunk

    assert text_after(pieces, ops.filters(no_a)) == text.replace("a", "")


async def _asynchronous(chunk: Chunk) -> Chunk:
    return chunk


@pytest.mark.parametrize(
    ("function", "message"),
    [(None, "function of a chunk"), ("a", "function of a chunk"), (_asynchronous, "filter_async")],
)
def test_bad_filters_are_rejected_at_the_call(function: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        ops.filters(function)
