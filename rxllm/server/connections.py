"""As many connections as the process can open, and not one more."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from aiohttp import web

__all__ = ["BoundedSite", "most_connections"]

_BACKLOG: Final = 128
_RESERVED: Final = 128
"""Descriptors for everything but clients: the models, their providers, files."""

_PAUSE: Final = 10.0  # seconds between two lines about refused connections
_REFUSAL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\n"
    b"Content-Length: 0\r\n\r\n"
)


def most_connections(wanted: int) -> int:
    """Raise the limit of open files, if that is permitted, and return how many clients fit."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + _RESERVED
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        except (ValueError, OSError):  # as on macOS, above the limit of its kernel
            soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    return max(1, min(wanted, soft - _RESERVED, soft // 2 if soft < 2 * _RESERVED else wanted))


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
        super().__init__(runner, host, port, backlog=_BACKLOG, **options)
        self._most = most
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

    def _protocol(self) -> asyncio.Protocol:
        server = self._runner.server
        assert server is not None  # noqa: S101 - the runner was set up
        if len(server.connections) < self._most:
            return server()
        self._refused += 1
        now = time.monotonic()
        if now - self._told_at >= _PAUSE:
            self._told_at, count = now, self._refused
            self._refused = 0
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"{count} connection(s) refused: {self._most} are open"}
            )
        return _Refusal()
