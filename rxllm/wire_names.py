"""The names of all wire formats, as options, tables and the command line use them."""

from __future__ import annotations

from typing import Literal, TypeAlias

__all__ = ["WireName"]

WireName: TypeAlias = Literal[
    "sse",
    "ndjson",
    "openai_chat",
    "openai_responses",
    "anthropic",
    "ui_messages",
    "ag_ui",
    "ollama",
    "gemini",
]
"""A form in which a stream travels. `sse` and `ndjson` carry the chunks themselves."""
