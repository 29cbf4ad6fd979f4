"""The WebSocket sessions of a server, both connected and waiting for a reconnect."""

from __future__ import annotations

from typing import Final, Protocol

from rxllm.patient_timer import PatientTimer
from rxllm.server.chat import Chat
from rxllm.server.websocket.streams import ClientStreams
from rxllm.web.failures import RefusedError

__all__ = ["Resumable", "Sessions"]

_SHORTEST_GRACE: Final = 1.0  # seconds


class Resumable(Protocol):
    """A session that a client may continue from another connection: a `Session`."""

    @property
    def secret(self) -> str: ...
    @property
    def first_secret(self) -> str: ...
    @property
    def is_empty(self) -> bool: ...
    def release(self) -> tuple[ClientStreams, Chat]: ...


class Sessions:
    """Sessions by their secrets. After its connection has ended, a session is kept for a while.

    Where several servers share streams, a session that continues another one is found by the secret
    of the client's first one, too.

    Args:
        grace: seconds that a session is kept after its connection has ended, at least one.
        most: maximum number of disconnected sessions; the oldest are dropped first.
    """

    def __init__(self, grace: float, most: int) -> None:
        self._grace = max(grace, _SHORTEST_GRACE)
        self._most = most
        self._open: dict[str, Resumable] = {}
        self._detached: dict[str, tuple[Resumable, PatientTimer]] = {}
        self._latest: dict[str, str] = {}  # secrets, by the first one of the client
        self._is_closed = False

    def add(self, session: Resumable) -> None:
        """Add a session whose connection is open; again, if it is to be found by its first secret,
        too."""
        self._open[session.secret] = session
        if session.first_secret != session.secret:
            self._latest[session.first_secret] = session.secret

    def detach(self, session: Resumable) -> None:
        """Keep a session whose connection has ended, if there is anything to continue."""
        if self._open.pop(session.secret, None) is None:
            return  # another connection has taken it over
        if self._is_closed or session.is_empty:
            self._forget(session)
            return
        timer = PatientTimer(self._grace, self._expire, session.secret)
        self._detached[session.secret] = session, timer
        if len(self._detached) > self._most:
            self._expire(next(iter(self._detached)))

    def take(self, secret: str) -> Resumable:
        """Remove a session and return it.

        Raises:
            RefusedError: the secret is unknown, or the session has expired.
        """
        secret = self._latest.get(secret, secret)
        session = self._open.pop(secret, None)
        if secret in self._detached:
            session, timer = self._detached.pop(secret)
            timer.cancel()
        if session is not None:
            self._forget(session)
        if session is None or session.is_empty:
            if session is not None:
                session.release()  # its client has lost it, and may have an earlier one
            raise RefusedError("session_not_found", "the session is unknown or has expired", 404)
        return session

    def close(self) -> None:
        """Drop all disconnected sessions, and from now on every session that ends."""
        self._is_closed = True
        for secret in tuple(self._detached):
            self._expire(secret)

    def _expire(self, secret: str) -> None:
        session, timer = self._detached.pop(secret)
        timer.cancel()
        self._forget(session)

    def _forget(self, session: Resumable) -> None:
        if self._latest.get(session.first_secret) == session.secret:
            del self._latest[session.first_secret]
