"""A stream as the response of an ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping
from contextlib import aclosing, suppress
from typing import Any

from reactivex import Observable

from rxllm.chunks import Carried
from rxllm.result import Recorder
from rxllm.web.delivery import DeliveryReport, OnEnd
from rxllm.web.response_body import Events, events
from rxllm.wire_names import WireName

__all__ = ["asgi"]

_Message = MutableMapping[str, Any]


def asgi(
    scope: Mapping[str, Any],
    receive: Callable[[], Awaitable[_Message]],
    send: Callable[[_Message], Awaitable[None]],
    stream: Observable[Carried],
    *,
    wire: WireName = "sse",
    stream_id: str | None = None,
    heartbeat: float | None = 15.0,
    headers: Mapping[str, str] | None = None,
    on_end: OnEnd | None = None,
    **options: Any,
) -> Coroutine[Any, Any, DeliveryReport]:
    """Answer an HTTP request of an ASGI application with a stream, in a wire format.

    In an application: `await sinks.asgi(scope, receive, send, model.stream(prompt))`, once the body
    of the request has been received.

    - Sends the status 200 and the headers at once, and then subscribes. Each frame is sent as soon
      as the server has taken the one before.
    - Completion, error and restart: as the wire has them; then the response ends, and the report
      is returned.
    - The client disconnects (`http.disconnect`, or `send` raises an `OSError`): the stream is
      disposed at once, also before its first token.
    - Cancelling disposes the stream. The clean-up is awaited in any case.
    - Demand: holds the stream while `send` waits, as servers let it do for a slow client, and 16
      frames wait here.

    Args:
        scope, receive, send: those of the application; `receive` must have returned the whole body.
        stream: the chunks.
        wire, stream_id, heartbeat, on_end, options: as in `rxllm.web.events`.
        headers: headers to add to those of the wire, or to replace them.

    Raises:
        TypeError: `stream` is not a stream, the scope is not one of HTTP, or an option is not one
            of the format.
        ValueError: `wire` is unknown, or an argument is out of range.
    """
    if scope.get("type") != "http":
        raise TypeError(f"asgi answers requests of HTTP, got a scope of {scope.get('type')!r}")
    reports: list[DeliveryReport] = []
    given = dict(headers or {})
    body = events(
        stream, wire, stream_id=stream_id, heartbeat=heartbeat, on_end=reports.append, **options
    )
    named = {name.lower(): value for name, value in (*body.headers.items(), *given.items())}
    fields = [(name.encode(), value.encode("latin-1")) for name, value in named.items()]

    async def run() -> DeliveryReport:
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        sending = asyncio.create_task(_send(body, send), name="rxllm asgi")
        leaving = asyncio.create_task(_disconnected(receive), name="rxllm asgi disconnect")
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.wait({sending, leaving})
        for task in (sending, leaving):
            if not task.cancelled():
                task.result()  # raises what the server has raised
        report = reports[-1] if reports else _unsent()
        if on_end is not None:
            on_end(report)
        return report

    return run()


async def _send(body: Events, send: Callable[[_Message], Awaitable[None]]) -> None:
    with suppress(OSError):  # the client has left
        async with aclosing(aiter(body)) as frames:
            async for data in frames:
                await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _disconnected(receive: Callable[[], Awaitable[_Message]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _unsent() -> DeliveryReport:
    """Return the report of a stream whose client had left before it was subscribed to."""
    clock = asyncio.get_running_loop().time
    return DeliveryReport(result=Recorder(clock).result(cancelled=True), left=True)
