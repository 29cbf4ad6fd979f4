"""The connection to one client: whether it is open, and whether it is writable."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Connection", "connection_of"]


class Connection(asyncio.Protocol):
    """Stands between a transport and its protocol, and notifies watchers of changes.

    A web framework learns at once that a client has disconnected or is slow, but doesn't report it
    until something is written. So, while there are watchers, this class replaces the protocol and
    forwards each call to it; afterwards it restores the protocol. Any number of watchers may watch
    one transport.

    Attributes:
        is_writable: False while the transport holds more than its high-water mark.
        is_lost: True once the client has disconnected, or has sent EOF (which closes the
            connection by default in asyncio, and in aiohttp).
    """

    def __init__(self, transport: asyncio.Transport | None) -> None:
        self.is_lost: bool = transport is None or transport.is_closing()
        self.is_writable: bool = True
        self._transport = transport
        self._watchers: dict[object, Callable[[], None]] = {}
        self._protocol = asyncio.Protocol()
        if transport is not None and not self.is_lost:
            protocol = transport.get_protocol()
            assert isinstance(protocol, asyncio.Protocol)  # noqa: S101 - aiohttp's is one
            self._protocol = protocol
            self.is_writable = not getattr(protocol, "writing_paused", False)

    @contextmanager
    def watch(self, on_change: Callable[[], None]) -> Iterator[None]:
        """Call `on_change()` after each change of an attribute, inside the `with` block."""
        key = object()
        if not self._watchers and self._transport is not None and not self.is_lost:
            self._transport.set_protocol(self)
        self._watchers[key] = on_change
        try:
            yield
        finally:
            del self._watchers[key]
            if not self._watchers and self._transport is not None:
                self._restore_protocol(self._transport)

    def abort(self) -> None:
        """Close the connection at once; unsent data is lost."""
        transport = self._transport
        # asyncio's `abort` fails on a transport that has closed after sending its last byte.
        if transport is not None and (
            not transport.is_closing() or transport.get_write_buffer_size()
        ):
            transport.abort()
        self._mark_lost()

    def data_received(self, data: bytes) -> None:
        self._protocol.data_received(data)

    def eof_received(self) -> bool | None:
        stays_open = self._protocol.eof_received()
        if not stays_open:
            self._mark_lost()
        return stays_open

    def pause_writing(self) -> None:
        self._protocol.pause_writing()
        self.is_writable = False
        self._notify()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()
        self.is_writable = True
        self._notify()

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)
        self._mark_lost()

    def _mark_lost(self) -> None:
        if not self.is_lost:
            self.is_lost = True
            self._notify()

    def _notify(self) -> None:
        failure: Exception | None = None
        for watcher in tuple(self._watchers.values()):
            try:
                watcher()
            except Exception as error:  # the other watchers must still be notified
                failure = failure or error
        if failure is not None:
            raise failure

    def _restore_protocol(self, transport: asyncio.Transport) -> None:
        if transport.get_protocol() is self:
            transport.set_protocol(self._protocol)


def connection_of(transport: asyncio.Transport | None) -> Connection:
    """Return the connection of a transport: the one that is already watched, if there is one.

    Watch it in the same iteration of the event loop: it notices no changes until it is watched.
    """
    protocol = transport.get_protocol() if transport is not None else None
    return protocol if isinstance(protocol, Connection) else Connection(transport)
