"""How each wire format is asked: where, with what body, and in what form it reports errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from rxllm.doctor.findings import Sheet
from rxllm.doctor.judges.ag_ui import AGUIJudge
from rxllm.doctor.judges.anthropic import AnthropicJudge
from rxllm.doctor.judges.judge import Judge
from rxllm.doctor.judges.ollama import OllamaJudge
from rxllm.doctor.judges.openai_chat import OpenAIChatJudge
from rxllm.doctor.judges.openai_responses import OpenAIResponsesJudge
from rxllm.doctor.judges.own import OwnJudge
from rxllm.doctor.judges.ui_messages import UIMessagesJudge

__all__ = ["DIALECTS", "Ask", "Dialect"]

_TOOL: Final = "get_time"
_TOOL_TEXT: Final = "Returns the time in a city."
_PARAMETERS: Final = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}


class Ask(msgspec.Struct, frozen=True):
    """A question.

    Args:
        model: the model's name, or `None` for that of the server.
        prompt: the text.
        max_tokens: longest answer, in tokens.
        with_tool: whether the model may call a tool.
    """

    model: str | None
    prompt: str
    max_tokens: int
    with_tool: bool = False


class Dialect(msgspec.Struct, frozen=True):
    """How a wire format is asked.

    Args:
        path: of the endpoint.
        body: the request for a stream.
        judge: judges the stream.
        error: whether a JSON body is an error in the form that the clients read.
        is_lines: whether the stream is NDJSON, instead of events.
        needs_model: whether a request has to name a model.
        tools: whether a request can offer tools.
        resumes: whether a stream goes on for a while when its client has left, to be resumed.
    """

    path: str
    body: Callable[[Ask], dict[str, Any]]
    judge: Callable[[Sheet], Judge]
    error: Callable[[dict[str, Any]], bool]
    is_lines: bool = False
    needs_model: bool = True
    tools: bool = True
    resumes: bool = False

    @property
    def media_types(self) -> tuple[str, ...]:
        """The media types that say what the body is."""
        lines = ("application/x-ndjson", "application/ndjson", "application/jsonl")
        return lines if self.is_lines else ("text/event-stream",)


def _openai_chat(ask: Ask) -> dict[str, Any]:
    function = {"name": _TOOL, "description": _TOOL_TEXT, "parameters": _PARAMETERS}
    tools = [{"type": "function", "function": function}]
    return {
        "model": ask.model,
        "messages": [{"role": "user", "content": ask.prompt}],
        "max_tokens": ask.max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
        **({"tools": tools} if ask.with_tool else {}),
    }


def _openai_responses(ask: Ask) -> dict[str, Any]:
    tool = {"name": _TOOL, "description": _TOOL_TEXT, "parameters": _PARAMETERS}
    return {
        "model": ask.model,
        "input": ask.prompt,
        "max_output_tokens": ask.max_tokens,
        "stream": True,
        **({"tools": [{"type": "function", "strict": False, **tool}]} if ask.with_tool else {}),
    }


def _anthropic(ask: Ask) -> dict[str, Any]:
    tool = {"name": _TOOL, "description": _TOOL_TEXT, "input_schema": _PARAMETERS}
    return {
        "model": ask.model,
        "messages": [{"role": "user", "content": ask.prompt}],
        "max_tokens": ask.max_tokens,
        "stream": True,
        **({"tools": [tool]} if ask.with_tool else {}),
    }


def _ui_messages(ask: Ask) -> dict[str, Any]:
    parts = [{"type": "text", "text": ask.prompt}]
    named = {} if ask.model is None else {"model": ask.model}
    return {
        "id": "rxllm-check",
        "trigger": "submit-message",
        "messages": [{"id": "1", "role": "user", "parts": parts}],
        **named,
    }


def _ag_ui(ask: Ask) -> dict[str, Any]:
    tool = {"name": _TOOL, "description": _TOOL_TEXT, "parameters": _PARAMETERS}
    return {
        "threadId": "rxllm-check",
        "runId": "rxllm-check",
        "messages": [{"id": "1", "role": "user", "content": ask.prompt}],
        "tools": [tool] if ask.with_tool else [],
        "context": [],
        "state": {},
        "forwardedProps": {} if ask.model is None else {"model": ask.model},
    }


def _ollama(ask: Ask) -> dict[str, Any]:
    function = {"name": _TOOL, "description": _TOOL_TEXT, "parameters": _PARAMETERS}
    tools = [{"type": "function", "function": function}]
    return {
        "model": ask.model,
        "messages": [{"role": "user", "content": ask.prompt}],
        "options": {"num_predict": ask.max_tokens},
        **({"tools": tools} if ask.with_tool else {}),
    }


def _own(ask: Ask) -> dict[str, Any]:
    named = {} if ask.model is None else {"model": ask.model}
    return {"prompt": ask.prompt, "maxTokens": ask.max_tokens, **named}


def _is_openai_error(value: dict[str, Any]) -> bool:
    error = value.get("error")
    return isinstance(error, dict) and isinstance(error.get("message"), str)


def _is_anthropic_error(value: dict[str, Any]) -> bool:
    error = value.get("error")
    is_typed = isinstance(error, dict) and isinstance(error.get("type"), str)
    return value.get("type") == "error" and is_typed and _is_openai_error(value)


def _is_ollama_error(value: dict[str, Any]) -> bool:
    return isinstance(value.get("error"), str)


def _is_own_error(value: dict[str, Any]) -> bool:
    fields = (value.get("code"), value.get("message"))
    return value.get("type") == "error" and all(isinstance(field, str) for field in fields)


def _is_any(value: dict[str, Any]) -> bool:
    return True


DIALECTS: Final[dict[str, Dialect]] = {
    "sse": Dialect(
        *("/stream", _own, OwnJudge, _is_own_error),
        needs_model=False,
        tools=False,
        resumes=True,
    ),
    "ndjson": Dialect(
        *("/api/stream", _own, OwnJudge, _is_own_error),
        is_lines=True,
        needs_model=False,
        tools=False,
    ),
    "openai_chat": Dialect("/v1/chat/completions", _openai_chat, OpenAIChatJudge, _is_openai_error),
    "openai_responses": Dialect(
        "/v1/responses", _openai_responses, OpenAIResponsesJudge, _is_openai_error
    ),
    "anthropic": Dialect("/v1/messages", _anthropic, AnthropicJudge, _is_anthropic_error),
    "ui_messages": Dialect(
        *("/api/chat", _ui_messages, UIMessagesJudge, _is_any),
        needs_model=False,
        tools=False,
        resumes=True,
    ),
    "ag_ui": Dialect("/agui", _ag_ui, AGUIJudge, _is_any, needs_model=False),
    "ollama": Dialect("/api/chat", _ollama, OllamaJudge, _is_ollama_error, is_lines=True),
}
"""The wire formats that can be checked, by the names of `rxllm.web.wires`."""
