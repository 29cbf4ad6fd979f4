"""`guard`: no text is passed on that a check has not seen."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal, get_args

from reactivex import Observable, abc

from rxllm.arguments import check_callable, check_int
from rxllm.chunks import Chunk
from rxllm.operators.filtering._guard_state import GuardState
from rxllm.operators.filtering._rules import OnViolation, Rules
from rxllm.stream import Stream
from rxllm.valve import scheduler_or_default

__all__ = ["guard"]


def guard(
    check: Callable[[str], bool | Awaitable[bool]],
    *,
    every: int = 200,
    context: int = 50,
    on_violation: Literal["stop", "error", "replace"] = "stop",
    replacement: str = "[removed]",
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Let text go only once a check has called it fine.

    ::

        S-a-b-c-d-e-f-g-E|
        [ guard(check, every=3) ]     check: "abc", "abcdef", "abcdefg"
        S-----abc---def-(g,E)|
        S-----abc---(E,|)             "abcdef" is not fine; E: End("content_filter")

    The text is cut into windows of `every` characters; the last one, at the end, is shorter. Each
    is checked once, with the last `context` characters before it as the subscriber has got them.
    A window leaves as one token (cut where another chunk stands in it), so the pieces are the same
    however the text was cut; its confidence is that of all its tokens together. A chunk that is no
    text waits behind the text before it. Reasoning, tool calls and JSON are not checked.

    A window that is not fine is never passed on. What follows is up to `on_violation`:

    - `"stop"`: `End("content_filter")`, completion, and upstream is disposed. After a merge only
      the stream of that source ends: its later chunks are dropped, the others go on.
    - `"error"`: a `ContentFilteredError`, with the text passed on before it as `partial`.
    - `"replace"`: `replacement` stands in its place, and the stream goes on.

    Where text is dropped, what was said behind it (reasoning, tool calls) is dropped with it;
    `Usage`, `Progress` and notices are passed on.

    A synchronous check runs at once, on the loop's thread. An awaitable one runs as a task on the
    event loop; the windows of a stream are checked one after the other, and those of different
    sources at the same time.

    - Completion: waits for the checks of what is held.
    - Error: passed on at once. A check under way is cancelled, and text that was not checked is
      dropped. After a merge a `Notice("failed")` does this to its stream.
    - Restart: passed on at once, also where an `End` waits for a check: what is held of that stream
      is dropped, its check cancelled, and a stream that had been stopped goes on. `Usage`,
      `Progress` and notices that waited leave before it.
    - Disposal: checks are cancelled, what is held is dropped. A sink awaits the end of the checks.
    - Demand: upstream is held while more than `2 * every` characters of a stream wait. So these,
      and what was on its way, are the most that waits of it. While the subscriber's valve is
      closed no check begins; one window, whose check was under way, may still leave.

    Args:
        check: called with a text; gives True, or an awaitable of True, if the text is fine. What it
            raises is the error of the stream, and no text follows.
        every: characters in a window, 1 or more.
        context: characters before a window that are checked with it again, 0 or more.
        on_violation: what to do about text that is not fine.
        replacement: the text for `"replace"`; `""` removes the window.

    Raises:
        ValueError: `every` or `context` is too low, or `on_violation` is none of the three.
        TypeError: `check` can't be called, `every` or `context` is not an integer, or
            `replacement` is no text.
        ContentFilteredError: into `on_error`, as said above.
        NoEventLoopError: into `on_error`, if `check` is asynchronous and no event loop runs.

    >>> from rxllm.testing import Marbles
    >>> marbles = Marbles()
    >>> source = marbles.cold("a-b-c-bo-mb-x-y-z|")
    >>> stream = source.pipe(guard(lambda text: "bomb" not in text, every=4, context=4))
    >>> for time, event in marbles.run(stream):
    ...     print(time, getattr(event, "text", event))
    6.0 abcb
    12.0 End(finish_reason='content_filter', stop_sequence=None, source=None)
    12.0 |
    """
    check_callable("check", check, "a function of a text")
    every = check_int("every", every, "the number of characters in a window")
    context = check_int("context", context, "the number of characters checked again", minimum=0)
    if on_violation not in get_args(OnViolation):
        raise ValueError(f"on_violation is one of {get_args(OnViolation)}: {on_violation!r}")
    if not isinstance(replacement, str):
        raise TypeError(f"replacement is a text, not {replacement!r}")
    rules = Rules(check, every, context, on_violation, replacement)

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
