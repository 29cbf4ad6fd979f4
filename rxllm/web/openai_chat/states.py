"""The states of other providers in OpenAI's chat completions, in fields that others use for theirs.

`reasoning_details` is OpenRouter's, `extra_content` (of a call) Gemini's. A client sends them back
as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from rxllm.chunks import ProviderState
from rxllm.messages import Part, ReasoningPart, TextPart
from rxllm.web.encoding import to_json
from rxllm.web.openai_chat.types import ReasoningDetail
from rxllm.wire_names import EXTENSION, TEXT_STATE

__all__ = ["call_state", "detail_of", "details_of", "extra_content", "parts_in"]


class _Place(msgspec.Struct):
    """A state, the reasoning that it belongs to, and the characters of the answer before it."""

    state: ProviderState
    at: int
    reasoning: str | None = None


def detail_of(state: ProviderState, index: int, at: int, reasoning: str | None) -> ReasoningDetail:
    """Return the detail for a state.

    Args:
        state: the state.
        index: its number in the answer, from 0.
        at: the number of characters of the answer before it.
        reasoning: the reasoning that it belongs to, or `None` if it belongs to the text.
    """
    return {
        "type": TEXT_STATE if reasoning is None else "reasoning.encrypted",
        "format": EXTENSION,
        "index": index,
        "data": to_json(_Place(state, at, reasoning)).decode(),
    }


def details_of(parts: Iterable[Part]) -> list[ReasoningDetail]:
    """Return the details for all states of an answer."""
    details: list[ReasoningDetail] = []
    at = 0
    for part in parts:
        if isinstance(part, TextPart):
            at += len(part.text)
        if isinstance(part, TextPart | ReasoningPart) and part.state is not None:
            reasoning = part.text if isinstance(part, ReasoningPart) else None
            details.append(detail_of(part.state, len(details), at, reasoning))
    return details


def parts_in(text: str, details: Iterable[Mapping[str, Any]]) -> tuple[Part, ...]:
    """Return the parts of an answer with this text; the details of others are left out.

    Raises:
        ValueError: a detail of our own isn't one.
    """
    parts: list[Part] = []
    sent = 0
    for detail in details:
        if detail.get("format") != EXTENSION:
            continue
        place = _place(detail)
        before = text[sent : place.at]
        sent = max(sent, place.at)
        if place.reasoning is None:
            parts.append(TextPart(before, place.state))
        else:
            parts += [TextPart(before)] if before else []
            parts.append(ReasoningPart(place.reasoning, place.state))
    return (*parts, *([TextPart(text[sent:])] if text[sent:] else []))


def _place(detail: Mapping[str, Any]) -> _Place:
    try:
        return msgspec.json.decode(detail.get("data") or "", type=_Place)
    except (msgspec.DecodeError, TypeError) as error:
        raise ValueError(f"invalid reasoning_details: {error}") from None


def extra_content(state: ProviderState) -> dict[str, Any]:
    """Return the state of a call."""
    return {EXTENSION: msgspec.to_builtins(state)}


def call_state(extra: Mapping[str, Any] | None) -> ProviderState | None:
    """Return the state of a call; that of others is left out.

    Raises:
        ValueError: it isn't one.
    """
    given = (extra or {}).get(EXTENSION)
    try:
        return None if given is None else msgspec.convert(given, ProviderState)
    except msgspec.ValidationError as error:
        raise ValueError(f"invalid extra_content: {error}") from None
