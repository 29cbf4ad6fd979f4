"""Where clients reach this server, as it tells other servers."""

from __future__ import annotations

import os
import socket
from typing import Final

from rxllm.errors import BadRequestError

__all__ = ["ServerAddress", "url_of"]

_EVERYWHERE: Final = {"0.0.0.0", "::", ""}  # noqa: S104 - not to listen on


class ServerAddress:
    """The address of this server among those that share a store.

    Args:
        given: the address, such as `https://one.example.org/`; `None` for that on which the server
            listens, if that is known, or else the name of the machine and the process.

    Raises:
        BadRequestError: it is empty, or not text.

    Attributes:
        value: the address.
    """

    def __init__(self, given: str | None = None) -> None:
        if given is not None and (not isinstance(given, str) or not given.strip()):
            raise BadRequestError(f"address must be the URL of this server, got {given!r}")
        self._is_given = given is not None
        self.value: str = given or f"{socket.gethostname()}:{os.getpid()}"

    def listen_on(self, host: str, port: int) -> None:
        """Use the address on which the server listens, unless one was given."""
        if not self._is_given:
            self.value = url_of(socket.gethostname() if host in _EVERYWHERE else host, port)


def url_of(host: str, port: int) -> str:
    """Return the URL of a server.

    >>> url_of("::1", 8080)
    'http://[::1]:8080/'
    """
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
