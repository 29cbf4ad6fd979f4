"""`degrade`: after each failure the model is asked for less."""

from typing import Any

import msgspec
import pytest
from reactivex import Observable

from rxllm import operators as ops
from rxllm.chunks import Chunk, ErrorInfo, Notice, Start, text_of
from rxllm.errors import BadRequestError, ContextLengthError, UnsupportedError
from rxllm.models.scripted import ScriptedModel
from rxllm.requests import Request
from rxllm.testing import COMPLETED, Marbles

LOST = ConnectionResetError("reset")


def asked(model: ScriptedModel) -> list[tuple[int | None, float | None]]:
    return [(request.max_tokens, request.temperature) for request in model.requests]


def run(stream: Observable[Chunk]) -> list[Any]:
    return [event for _, event in Marbles().run(stream)]


def test_the_default_steps_follow_the_original_request() -> None:
    model = ScriptedModel([LOST])
    events = run(ops.degrade(model, "Hi", max_tokens=200, temperature=0.9))
    assert asked(model) == [(200, 0.9), (140, 0.9), (200, 0.3), (100, 0.1)]
    assert repr(events[-1]) == repr(LOST)
    assert model.active == 0


def test_each_step_is_announced_and_the_answer_is_complete() -> None:
    model = ScriptedModel([LOST], ["a", "b"])
    events = run(ops.degrade(model, "Hi", max_tokens=200))
    assert [type(event) for event in events[:3]] == [Start, Notice, Start]
    assert events[1] == Notice("degraded", attempt=2, error=ErrorInfo.of(LOST))
    assert ("".join(map(text_of, events)), events[-1]) == ("ab", COMPLETED)


def test_a_step_that_changes_nothing_is_skipped() -> None:
    model = ScriptedModel([LOST])
    run(ops.degrade(model, "Hi"))
    assert asked(model) == [(None, None), (None, 0.3), (100, 0.1)]


def test_options_that_the_model_does_not_take_are_left_out_and_the_notice_says_so() -> None:
    unable = UnsupportedError("no temperature")
    model = ScriptedModel([unable], [LOST], ["a"], capabilities=["text"])
    events = run(ops.degrade(model, "Hi", max_tokens=200, temperature=0.9))
    assert asked(model) == [(200, 0.9), (140, None), (200, None)]
    notices = [event.error for event in events if isinstance(event, Notice)]
    assert notices == [
        ErrorInfo("UnsupportedError", "no temperature (without temperature)"),
        ErrorInfo("ConnectionResetError", "reset (without temperature)"),
    ]


def test_no_step_asks_for_more() -> None:
    model = ScriptedModel([LOST])
    run(ops.degrade(model, "Hi", max_tokens=1))
    assert asked(model) == [(1, None), (1, 0.3), (1, 0.1)]  # 0.7 tokens count as 1


def test_a_context_that_is_too_small_is_handled_and_a_bad_request_is_not() -> None:
    model = ScriptedModel([ContextLengthError("too long")], ["a"])
    assert run(ops.degrade(model, "Hi", max_tokens=200))[-1] is COMPLETED
    error = BadRequestError("no")
    model = ScriptedModel([error])
    assert run(ops.degrade(model, "Hi", max_tokens=200))[-1] is error
    assert len(model.requests) == 1


def test_the_last_error_is_passed_on_unchanged_for_a_fallback() -> None:
    model, backup = ScriptedModel([LOST]), ScriptedModel("Hello")
    stream = ops.degrade(model, "Hi", max_tokens=9).pipe(ops.fallback_to(backup.stream("Hi")))
    assert "".join(map(text_of, run(stream))) == "Hello"


def test_earlier_errors_are_notes_on_the_last() -> None:
    first, last = ContextLengthError("too long"), ConnectionResetError("reset")
    run(ops.degrade(ScriptedModel([first], [last]), "Hi", steps=[lambda r: shorter(r, 5)]))
    assert last.__notes__ == ["before that: ContextLengthError: too long"]


def test_a_note_is_added_once_to_a_repeated_error() -> None:
    last = ConnectionResetError("reset")
    for _ in range(3):
        model = ScriptedModel([ContextLengthError("too long")], [last])
        run(ops.degrade(model, "Hi", steps=[lambda r: shorter(r, 5)]))
    assert last.__notes__ == ["before that: ContextLengthError: too long"]


def shorter(request: Request, tokens: int) -> Request:
    return msgspec.structs.replace(request, max_tokens=tokens)


def test_custom_steps() -> None:
    model = ScriptedModel([LOST])
    steps = [lambda request: shorter(request, 5), lambda request: shorter(request, 2)]
    run(ops.degrade(model, "Hi", steps=steps))
    assert asked(model) == [(None, None), (5, None), (2, None)]


def test_an_exception_of_a_step_or_a_model_is_the_error_of_the_stream() -> None:
    mine = LookupError("mine")

    def step(_: Request) -> Request:
        raise mine

    assert run(ops.degrade(ScriptedModel([LOST]), "Hi", steps=[step]))[-1] is mine
    out_of_range = [lambda request: msgspec.structs.replace(request, temperature=9.0)]
    events = run(ops.degrade(ScriptedModel([LOST]), "Hi", steps=out_of_range))
    assert isinstance(events[-1], BadRequestError)


@pytest.mark.parametrize(("after_output", "seen"), [("fail", "a"), ("restart", "b")])
def test_after_output_no_text_is_repeated(after_output: Any, seen: str) -> None:
    model = ScriptedModel(["a", LOST], ["b"])
    events = run(ops.degrade(model, "Hi", max_tokens=9, after_output=after_output))
    text = ""
    for event in events:
        text = "" if event == Notice("restart") else text + text_of(event)
    assert text == seen


def test_each_subscription_starts_with_the_original_request() -> None:
    model = ScriptedModel([LOST])
    stream = ops.degrade(model, "Hi", max_tokens=200)
    run(stream)
    run(stream)
    assert asked(model)[4] == (200, None)


def test_disposal_and_demand(marbles: Marbles) -> None:
    model = ScriptedModel([LOST], ["a", 5.0, "b"])
    recording = marbles.subscribe(ops.degrade(model, "Hi", max_tokens=9))
    marbles.advance_to(1)
    marbles.valve.close()
    marbles.advance_to(20)
    assert [text_of(chunk) for chunk in recording.chunks][-1] == "a"
    recording.dispose()
    assert (model.cancelled, model.active, marbles.timers) == (1, 0, [])


def test_bad_arguments_are_refused_at_the_call() -> None:
    model = ScriptedModel("a")
    with pytest.raises(TypeError, match="a step"):
        ops.degrade(model, "Hi", steps=[0.7])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="model"):
        ops.degrade("tiny", "Hi")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="after_output"):
        ops.degrade(model, "Hi", after_output="no")  # type: ignore[arg-type]
    with pytest.raises(BadRequestError, match="max_tokens"):
        ops.degrade(model, "Hi", max_tokens=0)
