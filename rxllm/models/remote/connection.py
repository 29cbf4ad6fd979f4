"""HTTP through aiohttp: pooled connections, with failures mapped to `rxllm.errors`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final, NamedTuple, TypeAlias, TypeVar
from urllib.request import getproxies

import aiohttp

from rxllm.errors import (
    BadRequestError,
    ConnectionFailedError,
    MalformedStreamError,
    RxLLMError,
)
from rxllm.models.remote.connection_errors import Route, connection_error, login_required
from rxllm.models.remote.proxies import proxy_for

__all__ = ["READ_BUFFER", "Connection", "close_connections", "connect"]

READ_BUFFER: Final = 64 * 1024
"""Maximum bytes per read. The socket isn't read while twice as many bytes are waiting."""

_ERROR_BODY: Final = 64 * 1024
_ERROR_BODY_SECONDS: Final = 5.0
_END_SECONDS: Final = 0.1
_LOGIN_REQUIRED: Final = 407
"""The status of a proxy, which may also come from a host that is reached through a tunnel."""

_T = TypeVar("_T")

_Sessions: TypeAlias = dict[str, aiohttp.ClientSession]


_LONGEST_BODY: Final = 1 << 26
"""Bytes of an answer that isn't streamed, or of a list."""

_HEADER_LIMIT: Final = 64 * 1024
"""Bytes of one header of a response; gateways send some of more than 8 KiB."""


class _Pool(NamedTuple):
    """The state of one event loop: sessions by provider, their lifetime, proxies by scheme."""

    sessions: _Sessions
    lifetime: AsyncGenerator[_Sessions, None]
    proxies: dict[str, str]


_pools: dict[asyncio.AbstractEventLoop, _Pool] = {}


class Connection:
    """A response in progress, made by `connect`.

    Attributes:
        status: the HTTP status code.
        headers: the response headers, with names in lower case.
        content_type: the media type without parameters, `""` if there is none.
    """

    def __init__(self, response: aiohttp.ClientResponse, route: Route) -> None:
        self.status: int = response.status
        self.headers: dict[str, str] = {
            name.lower(): value for name, value in response.headers.items()
        }
        content_type = self.headers.get("content-type", "")
        self.content_type: str = content_type.partition(";")[0].strip().lower()
        self._content = response.content
        self._route = route

    async def read(self) -> bytes:
        """Return the next part of the body, at most `READ_BUFFER` bytes; empty at its end.

        Raises:
            ConnectionFailedError: the connection was lost before the end.
        """
        content = self._content
        lost = content.exception()
        if lost is not None:
            # The data received before the connection was lost is still buffered behind the error.
            content.set_exception(None)  # type: ignore[arg-type]
            data = content.read_nowait(READ_BUFFER)
            content.set_exception(lost)
            if data:
                return data
        try:
            return await content.read(READ_BUFFER)
        except aiohttp.ClientError as error:
            failure = connection_error(error, self._route)
        raise failure  # outside of `except`, as in `_map_errors`

    async def read_all(self) -> bytes:
        """Return the rest of the body.

        Raises:
            ConnectionFailedError: the connection was lost.
            MalformedStreamError: the body is longer than 64 MiB.
        """
        parts: list[bytes] = []
        size = 0
        while data := await self.read():
            parts.append(data)
            size += len(data)
            if size > _LONGEST_BODY:
                raise MalformedStreamError("the body of the response is longer than 64 MiB")
        return b"".join(parts)

    async def read_error(self) -> bytes:
        """Return the beginning of an error body: up to 64 KiB of what arrives within 5 s."""
        body = b""
        with suppress(TimeoutError, ConnectionFailedError):
            async with asyncio.timeout(_ERROR_BODY_SECONDS):
                while len(body) < _ERROR_BODY and (data := await self.read()):
                    body += data
        return body

    async def finish(self) -> None:
        """Read to the end of the body, so that the connection can be reused.

        If the body doesn't end within 0.1 s, the connection is closed instead.
        """
        with suppress(TimeoutError, ConnectionFailedError):
            async with asyncio.timeout(_END_SECONDS):
                while await self.read():
                    pass


@asynccontextmanager
async def connect(
    provider: str, url: str, headers: Mapping[str, str], body: bytes | None, seconds: float
) -> AsyncIterator[Connection]:
    """Send a request and yield the response once its headers have arrived.

    Connections are pooled per provider and event loop. They are closed together with the loop if
    its asynchronous generators are shut down, as `asyncio.run` does. Their number is unlimited, and
    only connecting has a timeout. Redirects aren't followed, since the key is meant for this host
    only. Proxies are read from the environment at the first request of the event loop.

    On exit, a connection whose response was read to its end returns to the pool. Any other is
    closed at once, even before the response has arrived.

    Args:
        provider: the name of the pool.
        url: the URL.
        headers: the request headers.
        body: to be posted, or `None` for a GET.
        seconds: the timeout for connecting: DNS lookup, TCP connection and TLS handshake.

    Raises:
        ConnectTimeoutError: connecting took longer.
        ConnectionFailedError: the host or the proxy is unknown or refused, or the connection was
            lost.
        CertificateError: the host's certificate isn't trusted.
        MalformedStreamError: the server doesn't speak HTTP.
    """
    pool = await _pool()
    session = _session(pool, provider)
    proxy = proxy_for(url, pool.proxies)
    route = Route.of(url, proxy)
    timeout = aiohttp.ClientTimeout(total=None, connect=seconds)
    posting = session.request(
        "GET" if body is None else "POST",
        url,
        data=body,
        headers=headers,
        timeout=timeout,
        allow_redirects=False,
        proxy=proxy,
    )
    response = await _map_errors(posting, route)
    try:
        if route.proxy and response.status == _LOGIN_REQUIRED and url.startswith("http://"):
            raise login_required(route)
        yield Connection(response, route)
    finally:
        # Back to the pool if the body was read to its end, else closed.
        if response.content.at_eof():
            response.release()
        else:
            response.close()


async def close_connections() -> None:
    """Close the pooled connections of the running event loop, including those in use.

    They are closed with the loop anyway; this is for loops that keep running, and for leak checks.
    """
    pool = _pools.get(asyncio.get_running_loop())
    if pool is not None:
        await pool.lifetime.aclose()


async def _pool() -> _Pool:
    loop = asyncio.get_running_loop()
    if loop not in _pools:
        for closed in [known for known in list(_pools) if known.is_closed()]:
            del _pools[closed]
        lifetime = _lifetime(loop)
        _pools[loop] = _Pool(await anext(lifetime), lifetime, getproxies())
    return _pools[loop]


def _session(pool: _Pool, provider: str) -> aiohttp.ClientSession:
    session = pool.sessions.get(provider)
    if session is None:
        session = pool.sessions[provider] = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept-Encoding": "identity"},  # compressed events arrive in bursts
            read_bufsize=READ_BUFFER,
            max_line_size=_HEADER_LIMIT,
            max_field_size=_HEADER_LIMIT,
        )
    return session


async def _lifetime(loop: asyncio.AbstractEventLoop) -> AsyncGenerator[_Sessions, None]:
    """Yield the sessions of a loop, and close them when its asynchronous generators are shut down.

    `asyncio.run` and `asyncio.Runner` do so last; there is no other hook for the end of a loop.
    """
    sessions: _Sessions = {}
    try:
        yield sessions
    finally:
        _pools.pop(loop, None)
        for session in sessions.values():
            await session.close()


async def _map_errors(awaitable: Awaitable[_T], route: Route) -> _T:
    """Await `awaitable`, and map connection failures to `rxllm.errors`."""
    failure: RxLLMError
    try:
        return await awaitable
    except aiohttp.ClientError as error:
        failure = connection_error(error, route)
    except ValueError:
        words = f"a header for {route.host} (such as the API key) has an invalid value"
        failure = BadRequestError(words)
    # Outside of `except`, so that aiohttp's error isn't the context: it may hold the headers.
    raise failure
