"""Text is text: control tokens come from the chat template alone, never from what it is given.

Where a message contains the text of a control token, a mark is put into it before the template is
rendered, so that it differs from those of the template. The prompt is then cut at the template's
control tokens, and what lies between them is tokenized without any.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from rxllm.messages import Message
from rxllm.models.local.chat_template import ChatTemplate

__all__ = ["ControlToken", "PromptTokenizer"]

_MARKS: Final = tuple([chr(code) for code in range(0xFDD0, 0xFDF0)])
"""Noncharacters of Unicode, which texts don't contain."""

_SHORTEST: Final = 2  # characters; a mark must fit in


@dataclass(frozen=True, slots=True)
class ControlToken:
    """A control token: its id, its text, and whether it takes the white space around it along."""

    id: int
    text: str
    takes_left: bool = False
    takes_right: bool = False


class PromptTokenizer:
    """Turns messages into the tokens of a prompt.

    Args:
        template: the chat template.
        controls: the control tokens of the vocabulary.
        encode: tokenizes a text with control tokens.
        encode_plain: tokenizes a text without any: they are ordinary text.
        first: the tokens that a prompt begins with, unless it begins with `first_text`.
        first_text: the text of these tokens.
    """

    def __init__(
        self,
        template: ChatTemplate,
        controls: Iterable[ControlToken],
        encode: Callable[[str], list[int]],
        encode_plain: Callable[[str], list[int]],
        *,
        first: list[int],
        first_text: str,
    ) -> None:
        self._template = template
        self._controls = {each.text: each for each in controls if len(each.text) >= _SHORTEST}
        by_length = sorted(self._controls, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, by_length)) or r"(?!)")
        self._prefixes = _parts_of(by_length, lambda text, length: text[:length])
        self._suffixes = _parts_of(by_length, lambda text, length: text[-length:])
        self._longest = max(map(len, by_length), default=0)
        self._encode = encode
        self._encode_plain = encode_plain
        self._first = first
        self._first_text = first_text

    def tokens(self, messages: tuple[Message, ...]) -> list[int]:
        """Return the tokens of the prompt for `messages`.

        Raises:
            UnsupportedError: the template rejects these messages.
        """
        mark = _mark_for(messages)
        prompt = self._template.render(messages, lambda text: self._marked(text, mark))
        begins = bool(self._first_text) and prompt.startswith(self._first_text)
        first = [] if begins else self._first
        if mark not in prompt:
            return [*first, *self._encode(prompt)]
        return [*first, *self._cut(prompt, mark)]

    def _marked(self, text: str, mark: str) -> str:
        """Put a mark into each control token, and beside a part of one at the ends."""
        text = text.replace(mark, "")
        while (found := self._pattern.search(text)) is not None:
            place = found.start() + 1
            text = text[:place] + mark + text[place:]
        lengths = range(_SHORTEST, self._longest)
        if any(text[-length:] in self._prefixes for length in lengths):
            text += mark
        if any(text[:length] in self._suffixes for length in lengths):
            text = mark + text
        return text

    def _cut(self, prompt: str, mark: str) -> Iterator[int]:
        place, is_taken = 0, False
        for found in [*self._pattern.finditer(prompt), None]:
            control = self._controls[found[0]] if found is not None else None
            text = prompt[place : found.start() if found is not None else None]
            text = text.lstrip() if is_taken else text
            text = text.rstrip() if control is not None and control.takes_left else text
            if text := text.replace(mark, ""):
                yield from self._encode_plain(text)
            if found is not None and control is not None:
                yield control.id
                place, is_taken = found.end(), control.takes_right


def _parts_of(texts: Iterable[str], part: Callable[[str, int], str]) -> frozenset[str]:
    """The beginnings or the ends of texts, but for single characters and for all of them."""
    return frozenset([part(text, length) for text in texts for length in range(2, len(text))])


def _mark_for(messages: tuple[Message, ...]) -> str:
    """Return a mark that no message contains, if there is one."""
    text = "".join([message.text for message in messages])
    return next((mark for mark in _MARKS if mark not in text), _MARKS[0])
