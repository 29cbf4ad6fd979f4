"""One event loop in a background thread, shared by all synchronous readers in this process."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable
from typing import Final

__all__ = [
    "BACKGROUND_THREAD",
    "GRAMMAR_THREAD",
    "LASTING_THREADS",
    "BackgroundLoop",
    "background_loop",
    "loop_factory",
]

BACKGROUND_THREAD: Final = "rxllm background"
GRAMMAR_THREAD: Final = "rxllm grammars"
LASTING_THREADS: Final = (BACKGROUND_THREAD, GRAMMAR_THREAD)
"""The threads that stay until the process ends: one of each, once it has been needed."""


class BackgroundLoop:
    """An `asyncio.Runner` in a daemon thread, running until `close`."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop
        self._closing: asyncio.Event
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name=BACKGROUND_THREAD, daemon=True)
        self._thread.start()
        self._ready.wait()
        if not hasattr(self, "loop"):
            raise RuntimeError("the background event loop could not be started; see standard error")

    @property
    def is_current_thread(self) -> bool:
        """Whether the caller is on the loop's own thread."""
        return threading.current_thread() is self._thread

    def close(self) -> None:
        """Cancel the running tasks, close the loop and end the thread. Waits at most 5 s."""
        self.loop.call_soon_threadsafe(self._closing.set)
        self._thread.join(5.0)

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                runner.run(self._until_closed())
        finally:
            self._ready.set()  # also if the loop failed to start, so that nothing waits forever

    async def _until_closed(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._closing = asyncio.Event()
        self._ready.set()
        await self._closing.wait()


_lock = threading.Lock()
_background: BackgroundLoop | None = None


def background_loop() -> BackgroundLoop:
    """Return the background loop of this process, started at the first call and after a fork."""
    global _background
    with _lock:
        if _background is None:
            _background = BackgroundLoop()
            atexit.register(_background.close)
        return _background


def _forget() -> None:
    """Reset in a forked process, where only the forking thread is left."""
    global _background, _lock
    if _background is not None:
        atexit.unregister(_background.close)
    _background, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_forget)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's loop factory if the extra `fast` is installed, or `None` for asyncio's."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop  # type: ignore[no-any-return]
