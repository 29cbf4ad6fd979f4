"""The states of other providers in OpenAI's chat completions, in fields that others use for theirs.

`reasoning_details` is OpenRouter's, `extra_content` Gemini's. A client sends them back as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from rxllm.chunks import ProviderState
from rxllm.messages import ReasoningPart
from rxllm.web.openai_chat.types import ReasoningDetail
from rxllm.wire_names import EXTENSION

__all__ = ["extra_content", "reasoning_detail", "reasoning_in", "state_in"]


class _Thought(msgspec.Struct):
    text: str
    state: ProviderState


def reasoning_detail(text: str, state: ProviderState, index: int) -> ReasoningDetail:
    """Return a thinking block with its state; `index` counts the blocks of an answer."""
    data = msgspec.json.encode(_Thought(text, state)).decode()
    return {"type": "reasoning.encrypted", "format": EXTENSION, "index": index, "data": data}


def reasoning_in(details: Iterable[Mapping[str, Any]]) -> list[ReasoningPart]:
    """Return the thinking blocks in the details of a message; those of others are left out.

    Raises:
        ValueError: a detail of our own isn't one.
    """
    blocks = [each.get("data") for each in details if each.get("format") == EXTENSION]
    try:
        thoughts = [msgspec.json.decode(data or "", type=_Thought) for data in blocks]
    except (msgspec.DecodeError, TypeError) as error:
        raise ValueError(f"invalid reasoning_details: {error}") from None
    return [ReasoningPart(each.text, each.state) for each in thoughts]


def extra_content(state: ProviderState) -> dict[str, Any]:
    """Return the state of a text or a call."""
    return {EXTENSION: msgspec.to_builtins(state)}


def state_in(extra: Mapping[str, Any] | None) -> ProviderState | None:
    """Return the state of a text or a call; that of others is left out.

    Raises:
        ValueError: it isn't one.
    """
    given = (extra or {}).get(EXTENSION)
    try:
        return None if given is None else msgspec.convert(given, ProviderState)
    except msgspec.ValidationError as error:
        raise ValueError(f"invalid extra_content: {error}") from None
