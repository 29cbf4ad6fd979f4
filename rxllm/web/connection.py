"""The connection to one client: is it there, and does it take what it is sent?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Connection", "connection_of"]


class Connection(asyncio.Protocol):
    """Stands between a transport and its protocol, and tells of what the transport tells.

    A web framework hears at once when a client has gone or is slow, but keeps it to itself until
    something is written. So, as long as somebody watches, this hears it first and hands it on;
    then the protocol is put back into its place. Any number may watch one transport.

    Attributes:
        is_writable: False while the transport holds more than its high-water mark.
        is_lost: True once the client has gone, or has said that it sends no more (which closes
            the connection: asyncio's default, and aiohttp's).
    """

    def __init__(self, transport: asyncio.Transport | None) -> None:
        self.is_lost = transport is None or transport.is_closing()
        self.is_writable = True
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
        """Call `on_change()` after each change of an attribute, while inside."""
        key = object()
        if not self._watchers and self._transport is not None and not self.is_lost:
            self._transport.set_protocol(self)
        self._watchers[key] = on_change
        try:
            yield
        finally:
            del self._watchers[key]
            if not self._watchers and self._transport is not None:
                self._step_aside(self._transport)

    def abort(self) -> None:
        """Close the connection at once; what was not yet sent is lost."""
        transport = self._transport
        # asyncio's own fails on one that has closed behind its last byte.
        if transport is not None and (
            not transport.is_closing() or transport.get_write_buffer_size()
        ):
            transport.abort()
        self._lose()

    def data_received(self, data: bytes) -> None:
        self._protocol.data_received(data)

    def eof_received(self) -> bool | None:
        stays_open = self._protocol.eof_received()
        if not stays_open:
            self._lose()
        return stays_open

    def pause_writing(self) -> None:
        self._protocol.pause_writing()
        self.is_writable = False
        self._tell()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()
        self.is_writable = True
        self._tell()

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)
        self._lose()

    def _lose(self) -> None:
        if not self.is_lost:
            self.is_lost = True
            self._tell()

    def _tell(self) -> None:
        failure: Exception | None = None
        for watcher in tuple(self._watchers.values()):
            try:
                watcher()
            except Exception as error:  # the others have to hear of it all the same
                failure = failure or error
        if failure is not None:
            raise failure

    def _step_aside(self, transport: asyncio.Transport) -> None:
        if transport.get_protocol() is self:
            transport.set_protocol(self._protocol)


def connection_of(transport: asyncio.Transport | None) -> Connection:
    """The connection of a transport: the one that is watched already, if there is one.

    Watch it in the same turn of the event loop: it learns nothing before.
    """
    protocol = transport.get_protocol() if transport is not None else None
    return protocol if isinstance(protocol, Connection) else Connection(transport)
