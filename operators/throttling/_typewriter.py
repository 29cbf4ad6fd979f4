"""`typewriter`: one character after another."""

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
    """Type the text, character by character, at one speed.

    ::

        S-abc---d(E,|)
        [ typewriter(1) ]
        S-ab----c(d,E,|)

    A character is what a reader sees as one: a grapheme, so that emoji and accents stay whole. It
    leaves, as a `Token`, once the character behind it has come, and not sooner than the speed
    allows; after a wait the speed is not made up for. The very pieces are the same however the
    text is cut into chunks. Other chunks, `Reasoning` among them, take no time, and leave in their
    order. To show a fast answer in time use `smooth(by="character")`, which catches up.

    - Completion: waits until all is typed. Error: what is held leaves first, at once.
    - Restart: what is held of that answer is dropped; usage, progress and notices that waited with
      it leave before the notice of the restart.
    - Disposal: what is held is dropped, the timer cancelled.
    - Demand: upstream is held while 1024 pieces wait, and goes on when half of them have left.
      Nothing leaves while the valve is closed.

    Args:
        characters_per_second: the speed, above 0.

    Raises:
        ValueError: `characters_per_second` is not above 0.
        TypeError: it is not a number.

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
