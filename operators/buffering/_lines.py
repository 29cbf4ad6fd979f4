"""`lines`: the text by the line."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from reactivex import Observable

from rxllm.chunks import Chunk
from rxllm.operators.buffering._pieces import TextCount, pieces
from rxllm.stream import Stream

__all__ = ["lines"]

_LINE_END: Final = re.compile(r"\r\n?|\n")


def lines(
    on_result: Callable[[TextCount], object] | None = None, *, longest: int = 10_000
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    r"""Make of each line one numbered token, sent as soon as the line is complete.

    ::

        S-a-b\n-c-d-E|
        [ lines(on_result) ]
        S--(ab\n)-----(cd,E)|       report: 2 lines, 5 characters

    A line ends with `\n`, `\r\n` or `\r`, as in Python's universal newlines, and keeps these
    characters: the joined text is the same. An empty line is a line; after the last end of a line
    there is none. The lines are the same however the text is cut into chunks. `Token.number`
    counts them from 1. The confidence of a line is the probability of all its tokens together,
    where each one is known. Batches are unpacked. Other chunks that come in the middle of a line
    leave behind it.

    - Completion, error: the last line leaves first, then `on_result` is called. If that raises, a
      completion becomes that error; an error stays what it was, and gets a note.
    - Restart: the line that is held is dropped, and lines are counted from 1 again. Usage,
      progress and notices that came behind its beginning leave before the notice of the restart.
    - Disposal: what is held is dropped; nothing is reported.
    - Demand: passes through. Held is one line that is not complete, at most `longest` characters,
      and the other chunks that came after its beginning. A `\r` waits for the next character.

    Args:
        on_result: called once at the end of each stream that had text (each source, after a merge),
            with a `TextCount`.
        longest: characters. A longer line is cut before that, between two graphemes, and each
            part is counted as a line.

    Raises:
        TypeError: `on_result` can't be called, or `longest` is not an integer.
        ValueError: `longest` is less than 1.

    >>> from rxllm.models.scripted import ScriptedModel
    >>> from rxllm.testing import Marbles
    >>> stream = ScriptedModel(["one\r", "\ntwo\n\nth", "ree"], delay=1).stream("Count")
    >>> for time, event in Marbles().run(stream.pipe(lines(print))):
    ...     if getattr(event, "text", ""):
    ...         print(time, event.number, repr(event.text))
    TextCount(kind='lines', count=4, characters=15, source=None)
    2.0 1 'one\r\n'
    2.0 2 'two\n'
    2.0 3 '\n'
    3.0 4 'three'
    """
    return pieces("lines", _LineBorders, on_result, longest)


class _LineBorders:
    """Finds where lines begin."""

    __slots__ = ("_after_return", "_length")

    def __init__(self) -> None:
        self._length = 0
        self._after_return = False

    def feed(self, text: str) -> list[int]:
        found: list[int] = []
        position = 0
        if self._after_return:
            position = text[0] == "\n"
            found.append(self._length + position)
        found += [self._length + end.end() for end in _LINE_END.finditer(text, position)]
        self._length += len(text)
        self._after_return = text[-1] == "\r"
        if self._after_return:
            found.pop()  # a "\n" may follow
        return found
