"""Markdown to HTML that is safe to show, for whole texts and for streams."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock, blockquote, list_block, table
from markdown_it.rules_core import StateCore, inline, text_join
from markdown_it.token import Token as Part
from markdown_it.utils import EnvType

__all__ = ["Markdown"]

_SCHEMES: Final = re.compile(r"(?:https?://|mailto:)", re.IGNORECASE)
_MARK: Final = re.compile(r"[^\w\s]|_")
_COSTLY_MARK: Final = re.compile(r"[-+*>|\[]")
"""A mark that may begin a list, a quote, a cell or a link, which takes twice the time."""
_LINE_COST: Final = 8
"""How many marks render in the time of one line."""
_CHARACTERS: Final = 8
"""How many letters count as one mark. They cost less, but their HTML is sent too."""
_DEEPEST: Final = 12
"""How deep lists and quotes nest; a list counts as two. Beyond 18, markdown-it would drop text."""
_FEW_COLUMNS: Final = 4
"""How many columns a table has at most whose rows may be of any length."""
_HEADERS: Final = {"fence": 1, "table_open": 2}
"""How many lines at the beginning of a block the rest depends on."""

_BlockRule = Callable[[StateBlock, int, int, bool], bool]


class Markdown(MarkdownIt):
    """CommonMark with tables and strikethrough, safe, and parsable block by block.

    HTML is shown as text. So is a link whose scheme isn't http, https or mailto. Images would load
    without a click: one becomes a link after a `!`. Reference definitions are disabled, since one
    at the end of a text changes what comes before it. Lists and quotes nest 12 deep (a list
    counts as two); their markers beyond that are text. In a table of more than four columns, a row
    with less than half of the cells ends the table.
    """

    def __init__(self) -> None:
        super().__init__("commonmark", {"html": False})
        self.enable(["table", "strikethrough"])
        self.disable(["reference", "image", "html_block", "html_inline"])
        self.disable(["inline", "text_join"])  # `html_of` applies them
        interrupts = ["paragraph", "reference"]
        rules = self.block.ruler
        rules.at("table", _table, {"alt": interrupts})
        rules.at("list", _unless_deep(list_block), {"alt": [*interrupts, "blockquote"]})
        rules.at(
            "blockquote", _unless_deep(blockquote), {"alt": [*interrupts, "blockquote", "list"]}
        )

    def validateLink(self, url: str) -> bool:  # noqa: N802 - called by markdown-it
        """Whether `url` may be a link."""
        return _SCHEMES.match(url) is not None

    def render(self, src: str, env: EnvType | None = None) -> str:
        """The HTML of a whole text."""
        return self.html_of(self.parse(src, env))

    def html_of(self, parts: Sequence[Part]) -> str:
        """The HTML of the result of `parse`, or of some of its blocks, for one call."""
        state = StateCore("", self, {}, list(parts))
        inline(state)
        text_join(state)
        html: str = self.renderer.render(parts, self.options, {})
        return html

    def blocks_of(self, parts: Sequence[Part]) -> list[tuple[int, int, int]]:
        """The top-level blocks: the first line of each, and its start and end in `parts`."""
        starts = [place for place, part in enumerate(parts) if not part.level and part.nesting >= 0]
        blocks = []
        for start, end in pairwise([*starts, len(parts)]):
            lines = parts[start].map
            assert lines is not None  # noqa: S101 - each top-level block has them
            blocks.append((lines[0], start, end))
        return blocks

    def is_code(self, parts: Sequence[Part]) -> bool:
        """Whether the result of `parse` is a single block of code."""
        return len(parts) == 1 and parts[0].type in ("fence", "code_block")

    def header_of(self, parts: Sequence[Part], text: str) -> str:
        """The lines to repeat before a text that continues the only block of `text`, if any."""
        height = _HEADERS.get(parts[0].type, 0) if parts else 0
        if not height:
            return ""
        first = self.blocks_of(parts)[0][0]
        header = text.split("\n")[first : first + height]
        continued = self.parse(text.removesuffix("\n") + "\n" + header[-1])
        return (
            "".join(f"{line}\n" for line in header) if len(self.blocks_of(continued)) == 1 else ""
        )

    def cost_of(self, text: str) -> float:
        """How long `text` takes to render at most, in marks (about ten microseconds)."""
        marks = len(_MARK.findall(text)) + len(_COSTLY_MARK.findall(text))
        return len(text) / _CHARACTERS + marks + _LINE_COST * text.count("\n")

    def fitting(self, text: str, limit: float, step: int = 256) -> int:
        """How many characters of `text` cost at most `limit`; `step` of them are added at once."""
        for start in range(0, len(text), step):
            piece = text[start : start + step]
            cost = self.cost_of(piece)
            if cost > limit:
                return start + (self.fitting(piece, limit, 1) if step > 1 else 0)
            limit -= cost
        return len(text)


def _unless_deep(rule: _BlockRule) -> _BlockRule:
    """The rule for lists or quotes, with bounded nesting."""

    def bounded(state: StateBlock, start: int, end: int, silent: bool) -> bool:
        return state.level < _DEEPEST and rule(state, start, end, silent)

    return bounded


def _table(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """The rule for tables, which ends one before a row that would be filled up with many cells."""
    if silent or not table(state, start, end, True):
        return table(state, start, end, silent)
    lines = (state.src[state.bMarks[n] : state.eMarks[n]] for n in range(start + 1, end))
    columns = _cells_of(next(lines))
    if columns > _FEW_COLUMNS:
        rows = enumerate(lines, start + 2)
        end = next((n for n, row in rows if _cells_of(row) * 2 < columns), end)
    return table(state, start, end, False)


def _cells_of(row: str) -> int:
    return row.strip().removeprefix("|").removesuffix("|").count("|") + 1
