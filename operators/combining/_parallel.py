"""`parallel`: many prompts, limited by a pool."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Unpack

import reactivex as rx
from reactivex import Observable

from rxllm.chunks import Chunk
from rxllm.operators.combining._joined import joined
from rxllm.operators.combining._streams import StreamSummary, check_callback, named
from rxllm.operators.controlling import SlotPool, limit_concurrency
from rxllm.requests import Model, Prompt, Request, RequestOptions, as_request
from rxllm.stream import Stream, as_stream

__all__ = ["parallel"]


def parallel(
    prompts: Iterable[Prompt] | Mapping[str, Prompt],
    model: Model,
    pool: SlotPool,
    *,
    on_result: Callable[[Mapping[str, StreamSummary]], object] | None = None,
    **options: Unpack[RequestOptions],
) -> Stream[Chunk]:
    """Answer many prompts concurrently, each as soon as `pool` has a free slot.

    ::

        [ parallel(["p", "q", "r"], model, Pool(2)) ]
        SS-a-x-EESc-E|            0: S-a-E    1: S--x-E    2: c-E, in the first free slot

    Each chunk is tagged with the name of its prompt, or its number from `"0"`. Each prompt ends
    with `End`, or with a `Notice` of kind `"failed"` that has the error; the others continue.
    Prompts start in order. At most `pool.limit` of them request a slot at a time, so the rest don't
    occupy the queue of the pool, and their waiting time doesn't count against `pool.wait`.

    - Completion: when all prompts have ended; at once if there are none. Error:
      `AllModelsFailedError` if every prompt has failed.
    - Restart: passed on with the name of its prompt.
    - Disposal: all streams are disposed, their slots are released, and no other prompt starts, also
      if the subscriber raises.
    - Demand: all streams follow the subscriber's valve. Nothing is held.

    Exceptions of `on_result` are handled as in `side_by_side`.

    Args:
        prompts: the prompts, or a mapping of names to prompts.
        model: the model to ask.
        pool: the slots, which other streams may share. A prompt fails if it waits longer than
            `pool.wait` seconds for a slot.
        on_result: called once for each subscription, at its end, with a summary for each prompt.
        options: fields of `Request`, for all prompts.

    Raises:
        BadRequestError: a prompt or an option is invalid.
        TypeError: `prompts` is a single prompt, a name is not a string, `model` is not a `Model`,
            `pool` is not a `SlotPool`, or `on_result` is not callable.
        ValueError: a name is empty.

    >>> from rxllm.models.scripted import ScriptedModel
    >>> from rxllm.operators import Pool
    >>> from rxllm.testing import Marbles
    >>> model = ScriptedModel("yes", "no", delay=1)
    >>> for time, event in Marbles().run(parallel(["Is it?", "Why?"], model, Pool(1))):
    ...     if hasattr(event, "text"):
    ...         print(time, event.source, event.text)
    1.0 0 yes
    2.0 1 no
    """
    check_callback("on_result", on_result)
    if isinstance(prompts, str | bytes | Request | Observable) or not isinstance(prompts, Iterable):
        raise TypeError("parallel takes several prompts: write parallel([prompt], ...)")
    if not isinstance(model, Model):
        raise TypeError(f"model must be a model, such as rxllm.model('tiny'), got {model!r}")
    in_slot = limit_concurrency(pool)
    # Validates the options even without prompts; tool_choice depends on the tools of a prompt.
    as_request("any", **(options | {"tool_choice": None}))
    by_name = (
        prompts
        if isinstance(prompts, Mapping)
        else {str(number): prompt for number, prompt in enumerate(prompts)}
    )
    streams = {
        name: model.stream(prompt, **options).pipe(in_slot) for name, prompt in by_name.items()
    }
    if not streams:
        return as_stream(rx.empty(), "parallel")
    checked = named("parallel", streams)
    return joined("parallel", checked, isolated=True, most=pool.limit, on_result=on_result)
