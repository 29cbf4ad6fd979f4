"""One event loop in a background thread, shared by all synchronous readers of this process."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable
from typing import Final

__all__ = ["BACKGROUND_THREAD", "BackgroundLoop", "background_loop", "loop_factory"]

BACKGROUND_THREAD: Final = "rxllm background"


class BackgroundLoop:
    """An `asyncio.Runner` in a daemon thread, until `close`."""

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
        """Whether this is called on the loop's own thread."""
        return threading.current_thread() is self._thread

    def close(self) -> None:
        """Cancel what still runs, close the loop and end the thread. Waits 5 s at most."""
        self.loop.call_soon_threadsafe(self._closing.set)
        self._thread.join(5.0)

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                runner.run(self._until_closed())
        finally:
            self._ready.set()  # also if it could not begin: nobody must wait for ever

    async def _until_closed(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._closing = asyncio.Event()
        self._ready.set()
        await self._closing.wait()


_lock = threading.Lock()
_background: BackgroundLoop | None = None


def background_loop() -> BackgroundLoop:
    """The background loop of this process: started at the first call, and again after a fork."""
    global _background
    with _lock:
        if _background is None:
            _background = BackgroundLoop()
            atexit.register(_background.close)
        return _background


def _forget() -> None:
    """In a forked process: no thread but the forking one is left."""
    global _background, _lock
    if _background is not None:
        atexit.unregister(_background.close)
    _background, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_forget)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, if the extra `fast` is installed; `None` means asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop  # type: ignore[no-any-return]
