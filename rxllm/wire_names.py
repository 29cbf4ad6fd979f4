"""The names of all wire formats, as options, tables and the command line use them."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

__all__ = ["EXTENSION", "WireName"]

EXTENSION: Final = "rxllm"
"""Marks what we add to the wires of others: the states of other providers, on their way through."""

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
