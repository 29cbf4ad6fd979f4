"""How much of the prompts a decode step reads while other streams are answering."""

from __future__ import annotations

from typing import Final

__all__ = ["PromptPace"]

_LONGEST: Final = 0.04  # seconds; with what answers take beside it, no stream waits for 0.1 s
_FIRST: Final = 64
_FEWEST: Final = 2
_WEIGHT: Final = 0.5


class PromptPace:
    """Limits the prompt tokens of a step by the time that earlier ones took.

    Args:
        most: tokens of a step when no stream is answering.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._per_second: float | None = None

    def room(self, *, is_shared: bool) -> int:
        """Return how many tokens the next step may read; `is_shared` if a stream is answering."""
        if not is_shared:
            return self._most
        if self._per_second is None:
            return min(_FIRST, self._most)
        return max(_FEWEST, min(self._most, int(self._per_second * _LONGEST)))

    def note(self, tokens: int, seconds: float) -> None:
        """Take note of what a step has read; later tokens of a long prompt take longer."""
        if tokens < _FEWEST:
            return
        speed = tokens / max(seconds, 1e-6)
        known = self._per_second
        self._per_second = speed if known is None else known + _WEIGHT * (speed - known)
