"""Servers that send an answer as a whole, or events under another media type."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

import rxllm
from rxllm.chunks import Citation, End, Notice, ProviderState, Reasoning, Token, ToolCall, Usage
from rxllm.errors import ConnectionFailedError, MalformedStreamError, RateLimitError
from rxllm.testing.fault_server import CUT, FaultServer, Reply, Step
from rxllm.testing.provider_streams import anthropic_events, openai_events

Listen = Callable[..., Awaitable[Any]]

JSON = {"Content-Type": "application/json"}
CALL = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
LOOKED = ToolCall("c", "look", "{}", complete=True)


@pytest.fixture(params=["application/json", "text/event-stream", "indented"])
def hear(listen: Listen, request: pytest.FixtureRequest) -> Listen:
    """Collect a stream of JSON under several media types, also with line ends inside."""

    async def heard(name: str, body: Any, kind: str | None = None, **options: Any) -> Any:
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        if request.param == "indented" and not isinstance(body, bytes):
            data = msgspec.json.format(data, indent=2) + b"\n"
        usual = "text/event-stream" if request.param == "indented" else request.param
        reply = Reply([data], headers={"Content-Type": kind or usual})
        async with FaultServer(reply) as server:
            return await listen(rxllm.model(name, api_key="k", base_url=server.url, **options))

    return heard


def check(heard: Any, *expected: Any) -> None:
    """Check the chunks but for the start, the text in one piece, and the notice."""
    assert heard.error is None
    notice, start, *rest = heard.chunks
    assert (notice.kind, notice.error.type) == ("degraded", "NotStreamed")
    assert start.request_id == "r1"
    assert rest == list(expected)


async def test_openai(hear: Listen) -> None:
    message = {"role": "assistant", "content": "Once upon", "tool_calls": [CALL]}
    completion = {
        "id": "r1", "object": "chat.completion", "model": "gpt",
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 7},
    }  # fmt: skip
    heard = await hear("openai/gpt", completion)
    open_call = msgspec.structs.replace(LOOKED, complete=False)
    check(heard, Token("Once upon"), open_call, LOOKED, Usage(5, 7), End("tool_calls"))


async def test_a_whole_answer_needs_no_finish_reason(hear: Listen) -> None:
    heard = await hear("openai/gpt", {"id": "r1", "choices": [{"message": {"content": "Hi"}}]})
    check(heard, Token("Hi"), End("stop"))


async def test_a_whole_answer_may_be_large(hear: Listen) -> None:
    choice = {"index": 0, "message": {"content": "a" * 500_000}, "finish_reason": "stop"}
    heard = await hear("openai/gpt", {"id": "r1", "choices": [choice]})
    assert heard.text == "a" * 500_000


async def test_anthropic(hear: Listen) -> None:
    message = {
        "id": "r1", "type": "message", "role": "assistant", "model": "claude",
        "content": [
            {"type": "thinking", "thinking": "Hm.", "signature": "s"},
            {"type": "text", "text": "Snow.", "citations": [
                {"type": "web_search_result_location", "url": "https://a.example", "title": "A"},
            ]},
            {"type": "tool_use", "id": "c", "name": "look", "input": {"at": 1}},
        ],
        "stop_reason": "tool_use", "stop_sequence": None,
        "usage": {"input_tokens": 5, "output_tokens": 7},
    }  # fmt: skip
    state = ProviderState("anthropic", "claude", {"type": "thinking", "signature": "s"})
    call = ToolCall("c", "look", '{"at": 1}')
    check(
        await hear("anthropic/claude", message),
        Reasoning("Hm."), Reasoning("", state), Token("Snow."),
        Citation("https://a.example", "A"), call, msgspec.structs.replace(call, complete=True),
        Usage(5, 7), End("tool_calls"),
    )  # fmt: skip


async def test_responses(hear: Listen) -> None:
    thought = {
        "id": "rs",
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": "Hm."}],
    }
    response = {
        "id": "r1", "object": "response", "status": "completed", "model": "gpt",
        "output": [
            thought,
            {"type": "message", "content": [{"type": "output_text", "text": "Snow."}]},
            {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"},
        ],
        "usage": {"input_tokens": 5, "output_tokens": 7},
    }  # fmt: skip
    state = ProviderState("openai", "gpt", {"item": thought})
    open_call = msgspec.structs.replace(LOOKED, complete=False)
    check(
        await hear("openai/gpt", response, wire="openai_responses"),
        Reasoning("Hm."), Reasoning("", state), Token("Snow."), open_call, LOOKED,
        Usage(5, 7), End("tool_calls"),
    )  # fmt: skip


@pytest.mark.parametrize("as_list", [True, False])
async def test_gemini_may_send_a_list(hear: Listen, as_list: bool) -> None:
    parts = {"parts": [{"text": "Snow."}]}
    event = {"responseId": "r1", "candidates": [{"content": parts, "finishReason": "STOP"}]}
    heard = await hear("gemini/gemini-3.8-flash", [event] if as_list else event)
    check(heard, Token("Snow."), End("stop"))


@pytest.mark.parametrize("kind", ["text/plain", "application/json", "text/plain; charset=utf-8"])
@pytest.mark.parametrize("name", ["openai/gpt", "anthropic/claude"])
async def test_events_under_another_media_type(hear: Listen, name: str, kind: str) -> None:
    events = openai_events("a", "b") if name == "openai/gpt" else anthropic_events("a", "b")
    heard = await hear(name, b": hello\n\n" + b"".join(events), kind)
    assert (heard.text, heard.error, heard.of(Notice)) == ("ab", None, [])


@pytest.mark.parametrize(
    "body", [b"<html>", b"{}", b"[]", b"", b'{"object": "list"}', b'{"choices": []}', b"dat"]
)
@pytest.mark.parametrize("name", ["openai/gpt", "anthropic/claude", "gemini/gemini-3.8-flash"])
async def test_anything_else_is_malformed(hear: Listen, name: str, body: bytes) -> None:
    heard = await hear(name, body, "application/json")
    assert isinstance(heard.error, MalformedStreamError)
    assert "application/json instead of an event stream" in str(heard.error)


async def test_an_error_is_still_an_error(hear: Listen) -> None:
    error = {"error": {"message": "slow down", "type": "rate_limit_error"}}
    assert isinstance((await hear("openai/gpt", error)).error, RateLimitError)


@pytest.mark.parametrize("first", [b"\n", b"da", b"\xef\xbb", b"\xef\xbb\xbf\r\n", b"ev", b":"])
async def test_events_under_another_media_type_may_begin_with_any_bytes(
    listen: Listen, first: bytes
) -> None:
    whole = b"".join(openai_events("a", "b"))
    rest = {b"da": whole[2:], b"ev": b"ent: message\n" + whole, b"\xef\xbb": b"\xbf" + whole}
    body: list[Step] = [first, 0.02, rest.get(first, b"\n" + whole)]
    async with FaultServer(Reply(body, headers={"Content-Type": "text/plain"})) as server:
        model = rxllm.model("openai/gpt", api_key="k", base_url=server.url)
        assert (await listen(model)).text == "ab"


async def test_a_whole_answer_may_take_its_time_and_be_lost(listen: Listen) -> None:
    answer = msgspec.json.encode({"id": "r1", "choices": [{"message": {"content": "Hi"}}]})
    async with FaultServer(
        Reply([b" ", 5.5, answer], headers=JSON), Reply([answer[:20], CUT], headers=JSON)
    ) as server:
        model = rxllm.model("openai/gpt", api_key="k", base_url=server.url)
        assert (await listen(model)).text == "Hi"
        assert isinstance((await listen(model)).error, ConnectionFailedError)
