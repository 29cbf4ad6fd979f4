"""`rechunk`: the text in pieces of a given length."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, Literal, TypeAlias

from reactivex import Observable, abc

from rxllm.chunks import Batch, Chunk, Token
from rxllm.operators._graphemes import border, graphemes
from rxllm.operators._held_text import HeldText, joined
from rxllm.operators._text_operator import TextState, text_operator
from rxllm.stream import Stream
from rxllm.valve import clock_of

__all__ = ["rechunk"]

Border: TypeAlias = Literal["character", "space"]
Size: TypeAlias = int | Literal["small", "medium", "large", "adaptive"]

_SIZES: Final = {"small": 16, "medium": 64, "large": 256}
_SMALLEST: Final = 16
_FIRST: Final = 64
_LARGEST: Final = 512
_LONG: Final = 0.2
_SHORT: Final = 0.05


def rechunk(
    size: Size = "adaptive", *, at: Border = "character"
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Cut the text into pieces of a fixed length, or of one that adapts to the stream's pace.

    ::

        S-ab-cdefgh-i-(E,|)
        [ rechunk(3) ]
        S----(abc,def)(ghi,E,|)

    A piece is a `Token` with the longest text of at most `size` characters that doesn't split a
    grapheme; a longer grapheme is a piece by itself. A piece is sent once the character after it
    has arrived. For a number, and for the three named sizes, the pieces are the same however the
    text is cut into chunks. With `at="space"`, a piece ends after the last white space that it may
    have, so that only words that are longer than a piece are cut.

    `"adaptive"` starts at 64 characters. After each full piece it looks at the time since the
    previous one: above 200 ms the next piece may be 1.5 times as long, up to 512 characters; below
    50 ms 0.8 times, down to 16. The pieces then depend on timing; only the joined text is always
    the same. There is no timer: a stalled stream keeps its held text.

    The confidence of a piece is the product of its tokens' confidences, if all of them have one. A
    `Batch` is unpacked. Any other chunk of the same source flushes the text before it.

    - Completion, error: held text is sent first.
    - Restart: held text of that stream is dropped, and the length is reset to the first one.
    - Disposal: held text is dropped.
    - Demand: passes through. At most `size` characters of each source are held, or one grapheme,
      so memory doesn't grow with the text.

    Args:
        size: characters, 1 or more; `"small"` (16), `"medium"` (64), `"large"` (256) or
            `"adaptive"`.
        at: where pieces may end: `"character"` or `"space"`.

    Raises:
        ValueError: `size` is below 1, or an unknown name; `at` is unknown.
        TypeError: `size` is neither an integer nor a name.

    >>> from rxllm.testing import Marbles
    >>> marbles = Marbles()
    >>> for time, event in marbles.run(marbles.cold("ab-cdefgh-i|").pipe(rechunk(3))):
    ...     print(time, getattr(event, "text", event))
    3.0 abc
    3.0 def
    11.0 ghi
    11.0 |
    """
    if at not in ("character", "space"):
        raise ValueError(f"at must be 'character' or 'space', got {at!r}")
    at_spaces = at == "space"
    if size == "adaptive":
        return partial(_adaptive, at_spaces=at_spaces)
    length = _length(size)
    return text_operator(
        "rechunk", lambda source: _Rechunker(source, _FixedLength(length), at_spaces)
    )


def _length(size: object) -> int:
    if isinstance(size, str):
        if size not in _SIZES:
            raise ValueError(
                f"size must be an integer, 'adaptive' or one of {list(_SIZES)}, got {size!r}"
            )
        return _SIZES[size]
    if not isinstance(size, int) or isinstance(size, bool):
        raise TypeError(f"size must be an integer (characters) or a name, got {size!r}")
    if size < 1:
        raise ValueError(f"size must be 1 or more (characters per piece), got {size}")
    return size


def _adaptive(source: Observable[Chunk], *, at_spaces: bool) -> Stream[Chunk]:
    def subscribe(
        observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        clock = clock_of(scheduler)
        pack = text_operator(
            "rechunk", lambda name: _Rechunker(name, _AdaptiveLength(clock), at_spaces)
        )
        return pack(source).subscribe(observer, scheduler=scheduler)

    return Stream(subscribe, "rechunk", of_chunks=True)


class _FixedLength:
    """A constant length."""

    __slots__ = ("characters",)

    def __init__(self, characters: int) -> None:
        self.characters = characters

    def sent(self) -> None:
        """Record that a full piece has been sent."""


class _AdaptiveLength(_FixedLength):
    """A length that adapts to the time between two pieces."""

    __slots__ = ("_clock", "_last", "_length")

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(_FIRST)
        self._clock = clock
        self._length = float(_FIRST)
        self._last: float | None = None

    def sent(self) -> None:
        now = self._clock()
        interval = _SHORT if self._last is None else now - self._last
        self._last = now
        if interval > _LONG:
            self._length = min(self._length * 1.5, _LARGEST)
        elif interval < _SHORT:
            self._length = max(self._length * 0.8, _SMALLEST)
        self.characters = int(self._length)


class _Rechunker(TextState):
    """The text of one source that isn't a full piece yet."""

    __slots__ = ("_at_spaces", "_held", "_length", "_parts", "_size", "_source")

    def __init__(self, source: str | None, size: _FixedLength, at_spaces: bool) -> None:
        self._at_spaces = at_spaces
        self._source = source
        self._size = size
        self._held = HeldText()
        self._parts: list[str] = []  # the held text
        self._length = 0  # of the held text

    def text(self, chunk: Token | Batch) -> Iterable[Chunk]:
        if type(chunk) is Token:
            return self._add(chunk)
        sent: list[Chunk] = []
        for part in chunk.chunks if type(chunk) is Batch else ():
            sent.extend(self._add(part) if type(part) is Token else self.other(part))
        return sent

    def other(self, chunk: Chunk) -> Iterable[Chunk]:
        return (*self.end(), chunk)

    def end(self) -> Iterable[Chunk]:
        if not self._length:
            return ()
        length, self._length = self._length, 0
        self._parts.clear()
        return (self._piece(length),)

    def _add(self, token: Token) -> Iterable[Chunk]:
        if not token.text:
            return ()
        self._held.append(token)
        self._parts.append(token.text)
        self._length += len(token.text)
        return self._full_pieces() if self._length > self._size.characters else ()

    def _full_pieces(self) -> Iterable[Chunk]:
        text, start = "".join(self._parts), 0
        is_plain = text.isascii() and "\r" not in text
        pieces: list[Chunk] = []
        while len(text) - start > (length := self._size.characters):
            end = start + length if is_plain else _border(text, start, length)
            if end == len(text):
                break  # the last grapheme may be incomplete
            if self._at_spaces:
                end = _after_space(text, start, end)
            pieces.append(self._piece(end - start))
            self._size.sent()
            start = end
        self._parts = [text[start:]]
        self._length = len(text) - start
        return pieces

    def _piece(self, length: int) -> Token:
        return joined(self._held.take(length), self._source)


def _border(text: str, start: int, length: int) -> int:
    """Where a piece that starts at `start` ends, if more than `length` characters follow.

    Whether there is a border between two characters doesn't depend on the text after them.
    """
    window = text[start : start + length + 1]
    end = len(window) - len(graphemes(window)[-1])
    if end == 0:
        return border(text, start, start + 1)
    return start + end


def _after_space(text: str, start: int, end: int) -> int:
    """Return the place after the last white space before `end`, or `end` if there is none."""
    for place in range(end, start, -1):
        if text[place - 1].isspace() and _border(text, start, place - start) == place:
            return place
    return end
