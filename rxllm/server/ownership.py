"""Whose streams a client may list, read and control."""

from __future__ import annotations

from aiohttp import web

from rxllm.server.app_keys import STREAMS
from rxllm.server.client import CLIENT
from rxllm.web.failures import StreamNotFoundError
from rxllm.web.stream_messages import StreamSummary

__all__ = ["described", "not_found", "visible"]


async def described(request: web.Request, stream_id: str) -> StreamSummary:
    """Return the summary of a stream in the store.

    Raises:
        StreamNotFoundError: there is none, or it belongs to another key.
    """
    summary = await request.app[STREAMS].describe(stream_id)
    if not CLIENT.get().may_see(summary.owner):
        raise not_found(stream_id)
    return summary


async def visible(request: web.Request, prefix: str = "") -> list[StreamSummary]:
    """Return the summaries of the streams in the store that the client may see, and whose ids begin
    with `prefix`."""
    client = CLIENT.get()
    listed = await request.app[STREAMS].list(prefix)
    return [summary for summary in listed if client.may_see(summary.owner)]


def not_found(stream_id: str) -> StreamNotFoundError:
    """Return the error for a stream that isn't there, as far as the client may know."""
    return StreamNotFoundError(f"there is no stream {stream_id!r}, or it is no longer kept")
