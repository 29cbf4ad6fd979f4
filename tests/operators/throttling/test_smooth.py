"""`smooth`: an even flow that catches up, also for CJK and emoji."""

import re
from itertools import pairwise
from typing import Any

import pytest
import reactivex as rx
import regex
from hypothesis import given
from hypothesis import strategies as st
from reactivex import operators as rx_ops

from rxllm import operators as ops
from rxllm.chunks import Batch, End, Notice, Progress, Reasoning, Start, Token, text_of
from rxllm.iteration import to_async
from rxllm.models.scripted import ScriptedModel
from rxllm.testing import COMPLETED, Marbles, no_leaks, run_virtual
from tests.operators.texts import cut_texts, pieces_after, text_after

KINDS: list[Any] = [
    "word",
    "character",
    "line",
    re.compile(r"[aeiou]\s*"),
    regex.compile(r"\p{Han}"),
    re.compile("(?=c)"),
    lambda text: text[:3] if len(text) > 2 else None,
]


def test_words_are_spaced_out_and_the_last_one_is_sent_at_the_end(marbles: Marbles) -> None:
    lookup = {"a": Token("one two three")}
    stream = marbles.cold("S-a--(E,|)", lookup=lookup).pipe(ops.smooth(seconds=2, max_lag=9))
    assert marbles.run(stream) == [
        (0.0, Start("request-1", "model")),
        (2.0, Token("one ")),
        (4.0, Token("two ")),
        (6.0, Token("three")),
        (6.0, End("stop")),
        (6.0, COMPLETED),
    ]


def test_never_and_empty(marbles: Marbles) -> None:
    assert marbles.run(marbles.cold("").pipe(ops.smooth()), until=1) == []
    assert marbles.run(marbles.cold("|").pipe(ops.smooth()), until=3) == [(1.0, COMPLETED)]


@pytest.mark.parametrize(
    ("text", "by", "pieces"),
    [
        ("Hello, big  world!", "word", ["Hello, ", "big  ", "world!"]),
        ("  a b\n\nc", "word", ["  a ", "b\n\n", "c"]),
        ("机器人画画。好", "word", ["机", "器", "人", "画", "画", "。", "好"]),
        ("日本語とEnglish です", "word", ["日", "本", "語", "と", "English ", "で", "す"]),
        ("한국어 문장", "word", ["한국어 ", "문장"]),
        ("👩\u200d🚀👍🏽 yes🇳🇴", "word", ["👩\u200d🚀", "👍🏽 ", "yes", "🇳🇴"]),
        ("cafe\u0301 ole\u0301", "character", [*"caf", "e\u0301", *" ol", "e\u0301"]),
        ("one\ntwo\r\n\r\nthree", "line", ["one\n", "two\r\n\r\n", "three"]),
        ("a-b--c", re.compile("-+"), ["a-", "b--", "c"]),
        ("a-b--c", regex.compile("-+"), ["a-", "b--", "c"]),
        ("oneTwoThree", re.compile("(?=[A-Z])"), ["one", "Two", "Three"]),
        ("abcdefgh", lambda text: text[:3], ["abc", "def", "gh"]),
        ("e\u0301\u0301x", lambda text: text[:1], ["e\u0301\u0301", "x"]),
    ],
)
def test_pieces_are_words_lines_matches_or_characters_also_in_cjk_and_emoji(
    text: str, by: Any, pieces: list[str]
) -> None:
    assert pieces_after([text], ops.smooth(by)) == pieces


def test_words_are_10_milliseconds_apart_by_default() -> None:
    marbles = Marbles(seconds=0.1)
    lookup = {"a": Token("one two three four five six")}
    events = marbles.run(marbles.cold("a|", lookup=lookup).pipe(ops.smooth()))
    assert [time for time, event in events if type(event) is Token] == pytest.approx(
        [0.0, 0.01, 0.02, 0.03, 0.04, 0.1], abs=1e-5
    )


def test_a_burst_is_caught_up_evenly_within_max_lag() -> None:
    marbles = Marbles()
    events = marbles.run(marbles.cold("a|", lookup={"a": Token("word " * 401)}).pipe(ops.smooth()))
    times = [time for time, event in events if type(event) is Token][:-2]
    assert times[0] == 0.0
    assert times[-1] == pytest.approx(0.4, abs=0.002)
    assert all(late - early == pytest.approx(0.001, abs=5e-4) for early, late in pairwise(times))


@pytest.mark.parametrize("words_per_second", [20, 90, 150, 500, 1000])
def test_the_lag_stays_under_max_lag_however_fast_the_model(words_per_second: int) -> None:
    marbles, count = Marbles(), 5 * words_per_second
    model = ScriptedModel([Token(f"{n} ") for n in range(count)], delay=1 / words_per_second)
    events = marbles.run(model.stream("Hi").pipe(ops.smooth()))
    came = {n: (n + 1) / words_per_second for n in range(count)}
    lags = [time - came[int(event.text)] for time, event in events if type(event) is Token]
    assert len(lags) == count
    assert -1e-3 < min(lags) <= max(lags) < 0.4 + 2 / words_per_second
    assert events[-1][0] < count / words_per_second + 0.41


def test_a_stalled_word_is_sent_after_max_lag() -> None:
    marbles = Marbles(seconds=0.1)
    events = marbles.run(marbles.cold("hel--------------lo|").pipe(ops.smooth()))
    assert [(round(time, 3), text_of(event)) for time, event in events] == [
        (0.4, "he"),
        (1.9, "llo"),
        (1.9, ""),
    ]


def test_infinite_lag_never_catches_up(marbles: Marbles) -> None:
    lookup = {"a": Token("x " * 101)}
    smoothed = marbles.cold("a|", lookup=lookup).pipe(ops.smooth(seconds=1, max_lag=float("inf")))
    assert [time for time, _ in marbles.run(smoothed)][:100] == [float(n) for n in range(100)]


def test_the_end_is_not_lost_and_completion_waits(marbles: Marbles) -> None:
    source = marbles.cold("a|", lookup={"a": Token("a b c")})
    events = marbles.run(source.pipe(ops.smooth(seconds=3)))
    assert [text_of(event) for _, event in events] == ["a ", "b ", "c", ""]


def test_everything_is_sent_at_once_before_an_error(marbles: Marbles) -> None:
    error = ValueError("broken")
    lookup = {"a": Token("one two three")}
    stream = marbles.cold("a#", lookup=lookup, error=error).pipe(ops.smooth("word", 5, 60))
    assert marbles.run(stream) == [
        (0.0, Token("one ")),
        (1.0, Token("two ")),
        (1.0, Token("three")),
        (1.0, error),
    ]


def test_a_restart_drops_held_chunks(marbles: Marbles) -> None:
    lookup = {"a": Token("one two three"), "b": Token("new")}
    stream = marbles.cold("a-R-b|", lookup=lookup).pipe(ops.smooth("word", 5, 60))
    assert marbles.run(stream) == [
        (0.0, Token("one ")),
        (2.0, Notice("restart")),
        (5.0, Token("new")),
        (5.0, COMPLETED),
    ]


def test_other_chunks_take_no_time_and_keep_their_place(marbles: Marbles) -> None:
    parts = Batch((Token("one tw"), Reasoning("hm"), Token("o three")), "one two three")
    lookup = {"B": parts, "P": Progress(1, 0.5)}
    stream = marbles.cold("(B,P)|", lookup=lookup).pipe(ops.smooth("word", 1, 60))
    assert marbles.run(stream) == [
        (0.0, Token("one ")),
        (1.0, Token("tw")),
        (1.0, Reasoning("hm")),
        (2.0, Token("o ")),
        (3.0, Token("three")),
        (3.0, Progress(1, 0.5)),
        (5.0, COMPLETED),
    ]


def test_the_confidence_of_a_piece_is_the_product_of_its_tokens(marbles: Marbles) -> None:
    lookup = {"a": Token("he", 0.5), "b": Token("llo wor", 0.5), "c": Token("ld")}
    events = marbles.run(marbles.cold("(a,b,c)|", lookup=lookup).pipe(ops.smooth(max_lag=60)))
    assert [event for _, event in events[:2]] == [Token("hello ", 0.25), Token("world")]


def test_sources_are_cut_separately(marbles: Marbles) -> None:
    left = marbles.cold("a-b-E|", source="left", lookup={"a": Token("he"), "b": Token("llo you")})
    right = marbles.cold("-x-R-y|", source="right", lookup={"x": Token("wor")})
    events = marbles.run(rx.merge(left, right).pipe(ops.smooth("word", 0.1, 60)))
    assert [(event.source, text_of(event)) for _, event in events[:-1]] == [
        ("left", "hello "),
        ("right", ""),
        ("left", "you"),
        ("left", ""),
        ("right", "y"),
    ]


def test_subscriptions_are_independent(marbles: Marbles) -> None:
    stream = marbles.cold("a|", lookup={"a": Token("one two")}).pipe(ops.smooth(max_lag=9))
    first, second = marbles.subscribe(stream), marbles.subscribe(stream)
    marbles.advance_to(9)
    assert first.events == second.events
    assert first.chunks == [Token("one "), Token("two")]


@pytest.mark.parametrize("text", ["one two three", "one"])
def test_early_disposal_leaves_nothing(marbles: Marbles, text: str) -> None:
    source = marbles.cold("a---|", lookup={"a": Token(text)})
    recording = marbles.subscribe(source.pipe(ops.smooth("word", 5, 60)))
    marbles.advance_to(1)
    recording.dispose()
    assert (source.subscriptions, marbles.timers) == ([(0.0, 1.0)], [])
    assert marbles.valve._callbacks == {}


def test_no_timer_is_left_after_completion(marbles: Marbles) -> None:
    marbles.subscribe(marbles.cold("a-b|").pipe(ops.smooth("word", 5, 60)))
    marbles.advance_to(9)
    assert marbles.timers == []


@pytest.mark.parametrize("result", ["", "nope", 3])
def test_a_function_that_returns_something_else_is_an_error(marbles: Marbles, result: Any) -> None:
    stream = marbles.cold("ab|").pipe(ops.smooth(lambda _: result))
    events = marbles.run(stream)
    assert events[0] == (0.0, Token("ab"))
    assert "prefix of its text" in str(events[1][1])


def test_an_exception_in_a_function_goes_to_on_error_and_no_text_is_lost(marbles: Marbles) -> None:
    error = KeyError("mine")

    def piece(text: str) -> str:
        if text.startswith("c"):
            raise error
        return text[:1]

    source = marbles.cold("ab-cd-e|")
    assert marbles.run(source.pipe(ops.smooth(piece))) == [
        (0.0, Token("a")),
        (3.0, Token("b")),
        (3.0, Token("cd")),
        (3.0, error),
    ]
    assert source.subscriptions == [(0.0, 3.0)]


@pytest.mark.parametrize("by", ["word", "line", re.compile("x"), lambda _: None])
def test_text_without_a_border_is_cut_after_1024_characters(by: Any) -> None:
    assert list(map(len, pieces_after(["a" * 3000], ops.smooth(by)))) == [1024, 1024, 952]


def test_cutting_a_long_chunk_takes_linear_time() -> None:
    seen: list[int] = []

    def piece(text: str) -> str:
        seen.append(len(text))
        return text[:50]

    assert len(pieces_after(["a" * 100_000], ops.smooth(piece))) == 2000
    assert max(seen) == 1024


def test_a_fast_model_is_paused_while_1024_pieces_wait(marbles: Marbles) -> None:
    pulled = 0

    def count(_: object) -> None:
        nonlocal pulled
        pulled += 1

    model = ScriptedModel([Token("x ")] * 5000)
    stream = model.stream("Hi").pipe(rx_ops.do_action(count), ops.smooth("word", 0.1, 60))
    marbles.subscribe(stream)
    marbles.advance_to(0.001)
    assert 1024 <= pulled <= 1030


def test_nothing_is_sent_through_a_closed_valve_and_that_is_not_lag(marbles: Marbles) -> None:
    marbles.valve.close()
    marbles.at(9, marbles.valve.open)
    lookup = {"a": Token("1 2 3 4 5")}
    events = marbles.run(marbles.cold("a|", lookup=lookup).pipe(ops.smooth("word", 1, 8)))
    assert [time for time, _ in events] == [9.0, 10.0, 11.0, 12.0, 13.0, 13.0]


def test_time_with_a_closed_valve_is_not_lag_of_an_unfinished_word(
    marbles: Marbles,
) -> None:
    lookup = {"a": Token("one hel"), "b": Token("lo world")}
    marbles.at(1, marbles.valve.close)
    marbles.at(30, marbles.valve.open)
    source = marbles.cold("a-b---|", lookup=lookup, demand=True)
    events = marbles.run(source.pipe(ops.smooth(seconds=0, max_lag=5)))
    assert [(time, text_of(event)) for time, event in events] == [
        (0.0, "one "),
        (30.0, "hello "),
        (30.0, "world"),
        (30.0, ""),
    ]


def test_an_unfinished_word_waits_max_lag_after_the_valve_opens(marbles: Marbles) -> None:
    marbles.at(1, marbles.valve.close)
    marbles.at(30, marbles.valve.open)
    events = marbles.run(marbles.cold("hello", demand=True).pipe(ops.smooth(max_lag=5)))
    assert events == [(35.0, Token("hell"))]


@pytest.mark.parametrize("unit", ["🇳🇴", "字", "👩\u200d🚀", "각"])
def test_a_long_chunk_of_words_without_spaces_is_cut_into_its_characters(unit: str) -> None:
    pieces = pieces_after([unit * 20_000], ops.smooth(seconds=0))
    expected = [unit] * 20_000 if unit != "각" else ["각" * 1024] * 19 + ["각" * 544]
    assert pieces == expected


@pytest.mark.parametrize("by", ["word", "line"])
@given(data=st.data())
def test_the_pieces_are_the_same_while_the_lag_is_kept(by: Any, data: st.DataObject) -> None:
    text, pieces = data.draw(cut_texts())
    smooth = ops.smooth(by, max_lag=float("inf"))
    assert pieces_after(pieces, smooth) == pieces_after([text], smooth)


def test_nothing_leaks_on_an_event_loop() -> None:
    async def main() -> list[Any]:
        stream = ScriptedModel("a b c", by="word", delay=0.07).stream("Hi").pipe(ops.smooth())
        async with no_leaks():
            return [chunk async for chunk in to_async(stream)]

    assert "".join(map(text_of, run_virtual(main()))) == "a b c"


@given(cut_texts(), st.sampled_from(KINDS), st.sampled_from([0.4, 0.9, 5.0, float("inf")]))
def test_the_joined_text_is_the_same(texts: tuple[str, list[str]], by: Any, max_lag: float) -> None:
    text, pieces = texts
    assert text_after(pieces, ops.smooth(by, max_lag=max_lag)) == text


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        ({"by": "sentence"}, ValueError),
        ({"by": 3}, TypeError),
        ({"by": re.compile(b"x")}, TypeError),
        ({"seconds": -1}, ValueError),
        ({"seconds": float("inf")}, ValueError),
        ({"max_lag": 0}, ValueError),
        ({"max_lag": float("nan")}, ValueError),
        ({"seconds": "1"}, TypeError),
    ],
)
def test_bad_arguments_are_rejected_at_the_call(bad: dict[str, Any], kind: type[Exception]) -> None:
    with pytest.raises(kind, match=next(iter(bad))):
        ops.smooth(**bad)
