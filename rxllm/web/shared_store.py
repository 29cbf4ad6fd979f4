"""Stores that several servers share: names, claims, and streams outside the store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

__all__ = ["NameLeases", "SharedStore"]


class NameLeases(Protocol):
    """Names that are bound to one of several servers, so that all agree on where each is.

    A server keeps its names until it unbinds them; those of a server that has died are free after a
    few seconds.
    """

    async def bind(self, name: str) -> str | None:
        """Bind a name to this server, and return `None`; if another server has it, the address of
        that one. Idempotent.

        Raises:
            StoreUnavailableError: the other servers can't be asked. Names that are bound stay so.
        """
        ...

    def unbind(self, name: str) -> None:
        """Let other servers have a name. No effect if it isn't bound to this server."""
        ...


@runtime_checkable
class SharedStore(Protocol):
    """A `StreamStore` of several servers."""

    def share_live(self, owner_of: Callable[[str], str | None]) -> None:
        """Let the other servers list and control the live streams of this one that are in its
        registry, but in no store, such as those of whole answers. Call it before `start`.

        Args:
            owner_of: returns the owner of a stream, for its summary.
        """
        ...

    def is_reached(self) -> bool:
        """Return whether this server has reached the store at its last try, some seconds ago."""
        ...

    async def claim(self, token: str) -> bool:
        """Return whether this is the first claim of a token, among all servers, for some weeks.

        Raises:
            StoreUnavailableError: the other servers can't be asked. It may be claimed all the same.
        """
        ...

    def names(
        self, address: Callable[[], str], on_lost: Callable[[str, str], object]
    ) -> NameLeases:
        """Return the names of this server. They are given up when the store is closed.

        Args:
            address: returns the address of this server, for the other ones.
            on_lost: called with a name that another server has meanwhile, because this one was cut
                off, and with the address of that server.
        """
        ...
