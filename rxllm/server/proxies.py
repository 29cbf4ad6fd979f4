"""What trusted proxies say about the requests that they pass on.

Only the `X-Forwarded-*` headers are read, which proxies set by themselves or by common recipes; a
`Forwarded` header (RFC 7239) that none of them removes could be the client's own.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from aiohttp import web

from rxllm.errors import BadRequestError

__all__ = ["Proxies"]


class Proxies:
    """The proxies whose headers about the client are believed.

    Args:
        networks: their addresses or networks, such as `10.0.0.0/8`.

    Raises:
        BadRequestError: one of them is neither.
    """

    def __init__(self, networks: Sequence[str]) -> None:
        if isinstance(networks, str):
            raise BadRequestError("proxies must be a list of strings")
        try:
            self._networks = [ipaddress.ip_network(each, strict=False) for each in networks]
        except ValueError as error:
            raise BadRequestError(
                f"a trusted proxy must be an address or a network such as 10.0.0.0/8: {error}"
            ) from None

    def host_of(self, request: web.BaseRequest) -> str:
        """Return the host that the client has asked for, as the proxy before this server says.

        A proxy must set the header itself, or remove it: a page could have sent any.
        """
        if self._is_trusted(request.remote or ""):
            named = _listed(request, "X-Forwarded-Host")
            if named:
                return named[-1]
        return request.headers.get("Host", "")

    def client_of(self, request: web.BaseRequest) -> str:
        """Return the address of the client: the last one that isn't a trusted proxy."""
        address = request.remote or ""
        for earlier in reversed(_listed(request, "X-Forwarded-For")):
            if not self._is_trusted(address):
                break
            address = _without_port(earlier)
        return address

    def _is_trusted(self, address: str) -> bool:
        if not self._networks:
            return False
        try:
            parsed = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(parsed, "ipv4_mapped", None)
        return any((mapped or parsed) in network for network in self._networks)


def _without_port(address: str) -> str:
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.partition(":")[0] if address.count(":") == 1 else address


def _listed(request: web.BaseRequest, name: str) -> list[str]:
    """Return what the proxies have added to a header, the outermost first."""
    listed = ",".join(request.headers.getall(name, []))
    return [value.strip() for value in listed.split(",") if value.strip()]
