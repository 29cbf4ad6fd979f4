"""Text between two tags, however the text is cut into pieces."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

__all__ = ["TagSplitter", "Where", "held_length"]


class Where(Enum):
    """Where a piece of text stands."""

    OUTSIDE = 0
    INSIDE = 1
    TAG = 2


class TagSplitter:
    """Splits a text into what is outside of two tags, what is inside, and the tags.

    The pieces, joined, are the text. Held back is only what may be the beginning of a tag.

    Args:
        begin: the tag before what is inside; not empty.
        end: the tag after it; not empty.
        inside: the text begins inside.

    >>> tags = TagSplitter("<b>", "</b>")
    >>> [(where.name, text) for where, text in tags.feed("a<b>c<")]
    [('OUTSIDE', 'a'), ('TAG', '<b>'), ('INSIDE', 'c')]
    >>> [(where.name, text) for where, text in tags.flush()]
    [('INSIDE', '<')]
    """

    __slots__ = ("_held", "_tags", "is_inside")

    def __init__(self, begin: str, end: str, *, inside: bool = False) -> None:
        self._tags = (begin, end)
        self._held = ""
        self.is_inside: bool = inside

    def feed(self, text: str) -> Iterator[tuple[Where, str]]:
        """Yield the pieces that `text` decides on, without empty ones."""
        text = self._held + text
        while True:
            tag = self._tags[self.is_inside]
            place = text.find(tag)
            if place < 0:
                break
            if place:
                yield Where(self.is_inside), text[:place]
            yield Where.TAG, tag
            text = text[place + len(tag) :]
            self.is_inside = not self.is_inside
        decided = len(text) - held_length(text, tag)
        self._held = text[decided:]
        if decided:
            yield Where(self.is_inside), text[:decided]

    def flush(self) -> Iterator[tuple[Where, str]]:
        """Yield the text that is still held, at the end of the whole text."""
        text, self._held = self._held, ""
        if text:
            yield Where(self.is_inside), text


def held_length(text: str, tag: str) -> int:
    """Return how many characters at the end of `text` may be the beginning of `tag`.

    >>> held_length("a <thi", "<think>")
    4
    """
    longest = min(len(text), len(tag) - 1)
    return next((size for size in range(longest, 0, -1) if tag.startswith(text[-size:])), 0)
