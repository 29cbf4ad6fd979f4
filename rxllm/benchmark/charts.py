"""Benchmark results as a table and bars for a terminal, and as an SVG."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Final
from xml.sax.saxutils import escape

from rich.cells import cell_len

from rxllm.arguments import check_int
from rxllm.benchmark.report import BenchmarkReport, BenchmarkRow
from rxllm.sinks.printable import printable

__all__ = ["as_bars", "as_svg", "as_table"]

_HEADER: Final = (
    *("first/ms", "between/ms", "CV/%", "p95/ms", "tokens/s", "same/%", "expected/%"),
    "failed",
)
_LEAST: Final = 12  # minimum width of a name, in terminal columns
_NOT_XML: Final = re.compile(r"[\ud800-\udfff\ufffe\uffff]")

_BAR, _GAP, _LEFT, _WIDTH = 22, 10, 260, 760  # pixels
_NAME: Final = 32  # narrow characters that fit left of the bars
_COLOURS: Final = ("#3b6ea5", "#5b8c5a")


def as_table(report: BenchmarkReport, *, width: int = 80) -> Iterator[str]:
    """Yield the lines of a table of the results.

    Its columns are the time to the first token, times between tokens (mean, coefficient of
    variation, 95th percentile), tokens per second, the share of identical answers, and failures,
    which are listed below the table. Columns without any value are omitted.

    Args:
        report: the results.
        width: terminal width in columns, 1 or more; names are shortened to fit, if possible.
    """
    check_int("width", width, "the columns of the terminal")
    table = [_HEADER, *map(_cells, report.rows)]
    columns = [column for column in zip(*table, strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in columns]
    names = _names(report.rows, max(_LEAST, width - sum(widths) - 2 * len(widths)))
    margin = max(map(cell_len, names), default=0)
    if columns:
        for name, *cells in zip(["", *names], *columns, strict=True):
            yield "  ".join([_fill(name, margin), *map(str.rjust, cells, widths)]).rstrip()
    for name, row in zip(names, report.rows, strict=True):
        if row.errors:
            yield f"{name}: {', '.join(f'{count} {kind}' for kind, count in row.errors.items())}"


def _cells(row: BenchmarkRow) -> tuple[str, ...]:
    return (
        _number(row.time_to_first_token, 1000),
        _number(row.interval, 1000),
        _number(row.variation),
        _number(row.p95, 1000),
        _number(row.tokens_per_second),
        _number(row.consistency, 100),
        _number(row.as_expected, 100),
        f"{row.failed} of {row.runs}" if row.failed else "",
    )


def as_bars(report: BenchmarkReport, *, width: int = 80, block: str = "█") -> Iterator[str]:
    """Yield the lines of two bar charts.

    Args:
        report: the results.
        width: terminal width in columns, 1 or more; the lines fit into it, if possible.
        block: the character that bars are drawn with.
    """
    check_int("width", width, "the columns of the terminal")
    names = _names(report.rows, max(_LEAST, width // 3))
    margin = max(map(cell_len, names), default=0)
    for title, values, words in _charts(report):
        yield title
        longest = max(values, default=0.0)
        room = max(1, width - len("  ") - margin - len("   ") - max(map(len, words), default=0))
        for name, value, word in zip(names, values, words, strict=True):
            length = max(1, round(room * value / longest)) if value else 0
            yield f"  {_fill(name, margin)}  {block * length}{' ' if length else ''}{word}"


def as_svg(report: BenchmarkReport) -> str:
    """Return the same two charts as an SVG document."""
    shapes: list[str] = []
    names = _names(report.rows, _NAME)
    top = 0
    for colour, (title, values, words) in zip(_COLOURS, _charts(report), strict=True):
        shapes.append(_text(0, top + 16, title, weight="bold"))
        top += _BAR + _GAP
        longest = max(values, default=0.0)
        room = _WIDTH - _LEFT - 110  # leaves space for the value after the bar
        for name, value, word in zip(names, values, words, strict=True):
            length = room * value / longest if longest else 0.0
            shapes.append(_text(_LEFT - 8, top + 16, name, anchor="end"))
            shapes.append(
                f'<rect x="{_LEFT}" y="{top}" width="{length:.1f}" height="{_BAR}" '
                f'fill="{colour}"/>'
            )
            shapes.append(_text(_LEFT + length + 8, top + 16, word))
            top += _BAR + _GAP
        top += _GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{top}" '
        f'viewBox="0 0 {_WIDTH} {top}" font-family="sans-serif" font-size="13">\n'
        '<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(shapes) + "\n</svg>\n"
    )


def _charts(report: BenchmarkReport) -> Iterator[tuple[str, list[float], list[str]]]:
    """Yield for each chart its title, values, and the values as text."""
    first = [row.time_to_first_token for row in report.rows]
    words = [f"{_number(each, 1000)} ms" if each is not None else "-" for each in first]
    yield "time to first token", _or_zero(first), words
    speeds = [row.tokens_per_second for row in report.rows]
    yield "tokens per second", _or_zero(speeds), [_number(each) or "-" for each in speeds]


def _or_zero(values: Iterable[float | None]) -> list[float]:
    return [value or 0.0 for value in values]


def _names(rows: Sequence[BenchmarkRow], room: int) -> list[str]:
    """Return the names of the rows, each within `room` columns; numbered if not distinct."""
    names = [_name(row, room) for row in rows]
    if len(set(names)) == len(names):
        return names
    digits = len(str(len(rows)))
    return [
        f"{number:{digits}} {_name(row, room - digits - 1)}" for number, row in enumerate(rows, 1)
    ]


def _name(row: BenchmarkRow, room: int) -> str:
    """`model: case` within `room` columns; a part shorter than half leaves room for the other."""
    model, case = (" ".join(printable(part).split()) for part in (row.model, row.case))
    left = room - len(": ")
    model = _cut(model, max(left // 2, left - cell_len(case)))
    return f"{model}: {_cut(case, left - cell_len(model))}"


def _cut(text: str, room: int) -> str:
    """Shorten `text` to `room` columns, in the middle: names differ at their start or end."""
    if cell_len(text) <= room:
        return text
    left = max(0, room - len("..."))
    return _first(text, left - left // 2) + "..." + _first(text[::-1], left // 2)[::-1]


def _first(text: str, room: int) -> str:
    """Return the longest prefix of `text` that fits into `room` columns."""
    columns = accumulate(map(cell_len, text))
    return text[: sum(taken <= room for taken in columns)]


def _fill(text: str, columns: int) -> str:
    return text + " " * (columns - cell_len(text))


def _number(value: float | None, factor: float = 1) -> str:
    if value is None:
        return ""
    number = factor * value
    digits = 2 if number < 10 else int(number < 100)
    return f"{number:.{digits}f}"


def _text(x: float, y: int, words: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return (
        f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}" font-weight="{weight}">'
        f"{escape(_NOT_XML.sub(chr(0xFFFD), words))}</text>"
    )
