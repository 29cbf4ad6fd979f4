"""Stream endpoints: SSE, NDJSON and plain JSON."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final
from uuid import uuid4

import msgspec
from aiohttp import web
from reactivex import Observable

from rxllm.errors import StoreUnavailableError
from rxllm.messages import Message
from rxllm.server.app_keys import LIMITS, MODELS, READERS, STREAMS
from rxllm.server.client import CLIENT
from rxllm.server.failures import decoded, invalid, read_body, refusal
from rxllm.server.held_open import held_open
from rxllm.server.messages import (
    Generated,
    StreamFailed,
    StreamQuery,
    StreamRequest,
)
from rxllm.server.ownership import described
from rxllm.server.responses import collect, first_frame, send_json
from rxllm.web.encoding import encode_each
from rxllm.web.failures import InvalidMessageError, StreamNotFoundError, status_of_message
from rxllm.web.frame_sender import send_frames
from rxllm.web.response_writer import ResponseWriter
from rxllm.web.stream_store import Frame
from rxllm.web.wire import NDJSON_WIRE, SSE_WIRE, WireFormat

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
    for field in msgspec.structs.fields(query):
        if field.encode_name in fields and getattr(query, field.name) is None:
            raise InvalidMessageError(f"{field.encode_name} must not be null", field.encode_name)
    return await _answer(request, query.prompt, query, SSE_WIRE)


async def post_stream(request: web.Request) -> web.StreamResponse:
    """`POST /stream`: like `GET /stream`, with a JSON body.

    A client that repeats its request when its connection was lost, as `fetch-event-source` does,
    must name its stream with `id`.
    """
    body = await _read(request)
    return await _answer(request, _prompt_of(body), body, SSE_WIRE)


async def resume_stream(request: web.Request) -> web.StreamResponse:
    """`GET /stream/{id}`: the events of a stream after the `Last-Event-ID`, or from the beginning.

    204 if the stream has ended and there are no more events, which stops an `EventSource`. While
    the store that several servers share can't be reached, the response is held open.
    """
    return await _resumed(request, request.match_info["id"])


async def post_ndjson(request: web.Request) -> web.StreamResponse:
    """`POST /api/stream`: one message per line; `complete`, the last one, has the whole text.

    With an `id`, the stream outlives its connection, as that of `POST /stream` does.
    """
    body = await _read(request)
    return await _answer(request, _prompt_of(body), body, NDJSON_WIRE)


async def generate(request: web.Request) -> web.StreamResponse:
    """`POST /generate`: the whole answer as one JSON object."""
    body = await _read(request)
    stream_id = None if body.id is None else _checked_id(body.id)
    catalogue = request.app[MODELS]
    asked = catalogue.request(_prompt_of(body), body, tools=body.tools)
    stream = catalogue.ask(
        asked, body, stream_id=stream_id, progress=False, approvals=body.approvals
    )
    with request.app[READERS].one_more():
        result = await collect(request, stream)
        answer = Generated(
            text=result.text,
            tokens=result.timings.tokens,
            seconds=round(result.timings.elapsed, 6),
            model=result.model,
            finish_reason=result.finish_reason,
            usage=result.usage,
            messages=result.messages if any(map(_has_call, result.messages)) else (),
            pending=result.pending,
        )
        return await send_json(request, answer)


routes: list[web.RouteDef] = [
    web.get("/stream", get_stream, allow_head=False),
    web.post("/stream", post_stream),
    web.get("/stream/{id:[^/]+}", resume_stream, allow_head=False),
    web.post("/api/stream", post_ndjson),
    web.post("/generate", generate),
]


async def _answer(
    request: web.Request, prompt: Any, options: StreamQuery | StreamRequest, wire: WireFormat
) -> web.StreamResponse:
    """Begin a stream and send it, or resume the one with this id."""
    catalogue, owner = request.app[MODELS], CLIENT.get().owner
    catalogue.find(options.model)
    given = options if isinstance(options, StreamRequest) else StreamRequest()
    asked = catalogue.request(prompt, options, tools=given.tools)
    if _last_event_id(request) is not None:
        if options.id is None and request.method == "POST":
            raise InvalidMessageError(
                "a request with Last-Event-ID must name the stream to resume: send the same `id` "
                "with each request for it",
                "id",
            )
        try:
            return await _resumed(request, options.id or "", wire)
        except StreamNotFoundError:
            return web.Response(status=204)
    stream_id = uuid4().hex if options.id is None else _checked_id(options.id)
    is_named = options.id is not None
    may_return = is_named or wire is SSE_WIRE
    record = catalogue.asked(asked, options, approvals=given.approvals)
    if not may_return:
        record = msgspec.structs.replace(record, request=None)
    with request.app[READERS].one_more():
        begun = await request.app[STREAMS].begin(
            lambda: catalogue.ask(asked, options, stream_id=stream_id, approvals=given.approvals),
            stream_id,
            model=options.model or catalogue.default,
            grace=None if may_return else 0.0,
            key=repr((owner, options)) if is_named else None,
            owner=owner,
            asked=record.encode(),
            is_resumable=record.request is not None,
        )
        first = await first_frame(request, begun, comes_back=is_named)
        if first is not None and isinstance(first.message, StreamFailed):
            return refusal(first.message, status_of_message(first.message))

        def on_end(delivery: ResponseWriter) -> None:
            if delivery.left and not may_return:
                begun.cancel_if_unread()  # its client can't come back

        return await _send(request, stream_id, await begun.read(), wire, on_end)


async def _resumed(
    request: web.Request, stream_id: str, wire: WireFormat = SSE_WIRE
) -> web.StreamResponse:
    after = _last_event_id(request) or 0
    store = request.app[STREAMS]

    async def find() -> Observable[Frame]:
        await described(request, stream_id)
        return await store.read(stream_id, after)

    try:
        summary = await described(request, stream_id)
        if summary.outcome is not None and after == summary.position:
            return web.Response(status=204)
        frames = await store.read(stream_id, after)
    except StoreUnavailableError:
        if wire is not SSE_WIRE:
            raise
        frames = held_open(find, stream_id, after, request.app[LIMITS].stream_seconds)
    with request.app[READERS].one_more():
        return await _send(request, stream_id, frames, wire)


async def _send(
    request: web.Request,
    stream_id: str,
    frames: Observable[Frame],
    wire: WireFormat,
    on_end: Callable[[ResponseWriter], object] | None = None,
) -> web.StreamResponse:
    return await send_frames(
        request,
        encode_each(frames, wire.writer(stream_id)),
        wire=wire,
        headers={"X-Stream-Id": stream_id},
        max_stall=request.app[LIMITS].reader_stall,
        on_end=on_end,
    )


async def _read(request: web.Request) -> StreamRequest:
    data = await read_body(request, request.app[LIMITS])
    if not data.strip():
        raise InvalidMessageError('a JSON body is required: {"prompt": ...}', "prompt")
    return decoded(_body, data)


def _fields(request: web.Request) -> dict[str, str | list[str]]:
    """Return the query as a dict; only `stop` may be repeated."""
    fields: dict[str, str | list[str]] = {}
    for name in request.query.keys() - {_POSITIONS[0]}:
        values = request.query.getall(name)
        if len(values) > 1 and name != "stop":
            raise InvalidMessageError(f"{name} must be given once, got {len(values)} values", name)
        fields[name] = values[0] if len(values) == 1 else values
    return fields


def _has_call(message: Message) -> bool:
    """Return whether a message has calls, or the result of one."""
    return bool(message.calls) or message.role == "tool"


def _prompt_of(body: StreamRequest) -> Any:
    if body.prompt is not None and body.messages is not None:
        raise InvalidMessageError("give `prompt` or `messages`, not both", "messages")
    return body.messages if body.prompt is None else body.prompt


def _checked_id(stream_id: str) -> str:
    if not _ID.fullmatch(stream_id):
        raise InvalidMessageError(
            "id must be 1 to 100 printable ASCII characters without a slash, and without spaces at "
            "its ends",
            "id",
        )
    return stream_id


_ID: Final = re.compile(r"(?=.{1,100}\Z)[!-.0-~](?:[ -.0-~]*[!-.0-~])?")

_POSITIONS: Final = ("lastEventId", "after")
"""Names of the position in a query; the first is that of polyfills of `EventSource`."""


def _last_event_id(request: web.Request) -> int | None:
    """Return the position after which the client wants to resume, if it does."""
    given = [request.headers.get("Last-Event-ID"), *map(request.query.get, _POSITIONS)]
    texts = list(filter(None, given))
    for text in texts:
        if not (text.isascii() and text.isdigit() and len(text) < 16):
            raise InvalidMessageError(
                f"Last-Event-ID must be a position, got {text[:50]!r}", "Last-Event-ID"
            )
    return int(texts[0]) if texts else None
