"""The fields that are read from the events of OpenAI's Responses API; others are ignored.

Source: https://platform.openai.com/docs/api-reference/responses-streaming.
"""

from __future__ import annotations

from typing import Any

import msgspec

from rxllm.chunks import Usage
from rxllm.models.remote.coercion import (
    as_int,
    as_object,
    as_optional_text,
)

__all__ = ["Event", "coerced_event", "usage_in"]


class Event(msgspec.Struct):
    """The fields that are read from an event; those of any type are coerced."""

    type: str = ""
    delta: Any = None
    item: Any = None
    annotation: Any = None
    response: Any = None
    output_index: Any = None
    summary_index: Any = None
    logprobs: Any = None
    text: Any = None
    refusal: Any = None
    arguments: Any = None
    error: Any = None
    code: Any = None


def coerced_event(value: Any) -> Event:
    """Return an event whose fields have other types."""
    fields = as_object(value)
    kind = as_optional_text(fields.get("type")) or ""
    return Event(**{n: fields.get(n) for n in Event.__struct_fields__ if n != "type"}, type=kind)


def usage_in(fields: dict[str, Any]) -> Usage:
    """Return the usage of a response."""
    read = as_object(fields.get("input_tokens_details"))
    written = as_object(fields.get("output_tokens_details"))
    return Usage(
        as_int(fields.get("input_tokens")) or 0,
        as_int(fields.get("output_tokens")) or 0,
        cached_tokens=as_int(read.get("cached_tokens")),
        reasoning_tokens=as_int(written.get("reasoning_tokens")),
        cache_write_tokens=as_int(read.get("cache_write_tokens")),
    )
