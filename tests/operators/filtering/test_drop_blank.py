"""`drop_blank`: empty text is dropped, white space isn't."""

import reactivex as rx
from hypothesis import given

from rxllm import operators as ops
from rxllm.chunks import Batch, Chunk, End, Reasoning, Token, Usage
from rxllm.testing import COMPLETED, Marbles
from tests.operators.texts import cut_texts, events_of, pieces_after

EMPTY = {"n": Token(""), "m": Reasoning(""), "B": Batch((Token(""), Reasoning("")), "")}


def test_chunks_without_text_are_dropped(marbles: Marbles) -> None:
    stream = marbles.cold("S-n-a-m-B-b-(E,|)", lookup=EMPTY).pipe(ops.drop_blank())
    assert marbles.run(stream) == marbles.expect("S---a-----b-(E,|)")


def test_white_space_is_text() -> None:
    blank: list[Chunk] = [
        Token(" "),
        Token("\n"),
        Token("\u200b"),
        Reasoning(" "),
        Batch((Token(" "),), " "),
    ]
    assert events_of(blank, ops.drop_blank())[1:6] == blank


def test_chunks_with_text_pass_unchanged() -> None:
    thought = Batch((Token(""), Reasoning("hm")), "")
    mixed = Batch((Token(""), Token("a")), "a")
    assert events_of([thought, mixed, Usage()], ops.drop_blank())[1:4] == [thought, mixed, Usage()]


def test_never_empty_and_error() -> None:
    marbles, error = Marbles(), ValueError("broken")
    assert marbles.run(marbles.cold("").pipe(ops.drop_blank()), until=1) == []
    assert marbles.run(marbles.cold("|").pipe(ops.drop_blank())) == [(1.0, COMPLETED)]
    marbles = Marbles()
    stream = marbles.cold("a-n#", error=error, lookup=EMPTY).pipe(ops.drop_blank())
    assert marbles.run(stream) == [(0.0, Token("a")), (3.0, error)]


def test_a_restart_passes(marbles: Marbles) -> None:
    stream = marbles.cold("a-R-n-b|", lookup=EMPTY).pipe(ops.drop_blank())
    assert marbles.run(stream) == marbles.expect("a-R---b|")


def test_early_disposal_disposes_the_source(marbles: Marbles) -> None:
    source = marbles.cold("a-n-b|", lookup=EMPTY)
    recording = marbles.subscribe(source.pipe(ops.drop_blank()))
    marbles.advance_to(3)
    recording.dispose()
    assert (source.subscriptions, marbles.timers) == ([(0.0, 3.0)], [])


def test_sources_and_subscriptions_are_independent(marbles: Marbles) -> None:
    left = marbles.cold("a-n-E|", lookup=EMPTY, source="left")
    right = marbles.cold("-b-n-|", lookup=EMPTY, source="right")
    stream = rx.merge(left, right).pipe(ops.drop_blank())
    first, second = marbles.subscribe(stream), marbles.subscribe(stream)
    marbles.advance_to(9)
    assert first.events == second.events
    assert first.chunks == [
        Token("a", source="left"),
        Token("b", source="right"),
        End("stop", source="left"),
    ]


def test_demand_passes_through(marbles: Marbles) -> None:
    marbles.at(1, marbles.valve.close)
    recording = marbles.subscribe(marbles.cold("a-b-c", demand=True).pipe(ops.drop_blank()))
    marbles.advance_to(9)
    assert recording.chunks == [Token("a")]


@given(cut_texts())
def test_the_pieces_are_unchanged(cut: tuple[str, list[str]]) -> None:
    _, pieces = cut
    assert pieces_after(pieces, ops.drop_blank()) == [piece for piece in pieces if piece]
    assert Token("") not in events_of(pieces, ops.drop_blank())
