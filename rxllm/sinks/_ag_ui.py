"""A stream as the events of AG-UI."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from reactivex import Observable

from rxllm.chunks import Carried
from rxllm.web.ag_ui.writer import AG_UI_WIRE
from rxllm.web.delivery import OnEnd, answer

if TYPE_CHECKING:
    from aiohttp import web

__all__ = ["ag_ui"]


def ag_ui(
    request: web.Request,
    stream: Observable[Carried],
    *,
    stream_id: str | None = None,
    model: str | None = None,
    thread_id: str | None = None,
    run_id: str | None = None,
    messages: Iterable[Mapping[str, Any]] = (),
    heartbeat: float | None = 15.0,
    headers: Mapping[str, str] | None = None,
    max_stall: float = 300.0,
    on_end: OnEnd | None = None,
) -> Coroutine[Any, Any, web.StreamResponse]:
    """Answer a request with a stream, as the events of AG-UI.

    It is what CopilotKit and the frontends of many agents read; `AGUIWriter` describes the events.

    Completion, disconnection of the client, cancellation and demand are as in `sse`.

    - Error: sent as `RUN_ERROR`.
    - Restart: `MESSAGES_SNAPSHOT` without the answer so far.

    Args:
        request, stream, headers, max_stall, on_end: as in `sse`.
        stream_id: the id of the stream; `None` to generate one.
        model: the name of the model; `None` for that of the first `Start`.
        thread_id, run_id: those of the request; the id of the stream if `None`.
        messages: the messages of the request, in the format of AG-UI, for snapshots.
        heartbeat: seconds of silence, above 0, after which a comment is sent, or `None` for no
            heartbeat.

    Raises:
        TypeError: `stream` is not a stream, or `request` is not an aiohttp request.
        ValueError: a number is out of range, or `stream_id` can't be the value of a header.
    """
    return answer(
        AG_UI_WIRE,
        request,
        stream,
        stream_id=stream_id,
        heartbeat=heartbeat,
        headers=headers,
        max_stall=max_stall,
        on_end=on_end,
        model=model,
        thread_id=thread_id,
        run_id=run_id,
        messages=messages,
    )
