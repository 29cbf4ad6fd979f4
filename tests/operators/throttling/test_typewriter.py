"""`typewriter`: by default 30 characters per second."""

from typing import Any

import pytest
import reactivex as rx
from hypothesis import given

from rxllm import operators as ops
from rxllm.chunks import Batch, End, Notice, Reasoning, Start, Token, text_of
from rxllm.iteration import to_async
from rxllm.models.scripted import ScriptedModel
from rxllm.operators._graphemes import graphemes
from rxllm.testing import COMPLETED, Marbles, no_leaks, run_virtual
from tests.operators.texts import cut_texts, pieces_after


def test_each_character_is_sent_separately_and_the_last_one_at_the_end(marbles: Marbles) -> None:
    assert marbles.run(marbles.cold("S-abc---d(E,|)").pipe(ops.typewriter(1))) == [
        (0.0, Start("request-1", "model")),
        (2.0, Token("a")),
        (3.0, Token("b")),
        (8.0, Token("c")),
        (9.0, Token("d")),
        (9.0, End("stop")),
        (9.0, COMPLETED),
    ]


def test_thirty_characters_per_second() -> None:
    marbles = Marbles()
    events = marbles.run(marbles.cold("L|", lookup={"L": Token("x" * 91)}).pipe(ops.typewriter()))
    times = [time for time, event in events if type(event) is Token]
    assert len([time for time in times if time < 1]) == 30
    assert times[-1] == pytest.approx(3.0, abs=0.001)
    assert events[-1] == (times[-1], COMPLETED)


def test_never_and_empty(marbles: Marbles) -> None:
    assert marbles.run(marbles.cold("").pipe(ops.typewriter()), until=1) == []
    assert marbles.run(marbles.cold("|").pipe(ops.typewriter()), until=3) == [(1.0, COMPLETED)]


def test_lost_time_is_not_made_up_for_after_a_wait(marbles: Marbles) -> None:
    events = marbles.run(marbles.cold("a---------bcd|").pipe(ops.typewriter(0.5)))
    assert events == [
        (10.0, Token("a")),
        (12.0, Token("b")),
        (14.0, Token("c")),
        (16.0, Token("d")),
        (16.0, COMPLETED),
    ]


def test_everything_is_sent_at_once_before_an_error(marbles: Marbles) -> None:
    error = ValueError("broken")
    events = marbles.run(marbles.cold("abc#", error=error).pipe(ops.typewriter(0.1)))
    assert events == [(0.0, Token("a")), (3.0, Token("b")), (3.0, Token("c")), (3.0, error)]
    assert marbles.timers == []


def test_a_restart_drops_held_chunks(marbles: Marbles) -> None:
    events = marbles.run(marbles.cold("abcd--R-xy|").pipe(ops.typewriter(0.2)))
    assert [(time, text_of(event)) for time, event in events] == [
        (0.0, "a"),
        (5.0, "b"),
        (6.0, ""),
        (10.0, "x"),
        (15.0, "y"),
        (15.0, ""),
    ]
    assert events[2][1] == Notice("restart")


def test_other_chunks_take_no_time_and_keep_their_place(marbles: Marbles) -> None:
    lookup = {"r": Reasoning("hm"), "B": Batch((Token("ab"), Reasoning("so"), Token("c")), "abc")}
    events = marbles.run(marbles.cold("r-r-B|", lookup=lookup).pipe(ops.typewriter(1)))
    assert events == [
        (0.0, Reasoning("hm")),
        (2.0, Reasoning("hm")),
        (4.0, Token("a")),
        (5.0, Token("b")),
        (5.0, Reasoning("so")),
        (6.0, Token("c")),
        (6.0, COMPLETED),
    ]


def test_emoji_and_accents_stay_intact() -> None:
    pieces = ["👩", "\u200d", "🚀e", "\u0301", "🇳", "🇴"]
    assert pieces_after(pieces, ops.typewriter()) == ["👩\u200d🚀", "e\u0301", "🇳🇴"]


def test_characters_keep_the_confidence_of_their_tokens(marbles: Marbles) -> None:
    lookup = {"a": Token("e", 0.5), "b": Token("\u0301x", 0.5)}
    events = marbles.run(marbles.cold("(a,b)|", lookup=lookup).pipe(ops.typewriter()))
    assert [event for _, event in events[:2]] == [Token("e\u0301", 0.25), Token("x", 0.5)]


def test_sources_are_cut_separately_and_share_the_speed(marbles: Marbles) -> None:
    left = marbles.cold("e-\u0301-|", source="left")
    right = marbles.cold("-x-y|", source="right")
    events = marbles.run(rx.merge(left, right).pipe(ops.typewriter(0.5)))
    assert [(time, event.source, event.text) for time, event in events[:-1]] == [
        (3.0, "right", "x"),
        (5.0, "left", "e\u0301"),
        (7.0, "right", "y"),
    ]


def test_subscriptions_are_independent(marbles: Marbles) -> None:
    stream = marbles.cold("ab|").pipe(ops.typewriter(1))
    first, second = marbles.subscribe(stream), marbles.subscribe(stream)
    marbles.advance_to(9)
    assert first.events == second.events
    assert first.chunks == [Token("a"), Token("b")]


def test_early_disposal_leaves_nothing(marbles: Marbles) -> None:
    source = marbles.cold("abcd-------|")
    recording = marbles.subscribe(source.pipe(ops.typewriter(0.5)))
    marbles.advance_to(5)
    recording.dispose()
    assert recording.chunks == [Token("a"), Token("b"), Token("c")]
    assert (source.subscriptions, marbles.timers) == ([(0.0, 5.0)], [])
    assert marbles.valve._callbacks == {}


def test_a_fast_model_is_paused_while_1024_pieces_wait(marbles: Marbles) -> None:
    model = ScriptedModel([Token("x")] * 5000)
    recording = marbles.subscribe(model.stream("Hi").pipe(ops.typewriter(30)))
    marbles.advance_to(0.01)
    assert len(recording.events) == 2
    assert marbles.timers == [pytest.approx(0.0333, abs=1e-3)]
    recording.dispose()
    assert (model.completed, model.cancelled) == (0, 1)


def test_nothing_is_sent_through_a_closed_valve(marbles: Marbles) -> None:
    marbles.at(1.5, marbles.valve.close)
    marbles.at(9, marbles.valve.open)
    events = marbles.run(marbles.cold("abcd|", demand=True).pipe(ops.typewriter(1)))
    assert [time for time, _ in events] == [0.0, 1.0, 9.0, 10.0, 10.0]


def test_nothing_leaks_on_an_event_loop() -> None:
    async def main() -> list[Any]:
        stream = ScriptedModel("a b c").stream("Hi").pipe(ops.typewriter())
        async with no_leaks():
            return [chunk async for chunk in to_async(stream)]

    assert [chunk.text for chunk in run_virtual(main()) if type(chunk) is Token] == list("a b c")


@given(cut_texts())
def test_the_pieces_are_the_same_however_the_text_is_cut(texts: tuple[str, list[str]]) -> None:
    text, pieces = texts
    assert pieces_after(pieces, ops.typewriter()) == graphemes(text)


@pytest.mark.parametrize("bad", [0, -1, float("inf"), float("nan")])
def test_bad_arguments_are_rejected_at_the_call(bad: float) -> None:
    with pytest.raises(ValueError, match="characters_per_second"):
        ops.typewriter(bad)


@pytest.mark.parametrize("bad", [True, "30"])
def test_a_speed_that_is_not_a_number_is_rejected_at_the_call(bad: Any) -> None:
    with pytest.raises(TypeError, match="characters_per_second"):
        ops.typewriter(bad)
