"""What a benchmark found, as a table, as bars for a terminal, and as an SVG."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final
from xml.sax.saxutils import escape

from rxllm.model_benchmark import BenchmarkReport, BenchmarkRow
from rxllm.sinks._printable import printable

__all__ = ["as_bars", "as_svg", "as_table"]

_HEADER: Final = (
    *("", "first/ms", "between/ms", "CV/%", "p95/ms", "tokens/s", "same/%", "as expected/%"),
    "failed",
)
_NAME: Final = 32  # characters

_BAR, _GAP, _LEFT, _WIDTH = 22, 10, 260, 760  # pixels
_COLOURS: Final = ("#3b6ea5", "#5b8c5a")


def as_table(report: BenchmarkReport) -> Iterator[str]:
    """A table, line by line: time to the first token, times between tokens (mean, coefficient of
    variation, 95th percentile), tokens a second, how many answers were the same, and failures.
    """
    rows = [_HEADER, *map(_cells, report.rows)]
    columns = [column for column in zip(*rows, strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in columns]
    for name, *cells in zip(*columns, strict=True):
        aligned = map(str.rjust, cells, widths[1:])
        yield "  ".join([name.ljust(widths[0]), *aligned]).rstrip()


def _cells(row: BenchmarkRow) -> tuple[str, ...]:
    failures = ", ".join(f"{count} {name}" for name, count in row.errors.items())
    return (
        _name(row),
        _number(row.time_to_first_token, 1000),
        _number(row.interval, 1000),
        _number(row.variation),
        _number(row.p95, 1000),
        _number(row.tokens_per_second),
        _number(row.consistency, 100),
        _number(row.as_expected, 100),
        f"{failures} of {row.runs}" if failures else "",
    )


def as_bars(report: BenchmarkReport, *, width: int = 40, block: str = "█") -> Iterator[str]:
    """Two bar charts, line by line.

    Args:
        report: what to draw.
        width: characters of the longest bar, 1 or more.
        block: what bars are made of.
    """
    names = [_name(row) for row in report.rows]
    margin = max(map(len, names))
    for title, values, words in _charts(report):
        yield title
        longest = max(values, default=0.0)
        for name, value, word in zip(names, values, words, strict=True):
            length = max(1, round(width * value / longest)) if value else 0
            yield f"  {name:{margin}}  {block * length}{' ' if length else ''}{word}"


def as_svg(report: BenchmarkReport) -> str:
    """The same two charts as an SVG document."""
    shapes: list[str] = []
    top = 0
    for colour, (title, values, words) in zip(_COLOURS, _charts(report), strict=True):
        shapes.append(_text(0, top + 16, title, weight="bold"))
        top += _BAR + _GAP
        longest = max(values, default=0.0)
        room = _WIDTH - _LEFT - 110  # behind the bar its value is written
        for row, value, word in zip(report.rows, values, words, strict=True):
            length = room * value / longest if longest else 0.0
            shapes.append(_text(_LEFT - 8, top + 16, _name(row), anchor="end"))
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
    """For each: a title, the values, and the values in words."""
    first = [row.time_to_first_token for row in report.rows]
    words = [f"{_number(each, 1000)} ms" if each is not None else "-" for each in first]
    yield "time to first token", _or_zero(first), words
    speeds = [row.tokens_per_second for row in report.rows]
    yield "tokens a second", _or_zero(speeds), [_number(each) or "-" for each in speeds]


def _or_zero(values: Iterable[float | None]) -> list[float]:
    return [value or 0.0 for value in values]


def _name(row: BenchmarkRow) -> str:
    name = " ".join(printable(f"{row.model}: {row.case}").split())
    return name if len(name) <= _NAME else f"{name[: _NAME - 3]}..."


def _number(value: float | None, factor: float = 1) -> str:
    if value is None:
        return ""
    number = factor * value
    digits = 2 if number < 10 else int(number < 100)
    return f"{number:.{digits}f}"


def _text(x: float, y: int, words: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return (
        f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}" font-weight="{weight}">'
        f"{escape(words)}</text>"
    )
