"""Answers in the wire formats of others: what all of their endpoints do in the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from rxllm.agents import Approvals
from rxllm.chunks import Chunk
from rxllm.errors import BadRequestError
from rxllm.requests import Request
from rxllm.result import Result
from rxllm.server.app_keys import LIMITS, MODELS, STREAMS
from rxllm.server.client import CLIENT
from rxllm.server.messages import Options, StreamFailed
from rxllm.server.responses import collect, first_frame
from rxllm.server.run_answer import RunAnswer
from rxllm.web.encoding import encode_each
from rxllm.web.failures import RefusedError, status_of_message
from rxllm.web.frame_sender import send_frames
from rxllm.web.response_writer import ResponseWriter
from rxllm.web.wire import WireFormat, Writer

__all__ = ["NameOf", "Refuse", "WholeAnswer", "fields_of", "stream_answer", "whole_answer"]

NameOf = Callable[[str | None], str | None]
"""Returns the name in a request of a field of ours."""

Refuse = Callable[[StreamFailed, int], web.Response]
"""Returns the response to a request that failed, given its status."""


class WholeAnswer(NamedTuple):
    """An answer, or all answers of a run as one, and those of its chunks that were asked for."""

    result: Result
    chunks: list[Chunk]


async def whole_answer(
    request: web.Request,
    asked: Request,
    options: Options,
    name_of: NameOf,
    *keep: type[Chunk],
) -> WholeAnswer:
    """Return the whole answer, and its chunks of the classes `keep`.

    Raises:
        RxLLMError: the model failed, or somebody has stopped the stream.
    """
    stream = request.app[MODELS].ask(asked, options, progress=False)
    answer = RunAnswer(keep)
    with fields_of(name_of):
        result = await collect(request, stream, answer.add)
    if result.finish_reason == "cancelled":
        raise RefusedError("cancelled", "the stream was cancelled", 409)
    return WholeAnswer(answer.whole(result), answer.chunks)


async def stream_answer(
    request: web.Request,
    asked: Request,
    options: Options,
    *,
    stream_id: str,
    wire: WireFormat,
    writer: Writer,
    refuse: Refuse,
    name_of: NameOf,
    grace: float | None = None,
    exact: bool = False,
    approvals: Approvals | None = None,
    **recorded: Any,
) -> web.StreamResponse:
    """Begin a stream, and answer with it.

    Args:
        request: the request.
        asked: what the model is asked.
        options: the model and its options.
        stream_id: the id of the stream.
        wire: the wire format.
        writer: writes the stream.
        refuse: returns the response if the stream fails before its first output.
        name_of: returns the name in the request of a field of ours.
        grace: seconds that the stream goes on when the client has left; `None` to stop it at once.
        exact: whether the writer needs each event as it was.
        approvals: decisions about calls of an agent; see `Catalogue.ask`.
        recorded: fields of the `AskedStream`, for whoever reads the stream later.
    """
    catalogue = request.app[MODELS]
    record = catalogue.asked(asked, options, approvals=approvals, progress=False, **recorded)
    if grace is None:  # nobody else can read it while it is live
        record = msgspec.structs.replace(record, request=None)
    begun = await request.app[STREAMS].begin(
        lambda: catalogue.ask(
            asked, options, stream_id=stream_id, progress=False, approvals=approvals
        ),
        stream_id,
        model=options.model or catalogue.default,
        grace=0.0 if grace is None else grace,
        owner=CLIENT.get().owner,
        asked=record.encode(),
        is_resumable=record.request is not None,
    )
    first = await first_frame(request, begun, comes_back=grace is not None)
    if first is not None and isinstance(first.message, StreamFailed):
        failed = msgspec.structs.replace(first.message, field=name_of(first.message.field))
        return refuse(failed, status_of_message(failed))

    def on_end(delivery: ResponseWriter) -> None:
        if delivery.left and grace is None:
            begun.cancel_if_unread()

    return await send_frames(
        request,
        encode_each(await begun.read(exact=exact), writer),
        wire=wire,
        headers={"X-Stream-Id": stream_id},
        max_stall=request.app[LIMITS].reader_stall,
        on_end=on_end,
    )


@contextmanager
def fields_of(name_of: NameOf) -> Iterator[None]:
    """Name the field of an error as the request does."""
    try:
        yield
    except BadRequestError as error:
        error.field = name_of(error.field)
        raise
