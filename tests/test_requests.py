"""Requests: what is accepted, and what is rejected at the call."""

from __future__ import annotations

from typing import Any

import pytest

import rxllm
from rxllm.errors import BadRequestError, UnsupportedError
from rxllm.messages import ImagePart, Message, TextPart, Tool
from rxllm.models.scripted import ScriptedModel
from rxllm.requests import Model, Request, as_request, streaming_pays
from rxllm.router import Router


def test_a_string_is_one_user_message() -> None:
    assert as_request("Hi").messages == (Message("user", "Hi"),)


def test_messages_may_be_mappings_or_values() -> None:
    system = {"role": "system", "content": "Be brief."}
    request = as_request([system, Message("user", "Hi")])
    assert request.messages == (Message("system", "Be brief."), Message("user", "Hi"))


def test_options_override_those_of_a_request() -> None:
    base = as_request("Hi", seed=3, temperature=0.7)
    request = as_request(base, temperature=0)
    assert (request.seed, request.temperature) == (3, 0.0)
    assert base.temperature == 0.7


@pytest.mark.parametrize("name", ["temperature", "top_k", "min_p", "seed"])
def test_zero_is_a_value_and_none_is_the_models_choice(name: str) -> None:
    options: dict[str, Any] = {name: 0}
    assert getattr(as_request("Hi", **options), name) == 0
    assert getattr(as_request("Hi"), name) is None


def test_a_single_stop_sequence_may_be_a_string() -> None:
    assert as_request("Hi", stop="\n").stop == ("\n",)
    assert as_request("Hi", stop=["a", "b"]).stop == ("a", "b")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"temperature": 2.1}, "temperature must be between 0 and 2, got 2.1"),
        ({"temperature": -0.1}, "temperature must be between 0 and 2"),
        ({"temperature": float("nan")}, "temperature must be between 0 and 2"),
        ({"temperature": "warm"}, "temperature"),
        ({"max_tokens": 0}, "max_tokens must be 1 or more"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"top_p": 0}, "top_p must be above 0, at most 1"),
        ({"top_p": 1.1}, "top_p must be above 0, at most 1"),
        ({"top_k": -1}, "top_k must be 0 or more"),
        ({"min_p": 2}, "min_p must be between 0 and 1"),
        ({"repeat_penalty": 0}, "repeat_penalty must be a finite number above 0"),
        ({"seed": -1}, "seed must be 0 or more"),
        ({"stop": [""]}, "stop sequences must not be empty"),
        ({"strategy": "best"}, "strategy"),
        ({"response_format": 3}, "response_format"),
        ({"tool_choice": "auto"}, "no tools"),
        ({"tools": [{"name": "add"}], "tool_choice": "sum"}, "name of a tool, got 'sum'"),
        ({"tools": [{"name": "add"}, {"name": "add"}]}, "tool names must be unique"),
        ({"tools": [{"title": "add"}]}, "title"),
        ({"max_token": 3}, "did you mean 'max_tokens'"),
        ({"colour": "red"}, "unknown option 'colour'"),
    ],
)
def test_an_invalid_option_is_named(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadRequestError, match=reason):
        as_request("Hi", **options)


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("", "prompt is empty"),
        (" \n", "prompt is empty"),
        ([], "no messages"),
        (None, "got NoneType"),
        (b"Hi", "got bytes"),
        ("half \ud83d", "surrogate"),
        ([{"role": "robot", "content": "x"}], "'robot'"),
        ([{"role": "user"}], "content"),
        ([{"role": "user", "content": "x", "image": "y"}], "image"),
        ([{"role": "user", "content": [{"type": "image"}]}], "exactly one of url and data"),
        ([{"role": "user", "content": [{"type": "sound"}]}], "sound"),
    ],
)
def test_an_invalid_prompt_is_rejected(prompt: Any, reason: str) -> None:
    with pytest.raises(BadRequestError, match=reason):
        as_request(prompt)


def test_continuing_from_a_checkpoint_sends_the_partial_text_back() -> None:
    request = as_request("Hi", seed=1)
    continued = request.continuing("Hel")
    assert continued.messages[-1] == Message("assistant", "Hel")
    assert continued.continuing("lo").messages == (
        Message("user", "Hi"),
        Message("assistant", "Hello"),
    )
    assert continued.seed == 1
    assert request.continuing("") is request


def test_the_scripted_model_is_a_model() -> None:
    assert isinstance(ScriptedModel("Hi"), Model)
    assert isinstance(as_request("Hi"), Request)


def test_streaming_pays_above_100_expected_tokens() -> None:
    assert not streaming_pays(100)
    assert streaming_pays(101)
    assert streaming_pays(50, threshold=10)
    with pytest.raises(BadRequestError):
        streaming_pays(-1)


def test_content_may_be_parts() -> None:
    message = {
        "role": "user",
        "content": [{"type": "text", "text": "What is "}, ImagePart(url="u")],
    }
    (made,) = as_request([message]).messages
    assert made.content == (TextPart("What is "), ImagePart(url="u"))
    assert made.text == "What is "
    assert Message("user", "Hi").parts == (TextPart("Hi"),)


def test_an_answer_in_parts_is_continued_by_another_part() -> None:
    request = as_request([Message("user", "Hi"), Message("assistant", (TextPart("Hel"),))])
    assert request.continuing("lo").messages[-1].text == "Hello"


def test_the_media_type_of_an_image_is_detected() -> None:
    assert ImagePart(data=b"\x89PNG...").media_type == "image/png"
    assert ImagePart(data=b"RIFF\n\0\0\0WEBPVP8 ").media_type == "image/webp"
    assert ImagePart(data=b"...", media_type="image/avif").media_type == "image/avif"
    with pytest.raises(BadRequestError, match="media_type"):
        ImagePart(data=b"...")
    with pytest.raises(BadRequestError, match="exactly one of url and data"):
        ImagePart(url="u", data=b"\x89PNG")


def test_tools_may_be_mappings_or_values_and_one_may_be_chosen() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    tools: list[Tool | dict[str, Any]] = [Tool("add", "adds", schema), {"name": "now"}]
    request = as_request("Hi", tools=tools, tool_choice="add")
    assert request.tools == (Tool("add", "adds", schema), Tool("now"))
    assert request.tool_choice == "add"


@pytest.mark.parametrize(
    ("prompt", "options", "reason"),
    [
        ([Message("user", (ImagePart(url="u"),))], {}, "doesn't support images"),
        ("Hi", {"logit_bias": {"1": 1}}, "doesn't support logit_bias"),
        ("Hi", {"reasoning": "high"}, "doesn't think"),
        ("Hi", {"extra": {"other": 1}}, "'other' in extra"),
    ],
)
async def test_a_local_engine_rejects_what_it_cannot_do(
    prompt: Any, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(BadRequestError, match=reason):
        await rxllm.sinks.collect(rxllm.model("tiny").stream(prompt, **options))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("speed-priority", "did you mean 'speed'?"),
        ("quality-first", "did you mean 'quality'?"),
        ("Cost_First", "did you mean 'cost'?"),
        ("fast", "choose from quality, balanced, speed, cost"),
    ],
)
def test_a_strategy_of_another_name_is_hinted_at(name: str, hint: str) -> None:
    for ask in (
        lambda: as_request("Hi", strategy=name),  # type: ignore[arg-type]
        lambda: Router(["tiny"], name),  # type: ignore[arg-type]
    ):
        with pytest.raises(BadRequestError) as caught:
            ask()
        assert str(caught.value) == f"unknown strategy {name!r}: {hint}"
        assert caught.value.field == "strategy"


@pytest.mark.parametrize("name", ["tiny", "scripted/hi", "openai/gpt-5", "llama/no.gguf"])
def test_a_strategy_for_a_model_that_is_no_router_is_an_error(name: str) -> None:
    model = rxllm.model(name)
    with pytest.raises(UnsupportedError, match=f"^{model.info.id} doesn't support strategy"):
        model.stream("Hi", strategy="speed")
