"""All wire formats, by name."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from rxllm.web.wire import NDJSON_WIRE, SSE_WIRE, WireFormat

__all__ = ["WIRE_NAMES", "wire_format"]

_OTHERS: Final = ("openai_chat", "openai_responses", "anthropic", "ui_messages", "ag_ui", "ollama")
WIRE_NAMES: Final = ("sse", "ndjson", *_OTHERS)


def wire_format(name: str) -> WireFormat:
    """Return the wire format with this name.

    Raises:
        ValueError: there is none.

    >>> wire_format("anthropic").content_type
    'text/event-stream'
    """
    if name not in WIRE_NAMES:
        raise ValueError(f"wire must be one of {', '.join(WIRE_NAMES)}, got {name!r}")
    if name not in _OTHERS:
        return SSE_WIRE if name == "sse" else NDJSON_WIRE
    module = import_module(f"rxllm.web.{name}.writer")
    found: WireFormat = getattr(module, f"{name.upper()}_WIRE")
    return found
