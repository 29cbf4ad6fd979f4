"""The time in which a local model is loaded, which isn't time that it takes for its first token."""

from __future__ import annotations

from collections.abc import Callable

from rxllm.chunks import Chunk, Notice

__all__ = ["LoadingTime"]


class LoadingTime:
    """Adds up the seconds from each `Notice("loading")` to the chunk after it.

    Attributes:
        seconds: the sum; the time of a model that is still being loaded isn't in it.
    """

    __slots__ = ("_begun", "_clock", "seconds")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._begun: float | None = None
        self.seconds: float = 0.0

    def add(self, chunk: Chunk) -> None:
        """Take note of a `Start` or a `Notice`."""
        if self._begun is not None:
            self.seconds += self._clock() - self._begun
            self._begun = None
        if type(chunk) is Notice and chunk.kind == "loading":
            self._begun = self._clock()
