"""The state of `redact` for one source: held text, and what was masked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import msgspec

from rxllm.chunks import Batch, Chunk, Token, is_bare_state, tokens_of
from rxllm.operators._held_text import HeldText, parts_of
from rxllm.operators._text_operator import TextState
from rxllm.operators.filtering._targets import Target
from rxllm.operators.filtering._word_search import UNDECIDED
from rxllm.restart import survives_restart

__all__ = ["RedactState", "Redaction"]


@dataclass(frozen=True)
class Redaction:
    """What `redact` masked in one answer.

    Attributes:
        count: number of masked matches; 0 means that the text is unchanged.
        by: number of matches for each word (as it was passed) and each pattern (its text).
        source: the stream, after a merge.
    """

    count: int
    by: Mapping[str, int]
    source: str | None = None


class RedactState(TextState):
    """The text of one source."""

    __slots__ = (
        "_begun",
        "_by",
        "_context",
        "_held",
        "_on_result",
        "_source",
        "_targets",
        "_text",
    )

    def __init__(
        self,
        source: str | None,
        targets: list[Target],
        context: int,
        on_result: Callable[[Redaction], object] | None,
    ) -> None:
        self._source = source
        self._targets = targets
        self._context = context
        self._on_result = on_result
        self._by: Counter[str] = Counter()
        self._held = HeldText()
        self._text = ""  # up to `context` sent characters, and the held text
        self._begun = 0  # where the held text starts

    def text(self, chunk: Token | Batch) -> list[Chunk]:
        text = self._text = self._text + chunk.text
        for target in self._targets:
            target.read(text)
        if not self._held:
            end = len(text)
            for target in self._targets:
                if target.first(text, self._begun) != end:
                    break
            else:
                self._leave(end)
                return [chunk]
        self._held.append(chunk)
        return self._decide(ended=False)

    def other(self, chunk: Chunk) -> list[Chunk]:
        if not self._held:
            return [chunk]
        self._held.append(chunk)
        return []

    def restart(self) -> Iterable[Chunk]:
        return filter(survives_restart, self._held.drop_all())

    def end(self) -> list[Chunk]:
        sent = self._decide(ended=True)
        if self._on_result is not None:
            self._on_result(Redaction(self._by.total(), dict(self._by), self._source))
        return sent

    def _decide(self, *, ended: bool) -> list[Chunk]:
        """Decide as much of the held text as possible, from its start."""
        text, sent, begun = self._text, list[Chunk](), self._begun
        end = len(text)
        firsts = [target.first(text, begun) for target in self._targets]
        while (place := min(firsts)) < end:
            length, name, target = self._longest_at(place, firsts, ended)
            if length == UNDECIDED:
                break
            if length:
                sent += self._held.take(place - begun)
                self._by[name] += 1
                sent += self._masked(length, target.mask(text, place, length))
                begun = place + length
            onward = max(begun, place + 1)
            for index, first in enumerate(firsts):
                if first < onward:
                    firsts[index] = self._targets[index].first(text, onward)
        sent += self._held.take(place - begun)
        self._leave(place)
        return sent

    def _longest_at(self, place: int, firsts: list[int], ended: bool) -> tuple[int, str, Target]:
        longest = (0, "", self._targets[0])
        for target, first in zip(self._targets, firsts, strict=True):
            if first == place:
                length, name = target.at(self._text, place, ended)
                if length == UNDECIDED:
                    return length, name, target
                if length > longest[0]:
                    longest = length, name, target
        return longest

    def _masked(self, length: int, mask: str) -> list[Chunk]:
        """The mask for the next `length` characters, with the non-text chunks among them."""
        left: list[Chunk] = []
        parts = parts_of(self._held.take(length))
        tokens = sum(tokens_of(part) for part in parts if type(part) is Token and part.text)
        for part in parts:
            if type(part) is not Token or is_bare_state(part):
                left.append(part)
            elif mask and part.text:
                left.append(
                    msgspec.structs.replace(
                        part, text=mask, confidence=None, logprobs=None, masked=True, tokens=tokens
                    )
                )
                mask = ""
        return left

    def _leave(self, place: int) -> None:
        """Drop the text before `place`, except for what a look-behind may need."""
        cut = max(0, place - self._context)
        self._text, self._begun = self._text[cut:], place - cut
        for target in self._targets:
            target.cut(cut)
