"""Reads the events of servers whose fields have other types than those of OpenAI."""

from __future__ import annotations

from itertools import groupby
from typing import Any, Final

from msgspec.structs import replace

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

    Choices of an unknown form are output that isn't supported.
    """
    events = as_objects(value)
    fields = {name: part for each in reversed(events) for name, part in each.items()}
    given = [each["choices"] for each in events if each.get("choices")]
    choices = [choice for part in given for each in as_objects(part) for choice in _choices(each)]
    usage = _usage(fields.get("usage"))
    if given and not choices:
        choices = [Choice(delta=Delta(parts=[{"type": "choices"}]))]
    groq = as_object(fields.get("x_groq"))
    return Completion(
        id=as_optional_text(fields.get("id")),
        model=as_optional_text(fields.get("model")),
        created=as_float(fields.get("created")),
        choices=choices,
        usage=usage,
        citations=fields.get("citations"),
        search_results=fields.get("search_results"),
        sources=fields.get("sources"),
        images=fields.get("images"),
        error=fields.get("error"),
        x_groq=GroqBlock(_usage(groq.get("usage")), groq.get("error")) if groq else None,
    )


def _choices(fields: dict[str, Any]) -> list[Choice]:
    """Return one choice for each part of the content whose place matters; the last one ends."""
    deltas = _deltas(fields.get("delta"))
    choice = Choice(
        index=as_int(fields.get("index")) or 0,
        delta=deltas[-1] if deltas else None,
        message=next(iter(_deltas(fields.get("message"))), None),
        text=as_text(fields.get("text")) or None,
        finish_reason=finish_reason_in(fields.get("finish_reason")),
        native_finish_reason=as_optional_text(fields.get("native_finish_reason")),
        logprobs=_logprobs(fields.get("logprobs")),
        citations=fields.get("citations"),
        error=fields.get("error"),
    )
    if len(messages := _deltas(fields.get("message"))) > 1 and not deltas:
        deltas, choice = messages, replace(choice, delta=messages[-1], message=None)
    return [*(Choice(index=choice.index, delta=delta) for delta in deltas[:-1]), choice]


def _deltas(value: Any) -> list[Delta]:
    """Return the deltas in a value; a content of several parts is one for each kind in turn."""
    if isinstance(value, list):
        return [delta for each in value for delta in _deltas(each)]
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return [Delta(content=str(value))]
    if not isinstance(value, dict):
        return []
    content = value.get("content")
    parts = content if isinstance(content, list) else [content]
    runs = [list(run) for _, run in groupby(parts, _is_thought)] or [[None]]
    return [*(_content(run) for run in runs[:-1]), _delta(value, runs[-1])]


def _is_thought(part: Any) -> bool:
    return as_object(part).get("type") in _THINKING


def _content(parts: list[Any]) -> Delta:
    """Return the delta of parts that are all thoughts, or none of them is."""
    if parts and _is_thought(parts[0]):
        return Delta(thinking=as_text(parts) or None)
    files = [part for part in parts if file_in(part) is not None]
    refusals = [part for part in parts if as_object(part).get("type") == "refusal"]
    said = [part for part in parts if part not in files and part not in refusals]
    notes = [as_object(part).get("annotations") for part in said]
    return Delta(
        content=as_text(said) or None,
        refusal=as_text([part.get("refusal") for part in refusals]) or None,
        annotations=[each for some in notes for each in _as_list(some)] or None,
        images=files or None,
        parts=[part for part in said if as_object(part) and not as_text(part)] or None,
    )


def _delta(value: dict[str, Any], parts: list[Any]) -> Delta:
    content = _content(parts)
    calls = [_call(each) for each in as_objects(value.get("tool_calls"))]
    function = value.get("function_call")
    return Delta(
        content=content.content,
        reasoning_content=as_text(value.get("reasoning_content")) or None,
        reasoning=as_text(value.get("reasoning")) or None,
        reasoning_text=as_text(value.get("reasoning_text")) or None,
        thinking=content.thinking,
        reasoning_details=value.get("reasoning_details"),
        extra_content=value.get("extra_content"),
        refusal=content.refusal or as_text(value.get("refusal")) or None,
        tool_calls=calls or None,
        function_call=_function(function) if isinstance(function, dict) else None,
        annotations=content.annotations or value.get("annotations"),
        citations=value.get("citations"),
        context=value.get("context"),
        images=[*(content.images or ()), *_as_list(value.get("images"))] or None,
        image=value.get("image"),
        video=value.get("video"),
        audio=value.get("audio"),
        parts=content.parts,
        error=value.get("error"),
    )


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value] if value else []


def _call(fields: dict[str, Any]) -> ToolCallDelta:
    function = fields.get("function")
    named = {"name": function, **fields} if isinstance(function, str) else fields
    return ToolCallDelta(
        index=as_int(fields.get("index")),
        id=as_optional_text(fields.get("id")),
        function=_function(function if isinstance(function, dict) else named),
        extra_content=fields.get("extra_content"),
    )


def _function(fields: dict[str, Any]) -> FunctionDelta:
    given = fields.get("arguments")  # may be half a character; see `TextJoiner`
    arguments = given if isinstance(given, str) else as_arguments(given)
    return FunctionDelta(as_optional_text(fields.get("name")), arguments)


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
