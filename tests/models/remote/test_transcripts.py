"""Responses in the forms that the providers document, replayed byte by byte.

Written by hand from https://docs.anthropic.com/en/docs/build-with-claude/streaming,
https://openrouter.ai/docs/api/reference/streaming and
https://console.groq.com/docs/api-reference#chat-create.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from rxllm.chunks import End, ProviderState, Reasoning, Start, Token, ToolCall, Usage
from rxllm.errors import ServerError

Hear = Callable[..., Awaitable[Any]]
TRANSCRIPTS = Path(__file__).with_name("transcripts")


@pytest.fixture
def replay(hear: Hear) -> Hear:
    async def replay_it(name: str, provider: str, pieces: Any) -> Any:
        return await hear([(TRANSCRIPTS / name).read_bytes()], provider, pieces=pieces)

    return replay_it


@pytest.mark.parametrize("pieces", [1, "random", None])
async def test_anthropic_sends_thinking_text_and_a_tool_call(replay: Hear, pieces: Any) -> None:
    heard = await replay("anthropic.sse", "anthropic", pieces)
    start, *rest = heard.chunks
    assert heard.error is None
    assert (start.request_id, start.model) == (
        "msg_014p7gG3wDgGV9EUtLvnow3U",
        "anthropic/claude-sonnet-4-5-20250929",
    )
    call = ToolCall("toolu_01T1x1fJ34qAmk2tNTrN7Up6", "get_weather")
    arguments = '{"location": "Zürich"}'
    signature = {"signature": "EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pkiMOYds"}
    assert rest == [
        Reasoning("The user asks about the weather"),
        Reasoning(" in Zürich."),
        Reasoning("", ProviderState("anthropic", "claude", {"type": "thinking", **signature})),
        Token("Let me check"),
        Token(" the weather 🌦️:"),
        call,
        ToolCall(call.id, call.name, '{"location":'),
        ToolCall(call.id, call.name, arguments),
        ToolCall(call.id, call.name, arguments, complete=True),
        Usage(600, 89, cached_tokens=128, cache_write_tokens=0),
        End("tool_calls"),
    ]


@pytest.mark.parametrize("pieces", [1, "random", None])
async def test_openrouter_sends_comments_and_the_cost(replay: Hear, pieces: Any) -> None:
    heard = await replay("openrouter.sse", "openrouter", pieces)
    details = [{"type": "reasoning.text", "text": "meaning?"}]
    assert heard.error is None
    assert heard.chunks == [
        Start("gen-1234567890-abc", "openrouter/openai/gpt-4o-mini", "openrouter", 1735317796.0),
        Token("The"),
        Reasoning("meaning?"),
        Reasoning("", ProviderState("openrouter", "vendor/gpt", {"reasoning_details": details})),
        Token(" answer"),
        Usage(14, 4, cached_tokens=0, reasoning_tokens=1, cost=0.0000045),
        End("stop"),
    ]


@pytest.mark.parametrize("pieces", [1, "random", None])
async def test_openrouter_fails_mid_stream(replay: Hear, pieces: Any) -> None:
    heard = await replay("openrouter_error.sse", "openrouter", pieces)
    assert heard.text == "Once"
    assert isinstance(heard.error, ServerError)
    assert (heard.error.status, heard.error.retryable) == (502, True)


@pytest.mark.parametrize("pieces", [1, "random", None])
async def test_groq_sends_usage_in_its_own_block(replay: Hear, pieces: Any) -> None:
    heard = await replay("groq.sse", "groq", pieces)
    assert heard.error is None
    assert heard.text == "Fast models"
    assert heard.chunks[0].model == "groq/llama-3.3-70b-versatile"
    assert heard.chunks[-2:] == [Usage(18, 556), End("stop")]
