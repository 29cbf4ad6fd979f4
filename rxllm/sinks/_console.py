"""Print the text of a stream to the terminal or to redirected standard output."""

from __future__ import annotations

import sys
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from reactivex import Observable

from rxllm.chunks import Carried, Chunk
from rxllm.consumer import Consumer, check_stream
from rxllm.result import Result
from rxllm.sinks._blocks import Blocks, Page
from rxllm.sinks.printable import encodable, figures_of, printable

if TYPE_CHECKING:
    from rich.console import Console


def console(
    stream: Observable[Carried], *, console: Console | None = None, figures: bool = True
) -> Coroutine[Any, Any, Result]:
    """Print a stream as it arrives.

    On a terminal: the text, wrapped between words, above a dim line with tokens, tokens/s, chars/s
    and seconds, which is updated every 10 tokens and removed at the end. The screen is redrawn at
    most every 50 ms. Control characters are shown as pictures (`␛`), so that no model can control
    the terminal, and rich markup in the text is printed literally.

    Elsewhere: exactly the text, flushed after each chunk, and nothing else; a newline is added at
    the end if there is none, and characters that can't be encoded are written as `?`. Notices and
    figures go to standard error. (A terminal that can't move its cursor gets the same, with control
    characters shown.)

    - Subscribes when awaited. A complete JSON value is printed as text, a complete tool call as a
      dim line; reasoning is only counted. After a merge each source has its own block, under a line
      with its name: one block is printed as it arrives, and the others are kept until it has ended.
    - Completion: a line of figures. Error: the printed text stays, with its last line complete, and
      the error is raised by the `await`, with the text so far in `partial` if it is an
      `RxLLMError`.
    - Notices: a dim line each. Restart: the line reports that the answer starts over; text printed
      before it can't be taken back, and isn't part of the result.
    - Cancelling the awaiting task disposes the stream at once and waits for its clean-up.
    - Demand: writing blocks the event loop, and so every source, until the text is accepted (by a
      pipe, for example); only the text of the last 50 ms is held here.

    Args:
        stream: the chunks.
        console: the rich console to print on; `None` means one on standard output.
        figures: print the line of figures at the end.

    Raises:
        TypeError: `stream` is not a stream, or `console` is not a console.
        OSError: by the `await`: writing to standard output failed (a closed pipe).
    """
    from rich.console import Console

    check_stream(stream, "console")
    if console is None:
        # An environment that asks for colours (FORCE_COLOR) doesn't turn a pipe into a terminal.
        console = Console(force_terminal=sys.stdout.isatty())
    elif not isinstance(console, Console):
        raise TypeError(f"console must be a rich.console.Console, got {type(console).__name__}")
    return _print(stream, console, figures)


async def _print(stream: Observable[Carried], console: Console, figures: bool) -> Result:
    def on_chunk(chunk: Chunk) -> None:
        blocks.add(chunk)  # created below, since the terminal needs the consumer

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
    """Output to anything but a terminal, or to a terminal that can't move its cursor."""

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
