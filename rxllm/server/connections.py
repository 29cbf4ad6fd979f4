"""As many connections as the process can open, and not one more."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any, Final

from aiohttp import web

__all__ = ["BoundedSite", "most_connections"]

_BACKLOG: Final = 128
_ACCEPTED_AT_ONCE: Final = 16
"""`asyncio` accepts this many before it handles, or closes, the first of them."""

_RESERVED: Final = 128
"""Descriptors for everything but clients: models, files, connections that are being refused."""

_PAUSE: Final = 10.0  # seconds between two lines about refused connections
_REFUSAL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\n"
    b"Content-Length: 0\r\n\r\n"
)


def most_connections(wanted: int, streams: int) -> int:
    """Raise the limit of open files, if that is permitted, and return how many clients fit.

    Args:
        wanted: the number of clients.
        streams: live streams at once; each may have a connection to its provider.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + streams + _RESERVED
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        except (ValueError, OSError):  # as on macOS, above the limit of its kernel
            soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    left = max(soft - _RESERVED, 2)
    return min(wanted, max(left - streams, left // 2))


class _Refusal(asyncio.Protocol):
    """Answers a connection with 503, and closes it."""

    def connection_made(self, transport: Any) -> None:
        transport.write(_REFUSAL)
        transport.close()


class BoundedSite(web.TCPSite):
    """A site with a limit of connections. One line in ten seconds tells of refused ones.

    Args:
        runner, host, port, reuse_port: as for `web.TCPSite`.
        most: the number of connections at once.
    """

    def __init__(
        self, runner: web.AppRunner, host: str, port: int, *, most: int, **options: Any
    ) -> None:
        super().__init__(runner, host, port, backlog=_ACCEPTED_AT_ONCE, **options)
        self._most = most
        self._pending = 0
        self._refused = 0
        self._told_at = -_PAUSE

    async def start(self) -> None:
        """Listen."""
        await web.BaseSite.start(self)
        self._server = await asyncio.get_running_loop().create_server(
            self._protocol,
            self._host,
            self._port,
            backlog=self._backlog,
            reuse_address=self._reuse_address,
            reuse_port=self._reuse_port,
        )
        for listening in self._server.sockets:
            with socket.fromfd(listening.fileno(), listening.family, listening.type) as same:
                same.listen(_BACKLOG)

    def _protocol(self) -> asyncio.Protocol:
        server = self._runner.server
        assert server is not None  # noqa: S101 - the runner was set up
        loop = asyncio.get_running_loop()
        if len(server.connections) + self._pending < self._most:
            self._pending += 1
            loop.call_soon(self._connects)  # just before its `connection_made`
            return server()
        self._refused += 1
        now = time.monotonic()
        if now - self._told_at >= _PAUSE:
            self._told_at, count = now, self._refused
            self._refused = 0
            loop.call_exception_handler(
                {"message": f"{count} connection(s) refused: {self._most} are open"}
            )
        return _Refusal()

    def _connects(self) -> None:
        self._pending -= 1
