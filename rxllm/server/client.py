"""Who has sent the current request."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final, NamedTuple

__all__ = ["CLIENT", "Client"]


class Client(NamedTuple):
    """Who has sent a request, and which.

    Args:
        address: the address of the client, behind trusted proxies.
        request_id: the id of the request.
        path: its path.
    """

    address: str = ""
    request_id: str = ""
    path: str = ""


CLIENT: Final[ContextVar[Client]] = ContextVar("rxllm.client", default=Client())  # noqa: B039 - immutable
