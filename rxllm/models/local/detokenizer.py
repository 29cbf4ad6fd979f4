"""The text of tokens, one after another, by a tokenizer of Hugging Face."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tokenizers import Tokenizer

__all__ = ["Detokenizer"]

_LONGEST: Final = 8
"""Tokens that are held at most: more bytes than a character has aren't UTF-8."""

_CHARACTER: Final = 3
"""Tokens that a character may still lack one for."""

_INCOMPLETE: Final = "\ufffd"
_NO_MARKERS: Final[Mapping[int, str]] = {}


class Detokenizer:
    """Returns the text that each token completes; characters come whole.

    A text may depend on the token before it (a space at its beginning, say), so each piece is
    decoded together with the one before.

    Args:
        tokenizer: the tokenizer.
        markers: the control tokens that have a text, which others have not.
    """

    def __init__(self, tokenizer: Tokenizer, markers: Mapping[int, str] = _NO_MARKERS) -> None:
        self._tokenizer = tokenizer
        self._markers = markers
        self._before: list[int] = []
        self._pending: list[int] = []

    def step(self, token: int) -> str:
        """Return the text that `token` completes; empty within a character.

        Bytes that aren't UTF-8 become U+FFFD.
        """
        if token in self._markers:
            text = self._decode(self._before + self._pending)[len(self._decode(self._before)) :]
            self._before, self._pending = [], []
            return text + self._markers[token]
        self._pending.append(token)
        ready = len(self._pending)
        if self._decode(self._before + self._pending).endswith(_INCOMPLETE):
            if ready < _LONGEST:
                return ""
            ready -= _CHARACTER
        before = self._decode(self._before)
        text = self._decode(self._before + self._pending[:ready])
        self._before, self._pending = self._pending[:ready], self._pending[ready:]
        return text[len(before) :]

    def _decode(self, tokens: list[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return text
