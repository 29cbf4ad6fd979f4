"""Access control: the checks between the network and the handlers.

- **Host**: a server on a loopback address answers only requests for `localhost`, loopback addresses
  and the given `hosts`. So a web page can't reach it through a name that points here (DNS
  rebinding).
- **Origin**: browser requests from other origins are refused, including other ports of this
  machine: by `Sec-Fetch-Site`, which pages can't set, or else by `Origin`, which must be that of
  the `Host`. Links to the page are allowed. Programs other than browsers send neither header.
- **Proxies**: what a trusted proxy says about a request (`X-Forwarded-Host`, `X-Forwarded-For`)
  counts in place of its own `Host` and address.
- **Key**: with an `api_key`, everything but the health check requires it: `Authorization: Bearer
  KEY`, `X-API-Key: KEY`, or `Authorization: Basic` with the key as the password and any name. A
  browser prompts for the last one, then sends it with the page, `fetch`, `EventSource` and
  `WebSocket`. A key in a URL is not accepted, since URLs are logged and passed on as referrers.
- **CORS**: other sites can't read responses, unless they are listed.
- **Headers**: a strict Content-Security-Policy, no sniffing, no framing, no referrer.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Final
from urllib.parse import urlsplit
from uuid import uuid4

from aiohttp import hdrs, web

from rxllm.errors import BadRequestError
from rxllm.server.app_keys import ROOT
from rxllm.server.client import CLIENT, Client
from rxllm.server.health import health
from rxllm.server.keys import Key, Keys
from rxllm.server.proxies import Proxies
from rxllm.web.failures import RefusedError

__all__ = ["HEADERS", "REQUEST_ID", "Guard"]

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "Server": "rxllm",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

_SAFE_METHODS: Final = {"GET", "HEAD", "OPTIONS"}
REQUEST_ID: Final = "X-Request-ID"
_REQUEST_IDS: Final = (REQUEST_ID, "Request-ID")
"""OpenAI's name, and Anthropic's."""
_PORTS: Final = {"http": 80, "https": 443}
_HOST: Final = re.compile(
    r"(?:\[(?P<address>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]+))(?::(?P<port>[0-9]{1,5})?)?"
)
_CHALLENGE: Final = 'Basic realm="rxllm", charset="UTF-8"'


class Guard:
    """Checks each request. Created by `create_app`.

    Args:
        keys: the keys of which clients must send one; none is required if there are none.
        cors: origins (`https://example.org`) of other sites that may use the server; `"*"` allows
            all.
        hosts: host names of the server without a port, besides loopback.
        proxies: addresses or networks of trusted proxies.

    Raises:
        BadRequestError: an origin, a host or a proxy is invalid.
    """

    def __init__(
        self,
        keys: Keys,
        cors: Sequence[str],
        hosts: Sequence[str],
        proxies: Sequence[str] = (),
    ) -> None:
        if isinstance(cors, str) or isinstance(hosts, str):
            raise BadRequestError("cors and hosts must be lists of strings")
        for origin in cors:
            if origin != "*" and not _is_origin(origin):
                raise BadRequestError(
                    f"an origin must look like https://example.org, got {origin!r}"
                )
        for host in hosts:
            if not host or _host_name(f"[{host}]" if host.count(":") > 1 else host) != host.lower():
                raise BadRequestError(
                    f"a host must be a name or an address without a port, got {host!r}"
                )
        self._keys = keys
        self._cors = frozenset(cors)
        self._hosts = frozenset(host.lower() for host in hosts)
        self._proxies = Proxies(proxies)

    @web.middleware
    async def middleware(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Pass the request on to its handler, or raise an error."""
        host = self._proxies.host_of(request)
        self._check_host(request, host)
        self._check_origin(request, host)
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            return self._preflight(request)
        key = None
        if self._keys and request.match_info.handler is not health:
            key = self._key_of(request)
        address = self._proxies.client_of(request)
        CLIENT.set(Client(address, _request_id(request), request.path, key))
        return await handler(request)

    async def prepare(self, request: web.Request, response: web.StreamResponse) -> None:
        """Set the headers of every response; a signal handler for `on_response_prepare`."""
        for name, value in HEADERS.items():
            response.headers[name] = value
        request_id = _request_id(request)
        for name in _REQUEST_IDS:
            response.headers[name] = request_id
        if response.status == 401:
            response.headers[hdrs.WWW_AUTHENTICATE] = _CHALLENGE
        if self._cors:
            response.headers.add(hdrs.VARY, "Origin")
            origin = request.headers.get(hdrs.ORIGIN)
            if origin is not None and self._is_listed(origin):
                response.headers["Access-Control-Allow-Origin"] = origin
                response.headers["Access-Control-Expose-Headers"] = (
                    "X-Stream-Id, X-Request-ID, Retry-After"
                )
                response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"

    def _check_host(self, request: web.Request, host: str) -> None:
        name = _host_name(host)
        if name in self._hosts or _is_loopback(name):
            return
        transport = request.transport
        local = transport.get_extra_info("sockname") if transport is not None else None
        address = local[0] if isinstance(local, tuple) else ""
        if self._hosts or _is_loopback(address):
            raise RefusedError(
                "host_not_allowed",
                f"the host {host[:100]!r} is not allowed: a server with this name is started with "
                "--name NAME",
                421,
            )

    def _check_origin(self, request: web.Request, host: str) -> None:
        headers = request.headers
        origin = headers.get(hdrs.ORIGIN)
        site = headers.get("Sec-Fetch-Site")
        if site in ("same-origin", "none"):
            return  # the browser says so, and a page can't
        is_listed = origin is not None and self._is_listed(origin)
        if origin is not None and not is_listed and not _is_same_origin(origin, host):
            raise RefusedError(
                "origin_not_allowed",
                f"requests from {origin[:200]!r} are not allowed: --cors ORIGIN allows another "
                "site; behind a proxy, let it pass on the Host, or name it with --trusted-proxy",
                403,
            )
        is_foreign = site in ("cross-site", "same-site")
        if is_foreign and not is_listed and not self._is_navigation(request):
            raise RefusedError(
                "origin_not_allowed",
                "requests from other sites are not allowed: --cors ORIGIN allows one",
                403,
            )

    def _is_navigation(self, request: web.Request) -> bool:
        """Return whether the request follows a link to the page from another site."""
        resource = request.match_info.route.resource
        is_page = isinstance(resource, web.StaticResource) or (
            resource is not None and resource.name == ROOT
        )
        return is_page and request.method in _SAFE_METHODS

    def _is_listed(self, origin: str) -> bool:
        return origin in self._cors or "*" in self._cors

    def _key_of(self, request: web.Request) -> Key:
        given = _given_key(request)
        if given is None:
            raise RefusedError(
                "unauthorized", "an API key is required: `Authorization: Bearer ...`", 401
            )
        key = self._keys.find(given)
        if key is None:
            raise RefusedError("unauthorized", "the API key is wrong", 401)
        return key

    def _preflight(self, request: web.Request) -> web.Response:
        origin = request.headers.get(hdrs.ORIGIN, "")
        if not self._is_listed(origin):
            raise RefusedError("origin_not_allowed", "requests from this site are not allowed", 403)
        return web.Response(
            status=204,
            headers={
                "Access-Control-Allow-Methods": "GET, POST, DELETE",
                # Allow all requested headers: an SDK in a page sends its own.
                "Access-Control-Allow-Headers": request.headers.get(
                    "Access-Control-Request-Headers", "Authorization, Content-Type"
                ),
                "Access-Control-Max-Age": "600",
            },
        )


def _is_same_origin(origin: str, host: str) -> bool:
    """Return whether an origin is that of a `Host`, which may omit or have the default port.

    >>> _is_same_origin("https://example.org", "Example.org:443")
    True
    >>> _is_same_origin("http://localhost:8000", "localhost")
    False
    """
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return False
    default = _PORTS.get(parts.scheme)
    found = _HOST.fullmatch(host.lower())
    if found is None or default is None:
        return False
    name = (parts.hostname or "").lower()
    same = (name, port or default)
    return same == (found["address"] or found["name"], int(found["port"] or default))


def _is_origin(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return f"{parts.scheme}://{parts.netloc}" == text


def _host_name(host: str) -> str:
    """Return a `Host` without its port, in lower case; "" if it isn't one.

    >>> _host_name("[::1]:80"), _host_name("[::1].evil"), _host_name("x@127.0.0.1")
    ('::1', '', '')
    """
    found = _HOST.fullmatch(host.lower())
    return "" if found is None else found["address"] or found["name"]


_ID_KEY: Final = web.RequestKey("rxllm.request_id", str)


def _request_id(request: web.Request) -> str:
    """Return the id that a client or a proxy has given the request, or a new one."""
    if _ID_KEY not in request:
        given = request.headers.get(REQUEST_ID, "")
        request[_ID_KEY] = given if re.fullmatch(r"[!-~]{1,100}", given) else uuid4().hex
    return request[_ID_KEY]


def _is_loopback(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _given_key(request: web.Request) -> bytes | None:
    plain = request.headers.get("X-API-Key")
    if plain is not None:
        return plain.encode("utf-8", "surrogateescape")
    scheme, _, value = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip().encode("utf-8", "surrogateescape")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return b""
    return None
