"""How long the answers of a stream may become."""

from __future__ import annotations

from typing import Final

from rxllm.chunks import Notice, Start

__all__ = ["ExpectedTokens"]

_SAME_ANSWER: Final = ("retry", "fallback", "degraded", "resume")


class ExpectedTokens:
    """The maximum number of tokens of each source, from its `Start`, or one that is given.

    A second `Start` of a source (the next answer of a run) adds its maximum to the tokens before
    it. After the notice of another attempt, the answer is the same one, also if its beginning is
    withheld or it is continued: the tokens before it stay those before the first attempt.

    Args:
        given: the maximum, of each source and of all together, or `None` to learn it.
    """

    def __init__(self, given: int | None) -> None:
        self._given = given
        self._of: dict[str | None, int | None] = {}
        self._before: dict[str | None, int] = {}
        self._same_answer: set[str | None] = set()  # sources whose next `Start` begins it again

    def start(self, start: Start, before: int) -> None:
        """Note the `Start` of an answer, with the tokens of its source before it."""
        if start.source in self._same_answer:
            self._same_answer.discard(start.source)
            before = self._before.get(start.source, 0)
        self._before[start.source] = before
        self._of[start.source] = None if start.max_tokens is None else before + start.max_tokens

    def notice(self, notice: Notice) -> None:
        """Note a `Notice`, which says what the next `Start` is."""
        sources = [notice.source] if notice.source is not None else [None, *self._before]
        if notice.kind == "restart":
            self._same_answer.difference_update(sources)
        elif notice.kind in _SAME_ANSWER and notice.attempt is not None:
            self._same_answer.update(sources)

    def of(self, source: str | None) -> int | None:
        """The maximum of one source, or `None` if unknown."""
        return self._of.get(source) if self._given is None else self._given

    @property
    def total(self) -> int | None:
        """The maximum of all sources, or `None` if that of one is unknown."""
        if self._given is not None:
            return self._given
        known = [each for each in self._of.values() if each is not None]
        return sum(known) if known and len(known) == len(self._of) else None
