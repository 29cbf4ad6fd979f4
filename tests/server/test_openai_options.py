"""The options of `/v1/chat/completions` reach the models that can use them, or are refused."""

from __future__ import annotations

import math
from typing import Any

import openai
import pytest

from rxllm.chunks import Batch, End, Notice, Start, Token, TokenLogprob
from rxllm.errors import ContextLengthError
from rxllm.models.scripted import ScriptedModel
from rxllm.server import create_app
from tests.server.serving import scripted, serving
from tests.server.test_openai import HI, TOOLS, let, sdk

SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"tools": TOOLS, "parallel_tool_calls": False}, {"parallel_tool_calls": False}),
        ({"parallel_tool_calls": False}, {"parallel_tool_calls": None}),  # without tools, nothing
        ({"frequency_penalty": 0.5}, {"frequency_penalty": 0.5}),
        ({"presence_penalty": -1}, {"presence_penalty": -1.0}),
        ({"presence_penalty": 0}, {"presence_penalty": None}),
        ({"logit_bias": {"50256": -100}}, {"logit_bias": {"50256": -100.0}}),
        ({"reasoning_effort": "xhigh"}, {"reasoning": "xhigh"}),
        ({"verbosity": "low"}, {"verbosity": "low"}),
        ({"logprobs": True}, {"confidence": True, "top_logprobs": None}),
        ({"logprobs": True, "top_logprobs": 2}, {"confidence": True, "top_logprobs": 2}),
        ({"extra_body": {"top_k": 40}}, {"top_k": 40}),
        ({"extra_body": {"min_p": 0.1}}, {"min_p": 0.1}),
        ({"extra_body": {"repeat_penalty": 1.1}}, {"repeat_penalty": 1.1}),
        ({"extra_body": {"repetition_penalty": 1.1}}, {"repeat_penalty": 1.1}),
        ({"extra_body": {"grammar": 'root ::= "a"'}}, {"extra": {"grammar": 'root ::= "a"'}}),
        ({"extra_body": {"guided_grammar": "g"}}, {"extra": {"grammar": "g"}}),
        ({"extra_body": {"guided_json": SCHEMA}}, {"response_format": SCHEMA}),
        (
            {"extra_body": {"guided_json": '{"title": "x"}'}},
            {"response_format": {"title": "x"}},
        ),
        ({"extra_body": {"json_schema": SCHEMA}}, {"response_format": SCHEMA}),
        ({"extra_body": {"structured_outputs": {"json": SCHEMA}}}, {"response_format": SCHEMA}),
        (
            {"response_format": {"type": "json_object", "schema": SCHEMA}},
            {"response_format": SCHEMA},
        ),
        ({"response_format": {"type": "json_object"}}, {"response_format": "json"}),
    ],
)
async def test_an_option_reaches_the_model(given: Any, expected: dict[str, Any]) -> None:
    model = ScriptedModel("Hello", "Hello")
    async with sdk(create_app({"tiny": model})) as client:
        await client.chat.completions.create(model="tiny", messages=HI, **given)
        async with await client.chat.completions.create(
            model="tiny", messages=HI, stream=True, **given
        ) as stream:
            assert [chunk async for chunk in stream]
    for request in model.requests:
        assert {name: getattr(request, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"verbosity": "low"}, "verbosity"),
        ({"logit_bias": {"1": 5}}, "logit_bias"),
        ({"presence_penalty": 1}, "presence_penalty"),
        ({"logprobs": True, "top_logprobs": 2}, "top_logprobs"),
        ({"reasoning_effort": "low"}, "reasoning_effort"),
    ],
)
async def test_an_option_that_the_model_does_not_have_is_refused(given: Any, field: str) -> None:
    async with sdk(create_app(["tiny"])) as client:
        with pytest.raises(openai.BadRequestError) as raised:
            await client.chat.completions.create(model="tiny", messages=HI, **given)
    assert raised.value.param == field


@pytest.mark.parametrize("neutral", [{"typical_p": 1}, {"n_predict": -1}, {"min_tokens": 0}])
async def test_a_value_without_effect_is_not_refused(neutral: dict[str, Any]) -> None:
    async with sdk(scripted()) as client:
        await client.chat.completions.create(model="tiny", messages=HI, extra_body=neutral)


@pytest.mark.parametrize("batched", [False, True])
async def test_log_probabilities(batched: bool) -> None:
    likely = TokenLogprob("Hel", -0.5, (TokenLogprob("Hel", -0.5), TokenLogprob("Yo", -2.0)))
    tokens = (
        Token("Hello", math.exp(-1.0), logprobs=(likely, TokenLogprob("lo", -0.5))),
        Token(" you", 0.25),
        Token("?", 0.0),
    )
    said = [Batch(tokens, "Hello you?")] if batched else list(tokens)
    script: list[Any] = [Start("r", "m"), *said, End("stop")]
    async with sdk(create_app({"tiny": ScriptedModel(script, script, script)})) as client:
        ask: dict[str, Any] = {"model": "tiny", "messages": HI}
        whole = await client.chat.completions.create(**ask, logprobs=True)
        stream = await client.chat.completions.create(**ask, logprobs=True, stream=True)
        streamed = [choice.logprobs async for chunk in stream for choice in chunk.choices]
        silent = await client.chat.completions.create(**ask)
    assert whole.choices[0].logprobs is not None
    content = whole.choices[0].logprobs.content
    assert content is not None
    assert [each.token for each in content] == ["Hel", "lo", " you", "?"]
    assert [round(each.logprob, 3) for each in content] == [-0.5, -0.5, -1.386, -9999.0]
    assert [each.token for each in content[0].top_logprobs] == ["Hel", "Yo"]
    assert bytes(content[2].bytes or []) == b" you"
    assert [one for each in streamed if each is not None for one in each.content or []] == content
    assert silent.choices[0].logprobs is None


async def test_log_probabilities_of_the_bundled_model_and_after_a_restart() -> None:
    async with sdk(create_app(["tiny"])) as client:
        answer = await client.chat.completions.create(
            model="tiny", messages=HI, logprobs=True, max_tokens=5
        )
        assert answer.choices[0].logprobs is not None
        content = answer.choices[0].logprobs.content or []
        assert "".join(each.token for each in content) == answer.choices[0].message.content
        assert all(each.logprob <= 0 for each in content)
    script: list[Any] = [
        Start("r", "m"),
        Token("Bad", 0.5),
        Notice("restart"),
        Token("Good", 0.5),
        End("stop"),
    ]
    async with sdk(create_app({"tiny": ScriptedModel(script)})) as client:
        answer = await client.chat.completions.create(model="tiny", messages=HI, logprobs=True)
    assert answer.choices[0].logprobs is not None
    assert [each.token for each in answer.choices[0].logprobs.content or []] == ["Good"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_context_that_is_too_long_is_told_in_the_words_that_clients_look_for(
    stream: bool,
) -> None:
    """LiteLLM looks for these words, LangChain for the code or the words."""
    _, app = let(ContextLengthError("the prompt has 9 tokens"))
    async with sdk(app) as client:
        with pytest.raises(openai.BadRequestError, match="9 tokens") as raised:
            await client.chat.completions.create(model="tiny", messages=HI, stream=stream)
    assert "This model's maximum context length is" in raised.value.message
    assert raised.value.code == "context_length_exceeded"


async def test_every_response_has_a_request_id() -> None:
    async with serving(scripted()) as client:
        seen = []
        for method, path in (("GET", "/v1/models"), ("POST", "/v1/nothing"), ("GET", "/stream")):
            async with client.request(method, path) as response:
                seen.append(response.headers["x-request-id"])
        assert len(set(seen)) == 3
        for given, echoed in (("of-the-proxy", True), ("with space", False), ("x" * 101, False)):
            async with client.get("/v1/models", headers={"X-Request-ID": given}) as response:
                assert (response.headers["x-request-id"] == given) == echoed
    async with sdk(scripted()) as sdk_client:
        answer = await sdk_client.chat.completions.create(model="tiny", messages=HI)
        assert answer._request_id
