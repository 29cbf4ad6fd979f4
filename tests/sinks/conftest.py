"""Fixtures of the tests of sinks: a source that records its use, and a terminal."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import AsyncIterator

import pytest
from reactivex import Observable
from rich.console import Console

from rxllm import Chunk, from_async


class Source:
    """Emits chunks, then ends or waits forever; an exception among them is raised.

    Attributes:
        subscriptions: how often it was subscribed to.
        pulled: how many chunks were pulled.
        emitted_all: set when it has emitted everything and waits.
        cleaned_up: how many subscriptions have finished their asynchronous clean-up.
    """

    def __init__(self) -> None:
        self.subscriptions = 0
        self.pulled = 0
        self.cleaned_up = 0
        self.emitted_all = asyncio.Event()

    def stream(self, *steps: Chunk | Exception, waits: bool = False) -> Observable[Chunk]:
        async def chunks() -> AsyncIterator[Chunk]:
            self.subscriptions += 1
            try:
                for step in steps:
                    if isinstance(step, Exception):
                        raise step
                    self.pulled += 1
                    yield step
                self.emitted_all.set()
                if waits:
                    await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                self.cleaned_up += 1

        return from_async(chunks)


@pytest.fixture
def source() -> Source:
    return Source()


class Terminal:
    """A minimal terminal emulator: just enough to render rich's output as lines of text.

    Attributes:
        console: the rich console that writes to it.
        is_cursor_visible: whether the cursor is shown.
    """

    def __init__(self, columns: int = 20) -> None:
        self._file = io.StringIO()
        self.console = Console(
            file=self._file, force_terminal=True, width=columns, height=50, color_system=None
        )
        self.is_cursor_visible = True

    @property
    def raw(self) -> str:
        """Everything that was written to it."""
        return self._file.getvalue()

    @property
    def lines(self) -> list[str]:
        """The visible lines, without empty lines at the end."""
        lines, row, column = [""], 0, 0
        for sequence, character in re.findall(r"\x1b\[([?\d;]*[A-Za-z])|([^\x1b])", self.raw):
            if sequence == "2K":
                lines[row] = ""
            elif sequence == "1A":
                row -= 1
            elif sequence in ("?25l", "?25h"):
                self.is_cursor_visible = sequence == "?25h"
            elif character == "\r":
                column = 0
            elif character == "\n":
                row, column = row + 1, 0
                lines += [""] * (row + 1 - len(lines))
            else:
                assert not sequence, f"an unexpected sequence: {sequence}"
                lines[row] = lines[row][:column].ljust(column) + character
                column += 1
        while lines and not lines[-1]:
            lines.pop()
        return [line.rstrip() for line in lines]


@pytest.fixture
def terminal() -> Terminal:
    return Terminal()


@pytest.fixture(scope="session")
def new_terminal() -> type[Terminal]:
    """The class, for tests that need one terminal per example."""
    return Terminal
