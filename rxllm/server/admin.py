"""Endpoints that list and control streams, and list models."""

from __future__ import annotations

from typing import Literal

from aiohttp import web

from rxllm.server.app_keys import MODELS, STREAMS
from rxllm.server.client import CLIENT
from rxllm.server.failures import json_response
from rxllm.server.messages import Models, StreamList, StreamState
from rxllm.server.ownership import described, visible
from rxllm.web.failures import StreamNotFoundError
from rxllm.web.running_stream import live_summary

__all__ = ["routes"]


async def list_streams(request: web.Request) -> web.Response:
    """`GET /streams`: the streams in the store, and other live ones."""
    catalogue = request.app[MODELS]
    registry = catalogue.registry
    kept = await visible(request)
    known = {summary.id for summary in await request.app[STREAMS].list()}
    others = [
        live_summary(live.info, catalogue.owner_of(live.id))
        for live in registry.active
        if live.id not in known and CLIENT.get().may_see(catalogue.owner_of(live.id))
    ]
    return json_response(StreamList(streams=(*kept, *others), draining=registry.refusing))


async def cancel_stream(request: web.Request) -> web.Response:
    """`DELETE /streams/{id}`: stop a stream; its readers receive `End("cancelled")` and `complete`.

    A stream that has already ended is unchanged; the response has its final status.
    """
    return await _control(request, "cancel", "cancelled")


async def pause_stream(request: web.Request) -> web.Response:
    """`POST /streams/{id}/pause`: pause a stream for all its readers; 409 if it has ended."""
    return await _control(request, "pause", "paused")


async def unpause_stream(request: web.Request) -> web.Response:
    """`POST /streams/{id}/resume`: resume a stream; 409 if it has ended."""
    return await _control(request, "resume", "running")


async def models(request: web.Request) -> web.Response:
    """`GET /models`: the available models."""
    catalogue = request.app[MODELS]
    return json_response(Models(models=catalogue.listed, default_model=catalogue.default))


routes: list[web.RouteDef] = [
    web.get("/streams", list_streams),
    web.delete("/streams/{id:[^/]+}", cancel_stream),
    web.post("/streams/{id:[^/]+}/pause", pause_stream),
    web.post("/streams/{id:[^/]+}/resume", unpause_stream),
    web.get("/models", models),
]


async def _is_kept(request: web.Request, stream_id: str) -> bool:
    """Return whether the store has a stream, of whatever key."""
    try:
        await request.app[STREAMS].describe(stream_id)
    except StreamNotFoundError:
        return False
    return True


async def _control(
    request: web.Request, action: str, status: Literal["running", "paused", "cancelled"]
) -> web.Response:
    stream_id = request.match_info["id"]
    store = request.app[STREAMS]
    try:
        ended = (await described(request, stream_id)).status
        await getattr(store, action)(stream_id)
    except StreamNotFoundError:
        # It isn't in the store: it belongs to a request for the whole answer.
        catalogue = request.app[MODELS]
        registry = catalogue.registry
        is_own = CLIENT.get().may_see(catalogue.owner_of(stream_id))
        if stream_id not in registry or not is_own or await _is_kept(request, stream_id):
            raise
        ended = registry[stream_id].status
        getattr(registry[stream_id], action)()
    return json_response(
        StreamState(id=stream_id, status=ended if ended in ("completed", "failed") else status)
    )
