"""`degrade`: after each failure the model is asked for less."""

from typing import Any

import msgspec
import pytest
from reactivex import Observable

import rxllm
from rxllm import operators as ops
from rxllm.chunks import Chunk, ErrorInfo, Notice, Start, text_of
from rxllm.errors import (
    BadRequestError,
    ContextLengthError,
    ErrorAction,
    OverloadedError,
    UnsupportedError,
    classify_error,
)
from rxllm.models.scripted import Script, ScriptedModel
from rxllm.requests import Request
from rxllm.testing import COMPLETED, Marbles
from rxllm.testing.fault_server import FaultServer, Reply

LOST = ConnectionResetError("reset")


def asked(model: ScriptedModel) -> list[tuple[int | None, float | None]]:
    return [(request.max_tokens, request.temperature) for request in model.requests]


def run(stream: Observable[Chunk]) -> list[Any]:
    return [event for _, event in Marbles().run(stream)]


def test_by_default_70_percent_of_the_tokens_then_temperature_0_3_then_100_tokens_at_0_1() -> None:
    model = ScriptedModel([LOST])
    events = run(ops.degrade(model, "Hi", max_tokens=200, temperature=0.9))
    assert asked(model) == [(200, 0.9), (140, 0.9), (200, 0.3), (100, 0.1)]
    assert repr(events[-1]) == repr(LOST)
    assert model.active == 0


def test_each_step_is_announced_and_the_answer_is_complete() -> None:
    model = ScriptedModel([LOST], ["a", "b"])
    events = run(ops.degrade(model, "Hi", max_tokens=200))
    assert [type(event) for event in events[:3]] == [Start, Notice, Start]
    tried = {"max_tokens": 140}
    assert events[1] == Notice("degraded", attempt=2, error=ErrorInfo.of(LOST), options=tried)
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


def refusal(field: str | None) -> UnsupportedError:
    return UnsupportedError(f"no {field}", field)


def words_of(events: list[Any]) -> list[str]:
    return [event.error.message for event in events if isinstance(event, Notice) and event.error]


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("openai/gpt", "top_k", 5),
        ("anthropic/claude", "seed", 1),
        ("anthropic/claude", "frequency_penalty", 0.5),
        ("anthropic/claude", "logit_bias", {"1": 2.0}),
        ("anthropic/claude", "top_logprobs", 3),
        ("anthropic/claude", "confidence", True),
        ("openai/gpt-4o", "reasoning", "low"),
        ("openai/gpt (responses)", "stop", ("x",)),
    ],
)
async def test_any_option_that_the_model_does_not_take_is_left_out(
    name: str, option: str, value: Any
) -> None:
    wire: Any = {"wire": "openai_responses"} if "responses" in name else {}
    given: Any = {option: value}
    heard: list[Any] = []
    async with FaultServer(Reply(status=400)) as server:
        model = rxllm.model(name.split()[0], api_key="k", base_url=server.url, **wire)
        with pytest.raises(BadRequestError, match="answered 400"):
            async for chunk in rxllm.to_async(ops.degrade(model, "Hi", **given)):
                heard.append(chunk)
    assert [(type(each), each.kind, each.attempt) for each in heard] == [(Notice, "degraded", 2)]
    assert words_of(heard)[0].endswith(f"(without {option})")
    assert len(server.requests) == 1


def test_options_are_left_out_one_by_one_and_not_set_again() -> None:
    model = ScriptedModel([refusal("seed")], [LOST], [refusal("top_k")], ["a"])
    steps = [lambda r: shorter(r, 5), lambda r: msgspec.structs.replace(r, seed=7)]
    events = run(ops.degrade(model, "Hi", steps=steps, seed=1, top_k=2, max_tokens=9))
    asked = [(each.seed, each.top_k, each.max_tokens) for each in model.requests]
    assert asked == [(1, 2, 9), (None, 2, 9), (None, 2, 5), (None, None, 5)]
    assert words_of(events) == ["no seed (without seed)", "reset", "no top_k (without top_k)"]
    assert [event.attempt for event in events if isinstance(event, Notice)] == [2, 3, 4]
    assert events[-1] is COMPLETED


@pytest.mark.parametrize("field", ["messages", "tools", None, "unknown", "top_p"])
def test_neither_tools_nor_messages_nor_what_was_not_asked_for_are_left_out(
    field: str | None,
) -> None:
    error = refusal(field)
    model = ScriptedModel([error])
    tools = [{"name": "clock"}]
    events = run(ops.degrade(model, "Hi", tools=tools, max_tokens=200))
    assert asked(model) == [(200, None), (140, None), (200, 0.3), (100, 0.1)]
    assert all(request.tools for request in model.requests)
    assert repr(events[-1]) == repr(error)


async def test_a_step_that_can_not_go_with_the_request_does_not_hide_its_error() -> None:
    async with FaultServer(Reply(status=503)) as server:
        model = rxllm.model("anthropic/claude-sonnet-4-5", api_key="k", base_url=server.url)
        stream = ops.degrade(model, "Hi", reasoning="high", max_tokens=4000)
        with pytest.raises(OverloadedError, match="answered 503"):
            _ = [chunk async for chunk in rxllm.to_async(stream)]
    bodies = [request.json() for request in server.requests]
    assert [body["max_tokens"] for body in bodies] == [4000, 2800]


def test_a_step_is_taken_without_the_change_that_is_refused() -> None:
    model = ScriptedModel([LOST], [refusal("temperature")], [LOST], [refusal("seed")], ["a"])
    steps = [
        lambda r: msgspec.structs.replace(r, max_tokens=5, temperature=0.3),
        lambda r: msgspec.structs.replace(r, max_tokens=2, temperature=0.1, seed=8),
    ]
    events = run(ops.degrade(model, "Hi", steps=steps, seed=1))
    requests = [(each.max_tokens, each.temperature, each.seed) for each in model.requests]
    assert requests == [(None, None, 1), (5, 0.3, 1), (5, None, 1), (2, None, 8), (2, None, 1)]
    assert words_of(events) == [
        "reset",
        "no temperature (without temperature)",
        "reset (without temperature)",
        "no seed (with the original seed)",
    ]


def test_a_step_whose_only_change_is_refused_is_skipped() -> None:
    model = ScriptedModel([LOST], [refusal("temperature")], ["a"])
    run(ops.degrade(model, "Hi"))
    assert asked(model) == [(None, None), (None, 0.3), (100, None)]


def test_a_refused_step_is_not_the_error_of_the_stream() -> None:
    model = ScriptedModel([LOST], [refusal(None)])
    events = run(ops.degrade(model, "Hi"))
    assert asked(model) == [(None, None), (None, 0.3), (100, 0.1)]
    assert repr(events[-1]) == repr(LOST)


def test_the_policy_has_no_say_in_a_refused_step() -> None:
    def when(error: BaseException) -> ErrorAction:
        return "raise" if isinstance(error, UnsupportedError) else classify_error(error)

    model = ScriptedModel([LOST], [refusal("temperature")], ["a"])
    assert run(ops.degrade(model, "Hi", when=when))[-1] is COMPLETED
    model = ScriptedModel([refusal("temperature")])
    assert repr(run(ops.degrade(model, "Hi", temperature=1, when=when))[-1]) == repr(
        refusal("temperature")
    )


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


def test_the_notice_has_the_options_that_are_tried() -> None:
    broken: Script = [ConnectionResetError()]
    model = ScriptedModel(broken, broken, broken, "Hello")
    events = Marbles().run(ops.degrade(model, "Hi", max_tokens=200, temperature=1))
    notices = [event for _, event in events if isinstance(event, Notice)]
    assert [notice.options for notice in notices] == [
        {"max_tokens": 140},
        {"temperature": 0.3},
        {"max_tokens": 100, "temperature": 0.1},
    ]
