"""`lines`: the text line by line."""

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
    r"""Turn each line into one numbered token, sent as soon as the line is complete.

    ::

        S-a-b\n-c-d-E|
        [ lines(on_result) ]
        S--(ab\n)-----(cd,E)|       result: 2 lines, 5 characters

    A line ends with `\n`, `\r\n` or `\r`, as in Python's universal newlines, and keeps these
    characters, so the joined text is unchanged. An empty line counts as a line; a final line ending
    doesn't start another one. The lines are the same however the text is cut into chunks.
    `Token.number` counts them from 1. The confidence of a line is the joint probability of its
    tokens, if all of them have one. Batches are unpacked. Other chunks that arrive in the middle of
    a line are sent after it.

    - Completion, error: the last line is sent first, then `on_result` is called. If it raises, a
      completion becomes that error; an error stays as it was, with a note added.
    - Restart: the held line is dropped, and lines are counted from 1 again. Usage, progress and
      notices that arrived after the start of that line are sent before the restart notice.
    - Disposal: the held line is dropped; nothing is reported.
    - Demand: passes through. One incomplete line is held, at most `longest` characters, with the
      other chunks that arrived after its start. A `\r` waits for the next character.

    Args:
        on_result: called with a `TextCount` once at the end of each stream that had text (each
            source, after a merge).
        longest: maximum length of a line in characters. A longer line is split at or before that,
            between two graphemes, and each part is counted as a line.

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
    """Finds where lines start."""

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
