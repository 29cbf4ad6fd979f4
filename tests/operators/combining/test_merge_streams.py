"""`merge_streams`: several tagged streams, merged as their chunks arrive."""

from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from reactivex.disposable import Disposable
from reactivex.subject import Subject

from rxllm import operators as ops
from rxllm.chunks import Batch, Chunk, End, ErrorInfo, Notice, Reasoning, Token, text_of
from rxllm.errors import AllModelsFailedError
from rxllm.iteration import to_async
from rxllm.models.scripted import ScriptedModel
from rxllm.testing import COMPLETED, Marbles, no_leaks, run_virtual
from tests.operators.combining.sources import at_once
from tests.operators.texts import cut_texts


def sources(events: list[tuple[float, Any]]) -> list[tuple[float, str | None, str]]:
    """Time, source and text of each chunk."""
    return [(time, event.source, text_of(event)) for time, event in events if text_of(event)]


def test_chunks_pass_as_they_arrive_with_the_number_of_their_stream(marbles: Marbles) -> None:
    stream = ops.merge_streams(marbles.cold("S-a---b-E|"), marbles.cold("-S-x-E|"))
    first, second = marbles.expect("S-a---b-E", source="0"), marbles.expect("-S-x-E", source="1")
    merged = sorted(first + second, key=lambda event: event[0])
    assert marbles.run(stream) == [*merged, (9.0, COMPLETED)]


def test_a_slow_stream_does_not_delay_the_others(marbles: Marbles) -> None:
    """A merge must not advance at the pace of the slowest stream."""
    stream = ops.merge_streams(
        {"slow": marbles.cold("-----a-----b|"), "fast": marbles.cold("xyz-w|")}
    )
    assert sources(marbles.run(stream)) == [
        (0.0, "fast", "xyz"),
        (4.0, "fast", "w"),
        (5.0, "slow", "a"),
        (11.0, "slow", "b"),
    ]


def test_the_number_of_active_streams_is_reported_at_each_change(marbles: Marbles) -> None:
    counts: list[int] = []
    streams = [marbles.cold("a|"), marbles.cold("b--|"), marbles.cold("|")]
    marbles.at(2, lambda: counts.append(-1))
    marbles.run(ops.merge_streams(*streams, on_active=counts.append))
    assert counts == [3, 2, 1, -1, 0]


def test_an_error_is_not_swallowed_and_names_its_stream(marbles: Marbles) -> None:
    error = ValueError("broken")
    left, right = marbles.cold("a----b|"), marbles.cold("x-#", error=error)
    events = marbles.run(ops.merge_streams({"left": left, "right": right}))
    assert events[-1] == (2.0, error)
    assert error.__notes__ == ["error of the stream 'right'"]
    assert (left.subscriptions, right.subscriptions) == ([(0.0, 2.0)], [(0.0, 2.0)])
    assert marbles.timers == []


def test_isolated_streams_continue_when_one_fails(marbles: Marbles) -> None:
    counts: list[int] = []
    reports: list[Any] = []
    error = ValueError("broken")
    merged = ops.merge_streams(
        marbles.cold("a---b|"),
        marbles.cold("-x-#", error=error),
        isolate=True,
        on_active=counts.append,
        on_result=reports.append,
    )
    events = marbles.run(merged)
    assert sources(events) == [(0.0, "0", "a"), (1.0, "1", "x"), (4.0, "0", "b")]
    assert [event for _, event in events if isinstance(event, Notice)] == [
        Notice("failed", error=ErrorInfo("ValueError", "broken"), source="1")
    ]
    assert events[-1] == (5.0, COMPLETED)
    assert counts == [2, 1, 0]
    assert [(name, each.status, each.tokens) for name, each in reports[0].items()] == [
        ("0", "completed", 2),
        ("1", "failed", 1),
    ]


def test_isolated_streams_that_all_fail_are_an_error(marbles: Marbles) -> None:
    left = marbles.cold("a#", error=ValueError("left"))
    right = marbles.cold("-#", error=ValueError("right"))
    error = marbles.run(left.pipe(ops.merge_with(right, isolate=True)))[-1][1]
    assert isinstance(error, AllModelsFailedError)
    assert [str(each) for each in error.errors] == ["left", "right"]


def test_a_source_that_fails_again_has_a_single_note(marbles: Marbles) -> None:
    error = ValueError("broken")
    stream = ops.merge_streams(marbles.cold("#", error=error))
    marbles.run(stream)
    marbles.run(stream)
    assert len(error.__notes__) == 1


def test_all_chunks_are_tagged_also_in_batches(marbles: Marbles) -> None:
    inside = Batch((Token("a", 0.5), Reasoning("hm")), "a")
    stream = ops.merge_streams({"left": marbles.cold("B-R-(E,|)", lookup={"B": inside})})
    assert [event for _, event in marbles.run(stream)] == [
        Batch((Token("a", 0.5, source="left"), Reasoning("hm", source="left")), "a", source="left"),
        Notice("restart", source="left"),
        End("stop", source="left"),
        COMPLETED,
    ]


def test_the_sources_of_a_nested_merge_stay_separate(marbles: Marbles) -> None:
    inner = ops.merge_streams(marbles.cold("a-b|"), marbles.cold("-x-y|"))
    stream = ops.merge_streams({"left": inner, "right": marbles.cold("--z|")})
    assert {source for _, source, _ in sources(marbles.run(stream))} == {
        "left/0",
        "left/1",
        "right",
    }


def test_a_restart_of_a_whole_inner_merge_reaches_each_of_its_sources(marbles: Marbles) -> None:
    inner = rx.merge(marbles.cold("a", source="x"), marbles.cold("-b-R-E|"))
    events = marbles.run(ops.merge_streams({"left": inner}), until=9)
    assert events[2:] == [
        (3.0, Notice("restart", source="left/x")),
        (3.0, Notice("restart", source="left")),
        (5.0, End("stop", source="left/x")),
        (5.0, End("stop", source="left")),
    ]


def test_an_ended_source_of_an_inner_merge_gets_no_second_end(marbles: Marbles) -> None:
    control = ops.Control()
    inner = ops.merge_streams({"x": marbles.cold("(a,E)---|"), "y": marbles.cold("--b---|")})
    marbles.at(4, control.stop)
    stream = ops.merge_streams({"m": inner.pipe(ops.pausable(control))})
    ends = [(time, event) for time, event in marbles.run(stream) if type(event) is End]
    assert ends == [
        (0.0, End("stop", source="m/x")),
        (4.0, End("cancelled", source="m/y")),
        (4.0, End("cancelled", source="m")),
    ]


def test_an_ended_source_gets_a_restart_and_the_end_after_it(marbles: Marbles) -> None:
    inner = rx.merge(marbles.cold("a-E|", source="x"), marbles.cold("----R-E|"))
    events = marbles.run(ops.merge_streams({"m": inner}))
    assert [(type(event), event.source) for _, event in events[1:-1]] == [
        (End, "m/x"),
        (Notice, "m/x"),
        (Notice, "m"),
        (End, "m/x"),
        (End, "m"),
    ]


@pytest.mark.parametrize("last", ["|", "#", ""])
def test_no_stream_is_active_at_the_end_however_it_ends(marbles: Marbles, last: str) -> None:
    counts: list[int] = []
    streams = marbles.cold(f"a-{last}"), marbles.cold("b---")
    recording = marbles.subscribe(ops.merge_streams(*streams, on_active=counts.append))
    marbles.advance_to(9)
    recording.dispose()
    recording.dispose()
    assert counts == ([2, 1, 0] if last == "|" else [2, 0])


def test_never_and_empty(marbles: Marbles) -> None:
    assert marbles.run(ops.merge_streams(marbles.cold(""), marbles.cold("|")), until=5) == []
    assert marbles.run(ops.merge_streams(marbles.cold("|"), marbles.cold("-|"))) == [
        (6.0, COMPLETED)
    ]


def test_a_name_may_have_a_slash(marbles: Marbles) -> None:
    streams = {"openai/gpt": marbles.cold("a|"), "openai/o": marbles.cold("b|")}
    assert {source for _, source, _ in sources(marbles.run(ops.merge_streams(streams)))} == set(
        streams
    )


def test_streams_that_end_synchronously(marbles: Marbles) -> None:
    streams = [at_once(Token("a")), at_once(), at_once(Token("b"))]
    counts: list[int] = []
    events = marbles.run(ops.merge_streams(*streams, on_active=counts.append))
    assert [source for _, source, _ in sources(events)] == ["0", "2"]
    assert (events[-1], counts) == ((0.0, COMPLETED), [0])


def test_early_disposal_disposes_all(marbles: Marbles) -> None:
    left, right = marbles.cold("a--b|"), marbles.cold("x--y|")
    recording = marbles.subscribe(ops.merge_streams(left, right))
    marbles.advance_to(1)
    recording.dispose()
    assert left.subscriptions == right.subscriptions == [(0.0, 1.0)]
    assert marbles.timers == []


def test_all_streams_wait_for_the_same_valve(marbles: Marbles) -> None:
    marbles.at(1, marbles.valve.close)
    marbles.at(9, marbles.valve.open)
    left, right = marbles.cold("a-b|", demand=True), marbles.cold("x-y|", demand=True)
    recording = marbles.subscribe(ops.merge_streams(left, right))
    marbles.advance_to(8)
    assert [text_of(chunk) for chunk in recording.chunks] == ["a", "x"]
    marbles.advance_to(10)
    assert [text_of(chunk) for chunk in recording.chunks] == ["a", "x", "b", "y"]
    assert recording.events[-1] == (9.0, COMPLETED)
    assert marbles.valve._callbacks == {}


def test_an_exception_of_the_callback_is_the_error_of_the_stream(marbles: Marbles) -> None:
    source, error, counts = marbles.cold("a-b|"), ZeroDivisionError(), list[int]()

    def on_active(count: int) -> None:
        counts.append(count)
        raise error

    assert marbles.run(ops.merge_streams(source, on_active=on_active)) == [(0.0, error)]
    assert (source.subscriptions, counts) == ([(0.0, 0.0)], [1])


@pytest.mark.parametrize("end", ["on_completed", "on_error"])
def test_a_stream_that_ends_while_an_error_ends_the_merge_is_ignored(
    marbles: Marbles, end: str
) -> None:
    first, error = Subject[Chunk](), ValueError("the first")

    def subscribe(observer: Any, _: Any) -> Disposable:
        first.on_error(error)
        observer.on_completed() if end == "on_completed" else observer.on_error(KeyError())
        return Disposable()

    assert marbles.run(ops.merge_streams(first, rx.create(subscribe))) == [(0.0, error)]


def test_two_subscriptions_are_independent(marbles: Marbles) -> None:
    stream = ops.merge_streams(marbles.cold("a-|"), marbles.cold("-x|"))
    first = marbles.subscribe(stream)
    marbles.advance_to(1)
    second = marbles.subscribe(stream)
    marbles.advance_to(9)
    assert first.chunks == second.chunks


def test_downstream_operators_keep_the_streams_separate(marbles: Marbles) -> None:
    left, right = marbles.cold("aE---ND-b|"), marbles.cold("--xE---y|")
    stream = ops.merge_streams(left, right).pipe(ops.stop_on("END"))
    texts: dict[str | None, str] = {}
    for _, source, text in sources(marbles.run(stream)):
        texts[source] = texts.get(source, "") + text
    assert texts == {"0": "a", "1": "xEy"}


def test_nothing_leaks_on_an_event_loop() -> None:
    models = [ScriptedModel("one two three", by="word", delay=delay) for delay in (1, 2)]

    async def main() -> list[str]:
        stream = ops.merge_streams(*(model.stream("Hi") for model in models))
        async with no_leaks():
            return [text_of(chunk).strip() async for chunk in to_async(stream) if text_of(chunk)]

    assert run_virtual(main()) == ["one", "one", "two", "three", "two", "three"]


@given(cut_texts(), cut_texts())
def test_each_text_is_complete_however_it_is_split(
    left: tuple[str, list[str]], right: tuple[str, list[str]]
) -> None:
    models = [
        ScriptedModel([Token(piece) for piece in pieces], delay=1) for _, pieces in (left, right)
    ]
    stream = ops.merge_streams(*(model.stream("Hi") for model in models))
    texts = {"0": "", "1": ""}
    for _, event in Marbles().run(stream, until=1e6):
        if text_of(event):
            texts[event.source] += text_of(event)
    assert texts == {"0": left[0], "1": right[0]}


@pytest.mark.parametrize(
    ("streams", "error", "words"),
    [
        ((), ValueError, "at least one stream"),
        (({"x": rx.empty(), "x/y": rx.empty()},), ValueError, "choose another name"),
        (({},), ValueError, "at least one stream"),
        (({"": rx.empty()},), ValueError, "must not be empty"),
        (({1: rx.empty()},), TypeError, "must be a string"),
        (("text",), TypeError, "model.stream"),
        (([rx.empty()],), TypeError, "got list for '0'"),
    ],
)
def test_what_is_not_a_stream_is_refused_at_the_call(
    streams: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        ops.merge_streams(*streams)
    with pytest.raises(TypeError, match="on_active"):
        ops.merge_streams(rx.empty(), on_active=3)  # type: ignore[arg-type]
