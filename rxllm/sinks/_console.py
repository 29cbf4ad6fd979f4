"""The text of a stream, to the terminal or to whatever standard output is."""

from __future__ import annotations

import sys
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from reactivex import Observable

from rxllm.chunks import Chunk
from rxllm.consumer import Consumer, check_stream
from rxllm.result import Result
from rxllm.sinks._blocks import Blocks, Page
from rxllm.sinks.printable import encodable, figures_of, printable

if TYPE_CHECKING:
    from rich.console import Console


def console(
    stream: Observable[Chunk], *, console: Console | None = None, figures: bool = True
) -> Coroutine[Any, Any, Result]:
    """Print a stream as it comes.

    On a terminal: the text, wrapped between words, above a dim line with tokens, tokens/s and
    seconds that is renewed every 10 tokens and gone at the end. What has come is drawn at most
    every 50 ms. Control characters are shown as pictures (`␛`), so that no model can command the
    terminal, and rich's markup in the text is text.

    Elsewhere: the very text, flushed with each chunk, and nothing else; a newline at the end if
    there is none; what can't be encoded is written as `?`. Notices and figures go to standard
    error. (On a terminal that can't move its cursor, the same, with control characters shown.)

    - Subscribes when awaited. A complete JSON value is printed as text, a complete tool call as a
      dim line; reasoning is only counted. After a merge each source has a block of its own, under a
      line with its name: one is printed as it comes, and the others are kept until it has ended.
    - Completion: a line of figures. Error: what was printed stays, on lines of its own, and the
      error is raised by the `await`, with the text so far in `partial` if it is an `RxLLMError`.
    - Notices: a dim line each. Restart: such a line says that the answer starts over; what was
      printed before it can't be taken back, and is no part of the result.
    - Cancelling the awaiting task disposes the stream at once, and waits for its clean-up.
    - Demand: writing blocks the event loop until the text is taken (by a pipe, say), and with it
      every source; nothing is held here but what came in the last 50 ms.

    Args:
        stream: the chunks.
        console: rich's console to print on; one on standard output if None.
        figures: print the line of figures at the end.

    Raises:
        TypeError: `stream` is not a stream, or `console` is not a console.
        OSError: by the `await`: standard output can't be written (a closed pipe).
    """
    from rich.console import Console

    check_stream(stream, "console")
    if console is None:
        # An environment that asks for colours (FORCE_COLOR) makes no terminal of a pipe.
        console = Console(force_terminal=sys.stdout.isatty())
    elif not isinstance(console, Console):
        raise TypeError(f"console is a rich.console.Console, not {type(console).__name__}")
    return _print(stream, console, figures)


async def _print(stream: Observable[Chunk], console: Console, figures: bool) -> Result:
    def on_chunk(chunk: Chunk) -> None:
        blocks.add(chunk)  # made below: the terminal needs the consumer

    consumer = Consumer(stream, on_chunk)
    page = _page(console, consumer)
    blocks = Blocks(page)
    try:
        result = await consumer.run()
    finally:
        blocks.finish()
        page.finish()
    if figures:
        page.note(figures_of(result))
    return result


def _page(console: Console, consumer: Consumer) -> Page:
    if console.is_terminal and not console.is_dumb_terminal:
        from rxllm.sinks._terminal import Terminal

        return Terminal(console, consumer.record, consumer.fail)
    return _Plain(console)


class _Plain:
    """Anything that is no terminal, or one that can't move its cursor."""

    def __init__(self, console: Console) -> None:
        from rich.console import Console

        self._file = console.file
        self._is_terminal = console.is_terminal
        self._errors = Console(stderr=True, force_terminal=sys.stderr.isatty(), highlight=False)
        self._at_line_start = True

    def write(self, text: str) -> None:
        if not text:
            return
        shown = printable(text) if self._is_terminal else text
        self._file.write(encodable(shown, self._file))
        self._file.flush()
        self._at_line_start = text.endswith("\n")

    def note(self, line: str) -> None:
        if self._is_terminal and self._errors.is_terminal:
            self.end_line()  # both are the same screen
        shown = encodable(line, self._errors.file)
        self._errors.print(shown, style="dim", markup=False, emoji=False, soft_wrap=True)

    def end_line(self) -> None:
        if not self._at_line_start:
            self.write("\n")

    def finish(self) -> None:
        self.end_line()
