"""Markdown to HTML that a page may show: one way for whole texts and for streams."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token as Part

__all__ = ["Markdown"]

_SCHEMES: Final = re.compile(r"(?:https?|mailto):", re.IGNORECASE)


class Markdown(MarkdownIt):
    """CommonMark with tables and strikethrough, safe, and readable block by block.

    HTML is text. A link has the scheme http, https or mailto, or is text. There are no images,
    which would load without a click: one is a link behind a `!`. There are no reference
    definitions, since one at the end of a text changes what begins it.
    """

    def __init__(self) -> None:
        super().__init__("commonmark", {"html": False})
        self.enable(["table", "strikethrough"])
        self.disable(["reference", "image", "html_block", "html_inline"])

    def validateLink(self, url: str) -> bool:  # noqa: N802 - the name that markdown-it calls
        """True if `url` may be a link."""
        return _SCHEMES.match(url) is not None

    def html_of(self, parts: Sequence[Part]) -> str:
        """The HTML of what `parse` has given, or of some of its blocks."""
        html: str = self.renderer.render(parts, self.options, {})
        return html

    def blocks_of(self, parts: Sequence[Part]) -> list[tuple[int, int, int]]:
        """The blocks of the top level: the first line, and the start and end in `parts`."""
        starts = [place for place, part in enumerate(parts) if not part.level and part.nesting >= 0]
        blocks = []
        for start, end in pairwise([*starts, len(parts)]):
            lines = parts[start].map
            assert lines is not None  # noqa: S101 - each block of the top level has them
            blocks.append((lines[0], start, end))
        return blocks
