"""`rxllm serve`: the server as a standalone program."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from rxllm.errors import RxLLMError
from rxllm.server.address import url_of
from rxllm.server.app import drain
from rxllm.server.app_keys import ADDRESS, LIMITS, MODELS, STREAMS
from rxllm.server.connections import BoundedSite, most_connections
from rxllm.web.shared_store import SharedStore

__all__ = ["ServeError", "is_loopback", "serve"]

_KEEP_ALIVE: Final = 30.0
_CLEAN_UP: Final = 5.0


async def serve(
    app: web.Application,
    host: str = "127.0.0.1",
    port: int = 8080,
    *,
    reuse_port: bool = False,
    say: Callable[[str], object] = print,
) -> None:
    """Serve `app` until SIGTERM or Ctrl-C, then drain it and return.

    On the first signal, new streams are refused (503 with `Retry-After`; `/healthz` is 503 too),
    and live streams get `settings.shutdown` seconds to finish. Another SIGTERM has no effect; a
    Ctrl-C after the first signal cancels the remaining streams. If other servers share the port or
    the streams, the server also stops listening, so that new connections go to them at once.

    A connection is closed if it takes longer than 30 s to send a request head, or is idle that
    long; a body may take `limits.body_seconds`.

    Args:
        app: created by `create_app`.
        host: the name or address to listen on.
        port: 0 picks a free one.
        reuse_port: whether other processes may listen on the same port; the system distributes the
            connections among them.
        say: called with the URL once the server listens, and with the number of streams it waits
            for at shutdown.

    Raises:
        ServeError: the server can't listen there.
    """
    logger = logging.getLogger("rxllm.server")
    logger.addFilter(_is_our_fault)
    runner = web.AppRunner(
        app,
        logger=logger,
        access_log=None,
        keepalive_timeout=_KEEP_ALIVE,
        lingering_time=_CLEAN_UP,
        auto_decompress=False,  # compressed bodies are refused, and must not be unpacked before
        shutdown_timeout=_CLEAN_UP,
    )
    try:
        await runner.setup()
    except BaseException:
        await runner.cleanup()  # of what had started
        raise
    with _signals(app) as asked:
        try:
            await _serve(runner, host, port, reuse_port, asked, say)
        finally:
            await runner.cleanup()


async def _serve(
    runner: web.AppRunner,
    host: str,
    port: int,
    reuse_port: bool,
    asked: asyncio.Event,
    say: Callable[[str], object],
) -> None:
    limits = runner.app[LIMITS]
    site = BoundedSite(
        runner,
        host,
        port,
        most=most_connections(limits.http_connections, limits.streams),
        reuse_port=reuse_port or None,
    )
    try:
        await site.start()
    except OSError as error:
        raise ServeError(_reason(error, host, port)) from error
    listening = [(each[0], each[1]) for each in runner.addresses]
    runner.app[ADDRESS].listen_on(*listening[0])
    for address in listening:
        say(f"rxllm is serving on {url_of(*address)} (Ctrl-C to stop)")
    await asked.wait()
    if reuse_port or isinstance(runner.app[STREAMS], SharedStore):
        await site.stop()  # other servers can answer everything
    registry = runner.app[MODELS].registry
    if registry.active:
        say(f"waiting for {len(registry.active)} stream(s) to finish; Ctrl-C cancels them")
    await drain(runner.app)


@contextmanager
def _signals(app: web.Application) -> Iterator[asyncio.Event]:
    """Yield an event that the first signal sets. The handlers stay until the clean-up is done, so
    that another signal doesn't kill the process meanwhile."""
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    registry = app[MODELS].registry

    def stop(number: int) -> None:
        if asked.is_set() and number == signal.SIGINT:
            registry.cancel_all()
        asked.set()

    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, stop, number)
    try:
        yield asked
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


class ServeError(RxLLMError):
    """The server can't listen where it should."""


def _reason(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is in use: choose another one with --port"
    if error.errno == errno.EACCES:
        return f"port {port} of {host} may not be used without privileges: choose one above 1023"
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is not an address of this machine"
    return f"the server can't listen on {host}, port {port}: {error.strerror or error}"


def _is_our_fault(record: logging.LogRecord) -> bool:
    """Return whether a record is worth a traceback: what isn't HTTP is answered with 400."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError)


def is_loopback(host: str) -> bool:
    """Return whether a server on `host` is reachable only from this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
