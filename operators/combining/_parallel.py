"""`parallel`: many prompts at once, through a pool."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Unpack

import reactivex as rx
from reactivex import Observable

from rxllm.chunks import Chunk
from rxllm.operators.combining._joined import joined
from rxllm.operators.combining._streams import StreamSummary, check_callback, named
from rxllm.operators.controlling import Pool, limit_concurrency
from rxllm.requests import Model, Prompt, Request, RequestOptions, as_request
from rxllm.stream import Stream, as_stream

__all__ = ["parallel"]


def parallel(
    prompts: Iterable[Prompt] | Mapping[str, Prompt],
    model: Model,
    pool: Pool,
    *,
    on_result: Callable[[Mapping[str, StreamSummary]], object] | None = None,
    **options: Unpack[RequestOptions],
) -> Stream[Chunk]:
    """Answer many prompts, as many at once as `pool` has slots, each as soon as one is free.

    ::

        [ parallel(["p", "q", "r"], model, Pool(2)) ]
        SS-a-x-EESc-E|            0: S-a-E    1: S--x-E    2: c-E, in the first slot that is free

    Each chunk is tagged with the name of its prompt, or its number from `"0"`: `Token` and the like
    while it is answered, `End` when it is complete, and a `Notice` of the kind `"failed"` with the
    error where it failed, in place of `End`; the others go on. Prompts begin in their order. No
    more than `pool.limit` of them stand at the pool at a time, so that the others take no place in
    its queue, and their wait does not count as waiting there.

    - Completion: when all have ended; at once if there is no prompt. Error: `AllModelsFailedError`,
      if every one has failed.
    - Restart: passed on with the name of its prompt.
    - Disposal: all are disposed, their slots are given back, no other prompt begins; so too if
      the subscriber raises.
    - Demand: all look at the subscriber's valve, and all wake when it opens; nothing is held.

    If `on_result` raises, it is as for `side_by_side`.

    Args:
        prompts: what to ask; with names, if it is a mapping.
        model: whom to ask.
        pool: the slots; other streams may share it. A prompt that waits longer for one than
            `pool.wait` seconds, since others hold them, fails.
        on_result: called once for each subscription, at its end, with a summary for each prompt.
        options: fields of `Request`, for all prompts.

    Raises:
        BadRequestError: a prompt or an option can't be right.
        TypeError: `prompts` is one prompt, a name is not a string, `model` is not a
            `Model`, `pool` is not a `Pool`, or `on_result` can't be called.
        ValueError: a name is empty.

    >>> from rxllm.models.scripted import ScriptedModel
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
        raise TypeError(f"model is a Model, such as rxllm.model('tiny'), not {model!r}")
    in_slot = limit_concurrency(pool)
    # For the case that there is no prompt, and so without what depends on the tools of a prompt.
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
