"""`guard`: content is passed on once a check has approved it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Literal, get_args

from reactivex import Observable, abc

from rxllm.arguments import check_int
from rxllm.chunks import Chunk
from rxllm.operators.filtering._guard_state import GuardState
from rxllm.operators.filtering._rules import (
    Check,
    Checked,
    OnViolation,
    Rules,
    What,
    read_check,
    read_what,
)
from rxllm.stream import Stream
from rxllm.valve import scheduler_or_default

__all__ = ["Checked", "guard"]


def guard(
    check: Check,
    *,
    what: What | Collection[What] = "text",
    every: int = 200,
    context: int = 50,
    on_violation: Literal["stop", "error", "replace", "retract"] = "stop",
    replacement: str = "[removed]",
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Release content only after a check has approved it.

    ::

        S-a-b-c-d-e-f-g-E|
        [ guard(check, every=3) ]                           check: "abc", "abcdef", "abcdefg"
        S-----abc---def-(g,E)|
        S-----abc---(E,|)                                   "abcdef" is rejected
        S-a-b-c-d-e-f(R,abc,E,|)                            ... with on_violation="retract"

        R: Notice("restart"), E behind it: End("content_filter")

    The text is cut into windows of `every` characters; the last one may be shorter. Each window is
    checked once, together with the last `context` characters before it, as the subscriber received
    them. A window is sent as one token (split where other chunks fall inside it), so the pieces are
    the same however the text was cut; its confidence is the joint probability of its tokens. Other
    chunks wait behind the text before them. JSON and results of tools aren't checked.

    `what` says what is checked: the answer's text, its reasoning, the arguments of tool calls. Each
    has its own windows and its own context, and so has each call. A window also ends where other
    checked content begins, with a thinking block (also where unchecked content follows it), and
    with a call. Reasoning is sent in the pieces
    that it came in. Of a call nothing is passed on unchecked. What isn't checked is unchanged.

    A rejected window is never passed on. `on_violation` decides what happens next:

    - `"stop"`: `End("content_filter")` and completion; upstream is disposed. After a merge only the
      stream of that source ends: its later chunks are dropped, and the others continue.
    - `"error"`: a `ContentFilteredError`, with the text passed on before it as `partial`.
    - `"replace"`: `replacement` takes its place, and the stream continues. A thinking block that
      has been changed loses its state. Arguments of a call become a JSON string, which no tool
      takes, and the call is not complete: an agent reports it to the model as invalid.
    - `"retract"`: chunks are sent as they come, and checked behind that; so what is rejected is
      taken back by a `Notice("restart")`, followed by all that was approved before it and
      `End("content_filter")`. Tool calls and the end of an answer can't be taken back: they wait
      for the checks before them, and what follows waits for them. A sink that can't take text back
      raises a `RestartedStreamError`, and so does `ops.text`.

    When content is dropped, the model output after it is dropped too; `Usage`, `Progress` and
    notices are passed on.

    A run of an agent is checked answer by answer. To keep a rejected call from running, check
    inside the agent, where its tools wait for the checks:
    `Agent(rxllm.piped(model, ops.guard(check, what=("text", "arguments"))))`. Behind the agent, the
    tools run while an asynchronous check is under way.

    A synchronous check runs immediately, on the loop's thread. An awaitable one runs as a task on
    the event loop; the windows of one stream are checked one after the other, those of different
    sources concurrently.

    - Completion: waits until all content has been checked.
    - Error: passed on immediately. A running check is cancelled, and unchecked content is dropped,
      or taken back (`"retract"`). After a merge, `Notice("failed")` does the same to its stream.
    - Restart: passed on immediately, even if an `End` is waiting for a check: held content of that
      stream is dropped, its check is cancelled, and a stopped stream continues. `Usage`, `Progress`
      and notices held with it are sent first. Earlier answers of a run that still wait are kept,
      and the restart follows them.
    - Disposal: checks are cancelled and held chunks are dropped. A sink waits for the checks to
      finish.
    - Demand: upstream is paused while more than `2 * every` characters of a stream are unchecked,
      sent (`"retract"`) or not, or as many chunks wait behind an `End`; only what is already in
      flight can exceed that. While the subscriber's valve is closed no check
      starts; one window, whose check was already running, may still be sent.

    Args:
        check: receives a text and returns True, or an awaitable of True, to approve it. If it
            requires a second argument, this is a `Checked`: what the text is, and the tool of a
            call. An exception becomes the error of the stream, and no content follows.
        what: `"text"`, `"reasoning"`, `"arguments"`, or several of them.
        every: characters per window, 1 or more.
        context: characters before a window that are checked again with it, 0 or more.
        on_violation: what to do about rejected content.
        replacement: the text for `"replace"`; `""` removes the window.

    Raises:
        ValueError: `every` or `context` is too low, `what` is empty or has another word, or
            `on_violation` is not one of the four.
        TypeError: `check` can't be called, `every` or `context` is not an integer, `what` is
            neither a string nor a collection, or `replacement` is not a string.
        ContentFilteredError: into `on_error`, with `on_violation="error"`.
        NoEventLoopError: into `on_error`, if `check` is asynchronous and no event loop is running.

    >>> from rxllm.testing import Marbles
    >>> marbles = Marbles()
    >>> source = marbles.cold("a-b-c-bo-mb-x-y-z|")
    >>> stream = source.pipe(guard(lambda text: "bomb" not in text, every=4, context=4))
    >>> for time, event in marbles.run(stream):
    ...     print(time, getattr(event, "text", event))
    6.0 abcb
    12.0 End(finish_reason='content_filter', stop_sequence=None, ...)
    12.0 |
    """
    checked = read_check(check)
    every = check_int("every", every, "characters per window")
    context = check_int("context", context, "characters to check again", minimum=0)
    if on_violation not in get_args(OnViolation):
        raise ValueError(
            f"on_violation must be one of {get_args(OnViolation)}, got {on_violation!r}"
        )
    if not isinstance(replacement, str):
        raise TypeError(f"replacement must be a string, got {replacement!r}")
    rules = Rules(checked, every, context, on_violation, replacement, read_what(what))

    def operator(source: Observable[Chunk]) -> Stream[Chunk]:
        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            state = GuardState(observer, scheduler_or_default(scheduler), rules)
            state.upstream.disposable = source.subscribe(
                state.on_next,
                state.on_error,
                state.on_completed,
                scheduler=state.upstream_scheduler,
            )
            return state.subscription

        return Stream(subscribe, "guard", of_chunks=True)

    return operator
