"""The WebSocket sessions of a server: those of open connections, and those that may come back."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from rxllm.server.chat import Chat
from rxllm.server.websocket.streams import ClientStreams
from rxllm.web.failures import RefusedError

__all__ = ["Resumable", "Sessions"]

_MOMENT: Final = 1.0  # seconds that a client has to reconnect, if the grace is shorter


class Resumable(Protocol):
    """What a client may take up again from another connection: a `Session`."""

    @property
    def secret(self) -> str: ...
    @property
    def is_empty(self) -> bool: ...
    def forget(self) -> None: ...
    def release(self) -> tuple[ClientStreams, Chat]: ...


class Sessions:
    """Sessions by their secrets. Those whose connection has ended are kept for the grace.

    Args:
        grace: seconds that a session is kept after its connection has ended, at least one.
        most: how many of those are kept; the oldest are forgotten first.
    """

    def __init__(self, grace: float, most: int) -> None:
        self._grace = max(grace, _MOMENT)
        self._most = most
        self._open: dict[str, Resumable] = {}
        self._detached: dict[str, tuple[Resumable, asyncio.TimerHandle]] = {}
        self._is_closed = False

    def add(self, session: Resumable) -> None:
        """Note a session whose connection is open."""
        self._open[session.secret] = session

    def detach(self, session: Resumable) -> None:
        """Keep a session whose connection has ended, if there is anything to take up again."""
        if self._open.pop(session.secret, None) is None:
            return  # another connection has taken it
        if self._is_closed or session.is_empty:
            session.forget()
            return
        timer = asyncio.get_running_loop().call_later(self._grace, self._expire, session.secret)
        self._detached[session.secret] = session, timer
        if len(self._detached) > self._most:
            self._expire(next(iter(self._detached)))

    def take(self, secret: str) -> Resumable:
        """Remove a session, and return it.

        Raises:
            RefusedError: there is none with this secret, or no longer.
        """
        if secret in self._detached:
            session, timer = self._detached.pop(secret)
            timer.cancel()
            return session
        if secret in self._open:
            return self._open.pop(secret)
        raise RefusedError("session_not_found", "this session is unknown, or has expired", 404)

    def close(self) -> None:
        """Forget all sessions, and those that end from now on."""
        self._is_closed = True
        for secret in tuple(self._detached):
            self._expire(secret)

    def _expire(self, secret: str) -> None:
        session, timer = self._detached.pop(secret)
        timer.cancel()
        session.forget()
