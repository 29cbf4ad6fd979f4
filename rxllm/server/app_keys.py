"""What handlers find in `request.app`: one key for each thing that they share."""

from __future__ import annotations

from aiohttp import web

from rxllm.server.catalogue import Catalogue
from rxllm.server.limits import Limits
from rxllm.server.streams import StreamStore
from rxllm.settings import Settings

__all__ = ["LIMITS", "MODELS", "SETTINGS", "STREAMS"]

MODELS: web.AppKey[Catalogue] = web.AppKey("rxllm.models", Catalogue)
"""The models that may be asked, and how: `request.app[MODELS].ask(...)` is a stream."""

STREAMS: web.AppKey[StreamStore] = web.AppKey("rxllm.streams", StreamStore)
"""The streams that outlive their connections."""

LIMITS: web.AppKey[Limits] = web.AppKey("rxllm.limits", Limits)
SETTINGS: web.AppKey[Settings] = web.AppKey("rxllm.settings", Settings)
