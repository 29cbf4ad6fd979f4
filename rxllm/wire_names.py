"""The names of all wire formats, as options, tables and the command line use them."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

__all__ = ["EXTENSION", "TEXT_STATE", "WireName"]

EXTENSION: Final = "rxllm"
"""Marks what we add to the wires of others: the states of other providers, on their way through."""

TEXT_STATE: Final = "rxllm.text"
"""The type of a reasoning detail that is the state of a text."""

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
