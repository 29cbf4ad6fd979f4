"""`markdown_to_html`: a Markdown answer as HTML, block by block, while it streams."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final

import msgspec
from reactivex import Observable

from rxllm.arguments import check_number
from rxllm.chunks import Chunk
from rxllm.operators.transforming._snapshots import Snapshot, snapshot_operator

if TYPE_CHECKING:
    from markdown_it.token import Token as Part

    from rxllm.operators.transforming._markdown import Markdown
from rxllm.stream import Stream

__all__ = ["Html", "markdown_to_html"]

_FREE: Final = 128
"""The cost of a text that renders in about a millisecond, such as 1,024 letters."""
_MOST: Final = 32 * _FREE
"""The cost of the longest block: it is rendered at once."""
_CODE: Final = 16
"""How much faster code renders than other text of the same cost."""


class Html(
    msgspec.Struct,
    frozen=True,
    tag_field="type",
    tag="html",
    rename="camel",
    omit_defaults=True,
    gc=False,
):
    """The HTML of one block of an answer, which replaces the earlier HTML of that block.

    `block` counts the blocks of the answer from 0. `final` is True on the last `Html` of a block,
    and all blocks before it are final. The joined `html` of the final ones is the whole answer.
    On the wire it looks like a chunk: `{"type": "html", "block": 0, "html": "<p>...", ...}`.
    """

    # The traits of a chunk, so that later operators pass it on.
    is_content: ClassVar[bool] = False
    is_structure: ClassVar[bool] = False
    is_state: ClassVar[bool] = False
    is_droppable: ClassVar[bool] = False
    survives_restart: ClassVar[bool] = False

    block: int
    html: str
    final: bool = False
    source: str | None = None


def markdown_to_html(
    *, seconds: float = 0.05
) -> Callable[[Observable[Chunk]], Stream[Html | Chunk]]:
    r"""Replace the text of a Markdown answer with its HTML, block by block.

    ::

        S-**a-**\n\n-b-\n--E|
        [ markdown_to_html() ]
        S-0---0-----0--(0!,1)--(1!,E)|  0: Html(0, ...), 0!: Html(0, ..., final=True)

    A block is a top-level element: a paragraph, a heading, a code block, a whole list, a table. An
    `Html` replaces the earlier HTML of its block; only the last block, which is still open, is
    rendered again. A block is final once the first line of the next one is complete, or at the end.
    Until then, that line is shown with the open block. HTML that hasn't changed isn't sent again.
    The text itself is dropped. Other chunks (including reasoning in a batch) pass immediately, and
    may overtake text that hasn't been rendered yet.

    The joined HTML of the final blocks is that of the whole text, however it is cut into chunks.
    This is CommonMark with tables and strikethrough, with these differences, which make it safe to
    show and its blocks independent: HTML is shown as text; a link other than http, https or mailto
    (including a relative one) is shown as text; an image becomes a link after a `!`, since it would
    load automatically; a reference definition (`[1]: https://...`) is text. Others bound its cost:
    lists and quotes nest 12 deep (a list counts as two), and their markers beyond that are text; in
    a table of more than four columns, a row with less than half of the cells ends the table; and a
    very long block is cut into several.

    - Completion, error: `End`, completion and an error make all blocks final; `Notice("failed")`
      does the same for its stream.
    - Restart: the open block of that stream is dropped, and its blocks count from 0 again. The
      notice is passed on, so a page can remove all blocks.
    - Disposal: upstream and timers are disposed, and the open block is dropped.
    - Demand: passes through; nothing is rendered while the subscriber's valve is closed, except
      for blocks that are final because of their length.
    - Cost: the first text is rendered when it arrives, then at most once every `seconds`, so the
      HTML is at most that old. If the open block exceeds 1,024 letters, the interval grows in
      proportion. A punctuation mark counts as 8 or 16 letters, a line as 64, and all count a 16th
      in code.
    - Length: a block of more than 32,768 letters, counted so, is cut after its last line that fits,
      or within a very long line. This is about 15,000 characters of prose, 150 items or rows, or
      3,500 lines of code. The rest is a new block; the header of a table and the first line of code
      are repeated. So all text is rendered in linear time, and a short chunk in about 50 ms.

    Args:
        seconds: minimum time between two renderings of a stream.

    Raises:
        ValueError: `seconds` is not finite, or not above 0.
        TypeError: `seconds` is not a number.

    >>> from rxllm.chunks import Token
    >>> from rxllm.testing import Marbles
    >>> marbles = Marbles()
    >>> lookup = {"1": Token("# Hi"), "2": Token("!\n\n<b> *th"), "3": Token("ere*")}
    >>> stream = marbles.cold("1-2-3|", lookup=lookup).pipe(markdown_to_html())
    >>> for time, event in marbles.run(stream)[:-1]:
    ...     print(time, event.block, event.final, repr(event.html))
    0.0 0 False '<h1>Hi</h1>\n'
    2.0 0 False '<h1>Hi!</h1>\n<p>&lt;b&gt; *th</p>\n'
    4.0 0 False '<h1>Hi!</h1>\n<p>&lt;b&gt; <em>there</em></p>\n'
    5.0 0 True '<h1>Hi!</h1>\n'
    5.0 1 True '<p>&lt;b&gt; <em>there</em></p>\n'
    """
    # Imported here: it takes a tenth as long as `import rxllm`, and most programs don't need it.
    from rxllm.operators.transforming._markdown import Markdown

    seconds = check_number("seconds", seconds, "minimum time between two renderings", above=0)
    markdown = Markdown()
    return snapshot_operator(
        "markdown_to_html", lambda source: _HtmlSnapshot(source, markdown), seconds
    )


class _HtmlSnapshot(Snapshot):
    """The Markdown of one source."""

    __slots__ = (
        "_block",
        "_carriage_return",
        "_code",
        "_cost",
        "_html",
        "_markdown",
        "_pieces",
        "_source",
        "_uncut",
    )

    def __init__(self, source: str | None, markdown: Markdown) -> None:
        super().__init__()
        self._source = source
        self._markdown = markdown
        self._pieces: list[str] = []  # from the start of the open block
        self._cost = 0.0  # of the pieces at the last `look`
        self._uncut = 0.0  # the cost of the pieces that `_settle` must still check
        self._carriage_return = False  # the last character: a line ending, or half of one
        self._code = False
        self._block = 0
        self._html = ""

    @property
    def size(self) -> float:
        return self._cost / (_FREE * _CODE if self._code else _FREE)

    def feed(self, text: str, out: list[Any]) -> None:
        self.unread = True
        if self._carriage_return or "\r" in text:
            text = self._with_new_lines(text)
        self._pieces.append(text)
        self._uncut += self._markdown.cost_of(text)
        if self._uncut > _MOST:
            self._settle(out)

    def look(self, out: list[Any]) -> None:
        self.unread = False
        text = self._settle(out)
        self._cost = self._markdown.cost_of(text)
        parts = self._markdown.parse(text)
        self._code = self._markdown.is_code(parts)
        html = self._markdown.html_of(parts)
        if html != self._html:
            self._html = html
            out.append(Html(self._block, html, source=self._source))

    def end(self, out: list[Any]) -> None:
        if self._carriage_return:
            self._pieces.append("\n")
        self._finish(self._markdown.parse(self._settle(out)), out)

    def cut_off(self, out: list[Any]) -> None:
        self.end(out)

    def _settle(self, out: list[Any]) -> str:
        """Finish all blocks before the last one that has started; return the text from there on.

        A block that is too long is finished too, and its rest begins the next one.
        """
        text = "".join(self._pieces)
        is_last = False
        while not is_last:
            end, lines_end, parts = self._beginning_of(text)
            blocks = self._markdown.blocks_of(parts)
            is_last = end == len(text)
            if len(blocks) > 1:
                line, start, _ = blocks[-1]
                self._finish(parts[:start], out)
                text = text.split("\n", line)[line]
            elif not is_last:
                text = self._cut(text, end, lines_end, parts, out)
        cost = self._markdown.cost_of(text)
        self._pieces, self._uncut = [text], cost if cost <= _MOST else 0.0
        return text

    def _beginning_of(self, text: str) -> tuple[int, int, list[Part]]:
        """How much of `text` may be rendered at once, where its lines end, and their parts.

        Only complete lines count: a `#` at the end of the text could start anything.
        """
        end, lines_end, parts = self._lines_of(text, _MOST)
        if end == len(text) or not self._markdown.is_code(parts):
            return end, lines_end, parts
        end, lines_end, parts = self._lines_of(text, _MOST * _CODE)
        blocks = self._markdown.blocks_of(parts)
        if len(blocks) == 1:
            return end, lines_end, parts
        # The block after the code may be too long itself: the next round begins with it.
        return 0, 0, parts[: blocks[1][2]]

    def _lines_of(self, text: str, limit: float) -> tuple[int, int, list[Part]]:
        end = self._markdown.fitting(text, limit)
        lines_end = text.rfind("\n", 0, end) + 1
        return end, lines_end, self._markdown.parse(text[:lines_end])

    def _cut(self, text: str, end: int, lines_end: int, parts: list[Part], out: list[Any]) -> str:
        """Finish the block at the beginning of `text`, and return its rest as another one."""
        cut = lines_end
        if not cut or (cut < end // 2 and self._markdown.is_code(parts)):
            cut = end
            parts = self._markdown.parse(text[:cut])
        self._finish(parts, out)
        header = self._markdown.header_of(parts, text[:cut])
        return header * (len(header) < cut // 2) + text[cut:]

    def _finish(self, parts: list[Part], out: list[Any]) -> None:
        for _, start, end in self._markdown.blocks_of(parts):
            html = self._markdown.html_of(parts[start:end])
            out.append(Html(self._block, html, final=True, source=self._source))
            self._block += 1
            self._html = ""

    def _with_new_lines(self, text: str) -> str:
        """`text` with `\\n` for each line ending; a carriage return at its end waits."""
        if self._carriage_return:
            text = "\r" + text
        self._carriage_return = text.endswith("\r")
        if self._carriage_return:
            text = text[:-1]
        return text.replace("\r\n", "\n").replace("\r", "\n")
