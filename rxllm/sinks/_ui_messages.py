"""A stream as a UI message stream of the AI SDK."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from reactivex import Observable

from rxllm.chunks import Carried
from rxllm.web.delivery import OnEnd, answer
from rxllm.web.ui_messages.writer import UI_MESSAGES_WIRE

if TYPE_CHECKING:
    from aiohttp import web

__all__ = ["ui_messages"]


def ui_messages(
    request: web.Request,
    stream: Observable[Carried],
    *,
    stream_id: str | None = None,
    model: str | None = None,
    message_id: str | None = None,
    call_ids: Iterable[str] = (),
    heartbeat: float | None = 15.0,
    headers: Mapping[str, str] | None = None,
    max_stall: float = 300.0,
    on_end: OnEnd | None = None,
) -> Coroutine[Any, Any, web.StreamResponse]:
    """Answer a request with a stream, as a UI message stream of the AI SDK.

    It is what `useChat` reads, and what assistant-ui and AI Elements are built on;
    `UIMessageWriter` describes the parts.

    Completion, disconnection of the client, cancellation and demand are as in `sse`.

    - Error: sent as an `error` part, and then `[DONE]`.
    - Restart: `reset-step`: the client drops the answer so far.

    Args:
        request, stream, headers, max_stall, on_end: as in `sse`.
        stream_id: the id of the stream; `None` to generate one.
        model: the name of the model; `None` for that of the first `Start`.
        message_id: the id of the message; that of the stream if `None`.
        call_ids: the calls of a message that goes on, whose results may come: those that an agent
            makes after an approval.
        heartbeat: seconds of silence, above 0, after which a comment is sent, or `None` for no
            heartbeat.

    Raises:
        TypeError: `stream` is not a stream, or `request` is not an aiohttp request.
        ValueError: a number is out of range, or `stream_id` can't be the value of a header.
    """
    return answer(
        UI_MESSAGES_WIRE,
        request,
        stream,
        stream_id=stream_id,
        heartbeat=heartbeat,
        headers=headers,
        max_stall=max_stall,
        on_end=on_end,
        model=model,
        message_id=message_id,
        call_ids=call_ids,
    )
