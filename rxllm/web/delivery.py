"""Answer a request with a stream, and report the outcome."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import uuid4

import msgspec
from reactivex import Observable

from rxllm.chunks import Carried
from rxllm.consumer import check_stream
from rxllm.errors import RxLLMError
from rxllm.result import Result
from rxllm.web.encoded_stream import EncodedStream
from rxllm.web.frame_sender import send_frames
from rxllm.web.response_writer import ResponseWriter, check_times
from rxllm.web.runner import Runner
from rxllm.web.wire import WireFormat

if TYPE_CHECKING:
    from aiohttp import web

__all__ = ["DeliveryReport", "OnEnd", "answer", "check_name", "check_position", "report"]


class DeliveryReport(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a stream that was sent to a client.

    Attributes:
        result: the result so far; its finish reason is `"cancelled"` if the stream failed, or the
            client left before its end.
        error: why the stream failed; a `LaggedBehindError` if the client was disconnected for being
            too slow.
        left: whether the client left, or was disconnected, before it had received everything.
    """

    result: Result
    error: Exception | None = None
    left: bool = False


OnEnd: TypeAlias = Callable[[DeliveryReport], object]


def report(run: Runner, delivery: ResponseWriter, on_end: OnEnd | None) -> DeliveryReport:
    """Report the outcome of a stream to `on_end`, and return it.

    Any error that isn't an `RxLLMError` is a bug in the program: without an `on_end`, it goes to
    the loop's exception handler. The client only receives the details of an `RxLLMError`.
    """
    error = run.error or delivery.error
    delivered = DeliveryReport(result=run.result, error=error, left=delivery.left)
    if on_end is not None:
        on_end(delivered)
    elif error is not None and not isinstance(error, RxLLMError):
        asyncio.get_running_loop().call_exception_handler(
            {"message": "a stream that was being sent to a client failed", "exception": error}
        )
    return delivered


def answer(
    wire: WireFormat,
    request: web.Request,
    stream: Observable[Carried],
    *,
    stream_id: str | None,
    heartbeat: float | None,
    headers: Mapping[str, str] | None,
    max_stall: float,
    on_end: OnEnd | None,
    first_position: int = 1,
    **options: Any,
) -> Coroutine[Any, Any, web.StreamResponse]:
    """Validate the arguments now, and answer when awaited.

    `sse` describes the arguments; `options` are those of the wire format.
    """
    from aiohttp import web

    if not isinstance(request, web.BaseRequest):
        raise TypeError(
            f"request must be an aiohttp request, got {type(request).__name__}: "
            f"call sinks.{wire.name}(request, stream)"
        )
    check_stream(stream, wire.name)
    check_position(first_position)
    check_times(heartbeat, max_stall)
    name = uuid4().hex if stream_id is None else check_name(stream_id)
    wire.writer(name, **options)  # refuses what isn't one of its options

    async def send() -> web.StreamResponse:
        writer = wire.writer(name, **options)
        encoded = EncodedStream(stream, name, writer, first_position=first_position)
        return await send_frames(
            request,
            encoded.frames,
            wire=wire,
            headers={"X-Stream-Id": name, **(headers or {})},
            heartbeat=heartbeat,
            max_stall=max_stall,
            on_end=lambda delivery: report(encoded.run, delivery, on_end),
        )

    return send()


def check_name(stream_id: str) -> str:
    """Return the id of a stream.

    Raises:
        ValueError: it can't be the value of a header.
    """
    if not re.fullmatch(r"[!-~]([ -~]*[!-~])?", stream_id):
        raise ValueError(f"stream_id must be printable ASCII (sent as a header), got {stream_id!r}")
    return stream_id


def check_position(first_position: int) -> None:
    """Raise a `ValueError` unless the position is 1 or more."""
    if first_position < 1:
        raise ValueError(f"first_position must be 1 or more, got {first_position}")
