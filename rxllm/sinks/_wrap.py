"""Wrap text into terminal lines, however it is cut into pieces."""

from __future__ import annotations

import re

from rich.cells import cell_len, chop_cells

__all__ = ["wrap"]


def wrap(text: str, width: int) -> list[str]:
    """Cut `text` into lines of at most `width` cells, between words or within longer words.

    Spaces at the end of a line don't count, but one of them is kept, so that `wrap(last + more)`
    continues the last line as if `more` had been there from the start. Tabs become spaces.

    >>> wrap("one two  three ", 8)
    ['one two ', 'three ']
    >>> wrap("onetwothree", 4)
    ['onet', 'woth', 'ree']
    """
    return [
        line for paragraph in text.split("\n") for line in _wrap_line(paragraph.expandtabs(), width)
    ]


def _wrap_line(text: str, width: int) -> list[str]:
    lines, line, cells = [], "", 0
    for run in re.findall(r" +|[^ ]+", text):
        if run[0] == " ":
            run = run[: max(1, width - cells)]
        elif cells + cell_len(run) > width:
            if line:
                lines.append(line)
            *full, run = chop_cells(run, width)
            lines += full
            line, cells = "", 0
        line += run
        cells += cell_len(run)
    return [*lines, line]
