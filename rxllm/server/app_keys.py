"""What handlers find in `request.app`: one key for each thing that they share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from rxllm.errors import PoolFullError
from rxllm.server.catalogue import Catalogue
from rxllm.server.limits import Limits
from rxllm.settings import Settings
from rxllm.web.stream_store import StreamStore

__all__ = ["LIMITS", "MODELS", "READERS", "SETTINGS", "STREAMS", "Readers"]


class Readers:
    """How many HTTP requests read a stream now, and how many may."""

    def __init__(self, most: int) -> None:
        self.count: int = 0
        self._most = most

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """Count one while inside.

        Raises:
            PoolFullError: there are too many.
        """
        if self.count >= self._most:
            raise PoolFullError(f"{self.count} requests read streams already: try again later")
        self.count += 1
        try:
            yield
        finally:
            self.count -= 1


MODELS: web.AppKey[Catalogue] = web.AppKey("rxllm.models", Catalogue)
"""The models that may be asked, and how: `request.app[MODELS].ask(...)` is a stream."""

STREAMS: web.AppKey[StreamStore] = web.AppKey("rxllm.streams", StreamStore)
"""The streams that outlive their connections."""

READERS: web.AppKey[Readers] = web.AppKey("rxllm.readers", Readers)
LIMITS: web.AppKey[Limits] = web.AppKey("rxllm.limits", Limits)
SETTINGS: web.AppKey[Settings] = web.AppKey("rxllm.settings", Settings)
