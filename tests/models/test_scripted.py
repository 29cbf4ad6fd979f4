"""The scripted model, in virtual time and on an event loop."""

import asyncio
from typing import Any

import pytest
from reactivex import Observable

from rxllm.chunks import (
    Batch,
    Chunk,
    End,
    Notice,
    Reasoning,
    Start,
    Token,
    ToolCall,
    Usage,
    text_of,
)
from rxllm.errors import BadRequestError, NoEventLoopError
from rxllm.iteration import to_async
from rxllm.models.scripted import ScriptedModel
from rxllm.requests import Model
from rxllm.testing import COMPLETED, Marbles, no_leaks, run_virtual
from rxllm.valve import StreamScheduler, Valve


def play(model: ScriptedModel, prompt: str = "two words", **options: Any) -> list[Any]:
    return Marbles().run(model.stream(prompt, **options))


def text_in(stream: Observable[Chunk]) -> str:
    return "".join(map(text_of, (event for _, event in Marbles().run(stream))))


def test_a_stream_is_a_start_the_script_the_usage_and_an_end() -> None:
    model = ScriptedModel(["Once", " upon"])
    assert isinstance(model, Model)
    assert play(model) == [
        (0.0, Start("scripted-1", "scripted", "scripted")),
        (0.0, Token("Once")),
        (0.0, Token(" upon")),
        (0.0, Usage(input_tokens=2, output_tokens=2)),
        (0.0, End("stop")),
        (0.0, COMPLETED),
    ]


@pytest.mark.parametrize(
    ("by", "pieces"),
    [
        ("word", ["Hi,", "  you", "\n\nthere", " "]),
        ("character", list("Hi,  you\n\nthere ")),
        (None, ["Hi,  you\n\nthere "]),
    ],
)
def test_a_text_is_split_without_loss(by: Any, pieces: list[str]) -> None:
    events = play(ScriptedModel("Hi,  you\n\nthere ", by=by))
    assert [event.text for _, event in events if isinstance(event, Token)] == pieces


def test_waits_come_from_the_script_or_from_delay() -> None:
    model = ScriptedModel(["a", 2.5, "b", "c", 1], delay=0.5, first_delay=3)
    times = [time for time, _ in play(model)]
    assert times == [0.0, 3.0, 6.0, 6.5, 7.5, 7.5, 7.5]


def test_a_failure_is_raised_at_its_place() -> None:
    error = ConnectionResetError()
    model = ScriptedModel(["a", 1.0, error, "never"])
    assert play(model)[1:] == [(0.0, Token("a")), (1.0, error)]
    assert (model.active, model.failed, model.completed, model.cancelled) == (0, 1, 0, 0)


def test_each_subscription_gets_its_script_and_later_ones_repeat_the_last() -> None:
    model = ScriptedModel([ConnectionResetError()], "good", "better")
    texts = [text_in(model.stream("Hi")) for _ in range(4)]
    assert texts == ["", "good", "better", "better"]
    assert [request.messages[0].content for request in model.requests] == ["Hi"] * 4


def test_concurrent_subscriptions_are_independent() -> None:
    model, marbles = ScriptedModel("first", "second", delay=1), Marbles()
    recordings = [marbles.subscribe(model.stream("Hi")) for _ in range(2)]
    assert model.active == 2
    marbles.advance_to(5)
    assert [recording.chunks[:2] for recording in recordings] == [
        [Start("scripted-1", "scripted", "scripted"), Token("first")],
        [Start("scripted-2", "scripted", "scripted"), Token("second")],
    ]
    assert (model.active, model.completed) == (0, 2)


def test_other_chunks_are_emitted_unchanged() -> None:
    steps: list[Chunk] = [Reasoning("hm"), ToolCall("1", "look", complete=True), End("tool_calls")]
    assert [chunk for _, chunk in play(ScriptedModel(steps))][1:-1] == steps


def test_the_end_can_be_chosen_or_omitted() -> None:
    usage = Usage(7, 8)
    assert play(ScriptedModel("a", finish_reason="content_filter", usage=usage))[2:4] == [
        (0.0, usage),
        (0.0, End("content_filter")),
    ]
    cut_off = ScriptedModel(["a", 2.0], finish_reason=None)
    assert play(cut_off)[1:] == [(0.0, Token("a")), (2.0, COMPLETED)]


def test_a_usage_in_the_script_replaces_the_counted_one() -> None:
    chunks = [chunk for _, chunk in play(ScriptedModel([Usage(7), "a"]))]
    assert chunks[1:] == [Usage(7), Token("a"), End("stop"), COMPLETED]


def test_max_tokens_ends_the_script() -> None:
    events = play(ScriptedModel("a b c d", by="word", delay=1), max_tokens=2)
    assert events[1:] == [
        (1.0, Token("a")),
        (2.0, Token(" b")),
        (2.0, Usage(2, 2)),
        (2.0, End("length")),
        (2.0, COMPLETED),
    ]


@pytest.mark.parametrize(
    ("script", "text", "end"),
    [
        (["to\nHu", "man: no"], "to", End("stop", "\nHuman:")),
        (["to", "\nHuman:", "no"], "to", End("stop", "\nHuman:")),
        (["to\nHum"], "to\nHum", End("stop")),
        ([Token("a", 0.5), Token("b\nHuman:", 0.25)], "ab", End("stop", "\nHuman:")),
    ],
)
def test_stop_ends_the_script_before_the_sequence(script: Any, text: str, end: End) -> None:
    chunks = [chunk for _, chunk in play(ScriptedModel(script), stop="\nHuman:")]
    assert "".join(chunk.text for chunk in chunks if type(chunk) is Token) == text
    assert chunks[-2] == end


def test_steps_after_a_stop_sequence_are_not_played() -> None:
    chunks = [chunk for _, chunk in play(ScriptedModel(["aEN", "D", Reasoning("hm")]), stop="END")]
    assert [chunks[1], chunks[3]] == [Token("a"), End("stop", "END")]


def test_the_first_of_two_limits_counts() -> None:
    events = play(ScriptedModel("a b END", by="word"), stop="END", max_tokens=2)
    assert events[-2] == (0.0, End("length"))


def test_a_failure_interrupts_a_stop_sequence() -> None:
    chunks = [chunk for _, chunk in play(ScriptedModel(["E", ValueError(), "ND"]), stop="END")]
    assert chunks[1] == Token("E")
    assert isinstance(chunks[2], ValueError)


def test_disposal_stops_the_script_and_leaves_no_timer() -> None:
    model, marbles = ScriptedModel("a b c", by="word", delay=1), Marbles()
    recording = marbles.subscribe(model.stream("Hi"))
    marbles.advance_to(1.5)
    recording.dispose()
    assert (model.active, model.cancelled, marbles.timers) == (0, 1, [])
    marbles.advance_to(10)
    assert recording.chunks[1:] == [Token("a")]


def test_a_closed_valve_pauses_the_script_and_does_not_start_the_next_step() -> None:
    model, marbles = ScriptedModel("a b c", by="word", delay=1), Marbles()
    marbles.at(1.5, marbles.valve.close)
    marbles.at(8, marbles.valve.open)
    events = marbles.run(model.stream("Hi"))
    texts = [(time, event.text) for time, event in events if isinstance(event, Token)]
    assert texts == [(1.0, "a"), (8.0, " b"), (9.0, " c")]


def test_opening_and_closing_the_valve_in_on_next_loses_nothing() -> None:
    valve = Valve()
    model = ScriptedModel("abc" * 1000, by="character")
    seen: list[Any] = []

    async def main() -> None:
        async with no_leaks(valve):
            scheduler = StreamScheduler(asyncio.get_running_loop(), valve)
            done = asyncio.Event()

            def on_next(chunk: Any) -> None:
                seen.append(chunk)
                valve.close()
                if len(seen) % 2000:
                    valve.open()
                else:
                    scheduler.schedule_relative(0.1, lambda *_: valve.open())

            model.stream("Hi").subscribe(on_next, on_completed=done.set, scheduler=scheduler)
            await done.wait()

    run_virtual(main())
    assert "".join(chunk.text for chunk in seen if type(chunk) is Token) == "abc" * 1000


def test_it_runs_on_an_event_loop() -> None:
    async def main() -> list[tuple[float, Any]]:
        clock = asyncio.get_running_loop().time
        stream = ScriptedModel("a b", by="word", delay=60).stream("Hi")
        async with no_leaks():
            return [(clock(), chunk) async for chunk in to_async(stream)]

    events = run_virtual(main())
    assert [(time, chunk.text) for time, chunk in events if type(chunk) is Token] == [
        (60.0, "a"),
        (120.0, " b"),
    ]


def test_a_subscriber_that_raises_stops_the_script() -> None:
    model, marbles = ScriptedModel("a b", by="word"), Marbles()

    def fail(_: Any) -> None:
        raise ValueError("the subscriber failed")

    errors: list[Exception] = []
    model.stream("Hi").subscribe(fail, errors.append, scheduler=marbles.scheduler)
    with pytest.raises(ValueError, match="the subscriber failed"):
        marbles.advance_to(1)
    assert (errors, model.active, model.cancelled) == ([], 0, 1)


def test_a_bare_subscription_needs_a_running_loop() -> None:
    errors: list[Exception] = []
    ScriptedModel("a").stream("Hi").subscribe(on_error=errors.append)
    assert isinstance(errors[0], NoEventLoopError)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ScriptedModel(), "at least one script"),
        (lambda: ScriptedModel("a", by="line"), "by must be 'word'"),  # type: ignore[arg-type]
        (lambda: ScriptedModel("a", delay=-1), "0 seconds or more and finite, got -1"),
        (lambda: ScriptedModel([None]), "a script step must be"),  # type: ignore[list-item]
        (lambda: ScriptedModel("a", finish_reason="done"), "finish_reason must be"),  # type: ignore[arg-type]
        (lambda: ScriptedModel("a").stream("  "), "the prompt is empty"),
        (lambda: ScriptedModel("a").stream("Hi", stop=[""]), "empty"),
    ],
)
def test_invalid_arguments_are_rejected_at_the_call(make: Any, message: str) -> None:
    with pytest.raises(BadRequestError, match=message):
        make()


@pytest.mark.parametrize("step", [Batch((Token("a"),), "a"), Notice("restart")])
@pytest.mark.parametrize("options", [{"stop": "x"}, {"max_tokens": 3}])
def test_stop_and_max_tokens_are_rejected_for_scripts_with_a_batch_or_a_restart(
    step: Chunk, options: dict[str, Any]
) -> None:
    with pytest.raises(BadRequestError, match="a Batch or a restart"):
        ScriptedModel(["a", step]).stream("Hi", **options)
