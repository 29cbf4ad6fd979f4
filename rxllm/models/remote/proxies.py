"""Which proxy a request takes, by the variables of the environment.

`HTTP_PROXY`, `HTTPS_PROXY` and `ALL_PROXY` name it; `NO_PROXY` lists hosts, domains, addresses and
networks that are asked directly, as https://curl.se/docs/manpage.html describes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit
from urllib.request import proxy_bypass

from rxllm.errors import ConnectionFailedError

__all__ = ["proxy_for"]


def proxy_for(url: str, proxies: Mapping[str, str]) -> str | None:
    """Return the URL of the proxy for `url`, or `None`.

    A proxy without a scheme is an HTTP proxy, as for curl. aiohttp's own `trust_env` also reads
    `.netrc`, whose passwords would conflict with our keys.

    Args:
        url: of the request.
        proxies: by scheme, as `urllib.request.getproxies` returns them.

    Raises:
        ConnectionFailedError: it is a SOCKS proxy, or its URL is invalid.

    >>> proxy_for("https://a.example/v1", {"all": "http://proxy:3128", "no": "b.example"})
    'http://proxy:3128'
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(parts.netloc) or _is_excluded(host, proxies):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    scheme = _scheme_of(proxy)
    if scheme in {"http", "https"}:
        return proxy
    what = "is a SOCKS proxy, which isn't supported" if "socks" in scheme else "has an invalid URL"
    raise ConnectionFailedError(
        f"the proxy for {host} {what}: set {parts.scheme.upper()}_PROXY to an HTTP proxy, or add "
        "the host to NO_PROXY"
    )


def _scheme_of(proxy: str) -> str:
    """Return the scheme of a URL, `""` if the URL is invalid."""
    with suppress(ValueError):  # of the host or the port
        parts = urlsplit(proxy)
        host = parts.hostname or ""
        if host and host.isprintable() and " " not in host and parts.port != 0:
            return parts.scheme
    return ""


def _is_excluded(host: str, proxies: Mapping[str, str]) -> bool:
    """Return whether `NO_PROXY` excludes an address, which may be in a network or in brackets."""
    address = _address(host)
    return address is not None and any(
        _contains(entry.strip(), address) for entry in proxies.get("no", "").split(",")
    )


def _contains(entry: str, address: IPv4Address | IPv6Address) -> bool:
    with suppress(ValueError):
        return address in ip_network(entry.strip("[]"), strict=False)
    return False


def _address(host: str) -> IPv4Address | IPv6Address | None:
    with suppress(ValueError):
        return ip_address(host)
    return None
