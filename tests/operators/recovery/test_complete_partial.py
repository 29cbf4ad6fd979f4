"""`complete_partial`: a second request finishes an interrupted answer."""

from typing import Any

import pytest

from rxllm import operators as ops
from rxllm.chunks import Chunk, ErrorInfo, Notice, Reasoning, Start, Token, ToolCall, text_of
from rxllm.errors import BadRequestError, ConnectionFailedError, StallTimeoutError
from rxllm.messages import Message
from rxllm.models.scripted import ScriptedModel
from rxllm.requests import Prompt
from rxllm.stream import Stream
from rxllm.testing import COMPLETED, Marbles

BROKEN: list[Any] = ["Once", " upon a", ConnectionFailedError("cut")]


def text(events: list[tuple[float, Any]]) -> str:
    return "".join(text_of(event) for _, event in events)


def completed(
    *scripts: list[Any] | str, model: ScriptedModel | None = None, attempts: int = 1
) -> tuple[ScriptedModel, list[Any]]:
    model = model or ScriptedModel(*scripts, finish_reason=None)
    operator = ops.complete_partial(model, "A tale", attempts=attempts)
    events = Marbles().run(model.stream("A tale").pipe(operator))
    return model, [event for _, event in events]


def test_a_partial_text_is_completed_by_prompt_where_a_model_takes_no_beginning() -> None:
    model = ScriptedModel(BROKEN, "Once upon a time", capabilities=["text"])
    _, events = completed(model=model)
    assert "".join(map(text_of, events)) == "Once upon a time"
    assert [each.role for each in model.requests[1].messages] == ["user", "assistant", "user"]


def test_a_stream_that_does_not_fail_is_unchanged(marbles: Marbles) -> None:
    model = ScriptedModel("never asked")
    stream = marbles.cold("S-a-(E,|)").pipe(ops.complete_partial(model, "Hi"))
    assert marbles.run(stream) == marbles.expect("S-a-(E,|)")
    assert model.requests == []


def test_from_a_checkpoint_the_partial_text_is_sent_back_to_the_model() -> None:
    model, events = completed(BROKEN, [" time"])
    assert [type(event).__name__ for event in events] == [
        "Start", "Token", "Token", "Notice", "Start", "Token", "_Completed",
    ]  # fmt: skip
    error = ErrorInfo("ConnectionFailedError", "cut")
    assert events[3] == Notice("resume", attempt=2, error=error)
    assert "".join(map(text_of, events)) == "Once upon a time"
    assert model.requests[1].messages == (
        Message("user", "A tale"),
        Message("assistant", "Once upon a"),
    )


def test_another_model_may_finish_it_and_is_named() -> None:
    first, second = ScriptedModel(BROKEN), ScriptedModel(" time", name="other")
    stream = first.stream("A tale").pipe(ops.complete_partial(second, "A tale", max_tokens=9))
    events = Marbles().run(stream)
    assert [event.model for _, event in events if isinstance(event, Start)] == ["scripted", "other"]
    assert (text(events), second.requests[0].max_tokens) == ("Once upon a time", 9)


def test_text_the_model_repeats_is_removed() -> None:
    _, events = completed(BROKEN, ["upon", " a", " time"])
    assert "".join(map(text_of, events)) == "Once upon a time"
    _, events = completed(BROKEN, ["Once upon a time"])
    assert "".join(map(text_of, events)) == "Once upon a time"


def test_one_attempt_by_default() -> None:
    error = ConnectionFailedError("again")
    model, events = completed(BROKEN, [" time", error])
    assert (events[-1], error.partial, len(model.requests)) == (error, "Once upon a time", 2)


def test_several_attempts() -> None:
    cut = ConnectionFailedError("again")
    model, events = completed(BROKEN, [" time", cut], [" there was"], attempts=2)
    assert "".join(map(text_of, events)) == "Once upon a time there was"
    assert model.requests[2].messages[-1].text == "Once upon a time"


def test_before_content_the_error_is_passed_on() -> None:
    error = ConnectionFailedError("refused")
    model, events = completed([error], ["never asked"])
    assert (events[-1], len(model.requests)) == (error, 1)


@pytest.mark.parametrize("content", [ToolCall("1", "weather"), Reasoning("hm")])
def test_content_that_can_not_be_continued_is_an_error(content: Chunk) -> None:
    error = ConnectionFailedError("cut")
    model, events = completed([content, error], ["never asked"])
    assert (events[-1], len(model.requests)) == (error, 1)


def test_a_stall_is_handled_and_a_bad_request_is_not(marbles: Marbles) -> None:
    silent = ScriptedModel(["Once", 60.0], [" upon"])
    operator = ops.complete_partial(silent, "A tale")
    stream = silent.stream("A tale").pipe(ops.timeouts(between=5), operator)
    assert text(marbles.run(stream)) == "Once upon"
    error = BadRequestError("no")
    model, events = completed(["a", error], ["never asked"])
    assert (events[-1], len(model.requests)) == (error, 1)


def test_when_replaces_the_policy(marbles: Marbles) -> None:
    model = ScriptedModel(["a", StallTimeoutError("late")])
    operator = ops.complete_partial(model, "Hi", when=lambda _: "raise")
    assert isinstance(marbles.run(model.stream("Hi").pipe(operator))[-1][1], StallTimeoutError)


def test_if_the_model_can_not_continue_the_original_error_is_passed_on(marbles: Marbles) -> None:
    refusing = ScriptedModel([BadRequestError("no prefill")])
    cut = ConnectionFailedError("cut")
    source = ScriptedModel(["Once", cut]).stream("A tale")
    error = marbles.run(source.pipe(ops.complete_partial(refusing, "A tale")))[-1][1]
    assert (error, cut.partial) == (cut, "Once")
    assert cut.__notes__ == ["the answer could not be continued: no prefill"]


def test_if_the_model_refuses_at_the_call_the_original_error_is_passed_on(marbles: Marbles) -> None:
    class NoPrefill(ScriptedModel):
        def stream(self, prompt: Prompt, **options: Any) -> Stream[Chunk]:
            raise BadRequestError("no prefill")

    cut = ConnectionFailedError("cut")
    source = ScriptedModel(["Once", cut]).stream("A tale")
    error = marbles.run(source.pipe(ops.complete_partial(NoPrefill(""), "A tale")))[-1][1]
    assert (error, cut.partial) == (cut, "Once")
    assert cut.__notes__ == ["the answer could not be continued: no prefill"]


def test_never_empty_disposal_two_subscriptions_and_demand(marbles: Marbles) -> None:
    model = ScriptedModel([" b", " c"], delay=1, finish_reason=None)
    source = marbles.cold("a-#", error=ConnectionFailedError("cut"), demand=True)
    stream = source.pipe(ops.complete_partial(model, "Hi"))
    first, second = marbles.subscribe(stream), marbles.subscribe(stream)
    marbles.advance_to(3.5)
    first.dispose()
    marbles.at(3.6, marbles.valve.close)
    marbles.at(9, marbles.valve.open)
    marbles.advance_to(20)
    assert text(first.events) == "a b"
    assert (text(second.events), second.events[-1]) == ("a b c", (9.0, COMPLETED))
    assert (model.active, model.cancelled, marbles.timers) == (0, 1, [])
    assert source.subscriptions == [(0.0, 2.0), (0.0, 2.0)]
    empty = marbles.cold("|").pipe(ops.complete_partial(model, "Hi"))
    assert [event for _, event in marbles.run(empty)] == [COMPLETED]
    never = marbles.cold("").pipe(ops.complete_partial(model, "Hi"))
    assert marbles.run(never) == []


def test_sources_of_a_merge_are_not_continued(marbles: Marbles) -> None:
    error = ConnectionFailedError("cut")
    source = marbles.cold("a#", error=error, source="left")
    events = marbles.run(source.pipe(ops.complete_partial(ScriptedModel("x"), "Hi")))
    assert events == [(0.0, Token("a", source="left")), (1.0, error)]


def test_bad_arguments_are_refused_at_the_call() -> None:
    model = ScriptedModel("a")
    with pytest.raises(ValueError, match="attempts"):
        ops.complete_partial(model, "Hi", attempts=0)
    with pytest.raises(TypeError, match="attempts"):
        ops.complete_partial(model, "Hi", attempts=float("nan"))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="model"):
        ops.complete_partial("tiny", "Hi")  # type: ignore[arg-type]
    with pytest.raises(BadRequestError, match="temperature"):
        ops.complete_partial(model, "Hi", temprature=0)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="when"):
        ops.complete_partial(model, "Hi", when=True)  # type: ignore[arg-type]
