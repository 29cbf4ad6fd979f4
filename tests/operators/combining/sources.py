"""Sources and cases shared by the tests of the combining functions."""

from collections.abc import Callable
from typing import Any

import reactivex as rx
from reactivex.disposable import Disposable

from rxllm import Stream
from rxllm.chunks import Chunk
from rxllm.testing import Marbles

# Pairs of diagrams, a piped stream and another one, that end in every possible way.
PAIRS = [
    ("S-a-b-E|", "S-x---y-E|"),
    ("S---a-b-E|", "-x-R-y|"),
    ("a-#", "---x-#"),
    ("#", "-x|"),
    ("-|", "-|"),
    ("--a", ""),
]


def at_once(*chunks: Chunk) -> rx.Observable[Chunk]:
    """A source that sends everything during its subscription."""

    def subscribe(observer: Any, _: Any) -> Disposable:
        for chunk in chunks:
            observer.on_next(chunk)
        observer.on_completed()
        return Disposable()

    return rx.create(subscribe)


def played(
    pair: tuple[str, str],
    combine: Callable[[rx.Observable[Chunk], rx.Observable[Chunk]], Stream[Chunk]],
) -> object:
    """The events of two combined streams, and the subscriptions of each of them."""
    marbles = Marbles()
    left, right = (marbles.cold(diagram, error=KeyError(diagram)) for diagram in pair)
    recording = marbles.subscribe(combine(left, right))
    marbles.advance_to(20)
    events = [(time, repr(event)) for time, event in recording.events]
    return events, left.subscriptions, right.subscriptions
