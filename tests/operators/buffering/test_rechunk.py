"""`rechunk`: pieces of 16, 64 or 256 characters, or adaptive; long streams."""

import tracemalloc
from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st
from reactivex import operators as rx_ops

from rxllm import operators as ops
from rxllm.chunks import Batch, Chunk, End, Notice, Progress, Reasoning, Start, Token, text_of
from rxllm.models.scripted import ScriptedModel
from rxllm.operators._graphemes import LONGEST_GRAPHEME, graphemes
from rxllm.testing import COMPLETED, Marbles
from tests.operators.texts import cut_texts, events_of, pieces_after, text_after


def pieces_of(text: str, size: int) -> list[str]:
    """The expected pieces of `rechunk(size)` for a whole text."""
    pieces = [""]
    for grapheme in graphemes(text):
        if pieces[-1] and len(pieces[-1]) + len(grapheme) > size:
            pieces.append("")
        pieces[-1] += grapheme
    return [piece for piece in pieces if piece]


def lengths(marbles: Marbles, diagram: str, size: Any, **lookup: Chunk) -> list[tuple[float, int]]:
    """When pieces are sent, and how long they are."""
    events = marbles.run(marbles.cold(diagram, lookup=lookup).pipe(ops.rechunk(size)))
    return [(time, len(event.text)) for time, event in events if type(event) is Token]


def test_a_piece_is_sent_when_the_next_character_arrives(marbles: Marbles) -> None:
    stream = marbles.cold("S-ab-cdefgh-i-(E,|)").pipe(ops.rechunk(3))
    assert marbles.run(stream) == [
        (0.0, Start("request-1", "model")),
        (5.0, Token("abc")),
        (5.0, Token("def")),
        (14.0, Token("ghi")),
        (14.0, End("stop")),
        (14.0, COMPLETED),
    ]


@pytest.mark.parametrize(("name", "size"), [("small", 16), ("medium", 64), ("large", 256)])
def test_small_medium_and_large_pieces_have_16_64_and_256_characters(
    marbles: Marbles, name: Any, size: int
) -> None:
    long = Token("x" * 700)
    assert [length for _, length in lengths(marbles, "L|", name, L=long)][:2] == [size, size]


def test_never_and_empty(marbles: Marbles) -> None:
    assert marbles.run(marbles.cold("").pipe(ops.rechunk()), until=1) == []
    assert marbles.run(marbles.cold("|").pipe(ops.rechunk()), until=3) == [(1.0, COMPLETED)]
    nothing = marbles.cold("e|", lookup={"e": Token("")})
    assert [event for _, event in marbles.run(nothing.pipe(ops.rechunk(1)))] == [COMPLETED]


def test_held_text_is_sent_before_completion_and_error(marbles: Marbles) -> None:
    error = ValueError("broken")
    assert marbles.run(marbles.cold("a-#", error=error).pipe(ops.rechunk(9))) == [
        (2.0, Token("a")),
        (2.0, error),
    ]
    marbles = Marbles()
    stream = marbles.cold("a-|").pipe(ops.rechunk(9))
    assert marbles.run(stream) == [(2.0, Token("a")), (2.0, COMPLETED)]


def test_a_restart_drops_held_chunks(marbles: Marbles) -> None:
    stream = marbles.cold("a-R-b|").pipe(ops.rechunk(9))
    assert marbles.run(stream) == [(2.0, Notice("restart")), (5.0, Token("b")), (5.0, COMPLETED)]


def test_another_chunk_flushes_the_text_before_it(marbles: Marbles) -> None:
    lookup = {"P": Progress(1, 0.5), "r": Reasoning("hm")}
    events = marbles.run(marbles.cold("a-P-b-r-c|", lookup=lookup).pipe(ops.rechunk(9)))
    assert events[:4] == [
        (2.0, Token("a")),
        (2.0, lookup["P"]),
        (6.0, Token("b")),
        (6.0, lookup["r"]),
    ]


def test_text_in_a_batch_is_text(marbles: Marbles) -> None:
    parts = Batch((Token("abc"), Reasoning("hm"), Token("d")), "abcd")
    events = marbles.run(marbles.cold("B-ef|", lookup={"B": parts}).pipe(ops.rechunk(2)))
    assert [event for _, event in events] == [
        Token("ab"),
        Token("c"),
        Reasoning("hm"),
        Token("de"),
        Token("f"),
        COMPLETED,
    ]


def test_the_confidence_of_a_piece_is_the_product_of_its_tokens(marbles: Marbles) -> None:
    lookup = {"a": Token("ab", 0.5), "b": Token("cd", 0.5), "c": Token("ef")}
    events = marbles.run(marbles.cold("a-b-c|", lookup=lookup).pipe(ops.rechunk(3)))
    assert [event for _, event in events[:2]] == [Token("abc", 0.25), Token("def")]


@pytest.mark.parametrize(
    ("text", "size", "pieces"),
    [
        ("👩\u200d🚀👩\u200d🚀", 4, ["👩\u200d🚀", "👩\u200d🚀"]),
        ("👩\u200d🚀x", 1, ["👩\u200d🚀", "x"]),
        ("ab\r\nc", 3, ["ab", "\r\nc"]),
        ("cafe\u0301s", 4, ["caf", "e\u0301s"]),
    ],
)
def test_no_grapheme_is_split(text: str, size: int, pieces: list[str]) -> None:
    assert pieces_after(list(text), ops.rechunk(size)) == pieces
    assert pieces_after([text], ops.rechunk(size)) == pieces


def test_adaptive_grows_while_pieces_are_slow_up_to_512(marbles: Marbles) -> None:
    rows = lengths(marbles, "-".join(["L"] * 200) + "|", "adaptive", L=Token("x" * 16))
    sizes = [length for _, length in rows]
    assert sizes[:10] == [64, 64, 96, 144, 216, 324, 486, 512, 512, 512]


def test_adaptive_shrinks_while_pieces_are_fast_down_to_16() -> None:
    marbles = Marbles(seconds=0.001)
    rows = lengths(marbles, "-".join(["L"] * 100) + "|", "adaptive", L=Token("x" * 8))
    sizes = [length for _, length in rows]
    assert sizes[:7] == [64, 64, 51, 40, 32, 26, 20]
    assert set(sizes[8:-1]) == {16}


def test_adaptive_stays_between_50_and_200_milliseconds() -> None:
    marbles = Marbles(seconds=0.05)
    rows = lengths(marbles, "-L" * 20 + "|", "adaptive", L=Token("x" * 64))
    assert [length for _, length in rows] == [64] * 20


def test_adaptive_starts_over_after_a_restart() -> None:
    marbles = Marbles(seconds=0.001)
    rows = lengths(marbles, "L-L-L-R-L-L|", "adaptive", L=Token("x" * 70))
    assert [length for _, length in rows[:5]] == [64, 64, 51, 64, 64]


def test_a_long_stream_takes_fixed_memory_in_pieces_of_1000_characters() -> None:
    count = 0

    def see(chunk: Chunk) -> None:
        nonlocal count
        count += len(text_of(chunk))

    tracemalloc.start()
    stream: rx.Observable[Chunk] = rx.range(40_000).pipe(rx_ops.map(lambda _: Token("five ")))
    stream.pipe(ops.rechunk(1000)).subscribe(see)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 200_000
    assert peak < 300_000


def test_one_long_chunk_is_cut_at_once(marbles: Marbles) -> None:
    rows = lengths(marbles, "L|", 16, L=Token("é" * 100_000))
    assert len(rows) == 6250


def test_subscriptions_are_independent(marbles: Marbles) -> None:
    stream = marbles.cold("ab-cd|").pipe(ops.rechunk(3))
    first = marbles.subscribe(stream)
    marbles.advance_to(1)
    second = marbles.subscribe(stream)
    marbles.advance_to(9)
    assert first.chunks == second.chunks == [Token("abc"), Token("d")]


def test_sources_are_cut_separately(marbles: Marbles) -> None:
    left = marbles.cold("ab-cd-E|", source="left")
    right = marbles.cold("-x-R-y-|", source="right")
    events = marbles.run(rx.merge(left, right).pipe(ops.rechunk(3)))
    assert [(event.source, text_of(event)) for _, event in events[:-1]] == [
        ("left", "abc"),
        ("right", ""),
        ("left", "d"),
        ("left", ""),
        ("right", "y"),
    ]


@pytest.mark.parametrize("size", [9, "adaptive"])
def test_early_disposal_leaves_nothing(marbles: Marbles, size: Any) -> None:
    source = marbles.cold("a-b-c-|")
    recording = marbles.subscribe(source.pipe(ops.rechunk(size)))
    marbles.advance_to(3)
    recording.dispose()
    assert (recording.events, source.subscriptions, marbles.timers) == ([], [(0.0, 3.0)], [])


def test_demand_passes_through(marbles: Marbles) -> None:
    marbles.at(1, marbles.valve.close)
    recording = marbles.subscribe(marbles.cold("abc-d-e", demand=True).pipe(ops.rechunk(2)))
    marbles.advance_to(9)
    assert recording.chunks == [Token("ab")]


@given(cut_texts(), st.integers(1, 9))
def test_the_pieces_are_the_same_however_the_text_is_cut(
    texts: tuple[str, list[str]], size: int
) -> None:
    text, pieces = texts
    assert pieces_after(pieces, ops.rechunk(size)) == pieces_of(text, size)


@given(st.lists(st.sampled_from(["e", "\u0301" * 30, "\u0301", "x"])), st.integers(1, 70))
def test_the_pieces_of_very_long_graphemes_are_the_same(pieces: list[str], size: int) -> None:
    out = pieces_after(pieces, ops.rechunk(size))
    assert out == pieces_of("".join(pieces), size)
    assert all(len(piece) <= max(size, LONGEST_GRAPHEME) for piece in out)


@given(cut_texts())
def test_adaptive_keeps_the_joined_text(texts: tuple[str, list[str]]) -> None:
    text, pieces = texts
    assert text_after([piece * 9 for piece in pieces], ops.rechunk()) == "".join(
        piece * 9 for piece in pieces
    )
    assert text_after([text], ops.rechunk("adaptive")) == text


def test_adaptive_needs_an_event_loop() -> None:
    errors: list[Exception] = []
    ScriptedModel("Hi").stream("Hi").pipe(ops.rechunk()).subscribe(on_error=errors.append)
    assert [type(error).__name__ for error in errors] == ["NoEventLoopError"]


@pytest.mark.parametrize("bad", [0, -1, "huge"])
def test_invalid_sizes_are_rejected_at_the_call(bad: Any) -> None:
    with pytest.raises(ValueError, match="size must be"):
        ops.rechunk(bad)


@pytest.mark.parametrize("bad", [1.5, None, True])
def test_a_size_of_the_wrong_type_is_rejected_at_the_call(bad: Any) -> None:
    with pytest.raises(TypeError, match="size must be"):
        ops.rechunk(bad)


def test_pieces_end_at_spaces() -> None:
    operator = ops.rechunk(10, at="space")
    pieces = [
        event.text
        for event in events_of(["Once up", "on a time there was a light", "housekeeper"], operator)
        if isinstance(event, Token)
    ]
    assert pieces == ["Once upon ", "a time ", "there was ", "a ", "lighthouse", "keeper"]


@given(cut_texts(), st.integers(1, 12))
def test_at_spaces_the_pieces_do_not_depend_on_the_chunks(
    cut: tuple[str, list[str]], size: int
) -> None:
    text, pieces = cut
    operator = ops.rechunk(size, at="space")

    def cut_again(pieces: list[str]) -> list[str]:
        return [e.text for e in events_of(pieces, operator) if isinstance(e, Token) and e.text]

    found = cut_again(pieces)
    assert "".join(found) == text
    assert found == cut_again([text] if text else [])


def test_an_unknown_border_is_rejected_at_the_call() -> None:
    with pytest.raises(ValueError, match="at must be 'character' or 'space', got 'word'"):
        ops.rechunk(10, at="word")  # type: ignore[arg-type]
