"""Texts that are hard to split, and helpers to inspect an operator's output."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st
from reactivex import Observable

from rxllm.chunks import Chunk, Token, text_of
from rxllm.models.scripted import ScriptedModel
from rxllm.testing import Marbles

ATOMS = [
    *"ab cE.,!?'\"-1\n\t",
    "\r\n",
    "\r",
    "e\u0301",
    "\u0301",
    "ß",
    "Σ",
    "İ",
    "字",
    "。",
    "、",
    "שלום",
    "مرحبا",
    "\u200f",
    "ไทย",
    "नमस्ते",
    "👩\u200d🚀",
    "\u200d",
    "👍🏽",
    "🇳🇴",
    "🇳",
    " Dr. ",
    "3.14",
    "...",
    "…",
    "bad",
    "END",
]
"""Letters, whitespace, combining marks, CJK, right-to-left text, emoji, and text that looks like
the end of a sentence."""

TEXTS = st.lists(st.sampled_from(ATOMS), max_size=24).map("".join)


@st.composite
def cut_texts(draw: st.DrawFn, texts: st.SearchStrategy[str] = TEXTS) -> tuple[str, list[str]]:
    """A text and its pieces, split anywhere, even inside a grapheme."""
    text = draw(texts)
    places = draw(st.lists(st.integers(0, len(text)), max_size=12).map(sorted))
    borders = [0, *places, len(text)]
    return text, [text[start:end] for start, end in pairwise(borders)]


def events_of(
    pieces: Iterable[str | Chunk], operator: Callable[[Observable[Chunk]], Observable[Any]]
) -> list[Any]:
    """All events from `operator` if a model emits `pieces` a second apart."""
    script = [Token(piece) if isinstance(piece, str) else piece for piece in pieces]
    stream = ScriptedModel(script, delay=1).stream("Hi").pipe(operator)
    return [event for _, event in Marbles().run(stream, until=1e6)]


def text_after(
    pieces: Iterable[str], operator: Callable[[Observable[Chunk]], Observable[Any]]
) -> str:
    """The joined text from `operator`."""
    return "".join(map(text_of, events_of(pieces, operator)))


def pieces_after(
    pieces: Iterable[str], operator: Callable[[Observable[Chunk]], Observable[Any]]
) -> list[str]:
    """The non-empty pieces of text from `operator`."""
    return [text for event in events_of(pieces, operator) if (text := text_of(event))]
