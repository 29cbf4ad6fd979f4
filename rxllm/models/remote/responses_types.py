"""The fields that are read from the events of OpenAI's Responses API; others are ignored.

Source: https://platform.openai.com/docs/api-reference/responses-streaming.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from rxllm.chunks import Citation, Notice, Usage
from rxllm.models.remote.coercion import as_int, as_object, as_optional_text, as_text
from rxllm.models.remote.wire import unsupported

__all__ = ["Event", "annotations_in", "coerced_event", "parts_in", "text_in", "usage_in"]


class Event(msgspec.Struct):
    """The fields that are read from an event; those of any type are coerced."""

    type: str = ""
    delta: Any = None
    item: Any = None
    annotation: Any = None
    response: Any = None
    response_id: Any = None
    item_id: Any = None
    output_index: Any = None
    content_index: Any = None
    summary_index: Any = None
    part: Any = None
    logprobs: Any = None
    text: Any = None
    refusal: Any = None
    transcript: Any = None
    arguments: Any = None
    input: Any = None
    error: Any = None
    code: Any = None


def coerced_event(value: Any) -> Event:
    """Return an event whose fields have other types."""
    fields = as_object(value)
    kind = as_optional_text(fields.get("type")) or ""
    return Event(**{n: fields.get(n) for n in Event.__struct_fields__ if n != "type"}, type=kind)


def annotations_in(value: Any) -> Iterator[Citation | Notice]:
    """Yield the citations in annotations: of a page, or of a file by its name or its id.

    An annotation that names neither is a notice.

    >>> next(annotations_in({"type": "file_path", "file_id": "file_1"})).title
    'file_1'
    >>> next(annotations_in([{"type": "url_citation", "url_citation": "https://a.example"}])).url
    'https://a.example'
    """
    for each in value if isinstance(value, list) else [value]:
        outer = {"url": each} if isinstance(each, str) else as_object(each)
        if not outer:
            continue
        inner = outer.get(str(outer.get("type")))
        fields = {"url": inner} if isinstance(inner, str) else as_object(inner) or outer
        names = ("title", "filename", "file_id")
        citation = Citation(
            as_optional_text(fields.get("url")),
            next((name for key in names if (name := as_optional_text(fields.get(key)))), None),
            as_optional_text(fields.get("content") or fields.get("text")),
            as_int(fields.get("start_index")),
            as_int(fields.get("end_index")),
        )
        yield citation if citation.url or citation.title or citation.text else unsupported(outer)


def parts_in(value: Any) -> list[dict[str, Any]]:
    """Return the parts of an item; a text is a part, too.

    >>> parts_in(["Once", {"type": "output_text"}, None])
    [{'text': 'Once'}, {'type': 'output_text'}, {}]
    """
    parts = value if isinstance(value, list) else [value] if value else []
    return [each if isinstance(each, dict) else {"text": each} if each else {} for each in parts]


def text_in(part: dict[str, Any]) -> str:
    """Return the text of a part: also a refusal, or the transcript of audio.

    >>> text_in({"type": "refusal", "refusal": "No."})
    'No.'
    """
    return as_text(part) or as_text(part.get("refusal")) or as_text(part.get("transcript"))


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
