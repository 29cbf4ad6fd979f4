"""A terminal to which text is still being written."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from rxllm.result import Recorder
from rxllm.sinks._wrap import wrap
from rxllm.sinks.printable import count, encodable, printable, rate

__all__ = ["Terminal"]

_SECONDS_BETWEEN_DRAWINGS: Final = 0.05
_TOKENS_BETWEEN_FIGURES: Final = 10


class Terminal:
    """Finished lines, and below them the line being written and a line of figures.

    Only these last two are ever redrawn, so that a long answer costs no more per token than a short
    one. Text waits here until the next redraw, for which there is at most one timer.

    Args:
        console: a console that can move its cursor.
        record: the source of the figures.
        fail: called with an error of the timer's redraw: the terminal can't be written to.
    """

    def __init__(
        self, console: Console, record: Recorder, fail: Callable[[Exception], None]
    ) -> None:
        self._console = console
        self._record = record
        self._fail = fail
        self._loop = asyncio.get_running_loop()
        self._line = ""
        self._waiting: list[str] = []
        self._characters = 0
        self._timer: asyncio.TimerHandle | None = None
        self._drawn_at = self._loop.time()
        self._figures = Text("waiting for the first token", style="dim", overflow="crop")
        self._figures_due = 1
        self._live = Live(
            self._below(),
            console=console,
            auto_refresh=False,
            transient=True,
            # Output of other code goes above the line being written.
            redirect_stdout=True,
            redirect_stderr=True,
        )
        self._live.start(refresh=True)

    def write(self, text: str) -> None:
        """Append to the text; it is drawn soon."""
        if text:
            self._waiting.append(printable(text))
            self._characters += len(text)
        if self._timer is None:
            due = self._drawn_at + _SECONDS_BETWEEN_DRAWINGS
            self._timer = self._loop.call_at(due, self._draw_or_fail)

    def note(self, line: str) -> None:
        """Print a dim line that isn't part of the text, which continues below it."""
        self._draw()
        with self._console:
            self._end_line()
            self._console.print(Text(self._encodable(line), style="dim"))
            self._live.update(self._below(), refresh=True)

    def end_line(self) -> None:
        """Begin a new line, unless one has just begun."""
        last = self._waiting[-1] if self._waiting else self._line
        if last and not last.endswith("\n"):
            self.write("\n")

    def finish(self) -> None:
        """Draw the waiting text, remove the figures, and leave the cursor below the text."""
        self._draw()
        self._live.stop()
        self._end_line()

    def _draw_or_fail(self) -> None:
        try:
            self._draw()
        except Exception as error:
            self._fail(error)

    def _draw(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._drawn_at = self._loop.time()
        finished = self._wrap()
        if self._record.tokens >= self._figures_due:
            self._renew_figures()
        with self._console:  # all in one write
            if finished:
                self._console.print(Text("\n".join(finished)), no_wrap=True, overflow="ignore")
            self._live.update(self._below(), refresh=True)

    def _wrap(self) -> list[str]:
        """Move the waiting text to the line being written; return the lines this finishes."""
        text = self._line + self._encodable("".join(self._waiting))
        self._waiting.clear()
        *finished, self._line = wrap(text, self._console.width)
        return [line.rstrip(" ") for line in finished]

    def _end_line(self) -> None:
        if self._line:
            self._console.print(Text(self._line.rstrip(" ")), no_wrap=True, overflow="ignore")
            self._line = ""

    def _renew_figures(self) -> None:
        tokens, seconds = self._record.tokens, self._record.elapsed
        self._figures_due = tokens + _TOKENS_BETWEEN_FIGURES
        speeds = f"{rate(tokens, seconds)}, {rate(self._characters, seconds, 'chars')}"
        self._figures.plain = f"{count(tokens)}, {speeds}, {seconds:.1f} s"

    def _below(self) -> Group:
        return Group(Text(self._line, no_wrap=True, overflow="crop"), self._figures)

    def _encodable(self, text: str) -> str:
        return encodable(text, self._console.file)
