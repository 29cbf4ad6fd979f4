"""`/v1/responses`, for clients of OpenAI's Responses API.

A response is a stream in the store, under its id: it can be read again, resumed after any of its
events and cancelled for as long as the store keeps it.

Source: https://platform.openai.com/docs/api-reference/responses.
"""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import msgspec
from aiohttp import web
from reactivex import Observable

from rxllm.requests import Request
from rxllm.server.app_keys import LIMITS, MODELS, READERS, STREAMS
from rxllm.server.asked import AskedStream
from rxllm.server.client import CLIENT
from rxllm.server.facade import fields_of, stream_answer
from rxllm.server.failures import decoded, json_response, read_body
from rxllm.server.messages import Options
from rxllm.server.openai.endpoints import openai_error
from rxllm.server.ownership import described
from rxllm.server.responses import send_json
from rxllm.server.responses_api.messages import ResponsesRequest
from rxllm.valve import StreamScheduler, Valve
from rxllm.web.connection import connection_of
from rxllm.web.encoding import encode_each
from rxllm.web.failures import InvalidMessageError, RefusedError, status_of_message
from rxllm.web.frame_sender import send_frames
from rxllm.web.openai_responses.writer import (
    OPENAI_RESPONSES_WIRE,
    ResponsesWriter,
)
from rxllm.web.stream_messages import Complete, StreamChunk, StreamFailed
from rxllm.web.stream_store import Frame, StreamHandle

__all__ = ["routes"]

_body = msgspec.json.Decoder(ResponsesRequest)


async def create(request: web.Request) -> web.StreamResponse:
    """`POST /v1/responses`: a response, whole or streamed.

    With `background`, it goes on when the client has left, and is returned at once if it isn't
    streamed.
    """
    data = await read_body(request, request.app[LIMITS])
    body = decoded(_body, data)
    body.check()
    catalogue = request.app[MODELS]
    options = body.as_options()
    catalogue.find(options.model)
    with fields_of(body.name_of):
        asked = catalogue.request(body.as_messages(), options, **body.further())
    stream_id = f"resp_{uuid4().hex}"
    echoed = body.echoed(msgspec.json.decode(data))
    writer = ResponsesWriter(
        stream_id,
        model=options.model or catalogue.default,
        runs_tools=catalogue.runs_tools(options.model),
        echoed=echoed,
        is_whole=not body.stream,
    )
    limits = request.app[LIMITS]
    with request.app[READERS].one_more():
        if body.stream:
            return await stream_answer(
                request,
                asked,
                options,
                stream_id=stream_id,
                wire=OPENAI_RESPONSES_WIRE,
                writer=writer,
                refuse=openai_error,
                name_of=body.name_of,
                grace=limits.stream_seconds if body.background else None,
                exact=True,
                echoed=echoed,
            )
        record = catalogue.asked(asked, options, progress=False, echoed=echoed)
        begun = await _begin(request, asked, options, stream_id, bool(body.background), record)
        if body.background:
            return json_response(await _snapshot(request, stream_id, writer))
        with fields_of(body.name_of):
            return await _whole(request, begun, writer, body)


async def retrieve(request: web.Request) -> web.StreamResponse:
    """`GET /v1/responses/{id}`: the response so far, or with `stream=true` its events.

    `starting_after` is the `sequence_number` after which they begin.
    """
    stream_id = request.match_info["id"]
    store = request.app[STREAMS]
    after, is_streamed = _starting_after(request), _is_streamed(request)
    summary = await described(request, stream_id)
    writer = ResponsesWriter(
        stream_id,
        model=summary.model,
        runs_tools=request.app[MODELS].runs_tools(summary.model),
        created=summary.started,
        echoed=await _echoed(request, stream_id),
        after=after,
        is_whole=not is_streamed,
    )
    if not is_streamed:
        return json_response(await _snapshot(request, stream_id, writer))
    with request.app[READERS].one_more():
        frames = await store.read(stream_id, exact=True)
        return await send_frames(
            request,
            encode_each(frames, writer),
            wire=OPENAI_RESPONSES_WIRE,
            headers={"X-Stream-Id": stream_id},
            max_stall=request.app[LIMITS].reader_stall,
        )


async def cancel(request: web.Request) -> web.Response:
    """`POST /v1/responses/{id}/cancel`: stop a response; one that has ended is unchanged."""
    stream_id = request.match_info["id"]
    summary = await described(request, stream_id)
    await request.app[STREAMS].cancel(stream_id)
    writer = ResponsesWriter(
        stream_id,
        model=summary.model,
        runs_tools=request.app[MODELS].runs_tools(summary.model),
        created=summary.started,
        echoed=await _echoed(request, stream_id),
        is_whole=True,
    )
    return json_response(await _snapshot(request, stream_id, writer))


routes: list[web.RouteDef] = [
    web.post("/v1/responses", create),
    web.get("/v1/responses/{id:[^/]+}", retrieve, allow_head=False),
    web.post("/v1/responses/{id:[^/]+}/cancel", cancel),
]


async def _begin(
    request: web.Request,
    asked: Request,
    options: Options,
    stream_id: str,
    background: bool,
    record: AskedStream,
) -> StreamHandle:
    catalogue = request.app[MODELS]
    return await request.app[STREAMS].begin(
        lambda: catalogue.ask(asked, options, stream_id=stream_id, progress=False),
        stream_id,
        model=options.model or catalogue.default,
        grace=request.app[LIMITS].stream_seconds if background else 0.0,
        owner=CLIENT.get().owner,
        asked=record.encode(),
        is_resumable=background and record.request is not None,
    )


async def _echoed(request: web.Request, stream_id: str) -> dict[str, Any] | None:
    """Return the fields of the request that are part of its response."""
    return AskedStream.decode(await request.app[STREAMS].asked(stream_id)).echoed


async def _snapshot(
    request: web.Request, stream_id: str, writer: ResponsesWriter
) -> dict[str, Any]:
    """Return the response as it is now."""
    scheduler = StreamScheduler(asyncio.get_running_loop(), Valve())
    frames = await request.app[STREAMS].read(stream_id)
    reading = _Reading(writer)
    frames.subscribe(reading.on_frame, scheduler=scheduler).dispose()
    return reading.writer.so_far()


async def _whole(
    request: web.Request, begun: StreamHandle, writer: ResponsesWriter, body: ResponsesRequest
) -> web.StreamResponse:
    """Answer with the response once it has ended."""
    reading = _Reading(writer)
    last = await reading.until_end(request, await begun.read())
    if last is None:
        begun.cancel_if_unread()
        raise RefusedError("client_left", "the client has left", 499)
    if isinstance(last, StreamFailed):
        failed = msgspec.structs.replace(last, field=body.name_of(last.field))
        return openai_error(failed, status_of_message(failed))
    if last.finish_reason == "cancelled":
        raise RefusedError("cancelled", "the stream was cancelled", 409)
    return await send_json(request, reading.writer.response)


class _Reading:
    """Reads a stream as a whole response, with a writer that `is_whole`."""

    def __init__(self, writer: ResponsesWriter) -> None:
        self.writer = writer
        self.last: Complete | StreamFailed | None = None

    def on_frame(self, frame: Frame) -> None:
        message = frame.message
        if not isinstance(message, StreamChunk):
            self.last = message
        self.writer(frame)

    async def until_end(
        self, request: web.Request, frames: Observable[Frame]
    ) -> Complete | StreamFailed | None:
        """Return the last message; `None` if the client has left before it."""
        connection = connection_of(request.transport)
        finished = asyncio.Event()

        def look() -> None:
            if connection.is_lost:
                finished.set()

        scheduler = StreamScheduler(asyncio.get_running_loop(), Valve())
        with connection.watch(look):
            look()
            subscription = frames.subscribe(
                self.on_frame,
                lambda _: finished.set(),
                finished.set,
                scheduler=scheduler,
            )
            try:
                await finished.wait()
            finally:
                subscription.dispose()
        return self.last


def _is_streamed(request: web.Request) -> bool:
    text = request.query.get("stream", "false")
    if text.lower() not in ("true", "false"):
        raise InvalidMessageError(f"stream must be true or false, got {text[:50]!r}", "stream")
    return text.lower() == "true"


def _starting_after(request: web.Request) -> int:
    text = request.query.get("starting_after")
    if text is None:
        return -1
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise InvalidMessageError(
            f"starting_after must be a sequence_number, got {text[:50]!r}", "starting_after"
        )
    return int(text)
