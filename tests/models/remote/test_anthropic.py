"""Responses in the form of Anthropic's Messages API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import rxllm
from rxllm.chunks import End, Notice, ProviderState, Reasoning, Start, Token, ToolCall, Usage
from rxllm.errors import (
    EmptyStreamError,
    MalformedStreamError,
    OverloadedError,
    RateLimitError,
    ServerError,
    TruncatedStreamError,
)
from rxllm.models.remote.providers import PROVIDERS
from rxllm.testing.fault_server import FaultServer, Reply
from rxllm.testing.provider_streams import anthropic_event, anthropic_events

Hear = Callable[..., Awaitable[Any]]
ModelOn = Callable[..., rxllm.Model]
FIRST, *_ = anthropic_events("a")


def block(index: int, kind: str, *deltas: dict[str, Any], **fields: Any) -> list[bytes]:
    return [
        anthropic_event("content_block_start", index=index, content_block={"type": kind, **fields}),
        *(anthropic_event("content_block_delta", index=index, delta=delta) for delta in deltas),
        anthropic_event("content_block_stop", index=index),
    ]


def text(content: str) -> dict[str, Any]:
    return {"type": "text_delta", "text": content}


def json(partial: str) -> dict[str, Any]:
    return {"type": "input_json_delta", "partial_json": partial}


def last(reason: str = "end_turn", **usage: Any) -> list[bytes]:
    delta = {"stop_reason": reason, "stop_sequence": None}
    return [
        anthropic_event("message_delta", delta=delta, usage=usage),
        anthropic_event("message_stop"),
    ]


@pytest.fixture
def hear_claude(hear: Hear) -> Hear:
    def hear_it(body: Any, **options: Any) -> Awaitable[Any]:
        return hear(body, "anthropic", **options)

    return hear_it


async def test_a_stream_is_start_text_usage_end(hear_claude: Hear) -> None:
    heard = await hear_claude(anthropic_events("Hello", " world"))
    assert heard.error is None
    assert heard.chunks[0] == Start(
        "msg_1", "anthropic/claude", "anthropic", heard.chunks[0].created
    )
    assert heard.chunks[1:] == [Token("Hello"), Token(" world"), Usage(5, 2), End("stop")]


@pytest.mark.parametrize("pieces", [1, 7, "random"])
async def test_the_chunks_do_not_depend_on_how_the_bytes_are_split(
    hear_claude: Hear, pieces: Any
) -> None:
    events = anthropic_events("Hé", "llo 🦊", "中文")
    cut, whole = await hear_claude(events, pieces=pieces), await hear_claude(events)
    assert cut.chunks[1:] == whole.chunks[1:]


@pytest.mark.parametrize(
    ("stop_reason", "reason"),
    [
        ("end_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
    ],
)
async def test_stop_reasons(hear_claude: Hear, stop_reason: str, reason: str) -> None:
    heard = await hear_claude(anthropic_events("a", stop_reason=stop_reason))
    assert heard.chunks[-1] == End(reason)  # type: ignore[arg-type]


@pytest.mark.parametrize("reason", ["pause_turn", "something_new"])
async def test_an_unknown_stop_reason_is_kept(hear_claude: Hear, reason: str) -> None:
    heard = await hear_claude(anthropic_events("a", stop_reason=reason))
    assert heard.chunks[-1] == End("stop", native_reason=reason)


async def test_the_stop_sequence_is_reported(hear_claude: Hear) -> None:
    delta = {"stop_reason": "stop_sequence", "stop_sequence": "###"}
    events = [anthropic_event("message_delta", delta=delta), anthropic_event("message_stop")]
    heard = await hear_claude([FIRST, *block(0, "text", text("a")), *events])
    assert heard.chunks[-1] == End("stop", "###")


async def test_thinking_is_reasoning(hear_claude: Hear) -> None:
    thinking = [{"type": "thinking_delta", "thinking": "hm"}, {"type": "signature_delta"}]
    blocks = [*block(0, "thinking", *thinking), *block(1, "text", text("Yes"))]
    heard = await hear_claude([FIRST, *blocks, *last()])
    assert heard.chunks[1:3] == [Reasoning("hm"), Token("Yes")]


async def test_tool_calls_grow_and_are_complete_at_the_end_of_their_block(
    hear_claude: Hear,
) -> None:
    heard = await hear_claude(
        [
            FIRST,
            *block(0, "text", text("I'll add")),
            *block(1, "tool_use", json(""), json('{"x":'), json("1}"), id="a", name="add"),
            *block(2, "tool_use", id="b", name="now"),
            *last("tool_use"),
        ]
    )
    assert heard.of(ToolCall) == [
        ToolCall("a", "add", ""),
        ToolCall("a", "add", '{"x":'),
        ToolCall("a", "add", '{"x":1}'),
        ToolCall("a", "add", '{"x":1}', 0, complete=True),
        ToolCall("b", "now", "", 1),
        ToolCall("b", "now", "{}", 1, complete=True),
    ]
    assert heard.chunks[-1] == End("tool_calls")


async def test_tools_called_by_the_provider_itself_are_ignored(hear_claude: Hear) -> None:
    search = block(0, "server_tool_use", json('{"query":"x"}'), id="s", name="web_search")
    heard = await hear_claude([FIRST, *search, *block(1, "text", text("a")), *last()])
    assert (heard.of(ToolCall), heard.text) == ([], "a")


async def test_usage_is_merged_and_input_tokens_include_cached_ones(hear_claude: Hear) -> None:
    usage = {"input_tokens": 3, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 100}
    first = anthropic_event("message_start", message={"id": "m", "usage": usage})
    details = {"thinking_tokens": 4}
    end = last(output_tokens=7, output_tokens_details=details)
    heard = await hear_claude([first, *block(0, "text", text("a")), *end])
    assert heard.of(Usage) == [
        Usage(123, 7, cached_tokens=100, reasoning_tokens=4, cache_write_tokens=20)
    ]


async def test_pings_and_unknown_types_are_ignored(hear_claude: Hear) -> None:
    events = anthropic_events("a")
    new = [anthropic_event("ping"), anthropic_event("something_new", delta=None)]
    assert (await hear_claude([*events[:4], *new, *events[4:]])).text == "a"


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("overloaded_error", OverloadedError),
        ("rate_limit_error", RateLimitError),
        ("api_error", ServerError),
        ("something_new", ServerError),
    ],
)
async def test_an_error_in_the_stream_is_an_error(
    hear_claude: Hear, kind: str, expected: type[Exception]
) -> None:
    error = anthropic_event("error", error={"type": kind, "message": "Overloaded"})
    heard = await hear_claude([*anthropic_events("a", stop_reason=None), error])
    assert heard.text == "a"
    assert type(heard.error) is expected
    assert "Overloaded" in str(heard.error)


async def test_a_stream_without_message_stop_is_truncated(hear_claude: Hear) -> None:
    heard = await hear_claude(anthropic_events("a")[:-1])
    assert heard.text == "a"
    assert isinstance(heard.error, TruncatedStreamError)


@pytest.mark.parametrize("body", [[], [anthropic_event("ping")], [anthropic_event("message_stop")]])
async def test_a_stream_without_content_is_empty(hear_claude: Hear, body: list[bytes]) -> None:
    assert type((await hear_claude(body)).error) is EmptyStreamError


async def test_malformed_events_are_skipped_and_the_third_in_a_row_is_an_error(
    hear_claude: Hear,
) -> None:
    first, *rest = anthropic_events("a")
    broken = b"event: ping\ndata: {\n\n"
    heard = await hear_claude([first, broken, broken, *rest])
    assert (heard.text, len(heard.of(Notice)), heard.error) == ("a", 2, None)
    heard = await hear_claude([first, broken, broken, broken, *rest])
    assert isinstance(heard.error, MalformedStreamError)


async def test_a_surrogate_is_joined_with_its_pair_in_the_next_delta(hear_claude: Hear) -> None:
    halves = [
        b'data: {"type":"content_block_delta","delta":{"text":"' + half + b'"}}\n\n'
        for half in (b"a\\ud83e", b"\\udd8a")
    ]
    heard = await hear_claude([FIRST, *halves, *last()])
    assert heard.text == "a🦊"


def halves(kind: str, field: str, text: str) -> list[bytes]:
    """Return the events of a block that ends in the middle of a surrogate pair."""
    delta = rf'"type":"content_block_delta","index":0,"delta":{{"{field}":"{text}\ud83e"}}'
    start, stop = block(0, kind, id="a", name="add")
    return [start, b"data: {" + delta.encode() + b"}\n\n", stop]


async def test_a_lone_surrogate_is_replaced_at_the_end_of_its_block(hear_claude: Hear) -> None:
    blocks = [
        *halves("thinking", "thinking", "hm"),
        *halves("text", "text", "a"),
        *block(0, "text", text("b")),
        *halves("tool_use", "partial_json", "1"),
        *block(1, "tool_use", json("2"), id="c", name="add"),
    ]
    heard = await hear_claude([FIRST, *blocks, *last("tool_use")])
    content = [chunk for chunk in heard.chunks if isinstance(chunk, Token | Reasoning)]
    border = Token("", state=ProviderState("anthropic", "claude", {"type": "text"}))
    assert content == [
        Reasoning("hm"), Reasoning("\ufffd"), Token("a"), Token("\ufffd"), border, Token("b"),
    ]  # fmt: skip
    last_of = {call.index: call for call in heard.of(ToolCall)}
    assert [call.arguments for call in last_of.values()] == ["1\ufffd", "2"]


async def test_a_block_start_without_a_block_is_ignored(hear_claude: Hear) -> None:
    first, *rest = anthropic_events("a")
    empty = anthropic_event("content_block_start", index=0)
    heard = await hear_claude([first, empty, *rest])
    assert (heard.text, heard.error) == ("a", None)


async def test_the_request_has_the_key_the_version_and_the_body(
    listen: Hear, model_on: ModelOn
) -> None:
    async with FaultServer(Reply(anthropic_events("a"))) as server:
        model = model_on(server, "anthropic", api_key="k1")
        messages = [rxllm.Message("system", "Be kind"), rxllm.Message("user", "Hi")]
        await listen(model, messages, temperature=0, max_tokens=5)
    (request,) = server.requests
    assert request.path == "/v1/messages"
    assert request.headers["x-api-key"] == "k1"
    assert request.headers["anthropic-version"] == "2023-06-01"
    assert "authorization" not in request.headers
    assert request.json() == {
        "model": "claude",
        "max_tokens": 5,
        "messages": [{"role": "user", "content": "Hi"}],
        "system": [{"type": "text", "text": "Be kind"}],
        "temperature": 0,
        "stream": True,
    }


def test_without_a_key_there_is_no_key_header() -> None:
    assert PROVIDERS["anthropic"].headers_with(None) == {"anthropic-version": "2023-06-01"}


async def test_a_tool_input_that_is_not_json_is_not_complete(hear_claude: Hear) -> None:
    """With `eager_input_streaming` the provider doesn't check it."""
    delta = {"type": "input_json_delta", "partial_json": '{"a": '}
    use = {"type": "tool_use", "id": "c", "name": "add", "input": {}}
    events = [
        FIRST,
        anthropic_event("content_block_start", index=0, content_block=use),
        anthropic_event("content_block_delta", index=0, delta=delta),
        anthropic_event("content_block_stop", index=0),
        *anthropic_events("x")[-2:],
    ]
    assert [call.complete for call in (await hear_claude(events)).of(ToolCall)] == [False] * 3
