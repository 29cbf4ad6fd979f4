"""A request answered with a stream, and what became of it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias
from uuid import uuid4

import msgspec
from reactivex import Observable

from rxllm.chunks import Chunk
from rxllm.consumer import check_stream
from rxllm.errors import RxLLMError
from rxllm.result import Result
from rxllm.web.encoding import EncodedStream, EventFormat
from rxllm.web.response_writer import ResponseWriter, check_times
from rxllm.web.runner import Runner
from rxllm.web.sending import send_frames

if TYPE_CHECKING:
    from aiohttp import web

__all__ = ["DeliveryReport", "OnEnd", "WireFormat", "answer", "check_position", "report"]


class DeliveryReport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a stream that was sent to a client.

    Attributes:
        result: what the stream said, as far as it came; its finish reason is `"cancelled"` if the
            stream failed, or the client left before its end.
        error: why the stream failed; a `LaggedBehindError` if the client was given up because it
            took nothing.
        left: the client left, or was given up, before it had all.
    """

    result: Result
    error: Exception | None = None
    left: bool = False


OnEnd: TypeAlias = Callable[[DeliveryReport], object]


def report(run: Runner, delivery: ResponseWriter, on_end: OnEnd | None) -> DeliveryReport:
    """Tell the program what became of the stream, and return it.

    The client has been told of an error of rxllm's. What is none of these is a mistake in the
    program, and goes to the loop's exception handler if nobody else asks.
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


class WireFormat(NamedTuple):
    """How a stream goes out over HTTP."""

    sink: str
    content_type: str
    frame: EventFormat
    ping: bytes
    with_text: bool


def answer(
    form: WireFormat,
    request: web.Request,
    stream: Observable[Chunk],
    *,
    stream_id: str | None,
    first_position: int,
    heartbeat: float | None,
    headers: Mapping[str, str] | None,
    max_stall: float,
    on_end: OnEnd | None,
) -> Coroutine[Any, Any, web.StreamResponse]:
    """Check all arguments now, and answer when awaited. They are described at `sse`."""
    from aiohttp import web

    if not isinstance(request, web.BaseRequest):
        raise TypeError(
            f"{form.sink} answers a request of aiohttp; got {type(request).__name__}: "
            f"sinks.{form.sink}(request, stream)"
        )
    check_stream(stream, form.sink)
    check_position(first_position)
    check_times(heartbeat, max_stall)
    name = uuid4().hex if stream_id is None else stream_id
    if not re.fullmatch(r"[!-~]([ -~]*[!-~])?", name):
        raise ValueError(f"stream_id goes into a header: printable ASCII, not {name!r}")

    async def send() -> web.StreamResponse:
        encoded = EncodedStream(
            stream, name, form.frame, first_position=first_position, with_text=form.with_text
        )
        return await send_frames(
            request,
            encoded.frames,
            content_type=form.content_type,
            headers={"X-Stream-Id": name, **(headers or {})},
            heartbeat=heartbeat,
            ping=form.ping,
            max_stall=max_stall,
            on_end=lambda delivery: report(encoded.run, delivery, on_end),
        )

    return send()


def check_position(first_position: int) -> None:
    """Raise a `ValueError` if no event can have this position."""
    if first_position < 1:
        raise ValueError(f"first_position counts events from 1, not {first_position}")
