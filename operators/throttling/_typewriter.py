"""`typewriter`: the text character by character."""

from __future__ import annotations

from collections.abc import Callable

from reactivex import Observable, abc

from rxllm.arguments import check_number
from rxllm.chunks import Chunk
from rxllm.operators.throttling._spacer import Spacer, by_character
from rxllm.stream import Stream

__all__ = ["typewriter"]


def typewriter(
    characters_per_second: float = 30.0,
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Type the text character by character, at a constant speed.

    ::

        S-abc---d(E,|)
        [ typewriter(1) ]
        S-ab----c(d,E,|)

    A character is a grapheme, what a reader sees as one character, so emoji and accents stay
    intact. It is sent as a `Token` once the character after it has arrived, and no sooner than the
    speed allows; lost time is not made up for after a wait. The pieces are the same however the
    text is cut into chunks. Other chunks, including `Reasoning`, are sent in order without a delay.
    To keep up with a fast answer, use `smooth(by="character")`, which catches up.

    - Completion: waits until everything has been typed. Error: held text is sent first,
      immediately.
    - Restart: held content of that answer is dropped; usage, progress and notices held with it are
      sent before the restart notice.
    - Disposal: held text is dropped and the timer is cancelled.
    - Demand: upstream is paused while 1024 pieces wait, and resumes when half of them have been
      sent. Nothing is sent while the valve is closed.

    Args:
        characters_per_second: the speed, above 0.

    Raises:
        ValueError: `characters_per_second` is not above 0.
        TypeError: `characters_per_second` is not a number.

    >>> from rxllm.testing import Marbles
    >>> marbles = Marbles()
    >>> for time, event in marbles.run(marbles.cold("abc|").pipe(typewriter(2))):
    ...     print(time, getattr(event, "text", event))
    0.0 a
    0.5 b
    3.0 c
    3.0 |
    """
    seconds = 1 / check_number("characters_per_second", characters_per_second, "the speed", above=0)

    def operator(source: Observable[Chunk]) -> Stream[Chunk]:
        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            spacer = Spacer(observer, scheduler, by_character, seconds, max_lag=float("inf"))
            return spacer.start(source)

        return Stream(subscribe, "typewriter", of_chunks=True)

    return operator
