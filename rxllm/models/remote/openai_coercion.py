"""Reads the events of servers whose fields have other types than those of OpenAI."""

from __future__ import annotations

from typing import Any, Final

from rxllm.models.remote.coercion import (
    as_arguments,
    as_counts,
    as_float,
    as_int,
    as_object,
    as_objects,
    as_optional_text,
    as_text,
)
from rxllm.models.remote.finish_reasons import finish_reason_in
from rxllm.models.remote.openai_output import file_in
from rxllm.models.remote.openai_types import (
    Choice,
    Completion,
    Delta,
    FunctionDelta,
    GroqBlock,
    LogProb,
    LogProbs,
    TokenCounts,
    ToolCallDelta,
)

__all__ = ["coerced_completion"]

_THINKING: Final = ("thinking", "reasoning")


def coerced_completion(value: Any) -> Completion:
    """Return an event of any form; what can't be understood is left out.

    Values that aren't events, such as `null`, are empty ones. A list is read as one event.

    Raises:
        ValueError: the event has choices of an unknown form.
    """
    events = as_objects(value)
    fields = {name: part for each in reversed(events) for name, part in each.items()}
    given = [each["choices"] for each in events if each.get("choices")]
    choices = [_choice(each) for part in given for each in as_objects(part)]
    usage = _usage(fields.get("usage"))
    if given and not choices:
        raise ValueError("an event has choices of an unknown form")
    groq = as_object(fields.get("x_groq"))
    return Completion(
        id=as_optional_text(fields.get("id")),
        model=as_optional_text(fields.get("model")),
        created=as_float(fields.get("created")),
        choices=choices,
        usage=usage,
        citations=fields.get("citations"),
        search_results=fields.get("search_results"),
        error=fields.get("error"),
        x_groq=GroqBlock(_usage(groq.get("usage")), groq.get("error")) if groq else None,
    )


def _choice(fields: dict[str, Any]) -> Choice:
    return Choice(
        index=as_int(fields.get("index")) or 0,
        delta=_delta(fields.get("delta")),
        message=_delta(fields.get("message")),
        text=as_text(fields.get("text")) or None,
        finish_reason=finish_reason_in(fields.get("finish_reason")),
        logprobs=_logprobs(fields.get("logprobs")),
        error=fields.get("error"),
    )


def _delta(value: Any) -> Delta | None:
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return Delta(content=str(value))
    if not isinstance(value, dict):
        return None
    content = value.get("content")
    parts = content if isinstance(content, list) else [content]
    thoughts = [part for part in parts if as_object(part).get("type") in _THINKING]
    files = [part for part in parts if part not in thoughts and file_in(part) is not None]
    said = [part for part in parts if part not in thoughts and part not in files]
    unknown = [part for part in said if as_object(part) and not as_text(part)]
    calls = [_call(each) for each in as_objects(value.get("tool_calls"))]
    function = value.get("function_call")
    return Delta(
        content=as_text(said) or None,
        reasoning_content=as_text(value.get("reasoning_content")) or None,
        reasoning=as_text(value.get("reasoning")) or None,
        thinking=as_text(thoughts) or None,
        reasoning_details=value.get("reasoning_details"),
        extra_content=value.get("extra_content"),
        refusal=as_text(value.get("refusal")) or None,
        tool_calls=calls or None,
        function_call=_function(function) if isinstance(function, dict) else None,
        annotations=value.get("annotations"),
        images=[*files, *_as_list(value.get("images"))] or None,
        audio=value.get("audio"),
        parts=unknown or None,
    )


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value] if value else []


def _call(fields: dict[str, Any]) -> ToolCallDelta:
    function = fields.get("function")
    return ToolCallDelta(
        index=as_int(fields.get("index")),
        id=as_optional_text(fields.get("id")),
        function=_function(function if isinstance(function, dict) else fields),
        extra_content=fields.get("extra_content"),
    )


def _function(fields: dict[str, Any]) -> FunctionDelta:
    return FunctionDelta(
        as_optional_text(fields.get("name")), as_arguments(fields.get("arguments"))
    )


def _logprobs(value: Any) -> LogProbs | None:
    tokens = as_objects(as_object(value).get("content"))
    known = [logprob for each in tokens if (logprob := _logprob(each)) is not None]
    return LogProbs(known) if known and len(known) == len(tokens) else None


def _logprob(fields: dict[str, Any]) -> LogProb | None:
    logprob = as_float(fields.get("logprob"))
    if logprob is None:
        return None
    top = [_logprob(each) for each in as_objects(fields.get("top_logprobs"))]
    token = as_optional_text(fields.get("token")) or ""
    return LogProb(logprob, token, [each for each in top if each is not None])


def _usage(value: Any) -> TokenCounts | None:
    return as_counts(TokenCounts, value) if isinstance(value, dict) else None
