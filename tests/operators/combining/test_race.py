"""`race`: the first stream to send content wins, and the losers are stopped."""

from typing import Any

import pytest
import reactivex as rx
from reactivex.disposable import Disposable
from reactivex.subject import Subject

from rxllm import operators as ops
from rxllm.chunks import (
    Batch,
    Chunk,
    End,
    ErrorInfo,
    Notice,
    Progress,
    Reasoning,
    Start,
    Token,
    ToolCall,
    text_of,
)
from rxllm.errors import AllModelsFailedError
from rxllm.iteration import to_async
from rxllm.models.scripted import ScriptedModel
from rxllm.operators import RaceResult, StreamSummary
from rxllm.testing import COMPLETED, Marbles, no_leaks, run_virtual
from tests.operators.combining.sources import at_once


def test_the_first_to_send_content_continues_and_the_others_are_stopped(marbles: Marbles) -> None:
    slow, fast = marbles.cold("S---a-b|"), marbles.cold("S-x-y-E|")
    assert marbles.run(ops.race({"slow": slow, "fast": fast})) == [
        (2.0, Start("request-1", "model", source="fast")),
        (2.0, Token("x", source="fast")),
        (4.0, Token("y", source="fast")),
        (6.0, End("stop", source="fast")),
        (7.0, COMPLETED),
    ]
    assert (slow.subscriptions, fast.subscriptions) == ([(0.0, 2.0)], [(0.0, 7.0)])


def test_a_start_an_empty_token_and_progress_do_not_decide(marbles: Marbles) -> None:
    nothing = {"0": Token(""), "P": Progress(0, 1.0), "N": Notice("retry", 1)}
    early = marbles.cold("(S,0,P,N)--------a|", lookup=nothing)
    events = marbles.run(ops.race(early, marbles.cold("--S-x|")))
    assert [event.source for _, event in events[:-1]] == ["1", "1"]


@pytest.mark.parametrize(
    "content",
    [
        Token("a"),
        Reasoning("hm"),
        ToolCall("1", "weather"),
        Batch((Reasoning("hm"),), ""),
        Batch((), "hm"),
    ],
)
def test_all_content_decides(marbles: Marbles, content: Chunk) -> None:
    streams = marbles.cold("-C|", lookup={"C": content}), marbles.cold("--x|")
    assert marbles.run(ops.race(*streams))[0][1].source == "0"


@pytest.mark.parametrize(
    "content", [Token(""), Reasoning(""), Batch((), ""), Batch((Token(""),), "")]
)
def test_empty_text_does_not_decide(marbles: Marbles, content: Chunk) -> None:
    streams = marbles.cold("-C|", lookup={"C": content}), marbles.cold("--x|")
    assert marbles.run(ops.race(*streams))[0][1].source == "1"


def test_content_sent_while_another_stream_wins_is_dropped(marbles: Marbles) -> None:
    fast: Subject[Chunk] = Subject()

    def slow(observer: Any, _: Any) -> Disposable:
        fast.on_next(Token("x"))
        observer.on_next(Token("a"))
        return Disposable()

    recording = marbles.subscribe(ops.race({"fast": fast, "slow": rx.create(slow)}))
    assert recording.chunks == [Token("x", source="fast")]


def test_earlier_chunks_of_losers_are_dropped(marbles: Marbles) -> None:
    loser = marbles.cold("S-P--a|", lookup={"P": Progress(0, 1.0)})
    events = marbles.run(ops.race(loser, marbles.cold("--x|")))
    assert [event for _, event in events] == [Token("x", source="1"), COMPLETED]


def test_losers_are_disposed_before_the_winners_token_is_passed_on(marbles: Marbles) -> None:
    slow, seen = marbles.cold("S---a|"), []
    stream = ops.race(slow, marbles.cold("-x|"))
    stream.subscribe(lambda _: seen.append(list(slow.subscriptions)), scheduler=marbles.scheduler)
    marbles.advance_to(1.5)
    assert seen == [[(0.0, 1.0)]]


def test_the_cost_of_the_losers_is_reported(marbles: Marbles) -> None:
    results: list[RaceResult] = []
    error = ValueError("broken")
    streams = {
        "slow": marbles.cold("S-------a|"),
        "broken": marbles.cold("-#", error=error),
        "fast": marbles.cold("S---x|"),
        "silent": marbles.cold("--|"),
    }
    marbles.run(ops.race(streams, on_result=results.append))
    losers = {
        "slow": StreamSummary("cancelled", 0, 4.0),
        "broken": StreamSummary("failed", 0, 1.0, error),
        "silent": StreamSummary("completed", 0, 2.0),
    }
    assert results == [RaceResult("fast", 4.0, losers)]
    assert results[0].wasted == 7.0


def test_a_failure_before_the_first_token_is_reported_and_loses(marbles: Marbles) -> None:
    error = ValueError("broken")
    events = marbles.run(ops.race(marbles.cold("S#", error=error), marbles.cold("---x|")))
    assert events == [
        (1.0, Notice("failed", error=ErrorInfo("ValueError", "broken"), source="0")),
        (3.0, Token("x", source="1")),
        (4.0, COMPLETED),
    ]


def test_if_all_fail_the_error_has_each_error(marbles: Marbles) -> None:
    first, second = ValueError("one"), ValueError("two")
    streams = marbles.cold("--#", error=first), marbles.cold("-#", error=second)
    time, error = marbles.run(ops.race(*streams))[-1]
    assert (time, type(error), error.errors) == (2.0, AllModelsFailedError, (first, second))


def test_without_content_it_completes_if_a_stream_has_completed(marbles: Marbles) -> None:
    results: list[RaceResult] = []
    stream = ops.race(marbles.cold("#"), marbles.cold("S-E|"), on_result=results.append)
    assert [event for _, event in marbles.run(stream)][1:] == [
        Start("request-1", "model", source="1"),
        End("stop", source="1"),
        COMPLETED,
    ]
    assert (results[0].winner, len(results[0].losers)) == (None, 2)


def test_the_winner_may_fail_later(marbles: Marbles) -> None:
    error = ValueError("broken")
    events = marbles.run(ops.race({"fast": marbles.cold("x-#", error=error), "slow": rx.never()}))
    assert events[-1] == (2.0, error)
    assert error.__notes__ == ["error of the stream 'fast'"]


def test_a_restart_is_passed_on(marbles: Marbles) -> None:
    events = marbles.run(ops.race(marbles.cold("-x-R-y|"), marbles.cold("--a|")))
    assert (3.0, Notice("restart", source="0")) in events


def test_a_synchronous_stream_wins_alone(marbles: Marbles) -> None:
    other = marbles.cold("a|")
    events = marbles.run(ops.race(at_once(Token("x")), other))
    assert events == [(0.0, Token("x", source="0")), (0.0, COMPLETED)]
    assert other.subscriptions == []


def test_early_disposal_disposes_all_and_is_reported(marbles: Marbles) -> None:
    results: list[RaceResult] = []
    streams = marbles.cold("S---a|"), marbles.cold("S----x|")
    recording = marbles.subscribe(ops.race(*streams, on_result=results.append))
    marbles.advance_to(3)
    recording.dispose()
    assert [source.subscriptions for source in streams] == [[(0.0, 3.0)]] * 2
    assert (results[0].winner, results[0].wasted, marbles.timers) == (None, 6.0, [])


def test_disposal_after_the_decision_disposes_the_winner(marbles: Marbles) -> None:
    results: list[RaceResult] = []
    fast = marbles.cold("x---y|")
    recording = marbles.subscribe(ops.race(fast, marbles.cold("-a|"), on_result=results.append))
    marbles.advance_to(2)
    recording.dispose()
    assert (fast.subscriptions, len(results), marbles.timers) == ([(0.0, 2.0)], 1, [])


def test_an_exception_of_on_result_is_the_error_of_the_stream(marbles: Marbles) -> None:
    error, fast = ZeroDivisionError(), marbles.cold("-x|")

    def report(_: RaceResult) -> None:
        raise error

    assert marbles.run(ops.race(fast, rx.never(), on_result=report)) == [(1.0, error)]
    assert fast.subscriptions == [(0.0, 1.0)]


def test_all_streams_wait_for_the_same_valve(marbles: Marbles) -> None:
    marbles.valve.close()
    marbles.at(5, marbles.valve.open)
    streams = [marbles.cold("x-y", demand=True) for _ in range(2)]
    recording = marbles.subscribe(ops.race(*streams))
    marbles.advance_to(9)
    assert recording.events[0] == (5.0, Token("x", source="0"))
    assert streams[1].subscriptions == [(0.0, 5.0)]


def test_never_and_empty(marbles: Marbles) -> None:
    assert marbles.run(ops.race(rx.never(), rx.never()), until=5) == []
    assert marbles.run(ops.race(marbles.cold("|"))) == [(5.0, COMPLETED)]


def test_each_subscription_is_a_separate_race(marbles: Marbles) -> None:
    models = ScriptedModel("a", "b", first_delay=1), ScriptedModel("x", "y", first_delay=2)
    stream = ops.race(*(model.stream("Hi") for model in models))
    first, second = marbles.subscribe(stream), marbles.subscribe(stream)
    marbles.advance_to(9)
    assert "".join(map(text_of, first.chunks + second.chunks)) == "ab"
    assert (models[1].cancelled, models[1].active) == (2, 0)


def test_nothing_leaks_on_an_event_loop() -> None:
    models = [ScriptedModel("one two", by="word", first_delay=delay) for delay in (3, 1, 2)]

    async def main() -> str:
        async with no_leaks():
            stream = ops.race(*(model.stream("Hi") for model in models))
            return "".join([text_of(chunk) async for chunk in to_async(stream)])

    assert run_virtual(main()) == "one two"
    assert [(model.completed, model.cancelled) for model in models] == [(0, 1), (1, 0), (0, 1)]


@pytest.mark.parametrize(("streams", "error"), [((), ValueError), (("text",), TypeError)])
def test_what_is_not_a_stream_is_refused_at_the_call(streams: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="race takes"):
        ops.race(*streams)
    with pytest.raises(TypeError, match="on_result"):
        ops.race(rx.never(), on_result=3)  # type: ignore[arg-type]
