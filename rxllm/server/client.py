"""Who has sent the current request."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final, NamedTuple

from rxllm.server.keys import Key

__all__ = ["CLIENT", "Client"]


class Client(NamedTuple):
    """Who has sent a request, and which.

    Args:
        address: the address of the client, behind trusted proxies.
        request_id: the id of the request.
        path: its path.
        key: the API key, if the server has keys.
    """

    address: str = ""
    request_id: str = ""
    path: str = ""
    key: Key | None = None

    @property
    def name(self) -> str:
        """The name of the key, or else the address."""
        return self.key.name if self.key is not None and self.key.name else self.address

    @property
    def owner(self) -> str | None:
        """The owner of the streams that the client begins; `None` if they are everybody's."""
        return None if self.key is None else self.key.name

    def may_see(self, owner: str | None) -> bool:
        """Return whether the client may list, read and control the streams of an owner."""
        return self.key is None or self.key.admin or self.key.name == owner


CLIENT: Final[ContextVar[Client]] = ContextVar("rxllm.client", default=Client())  # noqa: B039 - immutable
