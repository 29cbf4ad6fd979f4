"""The base of operators that read the text of each source and report on it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from rxllm.arguments import check_callable, check_int
from rxllm.chunks import Batch, Chunk, End, Token, is_bare_state, is_restart
from rxllm.operators.analytics._watcher import Watcher
from rxllm.restart import forget, matching_sources

__all__ = ["TextReader", "TextWatcher", "check_on_result"]

_INSTEAD: Final = "start a task from a plain function"

_Figures = TypeVar("_Figures")


class TextReader(ABC, Generic[_Figures]):
    """Reads the text of one source, starting at its beginning or at a restart."""

    tokens: int = 0

    @abstractmethod
    def read(self, text: str) -> None:
        """Called with each piece of text."""

    @abstractmethod
    def end(self) -> None:
        """Called when the text is complete."""

    @abstractmethod
    def figures(self) -> _Figures:
        """Return the figures so far."""


class TextWatcher(Watcher, Generic[_Figures]):
    """Reports after every `every` tokens of a source, and at its end.

    A source that ends without text is reported too, with the figures of an empty text. Once
    `on_result` has raised, it isn't called again.

    Args:
        reader_of: creates the reader of a source.
        on_result: called with the figures.
        every: tokens between two reports, or `None` to report only at the end.
    """

    def __init__(
        self,
        reader_of: Callable[[str | None], TextReader[_Figures]],
        on_result: Callable[[_Figures], object],
        every: int | None,
    ) -> None:
        self._reader_of = reader_of
        self._on_result = on_result
        self._every = every
        self._readers: dict[str | None, TextReader[_Figures]] = {}
        self._has_ended = False
        self._has_raised = False  # true once `on_result` has raised

    def chunk(self, chunk: Chunk) -> None:
        if type(chunk) is Token and not is_bare_state(chunk):
            self._read(chunk.source, chunk.text, 1)
        elif type(chunk) is Batch:
            tokens = sum(type(each) is Token for each in chunk.chunks)
            self._read(chunk.source, chunk.text, tokens)
        elif type(chunk) is End:
            self._end(chunk.source)
        elif is_restart(chunk):
            forget(self._readers, chunk.source)

    def completed(self) -> None:
        self._end(None)

    def failed(self, error: Exception) -> None:
        if not self._has_raised:
            self._end(None)

    def _read(self, source: str | None, text: str, tokens: int) -> None:
        reader = self._readers.get(source)
        if reader is None:
            reader = self._readers[source] = self._reader_of(source)
        before = reader.tokens
        reader.tokens = before + tokens
        reader.read(text)
        every = self._every
        if every is not None and reader.tokens // every > before // every:
            self._report(reader)

    def _end(self, source: str | None) -> None:
        sources = matching_sources(self._readers, source)
        if not sources and (source is not None or not self._has_ended):
            sources = [source]
        self._has_ended = True
        for each in sources:
            reader = self._readers.pop(each, None) or self._reader_of(each)
            reader.end()
            self._report(reader)

    def _report(self, reader: TextReader[_Figures]) -> None:
        try:
            self._on_result(reader.figures())
        except BaseException:
            self._has_raised = True
            raise


def check_on_result(on_result: Callable[..., object], every: int | None) -> None:
    """Validate `on_result` and `every`."""
    check_callable("on_result", on_result, "a function of the figures", instead=_INSTEAD)
    if every is not None:
        check_int("every", every, "the number of tokens between two reports, or None")
