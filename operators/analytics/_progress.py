"""`progress`: how far the stream has come, told on the way."""

from __future__ import annotations

from collections.abc import Callable

from reactivex import Observable, abc

from rxllm.chunks import Batch, Chunk, End, Progress, Reasoning, Token, is_restart
from rxllm.operators._arguments import whole
from rxllm.operators._per_source import forget
from rxllm.valve import clock_of

__all__ = ["progress"]


def progress(
    every: int = 10, max_tokens: int | None = None
) -> Callable[[Observable[Chunk]], Observable[Chunk]]:
    """Insert a `Progress` after every `every` tokens, and before `End`.

    ::

        S-a-b-c--E|
        [ progress(every=2) ]
        S-a-(b,P)-c-(P,E)|        P: Progress(tokens=2, ...), Progress(tokens=3, ...)

    A token is a `Token` or a `Reasoning` chunk, alone or in a `Batch`; after a batch that passes
    several multiples of `every` there is one `Progress`. Sources are counted each for itself.
    `elapsed` is counted in seconds from the subscription, `tokens_per_second` is None as long as
    no time has passed, `percentage` is 100 at most. `percentage` and `remaining` (seconds, at the
    speed so far; 0 before `End`) are None without `max_tokens`.

    - Completion, error: passed on.
    - Restart: the tokens of that stream are counted from 0 again; `elapsed` goes on.
    - Disposal: upstream is disposed; nothing is held, and there is no timer.
    - Demand: passes through; a `Progress` is sent together with the token that it follows.

    Args:
        every: tokens between two `Progress`, 1 or more.
        max_tokens: the tokens expected at most, 1 or more; None if not known.

    Raises:
        TypeError: `every` or `max_tokens` is no whole number.
        ValueError: one of them is below 1.

    >>> from rxllm.testing import Marbles
    >>> marbles = Marbles()
    >>> source = marbles.cold("-a-b-c|")
    >>> events = marbles.run(source.pipe(progress(every=2, max_tokens=8)))
    >>> [(e.tokens, e.tokens_per_second, e.percentage, e.remaining) for _, e in events[2:3]]
    [(2, 0.6666666666666666, 25.0, 9.0)]
    """
    whole("every", every, "the number of tokens between two reports")
    if max_tokens is not None:
        whole("max_tokens", max_tokens, "the number of tokens expected at most, or None")

    def operator(source: Observable[Chunk]) -> Observable[Chunk]:
        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            on_next = _counting(observer.on_next, clock_of(scheduler), every, max_tokens)
            return source.subscribe(
                on_next, observer.on_error, observer.on_completed, scheduler=scheduler
            )

        return Observable(subscribe)

    return operator


def _counting(
    pass_on: Callable[[Chunk], None],
    clock: Callable[[], float],
    every: int,
    max_tokens: int | None,
) -> Callable[[Chunk], None]:
    """What one subscription calls with each chunk."""
    begun = clock()
    counts: dict[str | None, int] = {}

    def tell(tokens: int, source: str | None, *, ended: bool = False) -> None:
        pass_on(_progress(tokens, max_tokens, clock() - begun, source, ended=ended))

    def on_next(chunk: Chunk) -> None:
        source = chunk.source
        if type(chunk) is Token or type(chunk) is Reasoning:
            pass_on(chunk)
            counts[source] = tokens = counts.get(source, 0) + 1
            if tokens % every == 0:
                tell(tokens, source)
        elif type(chunk) is Batch:
            pass_on(chunk)
            before = counts.get(source, 0)
            counts[source] = tokens = before + len(chunk.chunks)
            if tokens // every > before // every:
                tell(tokens, source)
        else:
            if is_restart(chunk):
                forget(counts, source)
            elif type(chunk) is End and (source in counts or not counts):
                tell(counts.get(source, 0), source, ended=True)
            pass_on(chunk)

    return on_next


def _progress(
    tokens: int,
    max_tokens: int | None,
    elapsed: float,
    source: str | None,
    *,
    ended: bool = False,
) -> Progress:
    speed = tokens / elapsed if elapsed > 0 else None
    percentage = remaining = None
    if max_tokens is not None:
        percentage = min(100.0, 100.0 * tokens / max_tokens)
        left = 0 if ended else max(0, max_tokens - tokens)
        if not left:
            remaining = 0.0
        elif speed:
            remaining = left / speed
    return Progress(
        tokens,
        elapsed,
        tokens_per_second=speed,
        max_tokens=max_tokens,
        percentage=percentage,
        remaining=remaining,
        source=source,
    )
