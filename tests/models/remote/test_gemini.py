"""Gemini's own API: its events, built with the types of the SDK, and its requests."""

from __future__ import annotations

import base64
import math
from collections.abc import Awaitable, Callable
from copy import deepcopy
from typing import Any

import msgspec
import pytest
from google.genai import types

import rxllm
from rxllm.chunks import (
    Citation,
    End,
    FileOutput,
    Notice,
    ProviderState,
    Reasoning,
    Start,
    Token,
    TokenLogprob,
    ToolCall,
    Usage,
)
from rxllm.errors import (
    AbortedStreamError,
    BadRequestError,
    ContentFilteredError,
    EmptyStreamError,
    RateLimitError,
    ServerError,
    TruncatedStreamError,
    UnsupportedError,
)
from rxllm.messages import FilePart, ImagePart, Message, ReasoningPart, TextPart, Tool
from rxllm.models.remote.gemini_request import gemini_body
from rxllm.models.remote.providers import PROVIDERS
from rxllm.requests import as_request
from rxllm.testing.fault_server import FaultServer, Reply
from tests import strict_native_providers
from tests.strict_providers import StrictServer

Listen = Callable[..., Awaitable[Any]]

NAME = "gemini/gemini-3.8-flash"


def event(*parts: dict[str, Any], reason: str | None = None, **fields: Any) -> bytes:
    """An event, checked by the SDK's type."""
    candidate = {
        "index": 0,
        "content": {"role": "model", "parts": list(parts)},
        **({"finishReason": reason} if reason else {}),
        **fields.pop("candidate", {}),
    }
    response = {
        "candidates": [candidate],
        "modelVersion": "gemini-3.8-flash-001",
        "responseId": "resp-1",
        **fields,
    }
    types.GenerateContentResponse.model_validate(deepcopy(response))  # it changes its input
    return b"data: %b\n\n" % msgspec.json.encode(response)


def state(**data: Any) -> ProviderState:
    return ProviderState("gemini", "gemini-3.8-flash", data)


STOP = event(reason="STOP")


@pytest.fixture
def hear(listen: Listen) -> Listen:
    async def heard(*events: bytes, **options: Any) -> Any:
        async with FaultServer(Reply(events)) as server:
            model = rxllm.model(NAME, api_key="k", base_url=server.url)
            return await listen(model, **options)

    return heard


async def test_a_request_and_its_answer(listen: Listen) -> None:
    counts = {
        "promptTokenCount": 5, "toolUsePromptTokenCount": 2, "candidatesTokenCount": 3,
        "thoughtsTokenCount": 4, "cachedContentTokenCount": 1, "totalTokenCount": 14,
    }  # fmt: skip
    last = event({"text": "upon"}, reason="STOP", usageMetadata=counts)
    async with FaultServer(Reply([event({"text": "Once "}), last])) as server:
        heard = await listen(rxllm.model(NAME, api_key="k1", base_url=server.url))
    assert heard.error is None
    assert heard.chunks == [
        Start("resp-1", "gemini/gemini-3.8-flash-001", "gemini"),
        Token("Once "),
        Token("upon"),
        Usage(7, 7, cached_tokens=1, reasoning_tokens=4),
        End("stop"),
    ]
    (request,) = server.requests
    assert request.path == "/v1beta/models/gemini-3.8-flash:streamGenerateContent?alt=sse"
    assert request.headers["x-goog-api-key"] == "k1"
    assert request.json() == {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}


async def test_thoughts_and_signatures(hear: Listen) -> None:
    heard = await hear(
        event({"text": "Hm.", "thought": True}),
        event({"text": "", "thought": True, "thoughtSignature": "YQ=="}, {"text": "Yes."}),
        event({"text": "", "thoughtSignature": "Yg=="}, reason="STOP"),
    )
    assert heard.chunks[1:-1] == [
        Reasoning("Hm."),
        Reasoning("", state(signature="YQ==")),
        Token("Yes."),
        Token("", state=state(signature="Yg==")),
    ]


async def test_tool_calls(hear: Listen) -> None:
    heard = await hear(
        event(
            {"functionCall": {"id": "f1", "name": "look", "args": {"at": "Zürich"}},
             "thoughtSignature": "YQ=="},
            {"functionCall": {"name": "look", "args": {}}},
        ),
        STOP,
    )  # fmt: skip
    first, second = heard.of(ToolCall)
    arguments = '{"at": "Zürich"}'
    assert first == ToolCall("f1", "look", arguments, 0, True, state(id="f1", signature="YQ=="))
    assert (second.name, second.arguments, second.index, second.complete, second.state) == (
        "look", "{}", 1, True, None,
    )  # fmt: skip
    assert second.id.startswith("call_")
    assert heard.chunks[-1] == End("tool_calls")


async def test_files_code_and_unknown_parts(hear: Listen) -> None:
    code = {"executableCode": {"language": "PYTHON", "code": "1"}}
    heard = await hear(
        event({"inlineData": {"mimeType": "image/png", "data": "iVBO"}}),
        event({"fileData": {"mimeType": "image/png", "fileUri": "https://a.example/b.png"}}),
        event(code),
        b'data: {"candidates": [{"content": {"parts": [{"hologram": 1}]}}]}\n\n',
        STOP,
    )
    assert heard.of(FileOutput) == [
        FileOutput("image/png", "iVBO"), FileOutput("image/png", url="https://a.example/b.png"),
    ]  # fmt: skip
    assert heard.of(Reasoning) == [Reasoning("", state(part=code))]
    (notice,) = heard.of(Notice)
    assert (notice.kind, "hologram" in notice.error.message) == ("unsupported", True)


async def test_sources_come_at_the_end_each_once(hear: Listen) -> None:
    grounding = {
        "groundingChunks": [
            {"web": {"uri": "https://a.example", "title": "A"}},
            {"web": {"uri": "https://b.example", "title": "B"}},
        ],
        "groundingSupports": [
            {"segment": {"startIndex": 0, "endIndex": 4, "text": "Snow"},
             "groundingChunkIndices": [0]},
        ],
    }  # fmt: skip
    cited = {"citationSources": [{"startIndex": 1, "endIndex": 3, "uri": "https://c.example"}]}
    fields = {"groundingMetadata": grounding, "citationMetadata": cited}
    last = event(reason="STOP", candidate=fields)
    heard = await hear(event({"text": "Snow"}, candidate=fields), last)
    assert heard.of(Citation) == [
        Citation("https://a.example", "A", "Snow", 0, 4),
        Citation("https://b.example", "B"),
        Citation("https://c.example", None, None, 1, 3),
    ]
    assert heard.chunks[-2:] == [heard.of(Citation)[-1], End("stop")]


async def test_probabilities(hear: Listen) -> None:
    result = {
        "chosenCandidates": [{"token": "Hi", "logProbability": -0.5}],
        "topCandidates": [{"candidates": [{"token": "Yo", "logProbability": -1.5}]}],
    }
    events = (event({"text": "Hi"}, candidate={"logprobsResult": result}), STOP)
    likeliest = (TokenLogprob("Yo", -1.5),)
    assert (await hear(*events, top_logprobs=1)).of(Token) == [
        Token("Hi", math.exp(-0.5), logprobs=(TokenLogprob("Hi", -0.5, likeliest),))
    ]
    assert (await hear(*events, confidence=True)).of(Token) == [Token("Hi", math.exp(-0.5))]


@pytest.mark.parametrize(
    ("reason", "end"),
    [
        ("MAX_TOKENS", End("length")),
        ("SAFETY", End("content_filter")),
        ("RECITATION", End("content_filter")),
        ("PROHIBITED_CONTENT", End("content_filter")),
        ("IMAGE_SAFETY", End("content_filter")),
        ("OTHER", End("stop", native_reason="OTHER")),
    ],
)
async def test_finish_reasons(hear: Listen, reason: str, end: End) -> None:
    heard = await hear(event({"text": "a"}), event(reason=reason))
    assert (heard.text, heard.chunks[-1]) == ("a", end)


ERROR = b'{"error": {"code": 429, "message": "quota", "status": "RESOURCE_EXHAUSTED"}}'


@pytest.mark.parametrize(
    ("last", "kind", "words"),
    [
        (b"data: " + ERROR + b"\n\n", RateLimitError, "quota"),
        (b"data: [" + ERROR + b"]\n\n", RateLimitError, "quota"),
        (b"event: error\ndata: down\n\n", ServerError, "down"),
        (event(reason="MALFORMED_FUNCTION_CALL"), AbortedStreamError, "MALFORMED_FUNCTION_CALL"),
        (b"", TruncatedStreamError, "ended early"),
        (b"data: [DONE]\n\n", TruncatedStreamError, "ended early"),
    ],
)
async def test_failures(hear: Listen, last: bytes, kind: type, words: str) -> None:
    heard = await hear(event({"text": "Once"}), last)
    assert heard.text == "Once"
    assert isinstance(heard.error, kind)
    assert words in str(heard.error)


async def test_an_error_of_the_response_a_blocked_prompt_and_an_empty_body(listen: Listen) -> None:
    headers = {"Content-Type": "application/json"}
    reply = Reply([b"[" + ERROR + b"]"], status=429, headers=headers)
    blocked = Reply([b'data: {"promptFeedback": {"blockReason": "SAFETY"}}\n\n'])
    async with FaultServer(reply, blocked, Reply([])) as server:
        model = rxllm.model(NAME, api_key="k", base_url=server.url)
        assert isinstance((await listen(model)).error, RateLimitError)
        error = (await listen(model)).error
        assert isinstance(error, ContentFilteredError)
        assert "the prompt was blocked: SAFETY" in str(error)
        assert isinstance((await listen(model)).error, EmptyStreamError)


def body_of(prompt: Any = "Hi", model: str = "gemini-3.8-flash", **options: Any) -> dict[str, Any]:
    body = gemini_body(as_request(prompt, **options), model, PROVIDERS["gemini"])
    sent = msgspec.json.decode(msgspec.json.encode(body))
    for content in sent["contents"]:
        types.Content.model_validate(content)
    types.GenerationConfig.model_validate(sent.get("generationConfig", {}))
    for tool in sent.get("tools", ()):
        types.Tool.model_validate(tool)
    types.ToolConfig.model_validate(sent.get("toolConfig", {}))
    return body


def test_all_options() -> None:
    body = body_of(
        [Message("system", "Be brief."), Message("user", "Hi")],
        max_tokens=5, temperature=0, top_p=0.5, top_k=3, seed=0, frequency_penalty=0.1,
        presence_penalty=0.2, stop=["a"], response_format={"type": "object"}, top_logprobs=2,
        reasoning="high", tools=[Tool("look", "Look.", {"type": "object"})], tool_choice="look",
        extra={"safetySettings": []},
    )  # fmt: skip
    assert body["systemInstruction"] == {"parts": [{"text": "Be brief."}]}
    assert body["generationConfig"] == {
        "maxOutputTokens": 5, "temperature": 0, "topP": 0.5, "topK": 3, "seed": 0,
        "frequencyPenalty": 0.1, "presencePenalty": 0.2, "stopSequences": ("a",),
        "responseMimeType": "application/json", "responseJsonSchema": {"type": "object"},
        "responseLogprobs": True, "logprobs": 2,
        "thinkingConfig": {"includeThoughts": True, "thinkingLevel": "high"},
    }  # fmt: skip
    declared = {"name": "look", "description": "Look.", "parametersJsonSchema": {"type": "object"}}
    assert body["tools"] == [{"functionDeclarations": [declared]}]
    chosen = {"mode": "ANY", "allowedFunctionNames": ["look"]}
    assert body["toolConfig"] == {"functionCallingConfig": chosen}
    assert body["safetySettings"] == []
    required = body_of(tools=[Tool("look")], tool_choice="required")["toolConfig"]
    assert required == {"functionCallingConfig": {"mode": "ANY"}}


@pytest.mark.parametrize(
    ("model", "effort", "config"),
    [
        ("gemini-3.8-flash", "none", {"includeThoughts": False, "thinkingLevel": "minimal"}),
        ("gemini-3.8-flash", "low", {"includeThoughts": True, "thinkingLevel": "low"}),
        ("gemini-2.5-flash", "none", {"includeThoughts": False, "thinkingBudget": 0}),
        ("gemini-2.5-flash", "medium", {"includeThoughts": True, "thinkingBudget": 8192}),
    ],
)
def test_thinking(model: str, effort: str, config: Any) -> None:
    body = body_of(model=model, reasoning=effort)
    assert body["generationConfig"]["thinkingConfig"] == config


def test_a_history() -> None:
    known = ProviderState("gemini", "gemini-3.8-flash", {"signature": "YQ=="})
    ran = ProviderState("gemini", "gemini-3.8-flash", {"part": {"executableCode": {"code": "1"}}})
    named = ProviderState("gemini", "gemini-3.8-flash", {"id": "f1", "signature": "Yg=="})
    first = ToolCall("f1", "look", '{"at": 1}', 0, True, named)
    second = ToolCall("call_made_up", "look", "", 1, True)
    parts = (ReasoningPart("Hm.", known), ReasoningPart("", ran), TextPart("Wait.", known))
    history = [
        Message("user", (
            TextPart("What?"), ImagePart(data=b"\x89PNG"),
            FilePart(url="https://a.example/b.pdf", media_type="application/pdf"),
        )),
        Message("assistant", parts, tool_calls=(first, second)),
        Message("tool", '{"snow": true}', tool_call_id="f1"),
        Message("tool", "no such place", tool_call_id="call_made_up", is_error=True),
        Message("user", "Well?"),
    ]  # fmt: skip
    assert body_of(history)["contents"] == [
        {"role": "user", "parts": [
            {"text": "What?"}, {"inlineData": {"mimeType": "image/png", "data": "iVBORw=="}},
            {"fileData": {"fileUri": "https://a.example/b.pdf", "mimeType": "application/pdf"}},
        ]},
        {"role": "model", "parts": [
            {"text": "Hm.", "thought": True, "thoughtSignature": "YQ=="},
            {"executableCode": {"code": "1"}},
            {"text": "Wait.", "thoughtSignature": "YQ=="},
            {"functionCall": {"name": "look", "args": {"at": 1}, "id": "f1"},
             "thoughtSignature": "Yg=="},
            {"functionCall": {"name": "look", "args": {}}},
        ]},
        {"role": "user", "parts": [
            {"functionResponse": {"name": "look", "response": {"snow": True}, "id": "f1"}},
            {"functionResponse": {"name": "look", "response": {"error": "no such place"}}},
        ]},
        {"role": "user", "parts": [{"text": "Well?"}]},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("prompt", "options", "reason"),
    [
        ("Hi", {"logit_bias": {"1": 1}}, "logit_bias"),
        ("Hi", {"parallel_tool_calls": False}, "parallel_tool_calls"),
        ([Message("user", "Hi"), Message("assistant", "Once")], {}, "continuing"),
        ([Message("user", "Hi", name="Ann")], {}, "the name of a message"),
        ([Message("user", "Hi"), Message("system", "a")], {}, "only at the beginning"),
    ],
)
def test_what_this_api_does_not_support(prompt: Any, options: Any, reason: str) -> None:
    with pytest.raises(UnsupportedError, match=reason):
        body_of(prompt, **options)


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ([Message("system", "a")], "besides the system messages"),
        ([Message("tool", "a", tool_call_id="x")], "of a call in an earlier message"),
        ([Message("assistant", "", tool_calls=(ToolCall("c", "f", "{"),))], "aren't valid JSON"),
    ],
)
def test_invalid_histories(prompt: Any, reason: str) -> None:
    history = [*prompt, Message("user", "Hi")] if prompt[0].role == "assistant" else prompt
    with pytest.raises(BadRequestError, match=reason):
        body_of(history)


def calls(*signatures: str | None) -> list[dict[str, Any]]:
    """Parts that call a tool, each with its signature, if it has one."""
    call = {"functionCall": {"name": "look", "args": {}}}
    return [{**call, **({"thoughtSignature": each} if each else {})} for each in signatures]


async def test_signatures_come_back_with_the_next_request() -> None:
    signed = base64.b64encode(b"signed").decode()
    parts = [*calls(signed, None), {"text": "."}]
    answers: list[list[bytes]] = [
        [event({"text": "Hm.", "thought": True}), event(*parts), STOP],
        [event(*calls(signed)), STOP],
        [event({"text": "It snows."}, reason="STOP")],
        [event({"text": "It does."}, reason="STOP")],
    ]
    history = [Message("user", "Go")]
    async with StrictServer(strict_native_providers.gemini_native, *answers) as server:
        model = rxllm.model(NAME, api_key="k", base_url=server.url)
        for _ in range(3):
            said = (await model.stream(history, tools=[Tool("look")])).message
            history.append(msgspec.json.decode(msgspec.json.encode(said), type=Message))
            history += [Message("tool", "snow", tool_call_id=call.id) for call in said.calls]
        assert history[-1].text == "It snows."
        await model.stream([*history, Message("user", "Sure?")])
    assert server.refused == []
    result = {"functionResponse": {"name": "look", "response": {"result": "snow"}}}
    assert server.bodies[1]["contents"][1:] == [
        {"role": "model", "parts": parts},
        {"role": "user", "parts": [result, result]},
    ]


async def test_tokens_are_counted_by_the_api() -> None:
    headers = {"Content-Type": "application/json"}
    async with FaultServer(Reply([b'{"totalTokens": 7}'], headers=headers)) as server:
        model: Any = rxllm.model(NAME, api_key="k", base_url=server.url)
        assert await model.count_tokens("Hi") == rxllm.TokenCount(7)
    (request,) = server.requests
    assert request.path == "/v1beta/models/gemini-3.8-flash:countTokens"
    assert request.json()["generateContentRequest"]["model"] == "models/gemini-3.8-flash"


async def test_odd_grounding_and_reasons_that_give_up(hear: Listen) -> None:
    grounding = {
        "groundingChunks": [{"web": {"uri": "https://a.example"}}],
        "groundingSupports": [{"groundingChunkIndices": 3}],
    }
    odd = {"candidates": [{"groundingMetadata": grounding, "finishReason": "STOP"}]}
    heard = await hear(event({"text": "a"}), b"data: " + msgspec.json.encode(odd) + b"\n\n")
    assert (heard.error, heard.of(Citation)) == (None, [Citation("https://a.example")])
    for reason in ("MISSING_THOUGHT_SIGNATURE", "TOO_MANY_TOOL_CALLS"):
        assert isinstance((await hear(event(reason=reason))).error, AbortedStreamError)


def test_images_in_the_result_of_a_tool_are_refused() -> None:
    call = ToolCall("c", "look", "{}", complete=True)
    picture = Message("tool", (ImagePart(data=b"\x89PNG"),), tool_call_id="c")
    history = [Message("user", "Hi"), Message("assistant", "", tool_calls=(call,)), picture]
    with pytest.raises(UnsupportedError, match="only text as the result of a tool"):
        body_of(history)
