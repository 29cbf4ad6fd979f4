"""Health and metrics endpoints: `/healthz` and `/metrics`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from aiohttp import web

import rxllm
from rxllm.server.app_keys import MODELS, STREAMS
from rxllm.server.failures import json_response
from rxllm.server.messages import Health
from rxllm.web.failures import RefusedError
from rxllm.web.shared_store import SharedStore
from rxllm.web.stream_store import StreamStore

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

__all__ = ["health", "new_metrics", "routes"]


def new_metrics() -> CollectorRegistry | None:
    """Return a new metrics registry for one server, or `None` without the extra `metrics`."""
    try:
        from prometheus_client import CollectorRegistry
    except ImportError:
        return None
    return CollectorRegistry()


async def health(request: web.Request) -> web.Response:
    """`GET /healthz`: 200, or 503 once the server is shutting down."""
    registry = request.app[MODELS].registry
    value = Health(
        status="draining" if registry.refusing else "ok",
        streams=len(registry.active),
        version=rxllm.__version__,
        store=_state(request.app[STREAMS]),
    )
    return json_response(value, 503 if registry.refusing else 200)


def _state(store: StreamStore) -> Literal["ok", "away"] | None:
    if not isinstance(store, SharedStore):
        return None
    return "ok" if store.is_reached() else "away"


async def metrics(request: web.Request) -> web.Response:
    """`GET /metrics`: Prometheus text format; 501 without `prometheus-client`."""
    registry = request.app[MODELS].metrics
    if registry is None:
        raise RefusedError(
            "not_installed", "metrics require prometheus-client: pip install 'rxllm[metrics]'", 501
        )
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

    return web.Response(
        body=generate_latest(registry),
        headers={"Content-Type": CONTENT_TYPE_LATEST, "Cache-Control": "no-store"},
    )


routes: list[web.RouteDef] = [web.get("/healthz", health), web.get("/metrics", metrics)]
