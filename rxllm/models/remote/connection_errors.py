"""Maps errors of aiohttp to `rxllm.errors`."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

import aiohttp

from rxllm.errors import (
    BadRequestError,
    CertificateError,
    ConnectionFailedError,
    ConnectTimeoutError,
    MalformedStreamError,
    RxLLMError,
)

__all__ = ["Route", "connection_error", "login_required"]


class Route(NamedTuple):
    """The host of a request, and its proxy, without the credentials of either.

    Args:
        host: the host, with its port if the URL has one.
        proxy: the proxy likewise, `""` if there is none.
    """

    host: str
    proxy: str

    @classmethod
    def of(cls, url: str, proxy: str | None) -> Route:
        """Return the route of a request to `url` through `proxy`."""
        host, via = [urlsplit(each).netloc.rpartition("@")[2] for each in (url, proxy or "")]
        return cls(host, via)

    def __str__(self) -> str:
        return f"{self.host} through the proxy {self.proxy}" if self.proxy else self.host


def login_required(route: Route) -> ConnectionFailedError:
    """Return the error for a proxy that answers 407."""
    return ConnectionFailedError(
        f"the proxy {route.proxy} for {route.host} requires a login: give it in the URL of the "
        "proxy (http://user:password@host)"
    )


def connection_error(error: aiohttp.ClientError, route: Route) -> RxLLMError:
    """Return the error for an error of aiohttp.

    Messages name only hosts, since a URL may hold a key. The cause is set, unless its `repr` would
    show the password of the proxy.
    """
    failure: RxLLMError
    cause: BaseException | None = error
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        failure = ConnectTimeoutError(f"connecting to {route} timed out")
    elif isinstance(error, aiohttp.ClientConnectorError):
        failure, cause = _unreachable(error, route), error.os_error if route.proxy else error
    elif isinstance(error, aiohttp.ClientResponseError):
        failure, cause = _invalid_response(error, route), error.__cause__
    elif isinstance(error, aiohttp.InvalidURL):
        failure, cause = BadRequestError(f"the URL of {route} is invalid"), None
    else:
        failure = ConnectionFailedError(f"the connection to {route} was lost")
    failure.__cause__ = cause
    return failure


def _unreachable(error: aiohttp.ClientConnectorError, route: Route) -> RxLLMError:
    is_proxy = bool(route.proxy) and error.host == urlsplit(f"//{route.proxy}").hostname
    peer = f"the proxy {route.proxy}" if is_proxy else route.host
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return CertificateError(f"the certificate of {peer} isn't trusted")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return ConnectionFailedError(f"no address found for {peer}")
    reason = str(error.os_error) or "the connection was closed"
    through = f" through the proxy {route.proxy}" if route.proxy and not is_proxy else ""
    return ConnectionFailedError(f"{peer} can't be reached{through}: {reason}")


def _invalid_response(error: aiohttp.ClientResponseError, route: Route) -> RxLLMError:
    if isinstance(error, aiohttp.ClientHttpProxyError):
        if error.status == 407:
            return login_required(route)
        words = f"the proxy {route.proxy} refused to connect to {route.host}"
        return ConnectionFailedError(f"{words}: status {error.status}")
    words = f"sent an invalid HTTP response: {error.message}"
    if error.request_info.method == "CONNECT":
        return ConnectionFailedError(f"the proxy {route.proxy} {words}")
    return MalformedStreamError(f"{route} {words}")
