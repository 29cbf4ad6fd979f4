"""Stream endpoints: SSE, NDJSON and plain JSON."""

from __future__ import annotations

from operator import attrgetter
from typing import Any
from uuid import uuid4

import msgspec
from aiohttp import web
from reactivex import Observable

from rxllm.server.app_keys import LIMITS, MODELS, READERS, STREAMS
from rxllm.server.failures import decoded, invalid, read_body, refusal
from rxllm.server.messages import (
    Complete,
    Generated,
    Options,
    StreamFailed,
    StreamQuery,
    StreamRequest,
)
from rxllm.server.responses import collect, first_frame, send_json
from rxllm.web.encoding import encode_each, to_json
from rxllm.web.failures import InvalidMessageError, StreamNotFoundError, status_of_message
from rxllm.web.frame_sender import NDJSON, send_frames
from rxllm.web.stream_store import Frame, StreamHandle

__all__ = ["routes"]

_body = msgspec.json.Decoder(StreamRequest)


async def get_stream(request: web.Request) -> web.StreamResponse:
    """`GET /stream?prompt=...`: a stream as server-sent events, for `EventSource` and `curl -N`.

    A request with a `Last-Event-ID` comes from an `EventSource` that has lost its connection: it
    resumes the stream with the `id` in its query. Without such a stream the response is 204, which
    stops the `EventSource`; otherwise the whole answer would be generated again. An `EventSource`
    that was cut off before its first event repeats the request with the same `id`, and receives
    that stream from the beginning.
    """
    fields = _fields(request)
    if fields.get("responseFormat", "json") != "json":
        raise InvalidMessageError(
            "responseFormat must be json in a query: use POST /stream for a JSON Schema",
            "responseFormat",
        )
    try:
        query = msgspec.convert(fields, StreamQuery, strict=False)
    except msgspec.ValidationError as error:
        raise invalid(error) from None
    if "Last-Event-ID" in request.headers:
        try:
            return await _resumed(request, query.id or "")
        except StreamNotFoundError:
            return web.Response(status=204)
    key = None if query.id is None else repr(query)
    return await _stream(request, query.prompt, query, query.id, key)


async def post_stream(request: web.Request) -> web.StreamResponse:
    """`POST /stream`: like `GET /stream`, with a JSON body."""
    body = await _read(request)
    return await _stream(request, _prompt_of(body), body)


async def resume_stream(request: web.Request) -> web.StreamResponse:
    """`GET /stream/{id}`: the events of a stream after the `Last-Event-ID`, or from the beginning.

    204 if the stream has ended and there are no more events, which stops an `EventSource`.
    """
    return await _resumed(request, request.match_info["id"])


async def post_ndjson(request: web.Request) -> web.StreamResponse:
    """`POST /api/stream`: one message per line; `complete`, the last one, has the whole text."""
    body = await _read(request)
    with request.app[READERS].one_more():
        stream_id, begun = await _begin(request, _prompt_of(body), body, grace=0.0)
        if (refused := await _refused(request, begun)) is not None:
            return refused
        frames = await begun.read()
        return await send_frames(
            request,
            encode_each(frames, _line),
            content_type=NDJSON,
            headers={"X-Stream-Id": stream_id},
            heartbeat=None,
            max_stall=request.app[LIMITS].reader_stall,
            on_end=lambda delivery: begun.cancel_if_unread() if delivery.left else None,
        )


async def generate(request: web.Request) -> web.StreamResponse:
    """`POST /generate`: the whole answer as one JSON object."""
    body = await _read(request)
    stream = request.app[MODELS].ask(_prompt_of(body), body, progress=False)
    with request.app[READERS].one_more():
        result = await collect(request, stream)
        answer = Generated(
            text=result.text,
            tokens=result.timings.tokens,
            seconds=round(result.timings.elapsed, 6),
            model=result.model,
            finish_reason=result.finish_reason,
            usage=result.usage,
        )
        return await send_json(request, answer)


routes: list[web.RouteDef] = [
    web.get("/stream", get_stream, allow_head=False),
    web.post("/stream", post_stream),
    web.get("/stream/{id}", resume_stream, allow_head=False),
    web.post("/api/stream", post_ndjson),
    web.post("/generate", generate),
]


async def _stream(
    request: web.Request,
    prompt: Any,
    options: Options,
    stream_id: str | None = None,
    key: str | None = None,
) -> web.StreamResponse:
    with request.app[READERS].one_more():
        stream_id, begun = await _begin(request, prompt, options, stream_id, key=key)
        refused = await _refused(request, begun, comes_back=key is not None)
        if refused is not None:
            return refused
        return await _send(request, stream_id, await begun.read())


async def _begin(
    request: web.Request,
    prompt: Any,
    options: Options,
    stream_id: str | None = None,
    *,
    grace: float | None = None,
    key: str | None = None,
) -> tuple[str, StreamHandle]:
    stream_id = uuid4().hex if stream_id is None else _checked_id(stream_id)
    catalogue = request.app[MODELS]
    begun = await request.app[STREAMS].begin(
        lambda: catalogue.ask(prompt, options, stream_id=stream_id),
        stream_id,
        model=options.model or catalogue.default,
        grace=grace,
        key=key,
    )
    return stream_id, begun


async def _refused(
    request: web.Request, begun: StreamHandle, *, comes_back: bool = False
) -> web.Response | None:
    """Return the error response if the stream fails before its first output."""
    first = await first_frame(request, begun, comes_back=comes_back)
    if first is None or not isinstance(first.message, StreamFailed):
        return None
    return refusal(first.message, status_of_message(first.message))


async def _resumed(request: web.Request, stream_id: str) -> web.StreamResponse:
    after = _last_event_id(request)
    summary = await request.app[STREAMS].describe(stream_id)
    if summary.outcome is not None and after == summary.position:
        return web.Response(status=204)
    with request.app[READERS].one_more():
        return await _send(request, stream_id, await request.app[STREAMS].read(stream_id, after))


async def _send(
    request: web.Request, stream_id: str, frames: Observable[Frame]
) -> web.StreamResponse:
    return await send_frames(
        request,
        encode_each(frames, attrgetter("sse")),
        headers={"X-Stream-Id": stream_id},
        max_stall=request.app[LIMITS].reader_stall,
    )


def _line(frame: Frame) -> bytes:
    if isinstance(frame.message, Complete):
        return to_json(frame.message) + b"\n"
    return frame.data + b"\n"


async def _read(request: web.Request) -> StreamRequest:
    data = await read_body(request, request.app[LIMITS])
    if not data.strip():
        raise InvalidMessageError('a JSON body is required: {"prompt": ...}', "prompt")
    return decoded(_body, data)


def _fields(request: web.Request) -> dict[str, str | list[str]]:
    """Return the query as a dict; only `stop` may be repeated."""
    fields: dict[str, str | list[str]] = {}
    for name in request.query:
        values = request.query.getall(name)
        if len(values) > 1 and name != "stop":
            raise InvalidMessageError(f"{name} must be given once, got {len(values)} values", name)
        fields[name] = values[0] if len(values) == 1 else values
    return fields


def _prompt_of(body: StreamRequest) -> Any:
    if body.prompt is not None and body.messages is not None:
        raise InvalidMessageError("give `prompt` or `messages`, not both", "messages")
    return body.messages if body.prompt is None else body.prompt


def _checked_id(stream_id: str) -> str:
    if not 0 < len(stream_id) <= 100 or not stream_id.isascii() or not stream_id.isprintable():
        raise InvalidMessageError("id must be 1 to 100 printable ASCII characters", "id")
    return stream_id


def _last_event_id(request: web.Request) -> int:
    text = request.headers.get("Last-Event-ID") or request.query.get("after") or "0"
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise InvalidMessageError(
            f"Last-Event-ID must be a position, got {text[:50]!r}", "Last-Event-ID"
        )
    return int(text)
