"""`split_reasoning`: thinking that a model writes into its answer, as reasoning."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from reactivex import Observable

from rxllm.chunks import Batch, Chunk, Reasoning, Token, text_of
from rxllm.operators._held_text import HeldText, is_text, parts_of
from rxllm.operators._text_operator import TextState, text_operator
from rxllm.restart import survives_restart
from rxllm.stream import Stream

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

    __slots__ = ("_held", "_inside", "_tags", "_text")

    def __init__(self, tags: tuple[str, str], inside: bool) -> None:
        self._tags = tags
        self._inside = inside
        self._held = HeldText()
        self._text = ""  # the held text

    def text(self, chunk: Token | Batch) -> Iterable[Chunk]:
        self._held.append(chunk)
        self._text += chunk.text
        sent: list[Chunk] = []
        while True:
            tag = self._tags[self._inside]
            place = self._text.find(tag)
            if place < 0:
                sent += self._take(len(self._text) - _begun(self._text, tag))
                return sent
            sent += self._take(place)
            sent += self._held.drop(len(tag))
            self._text = self._text[len(tag) :]
            self._inside = not self._inside

    def other(self, chunk: Chunk) -> Iterable[Chunk]:
        if not self._held:
            return (chunk,)
        self._held.append(chunk)
        return ()

    def end(self) -> Iterable[Chunk]:
        return [*self._take(len(self._text)), *self._held.take_all()]

    def restart(self) -> Iterable[Chunk]:
        return filter(survives_restart, self._held.drop_all())

    def _take(self, length: int) -> list[Chunk]:
        self._text = self._text[length:]
        taken = self._held.take(length)
        if not self._inside:
            return taken
        return [
            Reasoning(text_of(part), source=part.source) if is_text(part) else part
            for part in parts_of(taken)
        ]


def _begun(text: str, tag: str) -> int:
    """How many characters at the end of `text` may begin `tag`."""
    longest = min(len(text), len(tag) - 1)
    return next((size for size in range(longest, 0, -1) if tag.startswith(text[-size:])), 0)
