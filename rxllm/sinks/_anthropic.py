"""A stream as Anthropic's messages."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from reactivex import Observable

from rxllm.chunks import Carried
from rxllm.web.anthropic.writer import ANTHROPIC_WIRE
from rxllm.web.delivery import OnEnd, answer

if TYPE_CHECKING:
    from aiohttp import web

__all__ = ["anthropic"]


def anthropic(
    request: web.Request,
    stream: Observable[Carried],
    *,
    stream_id: str | None = None,
    model: str | None = None,
    runs_tools: bool = False,
    heartbeat: float | None = 15.0,
    headers: Mapping[str, str] | None = None,
    max_stall: float = 300.0,
    on_end: OnEnd | None = None,
) -> Coroutine[Any, Any, web.StreamResponse]:
    """Answer a request with a stream, as Anthropic's messages.

    The events are those of `POST /v1/messages` with `stream`; `AnthropicWriter` describes them.

    Completion, disconnection of the client, cancellation and demand are as in `sse`.

    - Error: sent as an `error` event, for which the SDK raises.
    - Restart: an `error` event after the first output, since the format has no word for it.

    Args:
        request, stream, headers, max_stall, on_end: as in `sse`.
        stream_id: the id of the message; `None` to generate one.
        model: the name of the model; `None` for that of the first `Start`.
        runs_tools: whether the stream answers the calls of its model, as an agent's does: then only
            calls that no result follows are sent.
        heartbeat: seconds of silence, above 0, after which a `ping` event is sent, or `None` for no
            heartbeat.

    Raises:
        TypeError: `stream` is not a stream, or `request` is not an aiohttp request.
        ValueError: a number is out of range, or `stream_id` can't be the value of a header.
    """
    return answer(
        ANTHROPIC_WIRE,
        request,
        stream,
        stream_id=stream_id,
        heartbeat=heartbeat,
        headers=headers,
        max_stall=max_stall,
        on_end=on_end,
        model=model,
        runs_tools=runs_tools,
    )
