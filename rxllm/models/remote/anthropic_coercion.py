"""Reads events of Anthropic's messages whose fields have other types than documented."""

from __future__ import annotations

import json
from typing import Any

from rxllm.models.remote.anthropic_types import Block, Delta, Event, Message, TokenCounts
from rxllm.models.remote.coercion import as_counts, as_int, as_object, as_optional_text, as_text

__all__ = ["blocks_in", "coerced_event", "events_in", "named_delta"]


def coerced_event(value: Any) -> Event:
    """Return an event whose fields have other types; what can't be understood is left out."""
    fields = as_object(value)
    message, block, delta = (fields.get(name) for name in ("message", "content_block", "delta"))
    return Event(
        type=as_optional_text(fields.get("type")) or "",
        index=as_int(fields.get("index")),
        message=_message(message) if isinstance(message, dict) else None,
        content_block=_block(block) if isinstance(block, dict) else None,
        delta=_delta(delta) if isinstance(delta, dict) else delta if _is_text(delta) else None,
        usage=_usage(fields.get("usage")),
        error=fields.get("error"),
    )


def events_in(data: str) -> list[str]:
    """Return the events in the data of one: some servers send a list of them."""
    if data.lstrip().startswith("["):
        try:
            return [json.dumps(each) for each in json.loads(data) if isinstance(each, dict | str)]
        except (ValueError, RecursionError):
            pass
    return [data]


def named_delta(kind: str, text: str) -> Delta:
    """Return the delta that a text alone stands for, in a block of this kind."""
    if kind == "thinking":
        return Delta(thinking=text)
    return Delta(partial_json=text) if kind == "tool_use" else Delta(text=text)


def blocks_in(content: Any) -> list[Block]:
    """Return the blocks in the content of a message.

    >>> [block.text for block in blocks_in([{"type": "text", "text": "a"}, "b", None])]
    ['a', 'b']
    """
    given = content if isinstance(content, list) else [content]
    blocks = [{"type": "text", "text": each} if _is_text(each) else each for each in given]
    return [_block(block) for block in blocks if isinstance(block, dict)]


def _message(fields: dict[str, Any]) -> Message:
    return Message(
        as_optional_text(fields.get("id")) or "",
        as_optional_text(fields.get("model")),
        fields.get("content"),
        _usage(fields.get("usage")),
    )


def _block(fields: dict[str, Any]) -> Block:
    return Block(
        as_optional_text(fields.get("type")) or "",
        as_optional_text(fields.get("id")) or "",
        as_optional_text(fields.get("name")) or "",
        as_text(fields.get("text")) or None,
        as_text(fields.get("thinking")) or None,
        as_optional_text(fields.get("signature")),
        as_optional_text(fields.get("data")),
        _mended(fields.get("input")),
        _mended(fields.get("citations")),
        _mended(fields.get("source")),
    )


def _delta(fields: dict[str, Any]) -> Delta:
    return Delta(
        as_optional_text(fields.get("type")) or "",
        as_text(fields.get("text")) or None,
        as_text(fields.get("thinking")) or None,
        as_optional_text(fields.get("signature")),
        _mended(fields.get("partial_json")),
        _mended(fields.get("input")),
        as_optional_text(fields.get("stop_reason")),
        as_optional_text(fields.get("stop_sequence")),
        _mended(fields.get("citation")),
    )


def _mended(value: Any) -> Any:
    """Replace lone surrogates; those of a text may find their pair in the next event."""
    if _is_text(value):
        return value
    text = as_optional_text(json.dumps(value, ensure_ascii=False))
    return json.loads(text or "null")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _usage(value: Any) -> TokenCounts | None:
    return as_counts(TokenCounts, value) if isinstance(value, dict) else None
