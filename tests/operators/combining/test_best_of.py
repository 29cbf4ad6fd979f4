"""`best_of`: the best piece of several streams in each round."""

from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st
from reactivex import operators as rxo

from rxllm import operators as ops
from rxllm.chunks import Batch, Chunk, End, Notice, Progress, Reasoning, Token, Usage, text_of
from rxllm.errors import AllModelsFailedError
from rxllm.iteration import to_async
from rxllm.models.scripted import ScriptedModel
from rxllm.operators import Choice
from rxllm.testing import COMPLETED, Marbles, no_leaks, run_virtual
from tests.operators.combining.sources import at_once


def texts(events: list[tuple[float, Any]]) -> list[tuple[float, str | None, str]]:
    """Time, source and text of each piece."""
    return [(time, event.source, text_of(event)) for time, event in events if text_of(event)]


def chosen(**streams: list[Token]) -> list[Choice]:
    """The choices between these streams, which send everything at once."""
    choices: list[Choice] = []
    by_name = {name: at_once(*tokens) for name, tokens in streams.items()}
    Marbles().run(ops.best_of(by_name, on_choice=choices.append))
    return choices


def test_each_round_passes_on_the_best_piece_and_drops_the_others(marbles: Marbles) -> None:
    left = marbles.cold("aaa--bb---c|")
    right = marbles.cold("-xx-yyyy---------z|")
    events = marbles.run(ops.best_of({"left": left, "right": right}))
    assert texts(events) == [
        (1.0, "left", "aaa"),
        (5.0, "right", "yyyy"),
        (17.0, "left", "c"),
    ]
    assert events[-1] == (18.0, COMPLETED)


def test_the_first_piece_is_not_repeated_forever() -> None:
    """Each piece is considered once, however high its score."""
    best = [Token("the best piece", 1.0), Token("b", 0.1), Token("c", 0.1)]
    others = [Token("x", 0.2), Token("y", 0.2), Token("z", 0.2)]
    assert [choice.text for choice in chosen(left=best, right=others)] == [
        "the best piece",
        "y",
        "z",
    ]


def test_the_score_is_confidence_times_length_up_to_10_times_weight(marbles: Marbles) -> None:
    choices: list[Choice] = []
    streams = {
        "short": at_once(Token("12345", 0.9)),
        "long": at_once(Token("1234567890" * 3, 0.4)),
        "unknown": at_once(Token("1234567890")),
    }
    stream = ops.best_of(streams, weights={"long": 1.5}, on_choice=choices.append)
    events = marbles.run(stream)
    [choice] = choices
    assert choice.scores == pytest.approx({"short": 0.45, "long": 0.6, "unknown": 0.5})
    assert (choice.number, choice.source, choice.score) == (1, "long", choice.scores["long"])
    assert events[0][1] == Token("1234567890" * 3, 0.4, source="long")


def test_the_confidence_of_a_batch_is_the_mean_of_its_tokens(marbles: Marbles) -> None:
    choices: list[Choice] = []
    parts = (Token("12345", 0.8), Reasoning("hm"), Token("67890", 0.4))
    streams = {"left": at_once(Batch(parts, "1234567890"))}
    marbles.run(ops.best_of(streams, on_choice=choices.append))
    assert choices[0].score == pytest.approx(0.6)


def test_of_equal_scores_the_first_stream_wins() -> None:
    choices = chosen(b=[Token("x", 0.5)], a=[Token("y", 0.5)])
    assert choices[0].source == "b"


def test_a_stream_that_has_ended_no_longer_takes_part() -> None:
    choices = chosen(left=[Token("a")], right=[Token("x", 0.1), Token("y", 0.1)])
    assert [(choice.source, choice.text) for choice in choices] == [("left", "a"), ("right", "y")]
    assert choices[1].scores == {"right": pytest.approx(0.01)}


def test_a_custom_score(marbles: Marbles) -> None:
    streams = {"left": marbles.cold("aaa|"), "right": marbles.cold("x|")}
    stream = ops.best_of(
        streams, weights={"left": 2, "right": 3}, score=lambda piece: 1 / len(piece.text)
    )
    assert texts(marbles.run(stream)) == [(0.0, "right", "x")]


def test_other_chunks_keep_the_order_of_their_stream(marbles: Marbles) -> None:
    lookup = {"U": Usage(1, 2), "r": Reasoning("hm"), "P": Progress(1, 1.0)}
    left = marbles.cold("S-r-a-U-E|", lookup=lookup)
    right = marbles.cold("S-----P--xx--E|", lookup=lookup)
    events = marbles.run(ops.best_of({"left": left, "right": right}))
    assert [(time, event.source, type(event).__name__) for time, event in events[:-1]] == [
        (0.0, "left", "Start"),
        (0.0, "right", "Start"),
        (2.0, "left", "Reasoning"),
        (6.0, "right", "Progress"),
        (9.0, "right", "Token"),
        (9.0, "left", "Usage"),
        (9.0, "left", "End"),
        (13.0, "right", "End"),
    ]


def test_an_empty_token_does_not_start_a_round(marbles: Marbles) -> None:
    streams = {"left": at_once(Token(""), Token("a")), "right": at_once(Token("xx"))}
    assert [text for _, _, text in texts(marbles.run(ops.best_of(streams)))] == ["xx"]


def test_a_failure_is_sent_after_the_text_and_the_others_continue(marbles: Marbles) -> None:
    left = marbles.cold("aa-#", error=ValueError("broken"))
    right = marbles.cold("----x--y|")
    events = marbles.run(ops.best_of({"left": left, "right": right}))
    assert texts(events) == [(4.0, "left", "aa"), (7.0, "right", "y")]
    assert [(time, event.source) for time, event in events if type(event) is Notice] == [
        (4.0, "left")
    ]
    assert events[-1] == (8.0, COMPLETED)


def test_if_all_fail_the_error_has_each_error(marbles: Marbles) -> None:
    one, two = ValueError("one"), ValueError("two")
    streams = {"left": marbles.cold("a-#", error=one), "right": marbles.cold("#", error=two)}
    events = marbles.run(ops.best_of(streams))
    assert texts(events) == [(0.0, "left", "a")]
    assert (events[-1][0], type(events[-1][1])) == (2.0, AllModelsFailedError)
    assert events[-1][1].errors == (one, two)


def test_a_restart_drops_the_waiting_text_of_its_stream(marbles: Marbles) -> None:
    left = marbles.cold("aaaa-R-b-------|")
    right = marbles.cold("-----------xx|")
    events = marbles.run(ops.best_of({"left": left, "right": right}))
    assert events[0] == (5.0, Notice("restart", source="left"))
    assert texts(events) == [(11.0, "right", "xx")]


def test_a_restart_releases_a_source_with_demand(marbles: Marbles) -> None:
    left = rx.merge(marbles.cold("a-R|"), marbles.cold("----bbb|", demand=True))
    events = marbles.run(ops.best_of({"left": left, "right": marbles.cold("------x|")}))
    assert texts(events) == [(6.0, "left", "bbb")]
    assert events[-1] == (7.0, COMPLETED)


def test_waiting_chunks_without_content_are_sent_before_the_restart(marbles: Marbles) -> None:
    lookup = {"U": Usage(5, 7), "N": Notice("retry", attempt=1)}
    left = marbles.cold("a-U-N-E-R-bb|", lookup=lookup)
    events = marbles.run(ops.best_of({"left": left, "right": marbles.cold("----------x|")}))
    assert events[:4] == [
        (8.0, Usage(5, 7, source="left")),
        (8.0, Notice("retry", attempt=1, source="left")),
        (8.0, Notice("restart", source="left")),
        (10.0, Token("bb", source="left")),
    ]


def test_a_restart_in_a_merge_does_not_affect_its_other_sources(marbles: Marbles) -> None:
    one = marbles.cold("x----U-R-xx|", lookup={"U": Usage(1, 2)})
    two = marbles.cold("-yyy-U-E|", lookup={"U": Usage(3, 4)})
    merged = ops.merge_streams({"one": one, "two": two})
    right = marbles.cold("-----------------q--q--q|")
    events = marbles.run(ops.best_of({"merge": merged, "right": right}))
    assert [(time, event) for time, event in events[:-1] if event.source == "merge/two"] == [
        (17.0, Token("yyy", source="merge/two")),
        (17.0, Usage(3, 4, source="merge/two")),
        (17.0, End("stop", source="merge/two")),
    ]
    assert texts(events) == [
        (17.0, "merge/two", "yyy"),
        (20.0, "merge/one", "xx"),
        (23.0, "right", "q"),
    ]
    assert [event for _, event in events][:2] == [
        Usage(1, 2, source="merge/one"),
        Notice("restart", source="merge/one"),
    ]


def test_taking_one_piece_makes_one_choice(marbles: Marbles) -> None:
    choices: list[Choice] = []
    pieces = [Token("a"), Token("b"), Token("c")]
    streams = {"left": at_once(*pieces), "right": at_once(*pieces)}
    events = marbles.run(ops.best_of(streams, on_choice=choices.append).pipe(rxo.take(1)))
    assert texts(events) == [(0.0, "left", "a")]
    assert len(choices) == 1


def test_a_batch_without_its_tokens_counts_as_unknown(marbles: Marbles) -> None:
    choices: list[Choice] = []
    marbles.run(ops.best_of({"left": at_once(Batch((), "12345"))}, on_choice=choices.append))
    assert choices[0].score == 0.25


def test_a_stream_whose_piece_waits_is_paused(marbles: Marbles) -> None:
    quick = marbles.cold("a-b-c-d|", demand=True)
    slow = marbles.cold("-----x-----y|", demand=True)
    events = marbles.run(ops.best_of({"slow": slow, "quick": quick}))
    assert [(time, text) for time, _, text in texts(events)] == [
        (5.0, "x"),
        (11.0, "y"),
        (12.0, "c"),
        (12.0, "d"),
    ]


def test_a_source_with_demand_sends_one_piece_per_round() -> None:
    model = ScriptedModel("one two three four", by="word")
    marbles = Marbles()
    recording = marbles.subscribe(
        ops.best_of({"quick": model.stream("Hi"), "slow": marbles.cold("")})
    )
    marbles.advance_to(600)
    assert (recording.chunks[1:], model.active) == ([], 1)
    recording.dispose()
    assert (model.cancelled, marbles.timers, marbles.valve._callbacks) == (1, [], {})


def test_a_closed_valve_holds_all(marbles: Marbles) -> None:
    marbles.at(1, marbles.valve.close)
    streams = {name: marbles.cold("a-b-c", demand=True) for name in ("left", "right")}
    recording = marbles.subscribe(ops.best_of(streams))
    marbles.advance_to(600)
    assert recording.chunks == [Token("a", source="left")]
    marbles.valve.open()
    assert len(recording.chunks) == 3


def test_early_disposal_disposes_all(marbles: Marbles) -> None:
    streams = {name: marbles.cold("a---b|") for name in ("left", "right")}
    recording = marbles.subscribe(ops.best_of(streams))
    marbles.advance_to(2)
    recording.dispose()
    assert [source.subscriptions for source in streams.values()] == [[(0.0, 2.0)]] * 2
    assert (marbles.timers, marbles.valve._callbacks) == ([], {})


@pytest.mark.parametrize("name", ["score", "on_choice"])
def test_an_exception_of_a_callback_is_the_error_of_the_stream(marbles: Marbles, name: str) -> None:
    error, source = ZeroDivisionError(), marbles.cold("-a-b|")

    def refuse(_: object) -> float:
        raise error

    options: dict[str, Any] = {name: refuse}
    assert marbles.run(ops.best_of({"left": source}, **options)) == [(1.0, error)]
    assert source.subscriptions == [(0.0, 1.0)]


def test_a_score_that_is_not_a_number_is_an_error(marbles: Marbles) -> None:
    stream = ops.best_of({"left": at_once(Token("a"))}, score=lambda _: float("nan"))
    [(_, error)] = marbles.run(stream)
    assert "is not a number" in str(error)


def test_never_and_empty(marbles: Marbles) -> None:
    assert marbles.run(ops.best_of({"left": rx.never()}), until=5) == []
    assert marbles.run(ops.best_of({"left": marbles.cold("|"), "right": at_once()})) == [
        (5.0, COMPLETED)
    ]


def test_two_subscriptions_count_their_own_rounds(marbles: Marbles) -> None:
    choices: list[Choice] = []
    stream = ops.best_of({"left": marbles.cold("a-b|")}, on_choice=choices.append)
    marbles.subscribe(stream)
    marbles.subscribe(stream)
    marbles.advance_to(9)
    assert [choice.number for choice in choices] == [1, 1, 2, 2]


def test_ten_thousand_rounds_do_not_grow_the_stack(marbles: Marbles) -> None:
    streams: dict[str, rx.Observable[Chunk]] = {
        name: ScriptedModel(list("ab" * 5000)).stream("Hi") for name in ("left", "right")
    }
    assert len(texts(marbles.run(ops.best_of(streams)))) == 10_000


def test_nothing_leaks_on_an_event_loop() -> None:
    models = {
        name: ScriptedModel("one two three", by="word", delay=delay)
        for name, delay in (("left", 1), ("right", 2))
    }

    async def main() -> tuple[str, list[str | None]]:
        stream = ops.best_of({name: model.stream("Hi") for name, model in models.items()})
        async with no_leaks():
            chunks = [chunk async for chunk in to_async(stream)]
        ends = [chunk.source for chunk in chunks if type(chunk) is End]
        return "".join(map(text_of, chunks)), ends

    assert run_virtual(main()) == ("one two three", ["left", "right"])


PIECES = st.lists(st.tuples(st.sampled_from(["a", "word", "a long piece"]), st.floats(0, 1)))


@given(PIECES, PIECES, st.lists(st.floats(0.1, 5), min_size=2, max_size=2))
def test_timing_does_not_change_the_choices(
    left: list[tuple[str, float]], right: list[tuple[str, float]], delays: list[float]
) -> None:
    """The choices are those of a plain loop over both lists, whatever the timing."""

    def score(pieces: list[tuple[str, float]], number: int) -> float:
        text, confidence = pieces[number]
        return confidence * min(len(text) / 10, 1.0)

    expected = []
    for number in range(max(len(left), len(right))):
        there = [pieces for pieces in (left, right) if number < len(pieces)]
        best = max(there, key=lambda pieces: score(pieces, number))
        expected.append(best[number][0])
    models = {
        name: ScriptedModel([Token(*piece) for piece in pieces], delay=delay)
        for name, pieces, delay in zip("lr", (left, right), delays, strict=True)
    }
    stream = ops.best_of({name: model.stream("Hi") for name, model in models.items()})
    assert [text for _, _, text in texts(Marbles().run(stream, until=1e6))] == expected


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (({},), ValueError, "one stream"),
        (([rx.never()],), TypeError, "mapping of names"),
        (({"a": "text"},), TypeError, "takes streams"),
    ],
)
def test_anything_but_a_mapping_of_streams_is_refused(
    arguments: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        ops.best_of(*arguments)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"weights": {"b": 1}}, ValueError),
        ({"weights": {"a": -1}}, ValueError),
        ({"weights": {"a": float("nan")}}, ValueError),
        ({"weights": {"a": float("inf")}}, ValueError),
        ({"weights": {"a": True}}, TypeError),
        ({"weights": {"a": "1"}}, TypeError),
        ({"weights": [1]}, TypeError),
        ({"score": 3}, TypeError),
        ({"on_choice": 3}, TypeError),
    ],
)
def test_bad_options_are_refused_at_the_call(
    options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        ops.best_of({"a": rx.never()}, **options)
