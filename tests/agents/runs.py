"""Shared by the tests of agents: scripts with calls, and runs read to their end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reactivex import Observable

from rxllm.chunks import End, Token, ToolCall, ToolResult, Usage
from rxllm.consumer import consume
from rxllm.models.scripted import ScriptedModel
from rxllm.result import Result

__all__ = ["calling", "calls_of", "kinds", "model_of", "play", "results_of"]


def calls_of(*calls: tuple[str, str, str]) -> list[Any]:
    """Calls (id, name, arguments), each in two chunks as a model writes it."""
    chunks: list[Any] = []
    for index, (call_id, name, arguments) in enumerate(calls):
        half = arguments[: len(arguments) // 2]
        chunks.append(ToolCall(call_id, name, half, index))
        chunks.append(ToolCall(call_id, name, arguments, index, complete=True))
    return chunks


def calling(
    *calls: tuple[str, str, str], text: Sequence[str] = (), usage: Usage | None = None
) -> list[Any]:
    """The script of an answer with calls."""
    usage = Usage(10, 5) if usage is None else usage
    return [*map(Token, text), *calls_of(*calls), usage, End("tool_calls")]


def model_of(*scripts: Any, **options: Any) -> ScriptedModel:
    """A model that plays these scripts, one for each request."""
    return ScriptedModel(*scripts, **options)


async def play(stream: Observable[Any]) -> tuple[list[Any], Result]:
    """Read a stream: its chunks, and the result."""
    chunks: list[Any] = []
    result = await consume(stream, chunks.append)
    return chunks, result


def kinds(chunks: Sequence[Any]) -> list[str]:
    """The names of the classes; `End+` if the run continues after it."""
    return [
        type(chunk).__name__ + ("+" if isinstance(chunk, End) and chunk.more else "")
        for chunk in chunks
    ]


def results_of(chunks: Sequence[Any]) -> dict[str, ToolResult]:
    """The final results of tools, by the id of the call."""
    return {
        chunk.id: chunk
        for chunk in chunks
        if isinstance(chunk, ToolResult) and not chunk.preliminary
    }
