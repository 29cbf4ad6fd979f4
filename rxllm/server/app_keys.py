"""The keys of `request.app` for the objects that the handlers share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from aiohttp import web

from rxllm.errors import PoolFullError
from rxllm.server.address import ServerAddress
from rxllm.server.catalogue import Catalogue
from rxllm.server.limits import Limits
from rxllm.settings import Settings
from rxllm.web.stream_store import StreamStore

__all__ = [
    "ADDRESS",
    "LIMITS",
    "MODELS",
    "READERS",
    "REQUIRES_KEY",
    "ROOT",
    "SETTINGS",
    "STREAMS",
    "Readers",
]


class Readers:
    """Counts the HTTP requests that are reading a stream, up to a limit."""

    def __init__(self, most: int) -> None:
        self.count: int = 0
        self._most = most

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """Count one more reader inside the context.

        Raises:
            PoolFullError: there are too many.
        """
        if self.count >= self._most:
            raise PoolFullError(f"{self.count} requests are reading streams: try again later")
        self.count += 1
        try:
            yield
        finally:
            self.count -= 1


ROOT: Final = "rxllm.page"
"""The name of the route of the page."""

MODELS: web.AppKey[Catalogue] = web.AppKey("rxllm.models", Catalogue)
"""The models that clients may use: `request.app[MODELS].ask(...)` returns a stream."""

STREAMS: web.AppKey[StreamStore] = web.AppKey("rxllm.streams", StreamStore)
"""The streams that outlive their connections."""

ADDRESS: web.AppKey[ServerAddress] = web.AppKey("rxllm.address", ServerAddress)
READERS: web.AppKey[Readers] = web.AppKey("rxllm.readers", Readers)
LIMITS: web.AppKey[Limits] = web.AppKey("rxllm.limits", Limits)
SETTINGS: web.AppKey[Settings] = web.AppKey("rxllm.settings", Settings)
REQUIRES_KEY: web.AppKey[bool] = web.AppKey("rxllm.requires_key", bool)
