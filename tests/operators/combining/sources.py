"""A source that the tests of these functions share."""

from typing import Any

import reactivex as rx
from reactivex.disposable import Disposable

from rxllm.chunks import Chunk


def at_once(*chunks: Chunk) -> rx.Observable[Chunk]:
    """A source that says all inside of its subscription."""

    def subscribe(observer: Any, _: Any) -> Disposable:
        for chunk in chunks:
            observer.on_next(chunk)
        observer.on_completed()
        return Disposable()

    return rx.create(subscribe)
