"""Ollama's own API: a JSON object a line."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

import rxllm
from rxllm.chunks import (
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
    BadRequestError,
    EmptyStreamError,
    MalformedStreamError,
    ModelNotFoundError,
    ServerError,
    TruncatedStreamError,
    UnsupportedError,
)
from rxllm.messages import FilePart, ImagePart, Message, ReasoningPart, TextPart, Tool
from rxllm.models.remote.ollama_request import ollama_body
from rxllm.models.remote.providers import PROVIDERS
from rxllm.requests import as_request
from rxllm.testing.fault_server import FaultServer, Reply
from tests import strict_native_providers
from tests.strict_providers import StrictServer

Listen = Callable[..., Awaitable[Any]]

NDJSON = {"Content-Type": "application/x-ndjson"}
NAME = "ollama/qwen3:8b"
STATE = ProviderState("ollama", "qwen3:8b", {"field": "thinking"})


def line(**fields: Any) -> bytes:
    known = {"model": "qwen3:8b", "created_at": "2026-11-28T10:00:00.5Z", "done": False}
    return msgspec.json.encode({**known, **fields}) + b"\n"


def said(content: str = "", **fields: Any) -> bytes:
    return line(message={"role": "assistant", "content": content, **fields})


def done(reason: str = "stop", **fields: Any) -> bytes:
    counts = {"prompt_eval_count": 5, "eval_count": 7, "total_duration": 12}
    return line(message={"content": ""}, done=True, done_reason=reason, **counts, **fields)


@pytest.fixture
def hear(listen: Listen) -> Listen:
    async def heard(*lines: bytes, pieces: Any = None, **options: Any) -> Any:
        async with FaultServer(Reply(lines, headers=NDJSON, pieces=pieces)) as server:
            return await listen(rxllm.model(NAME, base_url=server.url), **options)

    return heard


@pytest.mark.parametrize("pieces", [None, 1, "random"])
async def test_a_request_and_its_answer(listen: Listen, pieces: Any) -> None:
    answer = [said("Once "), said("upön\n"), done()]
    async with FaultServer(Reply(answer, headers=NDJSON, pieces=pieces)) as server:
        heard = await listen(rxllm.model(NAME, base_url=server.url))
    start, *rest = heard.chunks
    assert heard.error is None
    assert isinstance(start, Start)
    assert (start.model, start.provider, start.created) == (
        "ollama/qwen3:8b", "ollama", 1795860000.5,
    )  # fmt: skip
    assert rest == [Token("Once "), Token("upön\n"), Usage(5, 7), End("stop")]
    (request,) = server.requests
    assert request.path == "/api/chat"
    assert "authorization" not in request.headers
    assert request.json() == {
        "model": "qwen3:8b", "messages": [{"role": "user", "content": "Hi"}], "stream": True,
    }  # fmt: skip


async def test_the_media_type_may_be_another_one(listen: Listen) -> None:
    answer = Reply([said("Hi"), done()], headers={"Content-Type": "application/json"})
    async with FaultServer(answer) as server:
        assert (await listen(rxllm.model(NAME, base_url=f"{server.url}/api"))).text == "Hi"


async def test_thinking_ends_with_a_state(hear: Listen) -> None:
    heard = await hear(said(thinking="Hm"), said(thinking="."), said("Yes."), done())
    assert heard.chunks[1:4] == [Reasoning("Hm"), Reasoning("."), Reasoning("", STATE)]
    only = await hear(said(thinking="Hm"), done())
    assert only.of(Reasoning) == [Reasoning("Hm"), Reasoning("", STATE)]


async def test_tool_calls_get_ids(hear: Listen) -> None:
    call = {"function": {"name": "look", "arguments": {"at": "Zürich"}}}
    heard = await hear(said(tool_calls=[call]), said(tool_calls=[call]), done())
    first, second = heard.of(ToolCall)
    assert (first.name, first.arguments, first.complete) == ("look", '{"at": "Zürich"}', True)
    assert (first.index, second.index) == (0, 1)
    assert len({first.id, second.id}) == 2
    assert heard.chunks[-1] == End("tool_calls")


async def test_probabilities(hear: Listen) -> None:
    logprobs = [{"token": "Hi", "logprob": -0.5}]
    answer = (line(message={"content": "Hi"}, logprobs=logprobs), done())
    assert (await hear(*answer, top_logprobs=0)).of(Token) == [
        Token("Hi", math.exp(-0.5), logprobs=(TokenLogprob("Hi", -0.5),))
    ]
    assert (await hear(*answer, confidence=True)).of(Token) == [Token("Hi", math.exp(-0.5))]


@pytest.mark.parametrize(
    ("reason", "end"),
    [("length", End("length")), ("unload", End("stop", native_reason="unload"))],
)
async def test_finish_reasons(hear: Listen, reason: str, end: End) -> None:
    assert (await hear(said("a"), done(reason))).chunks[-1] == end


@pytest.mark.parametrize(
    ("lines", "kind", "words"),
    [
        ([b'{"error": "out of memory"}\n'], ServerError, "out of memory"),
        ([b"Internal Server Error\n"], ServerError, "Internal Server Error"),
        ([], TruncatedStreamError, "ended early"),
        ([b"{\n"] * 3, MalformedStreamError, "malformed"),
        ([b"[1]\n"] * 3, MalformedStreamError, "malformed"),
    ],
)
async def test_failures(hear: Listen, lines: list[bytes], kind: type, words: str) -> None:
    heard = await hear(said("Once"), *lines)
    assert heard.text == "Once"
    assert isinstance(heard.error, kind)
    assert words in str(heard.error)


async def test_a_model_that_is_not_pulled_and_an_empty_body(listen: Listen) -> None:
    body = b'{"error": "model \'qwen3:8b\' not found"}'
    headers = {"Content-Type": "application/json"}
    async with FaultServer(
        Reply([body], status=404, headers=headers), Reply([], headers=NDJSON)
    ) as server:
        model = rxllm.model(NAME, base_url=server.url)
        error = (await listen(model)).error
        assert isinstance(error, ModelNotFoundError)
        assert "not found" in str(error)
        assert isinstance((await listen(model)).error, EmptyStreamError)


def body_of(prompt: Any = "Hi", **options: Any) -> dict[str, Any]:
    return ollama_body(as_request(prompt, **options), "qwen3:8b", PROVIDERS["ollama"])


def test_all_options() -> None:
    body = body_of(
        max_tokens=5, temperature=0, top_p=0.5, top_k=3, min_p=0.1, seed=0, repeat_penalty=1.1,
        frequency_penalty=0.1, presence_penalty=0.2, stop=["a"], response_format={"type": "object"},
        top_logprobs=2, tools=[Tool("look", "Look.")], tool_choice="auto",
        extra={"keep_alive": "5m"},
    )  # fmt: skip
    assert body["options"] == {
        "num_predict": 5, "temperature": 0, "top_p": 0.5, "top_k": 3, "min_p": 0.1, "seed": 0,
        "repeat_penalty": 1.1, "frequency_penalty": 0.1, "presence_penalty": 0.2, "stop": ("a",),
    }  # fmt: skip
    assert (body["format"], body["logprobs"], body["top_logprobs"]) == ({"type": "object"}, True, 2)
    assert body["tools"] == [
        {"type": "function", "function": {"name": "look", "description": "Look."}}
    ]
    assert body["keep_alive"] == "5m"
    assert body_of(response_format="json")["format"] == "json"
    assert "tools" not in body_of(tools=[Tool("look")], tool_choice="none")


@pytest.mark.parametrize(
    ("effort", "think"),
    [("none", False), ("minimal", "low"), ("low", "low"), ("medium", "medium"), ("high", "high")],
)
def test_thinking(effort: str, think: Any) -> None:
    assert body_of(reasoning=effort)["think"] == think


def test_a_history() -> None:
    call = ToolCall("call_1", "look", '{"at": 1}', complete=True)
    history = [
        Message("user", (TextPart("What?"), ImagePart(data=b"\x89PNG"))),
        Message("assistant", (ReasoningPart("Hm.", STATE), TextPart("Wait.")), tool_calls=(call,)),
        Message("tool", "snow", tool_call_id="call_1"),
    ]
    assert body_of(history)["messages"] == [
        {"role": "user", "content": "What?", "images": ["iVBORw=="]},
        {"role": "assistant", "content": "Wait.", "thinking": "Hm.",
         "tool_calls": [{"function": {"name": "look", "arguments": {"at": 1}}}]},
        {"role": "tool", "content": "snow", "tool_name": "look"},
    ]  # fmt: skip


async def test_thinking_and_calls_come_back_with_the_next_request() -> None:
    call = {"function": {"name": "look", "arguments": {"at": 1}}}
    answers: list[list[bytes]] = [
        [said(thinking="Hm."), said("Wait.", tool_calls=[call]), done()],
        [said("It snows."), done()],
    ]
    async with StrictServer(strict_native_providers.ollama, *answers) as server:
        model = rxllm.model(NAME, base_url=server.url)
        first = (await model.stream("Go", tools=[Tool("look")])).message
        result = Message("tool", "snow", tool_call_id=first.calls[0].id)
        assert (await model.stream([Message("user", "Go"), first, result])).text == "It snows."
    assert server.refused == []
    assert server.bodies[1]["messages"][1] == {
        "role": "assistant", "content": "Wait.", "thinking": "Hm.", "tool_calls": [call],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("prompt", "options", "reason"),
    [
        ("Hi", {"logit_bias": {"1": 1}}, "logit_bias"),
        ("Hi", {"tools": [Tool("look")], "tool_choice": "required"}, "made to call a tool"),
        ([Message("user", (ImagePart(url="https://a.example/b.png"),))], {}, "not its URL"),
        ([Message("user", (FilePart(data=b"%PDF"),))], {}, "files"),
    ],
)
def test_what_this_api_does_not_support(prompt: Any, options: Any, reason: str) -> None:
    with pytest.raises(UnsupportedError, match=reason):
        body_of(prompt, **options)
    with pytest.raises(BadRequestError, match="tool_call_id"):
        body_of([Message("tool", "a")])


async def test_arguments_that_are_not_json_are_not_complete(hear: Listen) -> None:
    call = {"function": {"name": "look", "arguments": '{"at"'}}
    heard = await hear(said(tool_calls=[call]), done())
    assert [call.complete for call in heard.of(ToolCall)] == [False]


@pytest.mark.parametrize("pieces", [None, 1])
async def test_surrogates_of_two_lines_are_joined(hear: Listen, pieces: Any) -> None:
    written = [
        b'{"message": {"thinking": "b\\ud83e"}}\n', b'{"message": {"thinking": "\\udd8a"}}\n',
        b'{"message": {"content": "a\\ud83e"}}\n', b'{"message": {"content": "\\udd8a"}}\n',
        b'{"message": {"content": "\\ud83e"}}\n',
    ]  # fmt: skip
    heard = await hear(*written, done(), pieces=pieces)
    assert heard.chunks[1:-2] == [
        Reasoning("b"), Reasoning("🦊"), Reasoning("", STATE),
        Token("a"), Token("🦊"), Token("\ufffd"),
    ]  # fmt: skip


async def test_flat_nameless_and_twin_calls(hear: Listen) -> None:
    flat = {"id": "c", "name": "look", "arguments": {"a": 1}}
    nested = {"id": "c", "function": {"name": "look", "arguments": {"a": 2}}}
    nameless = {"function": {"arguments": {"a": 3}}}
    lone = b'{"message": {"tool_calls": [{"name": "look", "arguments": {"a": "\\ud83e"}}]}}\n'
    heard = await hear(said(tool_calls=[flat, nested, nameless]), lone, done())
    calls = heard.of(ToolCall)
    assert [(call.name, call.arguments, call.index, call.complete) for call in calls] == [
        ("look", '{"a": 1}', 0, True), ("look", '{"a": 2}', 1, True), ("", '{"a": 3}', 2, False),
        ("look", '{"a": "\ufffd"}', 3, True),
    ]  # fmt: skip
    ids = [call.id for call in calls]
    assert (ids[0], len(set(ids))) == ("c", 4)


async def test_a_line_of_plain_text_is_an_error(hear: Listen) -> None:
    heard = await hear(said("Once"), b"error: CUDA out of memory\n", done())
    assert (heard.text, isinstance(heard.error, ServerError)) == ("Once", True)
    assert "CUDA out of memory" in str(heard.error)
    assert heard.of(Notice) == []


async def test_images(hear: Listen) -> None:
    heard = await hear(
        said("Here.", images=["iVBORw0KGgo=", 5]),
        said(images="/9j/AAAA"),
        said(images=None),
        done(),
    )
    assert heard.of(FileOutput) == [
        FileOutput("image/png", "iVBORw0KGgo="), FileOutput("image/jpeg", "/9j/AAAA"),
    ]  # fmt: skip
    assert [notice.kind for notice in heard.of(Notice)] == ["unsupported"]
    thought = await hear(said(thinking="Hm"), said(images=["iVBORw0KGgo="]), done())
    assert thought.chunks[1:4] == [
        Reasoning("Hm"), Reasoning("", STATE), FileOutput("image/png", "iVBORw0KGgo="),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("reason", "end"),
    [
        ({"type": "length"}, End("length")),
        ({"reason": "length"}, End("length")),
        (None, End("stop")),
    ],
)
async def test_odd_finish_reasons(hear: Listen, reason: Any, end: End) -> None:
    assert (await hear(said("a"), done(reason))).chunks[-1] == end


@pytest.mark.parametrize(
    ("counts", "usage"),
    [
        ({}, []),
        ({"eval_count": 7}, []),
        ({"prompt_eval_count": 5}, [Usage(5, 0)]),
        ({"prompt_eval_count": "5", "eval_count": 7.0}, [Usage(5, 7)]),
    ],
)
async def test_a_usage_that_is_not_known_is_estimated(
    hear: Listen, counts: dict[str, Any], usage: list[Usage]
) -> None:
    heard = await hear(said("a"), line(message={}, done=True, done_reason="stop", **counts))
    assert heard.of(Usage) == usage
    assert (heard.estimates[-1].output_tokens == 1) is not bool(usage)
    assert heard.chunks[-1] == End("stop")


@pytest.mark.parametrize("reason", ["load", "unload"])
async def test_a_model_that_was_only_loaded_has_said_nothing(hear: Listen, reason: str) -> None:
    heard = await hear(done(reason))
    assert (isinstance(heard.error, EmptyStreamError), heard.of(Start)) == (True, [])
    assert isinstance((await hear(said(), done(reason))).error, EmptyStreamError)
    assert (await hear(said(thinking="Hm"), done(reason))).error is None
