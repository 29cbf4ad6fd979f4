"""The simplest sink: the whole answer, once it is complete."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from reactivex import Observable

from rxllm.chunks import Carried
from rxllm.consumer import check_stream, consume
from rxllm.result import Result


def collect(stream: Observable[Carried]) -> Coroutine[Any, Any, Result]:
    """Collect a stream into a `Result`.

    - Subscribes when awaited. Cancelling the awaiting task disposes the stream at once and waits
      for its clean-up.
    - Error: raised by the `await`, with the text so far in `partial` if it is an `RxLLMError`.
    - Restart: everything before it is dropped (only of its source, if it names one).
    - Demand: never holds the stream.

    Args:
        stream: the chunks.

    Raises:
        TypeError: `stream` is not a stream.

    >>> from rxllm import run
    >>> from rxllm.models.scripted import ScriptedModel
    >>> run(collect(ScriptedModel("Once upon a time").stream("Tell me a story"))).text
    'Once upon a time'
    """
    check_stream(stream, "collect")
    return consume(stream)
