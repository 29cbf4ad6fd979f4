"""HTTP on aiohttp's client: pooled connections, and their failures as errors of `rxllm.errors`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final, NamedTuple, TypeAlias, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from rxllm.errors import (
    BadRequestError,
    CertificateError,
    ConnectionFailedError,
    ConnectTimeoutError,
    MalformedStreamError,
    RxLLMError,
)

__all__ = ["READ_BUFFER", "Connection", "close_connections", "connect"]

READ_BUFFER: Final = 64 * 1024
"""Bytes: a read gives so many at most, and the socket is not read once twice as many wait."""

_ERROR_BODY: Final = 64 * 1024
_ERROR_BODY_SECONDS: Final = 5.0
_END_SECONDS: Final = 0.1

_T = TypeVar("_T")

_Sessions: TypeAlias = dict[str, aiohttp.ClientSession]


class _Pool(NamedTuple):
    """What one event loop has: sessions by provider, their lifetime, the proxies by scheme."""

    sessions: _Sessions
    lifetime: AsyncGenerator[_Sessions, None]
    proxies: dict[str, str]


_pools: dict[asyncio.AbstractEventLoop, _Pool] = {}


class Connection:
    """One response under way. Made by `connect`.

    Attributes:
        status: of the response.
        headers: of the response, in lower case.
        content_type: without its parameters; `""` if there is none.
    """

    def __init__(self, response: aiohttp.ClientResponse, host: str) -> None:
        self.status: int = response.status
        self.headers: dict[str, str] = {
            name.lower(): value for name, value in response.headers.items()
        }
        told = self.headers.get("content-type", "")
        self.content_type: str = told.partition(";")[0].strip().lower()
        self._content = response.content
        self._host = host

    async def read(self) -> bytes:
        """What has come of the body, `READ_BUFFER` bytes at most; empty at its end.

        Raises:
            ConnectionFailedError: the connection was lost before the end.
        """
        content = self._content
        lost = content.exception()
        if lost is not None:
            # What came before the connection was lost is there still, behind the error.
            content.set_exception(None)  # type: ignore[arg-type]
            data = content.read_nowait(READ_BUFFER)
            content.set_exception(lost)
            if data:
                return data
        try:
            return await content.read(READ_BUFFER)
        except aiohttp.ClientError as error:
            failure = _failure(error, self._host)
        raise failure  # out here, as in `_map_errors`

    async def read_error(self) -> bytes:
        """The beginning of a body that tells of an error: what comes of it within 5 s."""
        body = b""
        with suppress(TimeoutError, ConnectionFailedError):
            async with asyncio.timeout(_ERROR_BODY_SECONDS):
                while len(body) < _ERROR_BODY and (data := await self.read()):
                    body += data
        return body

    async def finish(self) -> None:
        """Read up to the end of the body, so that the connection can be used again.

        A body that has not ended within 0.1 s closes it.
        """
        with suppress(TimeoutError, ConnectionFailedError):
            async with asyncio.timeout(_END_SECONDS):
                while await self.read():
                    pass


@asynccontextmanager
async def connect(
    provider: str, url: str, headers: Mapping[str, str], body: bytes, seconds: float
) -> AsyncIterator[Connection]:
    """Post `body`, and give the response once its headers have come.

    Connections are pooled for each provider and event loop, and closed with the loop, where its
    asynchronous generators are shut down, as `asyncio.run` does. There is no limit to their number,
    and no time limit but the one to connect. Redirects are not followed: the key belongs to the
    host that it was given for. Proxies are those of the environment at the first request of the
    event loop.

    On leaving, a connection whose response was read to its end goes back into the pool; any other
    is closed at once, before the response has come as well.

    Args:
        provider: the name of the pool.
        url: where to post to.
        headers: of the request.
        body: JSON.
        seconds: how long it may take to connect: to find the host, to reach it, and for TLS.

    Raises:
        ConnectTimeoutError: it took longer.
        ConnectionFailedError: there is no such host, it refused, or the connection was lost.
        CertificateError: the certificate of the host can't be trusted.
        MalformedStreamError: what answered does not speak HTTP.
    """
    pool = await _pool()
    session = _session(pool, provider)
    host = urlsplit(url).netloc.rpartition("@")[2]
    timeout = aiohttp.ClientTimeout(total=None, connect=seconds)
    posting = session.post(
        url,
        data=body,
        headers=headers,
        timeout=timeout,
        allow_redirects=False,
        proxy=_proxy(url, pool.proxies),
    )
    response = await _map_errors(posting, host)
    try:
        yield Connection(response, host)
    finally:
        # Back to the pool if the body is at its end, else closed.
        if response.content.at_eof():
            response.release()
        else:
            response.close()


async def close_connections() -> None:
    """Close the pooled connections of the running event loop; those in use are lost.

    They are closed with the loop anyway: this is for a loop that goes on, and for leak checks.
    """
    pool = _pools.get(asyncio.get_running_loop())
    if pool is not None:
        await pool.lifetime.aclose()


def _proxy(url: str, proxies: Mapping[str, str]) -> str | None:
    """The proxy of the environment (`HTTPS_PROXY`, ...) for `url`, unless `NO_PROXY` excepts it.

    aiohttp's own `trust_env` reads `.netrc` as well, whose passwords would meet our keys.
    """
    parts = urlsplit(url)
    proxy = proxies.get(parts.scheme)
    return proxy if proxy and not proxy_bypass(parts.netloc) else None


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
            headers={"Accept-Encoding": "identity"},  # compressed events come in clumps
            read_bufsize=READ_BUFFER,
        )
    return session


async def _lifetime(loop: asyncio.AbstractEventLoop) -> AsyncGenerator[_Sessions, None]:
    """The sessions of a loop. It closes its asynchronous generators last, and this one with them.

    That is what `asyncio.run` and `asyncio.Runner` do, and nothing else tells of a loop's end.
    """
    sessions: _Sessions = {}
    try:
        yield sessions
    finally:
        _pools.pop(loop, None)
        for session in sessions.values():
            await session.close()


async def _map_errors(awaitable: Awaitable[_T], host: str) -> _T:
    """What `awaitable` gives; a failure of the connection is one of our errors."""
    failure: RxLLMError
    try:
        return await awaitable
    except aiohttp.InvalidURL:
        failure = BadRequestError(f"the URL of {host}, or that of the proxy, can't be right")
    except aiohttp.ClientError as error:
        failure = _failure(error, host)
    except ValueError:
        failure = BadRequestError(f"a header for {host}, the key say, holds what no header can")
    raise failure  # out here, so that aiohttp's error is no context: it may hold the headers


def _failure(error: aiohttp.ClientError, host: str) -> RxLLMError:
    """Map an error of aiohttp's. Messages name the host alone: a URL may hold a key."""
    cause: BaseException | None = error
    failure: RxLLMError
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        failure = ConnectTimeoutError(f"{host} did not accept the connection in time")
    elif isinstance(error, aiohttp.ClientConnectorCertificateError):
        failure = CertificateError(f"the certificate of {host} can't be trusted")
    elif isinstance(error, aiohttp.ClientConnectorDNSError):
        failure = ConnectionFailedError(f"there is no address for {host}")
    elif isinstance(error, aiohttp.ClientConnectorError):
        failure = ConnectionFailedError(f"{host} can't be reached: {error.os_error}")
    elif isinstance(error, aiohttp.ClientHttpProxyError):
        failure = BadRequestError(f"the proxy does not connect to {host}: {error.status}")
        cause = None
    elif isinstance(error, aiohttp.ClientResponseError):
        failure = MalformedStreamError(f"what {host} answered is no HTTP: {error.message}")
        cause = error.__cause__
    else:
        failure = ConnectionFailedError(f"the connection to {host} was lost")
    failure.__cause__ = cause
    return failure
