"""`split_reasoning`: thinking that a model writes into its answer, as reasoning."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from reactivex import Observable

from rxllm.chunks import Batch, Chunk, Reasoning, Token, text_of
from rxllm.operators._held_text import HeldText, is_text, parts_of
from rxllm.operators._text_operator import TextState, text_operator
from rxllm.restart import survives_restart
from rxllm.stream import Stream
from rxllm.text.tags import TagSplitter, Where

__all__ = ["split_reasoning"]


def split_reasoning(
    begin: str = "<think>", end: str = "</think>", *, inside: bool = False
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Turn what stands between two tags in the answer into `Reasoning`, and drop the tags.

    ::

        <think>-hm</th-ink>Yes-E|
        [ split_reasoning() ]
        --------r------Yes-----E|    r: Reasoning("hm")

    Open models on servers without a parser for reasoning send it this way. Everything else stays
    as it is, however the text is cut into chunks; white space around the tags is kept. Reasoning
    that doesn't end is reasoning to the end of the answer. Several blocks are all found.

    - Completion, error: held text is released first, as reasoning or as text.
    - Restart: passed on; held text is dropped, and the answer begins outside again, or `inside`.
    - Disposal: upstream is disposed, and held text is dropped.
    - Demand: passes through.
    - Holds text that may be the beginning of a tag: fewer characters than the tag has, and the
      chunks behind it.

    Args:
        begin: the tag before the reasoning.
        end: the tag after it.
        inside: the answer begins inside the reasoning, since the prompt ends with `begin`.

    Raises:
        TypeError: a tag is not a string.
        ValueError: a tag is empty.

    >>> from rxllm.testing import Marbles
    >>> marbles = Marbles()
    >>> chunks = {"a": Token("<think>hm</th"), "b": Token("ink>Yes")}
    >>> events = marbles.run(marbles.cold("a-b|", lookup=chunks).pipe(split_reasoning()))
    >>> for _, chunk in events[:-1]:
    ...     print(type(chunk).__name__, chunk.text)
    Reasoning hm
    Token Yes
    """
    for name, tag in (("begin", begin), ("end", end)):
        if not isinstance(tag, str):
            raise TypeError(f"{name} must be a string, got {tag!r}")
        if not tag:
            raise ValueError(f"{name} must not be empty")
    return text_operator("split_reasoning", lambda _: _Split((begin, end), inside))


class _Split(TextState):
    """The text of one source."""

    __slots__ = ("_held", "_tags")

    def __init__(self, tags: tuple[str, str], inside: bool) -> None:
        self._tags = TagSplitter(*tags, inside=inside)
        self._held = HeldText()

    def text(self, chunk: Token | Batch) -> Iterable[Chunk]:
        self._held.append(chunk)
        return self._released(self._tags.feed(chunk.text))

    def other(self, chunk: Chunk) -> Iterable[Chunk]:
        if not self._held:
            return (chunk,)
        self._held.append(chunk)
        return ()

    def end(self) -> Iterable[Chunk]:
        return [*self._released(self._tags.flush()), *self._held.take_all()]

    def restart(self) -> Iterable[Chunk]:
        return filter(survives_restart, self._held.drop_all())

    def _released(self, pieces: Iterable[tuple[Where, str]]) -> list[Chunk]:
        released: list[Chunk] = []
        for where, text in pieces:
            if where is Where.TAG:
                released += self._held.drop(len(text))
            elif where is Where.OUTSIDE:
                released += self._held.take(len(text))
            else:
                released += map(_as_reasoning, parts_of(self._held.take(len(text))))
        return released


def _as_reasoning(part: Chunk) -> Chunk:
    return Reasoning(text_of(part), source=part.source) if is_text(part) else part
