"""Markdown to HTML that is safe to show, for whole texts and for streams."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token as Part

__all__ = ["Markdown"]

_SCHEMES: Final = re.compile(r"(?:https?://|mailto:)", re.IGNORECASE)


class Markdown(MarkdownIt):
    """CommonMark with tables and strikethrough, safe, and parsable block by block.

    HTML is shown as text. So is a link whose scheme isn't http, https or mailto. Images would load
    without a click: one becomes a link after a `!`. Reference definitions are disabled, since one
    at the end of a text changes what comes before it.
    """

    def __init__(self) -> None:
        super().__init__("commonmark", {"html": False})
        self.enable(["table", "strikethrough"])
        self.disable(["reference", "image", "html_block", "html_inline"])

    def validateLink(self, url: str) -> bool:  # noqa: N802 - called by markdown-it
        """Whether `url` may be a link."""
        return _SCHEMES.match(url) is not None

    def html_of(self, parts: Sequence[Part]) -> str:
        """The HTML of the result of `parse`, or of some of its blocks."""
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
