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
    signed = event({"text": "Hi", "thoughtSignature": "YQ=="}, candidate={"logprobsResult": result})
    assert (await hear(signed, STOP, confidence=True)).of(Token)[0].confidence == math.exp(-0.5)


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


def body_of(
    prompt: Any = "Hi", model: str = "gemini-3.8-flash", *, thinks: bool = True, **options: Any
) -> dict[str, Any]:
    provider = msgspec.structs.replace(PROVIDERS["gemini"], reasoning=thinks)
    body = gemini_body(as_request(prompt, **options), model, provider)
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
        ("gemini-2.5-pro", "none", {"includeThoughts": False, "thinkingBudget": 128}),
        ("gemini-2.5-pro-preview", "minimal", {"includeThoughts": True, "thinkingBudget": 512}),
        ("gemini-3.1-pro-preview", "none", {"includeThoughts": False, "thinkingLevel": "low"}),
        ("gemini-3-pro", "minimal", {"includeThoughts": True, "thinkingLevel": "low"}),
        ("gemini-3-pro", "high", {"includeThoughts": True, "thinkingLevel": "high"}),
    ],
)
def test_thinking(model: str, effort: str, config: Any) -> None:
    body = body_of(model=model, reasoning=effort)
    assert body["generationConfig"]["thinkingConfig"] == config


def test_a_model_that_never_thinks_is_not_told_so() -> None:
    assert "generationConfig" not in body_of(model="gemma-3-27b-it", thinks=False, reasoning="none")


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


def raw(parts: str) -> bytes:
    """An event with parts as they are written, such as half of a surrogate pair."""
    return b'data: {"candidates": [{"content": {"parts": %b}}]}\n\n' % parts.encode()


@pytest.mark.parametrize("extra", ["", ', "thought": true'])
async def test_surrogates_of_two_events_are_joined(hear: Listen, extra: str) -> None:
    kind = Reasoning if extra else Token
    first, second = (f'[{{"text": "{text}"{extra}}}]' for text in ("a\\ud83e", "\\udd8a"))
    heard = await hear(raw(first), raw(second), STOP)
    assert heard.chunks[1:-1] == [kind("a"), kind("🦊")]


async def test_a_lone_surrogate_stays_in_its_place(hear: Listen) -> None:
    heard = await hear(
        raw('[{"text": "a\\ud83e", "thought": true}, {"text": "b\\ud83e"}]'),
        raw('[{"text": "c", "thought": true}, {"text": "\\ud83e", "thought": true}]'),
        raw('[{"thoughtSignature": "t", "thought": true}]'),
        raw('[{"text": "d\\ud83e", "thoughtSignature": "s"}]'),
        raw('[{"text": "e\\ud83e"}, {"functionCall": {"name": "f", "args": {"a": "\\ud83e"}}}]'),
        raw('[{"text": "g\\ud83e"}, {"executableCode": {"code": "\\ud83e"}}]'),
        raw('[{"text": "h\\ud83e"}]'),
        STOP,
    )
    assert heard.error is None
    call = heard.of(ToolCall)[0]
    assert (call.arguments, call.complete) == ('{"a": "\ufffd"}', True)
    assert heard.chunks[1:-1] == [
        Reasoning("a"), Reasoning("\ufffd"), Token("b"), Token("\ufffd"), Reasoning("c"),
        Reasoning("\ufffd"), Reasoning("", state(signature="t")),
        Token("d"), Token("\ufffd"), Token("", state=state(signature="s")),
        Token("e"), Token("\ufffd"), call, Token("g"), Token("\ufffd"),
        Reasoning("", state(part={"executableCode": {"code": "\ufffd"}})),
        Token("h"), Token("\ufffd"),
    ]  # fmt: skip


async def test_an_event_may_be_a_list(hear: Listen) -> None:
    one, two = (event({"text": text}).removeprefix(b"data: ").strip() for text in ("a", "b"))
    heard = await hear(b"data: [%b, %b]\n\n" % (one, two), b"data: []\n\n", STOP)
    assert (heard.error, heard.text, heard.of(Notice)) == (None, "ab", [])
    assert heard.of(Start) == [Start("resp-1", "gemini/gemini-3.8-flash-001", "gemini")]
    failed = await hear(b"data: [%b, %b]\n\n" % (one, ERROR), STOP)
    assert (failed.text, type(failed.error)) == ("a", RateLimitError)
    odd = await hear(event({"text": "a"}), b"data: [3]\n\n", STOP)
    assert [notice.kind for notice in odd.of(Notice)] == ["malformed"]


async def test_calls_that_are_not_complete(hear: Listen) -> None:
    heard = await hear(
        raw('[{"functionCall": {"name": "look", "args": "{\\"a\\":"}}]'),
        raw('[{"functionCall": {"args": {"a": 1}}}]'),
        raw('[{"functionCall": {"name": "look", "args": "{\\"a\\": 1}"}}]'),
        raw('[{"text": "b", "functionCall": null}, {"functionCall": {}}]'),
        STOP,
    )
    assert [(call.name, call.arguments, call.complete) for call in heard.of(ToolCall)] == [
        ("look", '{"a":', False), ("", '{"a": 1}', False), ("look", '{"a": 1}', True),
    ]  # fmt: skip
    assert (heard.text, heard.of(Notice)) == ("b", [])


async def test_twin_calls_get_ids_of_their_own(hear: Listen) -> None:
    call = {"functionCall": {"id": "f1", "name": "look", "args": {}}}
    heard = await hear(event(call, call), STOP)
    first, second = heard.of(ToolCall)
    assert (first.id, second.id.startswith("call_")) == ("f1", True)
    assert first.state == second.state == state(id="f1")


def piece(path: str | None = None, *, more: bool = True, **value: Any) -> dict[str, Any]:
    """A part with a piece of the arguments of the open call."""
    given = {"partialArgs": [{"jsonPath": path, **value}]} if path is not None else {}
    return {"functionCall": {**given, **({"willContinue": True} if more else {})}}


OPEN = {"functionCall": {"id": "f1", "name": "look", "willContinue": True}}


async def test_the_arguments_of_a_call_may_come_in_pieces(hear: Listen) -> None:
    heard = await hear(
        event({**OPEN, "thoughtSignature": "YQ=="}),
        event(piece("$.at", stringValue='Zü"', willContinue=True)),
        event(piece("$.at", stringValue="}rich", willContinue=True)),
        event(piece("$.at", stringValue="")),
        event(piece("$.days[0].n", numberValue=3), piece("$.days[0]['a.b']", boolValue=True)),
        event(piece("$.days[0].n"), piece("$.days[1]", nullValue="NULL_VALUE")),
        event(piece(more=False)),
        event({"functionCall": {"name": "look", "args": {"at": 2}}}),
        STOP,
    )  # fmt: skip
    *growing, whole, other = heard.of(ToolCall)
    arguments = {"at": 'Zü"}rich', "days": [{"n": 3, "a.b": True}, None]}
    assert msgspec.json.decode(whole.arguments) == arguments
    assert (whole.name, whole.index, whole.complete) == ("look", 0, True)
    assert (other.arguments, other.index, other.complete) == ('{"at": 2}', 1, True)
    assert {(call.id, call.index, call.complete) for call in growing} == {("f1", 0, False)}
    assert {call.state.data["signature"] for call in [*growing, whole]} == {"YQ=="}
    assert [call.arguments for call in growing[:5]] == [
        "", '{"at": "Zü\\"', '{"at": "Zü\\"}rich', '{"at": "Zü\\"}rich"',
        '{"at": "Zü\\"}rich", "days": [{"n": 3',
    ]  # fmt: skip
    assert all(whole.arguments.startswith(call.arguments) for call in growing)
    assert heard.chunks[-1] == End("tool_calls")


async def test_pieces_of_one_call_with_the_name_of_another(hear: Listen) -> None:
    other = {"functionCall": {"name": "go", "args": {"far": True}, "willContinue": True}}
    again = {"functionCall": {"name": "go", "id": "f2", "args": {"a": 1}, "willContinue": True}}
    third = {"functionCall": {"name": "go", "id": "f3", "willContinue": True}}
    heard = await hear(event(OPEN, other, again), event(third), STOP)
    calls = [
        (call.name, call.arguments, call.index) for call in heard.of(ToolCall) if call.complete
    ]
    assert calls == [("look", "{}", 0), ("go", '{"far": true, "a": 1}', 1), ("go", "{}", 2)]


async def test_pieces_out_of_order_wait_for_the_end(hear: Listen) -> None:
    pieces = [
        piece("$.a", stringValue="b", willContinue=True), piece("$.c", stringValue="d"),
        piece("$.a", stringValue="e"), piece(more=False),
    ]  # fmt: skip
    heard = await hear(event(OPEN, *pieces), STOP)
    assert [call.arguments for call in heard.of(ToolCall)] == [
        "", '{"a": "b', '{"a": "b", "c": "d"', '{"a": "b", "c": "d"', '{"a": "be", "c": "d"}',
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        (piece("$.at", numberValue=1), "MAX_TOKENS"),
        (piece("$.at", stringValue="a", willContinue=True), "STOP"),
        (piece("at", numberValue=1, more=False), "STOP"),
        (piece("$" + ".a" * 10_000, numberValue=1, more=False), "STOP"),
    ],
)
async def test_calls_whose_pieces_are_missing_are_not_complete(
    hear: Listen, last: dict[str, Any], reason: str
) -> None:
    heard = await hear(event(OPEN, last), event(reason=reason))
    call = heard.of(ToolCall)[-1]
    assert (call.id, call.complete, heard.error) == ("f1", False, None)
    assert msgspec.json.decode(call.arguments) in ({}, {"at": 1}, {"at": "a"})


async def test_a_surrogate_pair_in_two_pieces(hear: Listen) -> None:
    pieces = [
        '[{"functionCall": {"willContinue": true, "partialArgs": [{"jsonPath": "$.at[7]", '
        f'"stringValue": "{text}", "willContinue": true}}]}}}}]'
        for text in ("a\\ud83e", "\\udd8a", "\\ud83e")
    ]
    # An index beyond the end of a list is the next one.
    joined = await hear(event(OPEN), raw(pieces[0]), raw(pieces[1].replace("7", "0")), STOP)
    assert joined.of(ToolCall)[-2].arguments == '{"at": ["a🦊'
    assert joined.of(ToolCall)[-1] == ToolCall(
        "f1", "look", '{"at": ["a🦊"]}', state=state(id="f1")
    )  # fmt: skip
    ended = await hear(event(OPEN), *map(raw, pieces[:2]), event(piece(more=False)), STOP)
    assert (ended.of(ToolCall)[-1].arguments, ended.of(ToolCall)[-1].complete) == (
        '{"at": ["a", "🦊"]}', True,
    )  # fmt: skip
    closed = await hear(event(OPEN), raw(pieces[2]), event(piece("$.at[0]", more=False)), STOP)
    assert closed.of(ToolCall)[-1].arguments == '{"at": ["\ufffd"]}'
    cut = await hear(event(OPEN), raw(pieces[2]), event(piece(more=False)), STOP)
    assert (cut.error, cut.of(ToolCall)[-1].complete) == (None, False)


async def test_a_text_and_a_call_in_one_part(hear: Listen) -> None:
    call = {"functionCall": {"name": "look", "args": {}}}
    heard = await hear(
        raw(msgspec.json.encode([{"text": "a", **call, "thought_signature": "s"}]).decode()), STOP
    )
    text, called = heard.chunks[1:-1]
    assert (text, called.state) == (Token("a"), state(signature="s"))


@pytest.mark.parametrize("name", ["thoughtSignature", "thought_signature"])
async def test_signatures_without_a_text_are_kept(hear: Listen, name: str) -> None:
    heard = await hear(
        raw(f'[{{"{name}": "a"}}, {{"{name}": "b", "thought": true}}]'),
        raw(f'[{{"inlineData": {{"mimeType": "image/png", "data": "iVBO"}}, "{name}": "c"}}]'),
        raw(f'[{{"functionCall": {{}}, "{name}": "d"}}, {{"thought": true}}, {{"text": ""}}]'),
        raw('[{"hologram": null}]'),
        raw(f'[{{"executableCode": {{"code": "1"}}, "{name}": "e"}}]'),
        STOP,
    )
    *said, ran = heard.chunks[1:-1]
    assert said == [
        Token("", state=state(signature="a")), Reasoning("", state(signature="b")),
        FileOutput("image/png", "iVBO"), Token("", state=state(signature="c")),
        Token("", state=state(signature="d")),
    ]  # fmt: skip
    assert ran.state.data["part"]["thoughtSignature"] == "e"


async def test_files_without_a_media_type(hear: Listen) -> None:
    heard = await hear(
        raw('[{"inlineData": {"data": "iVBORw0KGgo="}}, {"inlineData": {"data": "JVBERi0xLjQ="}}]'),
        raw('[{"inlineData": {"mimeType": "", "data": "/9j/"}}, {"inlineData": {"data": "A"}}]'),
        raw('[{"inlineData": {"data": "AAAA"}}, {"inlineData": {"mimeType": "image/png"}}]'),
        raw('[{"fileData": {"fileUri": "f"}}]'),
        STOP,
    )
    unknown = "application/octet-stream"
    assert heard.of(FileOutput) == [
        FileOutput("image/png", "iVBORw0KGgo="), FileOutput("application/pdf", "JVBERi0xLjQ="),
        FileOutput("image/jpeg", "/9j/"), FileOutput(unknown, "A"), FileOutput(unknown, "AAAA"),
        FileOutput(unknown, url="f"),
    ]  # fmt: skip
    (notice,) = heard.of(Notice)
    assert "inlineData" in notice.error.message


def grounded(*chunks: Any, supports: Any = ()) -> bytes:
    metadata = {"groundingChunks": chunks, "groundingSupports": supports}
    candidate = {"content": {"parts": [{"text": "a"}]}, "groundingMetadata": metadata}
    return b"data: " + msgspec.json.encode({"candidates": [candidate]}) + b"\n\n"


async def test_sources_that_grow_are_cited_once(hear: Listen) -> None:
    web = [{"web": {"uri": f"https://{name}.example", "title": name}} for name in "ab"]

    def support(text: str, *indices: Any, **place: int) -> dict[str, Any]:
        segment = {"text": text, "endIndex": len(text), **place}
        return {"segment": segment, "groundingChunkIndices": list(indices)}

    heard = await hear(
        grounded(web[0]),
        grounded(web[0], supports=[support("Sno", "0")]),
        grounded(*web, supports=[support("Snow", "0", "7", None)]),
        grounded(*web, supports=[support("Ice", 0, startIndex=9), support("Rain", 0, partIndex=1)]),
        STOP,
    )
    a = ("https://a.example", "a")
    assert heard.of(Citation) == [
        Citation(*a, "Snow", None, 4), Citation("https://b.example", "b"),
        Citation(*a, "Ice", 9, 3), Citation(*a, "Rain", None, 4),
    ]  # fmt: skip


async def test_sources_of_other_kinds(hear: Listen) -> None:
    place = {"maps": {"placeId": "p", "uri": "https://maps.example", "title": "Cafe"}}
    image = {"image": {"sourceUri": "https://i.example", "imageUri": "https://i.example/i.png"}}
    support = {"segment": {"text": "here"}, "groundingChunkIndices": "1"}
    heard = await hear(grounded(None, place, {"orb": 1}, image, supports=support), STOP)
    assert heard.of(Citation) == [
        Citation("https://maps.example", "Cafe", "here"), Citation("https://i.example"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("reasons", "end"),
    [
        (["MAX_TOKENS", "STOP"], End("length")),
        (["STOP", "SAFETY"], End("content_filter")),
        (["FINISH_REASON_UNSPECIFIED", "STOP"], End("stop")),
    ],
)
async def test_the_first_reason_that_says_something_counts(
    hear: Listen, reasons: list[str], end: End
) -> None:
    heard = await hear(*[event({"text": "a"}, reason=reason) for reason in reasons])
    assert heard.chunks[-1] == end


def counted(*parts: dict[str, Any], reason: str | None = None, **counts: int) -> bytes:
    usage = {f"{name}TokenCount": count for name, count in counts.items()}
    return event(*parts, reason=reason, usageMetadata=usage)


def so_far(written: int, thoughts: int | None = None) -> Usage:
    return Usage(5, written, reasoning_tokens=thoughts, estimated=True)


async def test_the_usage_so_far_comes_every_16_tokens(listen: Listen) -> None:
    text, thought = {"text": "a"}, {"text": "a", "thought": True}
    events = [
        counted(text, prompt=5),
        counted(thought, prompt=5, thoughts=10),
        counted(text, prompt=5, thoughts=16),
        *(counted(text, prompt=5, thoughts=16, candidates=count) for count in (15, 16, 17, 31)),
        counted(text, thoughts=16, candidates=32),
        event(text),
        counted(text, candidates=0),
        counted(text, reason="STOP", candidates=90),
        counted(prompt=6),
        counted(prompt=0, candidates=0),
    ]
    async with FaultServer(Reply(events)) as server:
        model = rxllm.model(NAME, api_key="k", base_url=server.url)
        chunks = [chunk async for chunk in rxllm.to_async(model.stream("Hi"))]
    assert chunks[1:] == [
        so_far(0), Token("a"), Reasoning("a"), so_far(16, 16), Token("a"),
        Token("a"), Token("a"), so_far(32, 16), Token("a"), Token("a"), Token("a"), so_far(48, 16),
        Token("a"), Token("a"), Token("a"), Usage(6, 106, reasoning_tokens=16), End("stop"),
    ]  # fmt: skip


async def test_the_usage_of_thoughts_comes_after_them(listen: Listen) -> None:
    thought = {"text": "a", "thought": True}
    async with FaultServer(Reply([counted(thought, prompt=5, thoughts=3), STOP])) as server:
        model = rxllm.model(NAME, api_key="k", base_url=server.url)
        chunks = [chunk async for chunk in rxllm.to_async(model.stream("Hi"))]
        assert chunks[-4:] == [
            Reasoning("a"), so_far(3, 3), Usage(5, 3, reasoning_tokens=3), End("stop"),
        ]  # fmt: skip


async def test_without_counts_no_usage_comes(hear: Listen) -> None:
    heard = await hear(event({"text": "a"}), STOP)
    assert heard.of(Usage) == []
    assert all(estimate.input_tokens for estimate in heard.estimates)


async def test_the_usage_comes_before_the_failure(hear: Listen) -> None:
    last = counted(reason="MALFORMED_FUNCTION_CALL", prompt=5, candidates=9)
    heard = await hear(event({"text": "a"}), last)
    assert isinstance(heard.error, AbortedStreamError)
    assert heard.chunks[1:] == [Token("a"), Usage(5, 9)]


def test_consecutive_messages_of_one_role_become_one() -> None:
    call = ToolCall("c", "look", "{}", complete=True)
    history = [
        Message("user", "a"), Message("user", "b"), Message("assistant", "c"), Message("user", " "),
        Message("assistant", "d", tool_calls=(call,)), Message("tool", "snow", tool_call_id="c"),
        Message("user", "e"),
    ]  # fmt: skip
    body = body_of(history)
    assert [(content["role"], len(content["parts"])) for content in body["contents"]] == [
        ("user", 2), ("model", 3), ("user", 1), ("user", 1),
    ]  # fmt: skip
    assert list(strict_native_providers.gemini_native(body)) == []


def test_calls_of_other_models_get_a_dummy_signature() -> None:
    def step(*names: str, signature: str | None = None) -> list[Message]:
        own = ProviderState("gemini", "gemini-3.8-flash", {"signature": signature})
        first = own if signature else ProviderState("openai", "gpt", {"a": 1})
        called = [
            ToolCall(name, "look", "{}", at, True, None if at else first)
            for at, name in enumerate(names)
        ]
        results = [Message("tool", "snow", tool_call_id=name) for name in names]
        return [Message("assistant", "", tool_calls=tuple(called)), *results]

    def signatures(body: dict[str, Any]) -> list[str | None]:
        parts = [part for content in body["contents"] for part in content["parts"]]
        return [part.get("thoughtSignature") for part in parts if "functionCall" in part]

    earlier = [Message("user", "a"), *step("c1"), Message("assistant", "b"), Message("user", "c")]
    history = [*earlier, *step("c2", "c3"), *step("c4", signature="c2lnbmVk")]
    body = body_of(history)
    dummy = "skip_thought_signature_validator"
    assert signatures(body) == [None, dummy, None, "c2lnbmVk"]
    assert list(strict_native_providers.gemini_native(body)) == []
    assert signatures(body_of(history, model="gemini-2.5-flash")) == [None] * 4
    assert signatures(body_of([*history, Message("user", "d")])) == [None, None, None, "c2lnbmVk"]
