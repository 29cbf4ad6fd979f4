"""What `words`, `sentences` and `lines` have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st
from reactivex import operators as rx_ops

from rxllm import operators as ops
from rxllm.chunks import Batch, Chunk, End, Notice, Progress, Reasoning, Start, Token, Usage
from rxllm.iteration import to_async
from rxllm.models.scripted import ScriptedModel
from rxllm.operators._graphemes import LONGEST_GRAPHEME, graphemes
from rxllm.operators.buffering import TextCount
from rxllm.testing import COMPLETED, Marbles, no_leaks, run_virtual
from tests.operators.texts import cut_texts, events_of, pieces_after

KINDS: list[Callable[..., Any]] = [ops.words, ops.sentences, ops.lines]
OTHER = {"P": Progress(1, 0.5), "U": Usage(1, 2), "r": Reasoning("hm")}

each_kind = pytest.mark.parametrize("by", KINDS, ids=lambda by: by.__name__)


def three(by: Callable[..., Any]) -> list[str]:
    """Three pieces of a kind, the last one open."""
    return {
        "words": ["One ", "two  ", "three"],
        "sentences": ["One. ", "Two!\n", "Three"],
        "lines": ["One\n", "Two\r\n", "Three"],
    }[by.__name__]


def count_of(by: Callable[..., Any], count: int, characters: int) -> TextCount:
    """The result reported for one stream."""
    return TextCount(cast("Any", by.__name__), count, characters)


@each_kind
def test_each_piece_is_one_numbered_token_and_the_last_is_not_lost(by: Callable[..., Any]) -> None:
    first, second, third = three(by)
    assert events_of(["".join(three(by))], by())[1:3] == [
        Token(first, number=1),
        Token(second, number=2),
    ]
    assert events_of(list("".join(three(by))), by())[-4:-3] == [Token(third, number=3)]


@each_kind
def test_the_right_count_is_reported_once_at_the_end(by: Callable[..., Any]) -> None:
    """The total must not be off by one."""
    reports: list[Any] = []
    text = "".join(three(by))
    events = events_of(list(text), by(reports.append))
    assert reports == [count_of(by, 3, len(text))]
    assert [event.number for event in events if isinstance(event, Token)] == [1, 2, 3]


@each_kind
def test_the_last_piece_is_sent_before_end_completion_and_error(
    by: Callable[..., Any],
) -> None:
    for end, last in (("E|", [End("stop"), COMPLETED]), ("|", [COMPLETED])):
        marbles = Marbles()
        events = marbles.run(marbles.cold("One-" + end).pipe(by()))
        assert [event for _, event in events] == [Token("One", number=1), *last]
    marbles, error = Marbles(), ValueError("broken")
    reports: list[Any] = []
    stream = marbles.cold("One-#", error=error).pipe(by(reports.append))
    assert marbles.run(stream) == [(4.0, Token("One", number=1)), (4.0, error)]
    assert [report.count for report in reports] == [1]


@each_kind
def test_never_and_empty(by: Callable[..., Any], marbles: Marbles) -> None:
    reports: list[Any] = []
    assert marbles.run(marbles.cold("").pipe(by(reports.append)), until=1) == []
    assert marbles.run(marbles.cold("|").pipe(by(reports.append)), until=3) == [(1.0, COMPLETED)]
    assert marbles.run(marbles.cold("S-E|").pipe(by(reports.append)))[:2] == [
        (3.0, Start("request-1", "model")),
        (5.0, End("stop")),
    ]
    assert reports == []  # there was no text to count


@each_kind
def test_a_restart_drops_held_text_and_counts_from_one_again(
    by: Callable[..., Any], marbles: Marbles
) -> None:
    reports: list[Any] = []
    lookup = {"a": Token("".join(three(by))), "b": Token("Again")}
    events = marbles.run(marbles.cold("a-R-b-|", lookup=lookup).pipe(by(reports.append)))
    assert [event for _, event in events[2:]] == [
        Notice("restart"),
        Token("Again", number=1),
        COMPLETED,
    ]
    assert reports == [count_of(by, 1, 5)]


@each_kind
def test_other_chunks_are_sent_before_the_restart_notice(
    by: Callable[..., Any], marbles: Marbles
) -> None:
    lookup = {**OTHER, "N": Notice("degraded")}
    events = marbles.run(marbles.cold("(S,a,U,P,r,N,R,b,E)|", lookup=lookup).pipe(by()))
    assert [event for _, event in events] == [
        Start("request-1", "model"),
        *(lookup["U"], lookup["P"], lookup["N"]),
        Notice("restart"),
        Token("b", number=1),
        End("stop"),
        COMPLETED,
    ]


@each_kind
def test_other_chunks_wait_for_the_piece_they_arrived_in(
    by: Callable[..., Any], marbles: Marbles
) -> None:
    first, second, third = three(by)
    lookup = {**OTHER, "a": Token(first + second[:1]), "b": Token(second[1:]), "c": Token(third)}
    events = [e for _, e in marbles.run(marbles.cold("P-a-P-b-r-c-U-|", lookup=lookup).pipe(by()))]
    later = [Token(second, number=2), OTHER["P"], OTHER["r"]]
    if by is not ops.lines:
        assert events == [
            OTHER["P"], Token(first, number=1), *later, Token(third, number=3), OTHER["U"],
            COMPLETED,
        ]  # fmt: skip
    else:  # the line was complete before the reasoning arrived
        assert events[2:5] == later


@each_kind
def test_batches_are_unpacked_and_empty_tokens_dropped(by: Callable[..., Any]) -> None:
    first, second, third = three(by)
    parts = (Reasoning("hm"), Token(first[:1]), Token(""), Token(first[1:] + second), Token(third))
    script: list[str | Chunk] = [Batch(parts, first + second + third), Token("")]
    assert events_of(script, by())[1:5] == [
        Reasoning("hm"),
        Token(first, number=1),
        Token(second, number=2),
        Token(third, number=3),
    ]


@each_kind
def test_the_confidence_is_the_product_of_its_tokens(by: Callable[..., Any]) -> None:
    first, second, third = three(by)
    script: list[str | Chunk] = [
        Token(first[:1], 0.5),
        Token(first[1:] + second, 0.5),
        Token(third),
    ]
    assert [event.confidence for event in events_of(script, by())[1:4]] == [0.25, 0.5, None]


@each_kind
def test_sources_are_read_separately(by: Callable[..., Any], marbles: Marbles) -> None:
    reports: list[Any] = []
    one, two = three(by)[:2]
    left = marbles.cold("a-b-E|", lookup={"a": Token(one), "b": Token(two)}, source="left")
    right = marbles.cold("-c---d-|", lookup={"c": Token("Le"), "d": Token("ft")}, source="right")
    events = marbles.run(rx.merge(left, right).pipe(by(reports.append)))
    tokens = [event for _, event in events if isinstance(event, Token)]
    assert tokens == [
        Token(one, number=1, source="left"),
        Token(two, number=2, source="left"),
        Token("Left", number=1, source="right"),
    ]
    assert [(report.source, report.count) for report in reports] == [("left", 2), ("right", 1)]


@each_kind
def test_subscriptions_are_independent(by: Callable[..., Any], marbles: Marbles) -> None:
    stream = marbles.cold("On--e|").pipe(by())
    first = marbles.subscribe(stream)
    marbles.advance_to(1)
    second = marbles.subscribe(stream)
    marbles.advance_to(9)
    assert first.chunks == second.chunks == [Token("One", number=1)]


@each_kind
def test_early_disposal_leaves_nothing_and_reports_nothing(
    by: Callable[..., Any], marbles: Marbles
) -> None:
    reports: list[Any] = []
    source = marbles.cold("a-b-c-|")
    recording = marbles.subscribe(source.pipe(by(reports.append)))
    marbles.advance_to(3)
    recording.dispose()
    assert (recording.events, reports, marbles.timers) == ([], [], [])
    assert source.subscriptions == [(0.0, 3.0)]


@each_kind
def test_a_subscriber_that_leaves_at_the_last_piece_gets_no_report(
    by: Callable[..., Any], marbles: Marbles
) -> None:
    reports: list[Any] = []
    stream = marbles.cold("One-|").pipe(by(reports.append), rx_ops.take(1))
    assert marbles.run(stream)[0] == (4.0, Token("One", number=1))
    assert reports == []


@each_kind
def test_a_callback_error_becomes_the_stream_error_after_the_last_piece(
    by: Callable[..., Any], marbles: Marbles
) -> None:
    failure = KeyError("report")

    def report(_: TextCount) -> None:
        raise failure

    source = marbles.cold("One-E|")
    assert marbles.run(source.pipe(by(report))) == [
        (4.0, Token("One", number=1)),
        (4.0, failure),
    ]
    assert source.subscriptions == [(0.0, 4.0)]


@each_kind
def test_a_callback_error_does_not_replace_a_stream_error(
    by: Callable[..., Any], marbles: Marbles
) -> None:
    error = ValueError("broken")
    stream = marbles.cold("One-#", error=error).pipe(by(lambda _: 1 / 0))
    assert marbles.run(stream) == [(4.0, Token("One", number=1)), (4.0, error)]
    assert "ZeroDivisionError" in error.__notes__[0]


@each_kind
def test_demand_passes_through(by: Callable[..., Any], marbles: Marbles) -> None:
    marbles.at(1, marbles.valve.close)
    marbles.at(20, marbles.valve.open)
    stream = marbles.cold("One-two-|", demand=True).pipe(by())
    recording = marbles.subscribe(stream)
    marbles.advance_to(19)
    assert recording.events == []
    marbles.advance_to(30)
    assert recording.chunks == [Token("Onetwo", number=1)]


@each_kind
@given(length=st.integers(1, 70), longest=st.integers(1, 40))
def test_no_more_than_the_longest_piece_is_held(
    by: Callable[..., Any], length: int, longest: int
) -> None:
    marbles = Marbles()
    recording = marbles.subscribe(marbles.cold("a" + "-a" * (length - 1)).pipe(by(longest=longest)))
    marbles.advance_to(200)
    sent = "".join(token.text for token in recording.chunks)
    assert length - len(sent) <= longest
    assert all(len(token.text) == longest for token in recording.chunks)


@each_kind
def test_a_piece_that_is_too_long_is_split_between_graphemes(by: Callable[..., Any]) -> None:
    assert pieces_after(["aa👍", "🏽👍🏽b"], by(longest=4)) == ["aa👍🏽", "👍🏽b"]
    assert pieces_after(["aaa👍", "🏽👍🏽b"], by(longest=4)) == ["aaa", "👍🏽👍🏽", "b"]
    assert pieces_after(["e" + "\u0301" * 9], by(longest=4)) == [
        "e" + "\u0301" * 3,
        "\u0301" * 4,
        "\u0301" * 2,
    ]


@each_kind
@given(cut_texts(), st.integers(1, 12))
def test_the_pieces_are_the_same_however_the_text_is_cut(
    by: Callable[..., Any], text_and_pieces: tuple[str, list[str]], longest: int
) -> None:
    text, pieces = text_and_pieces
    for operator in (by(), by(longest=longest)):
        whole = pieces_after([text], operator)
        assert pieces_after(pieces, operator) == whole
        assert pieces_after(text, operator) == whole
        assert "".join(whole) == text
    assert all(len(piece) <= longest for piece in whole)


@each_kind
@given(cut_texts(), st.integers(LONGEST_GRAPHEME, 99))
def test_no_grapheme_is_split(
    by: Callable[..., Any], text_and_pieces: tuple[str, list[str]], longest: int
) -> None:
    text = text_and_pieces[0] * 9
    pieces = pieces_after([text], by(longest=longest))
    assert [letter for piece in pieces for letter in graphemes(piece)] == graphemes(text)


@each_kind
@given(cut_texts())
def test_the_count_agrees_with_the_sent_pieces(
    by: Callable[..., Any], text_and_pieces: tuple[str, list[str]]
) -> None:
    text, pieces = text_and_pieces
    reports: list[Any] = []
    events = events_of(pieces, by(reports.append))
    numbers = [e.number for e in events if isinstance(e, Token) and e.number is not None]
    assert numbers == list(range(1, len(numbers) + 1))
    counted = [(report.count, report.characters) for report in reports]
    assert counted == ([(len(numbers), len(text))] if text else [])


@each_kind
def test_nothing_leaks_on_an_event_loop(by: Callable[..., Any]) -> None:
    async def main() -> list[Any]:
        stream = ScriptedModel("".join(three(by)), by="character", delay=1).stream("Hi").pipe(by())
        async with no_leaks():
            return [chunk async for chunk in to_async(stream)]

    tokens = [chunk for chunk in run_virtual(main()) if isinstance(chunk, Token)]
    assert [token.text for token in tokens] == three(by)


@each_kind
@pytest.mark.parametrize(
    ("bad", "error", "words"),
    [
        ({"on_result": "print"}, TypeError, "on_result must be"),
        ({"longest": "9"}, TypeError, "longest"),
        ({"longest": True}, TypeError, "longest"),
        ({"longest": 0}, ValueError, "longest"),
    ],
)
def test_bad_arguments_are_rejected_at_the_call(
    by: Callable[..., Any], bad: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        by(**bad)
