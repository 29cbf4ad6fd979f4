"""The pipeable forms of the functions that combine streams."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import reactivex as rx
from reactivex import Observable

from rxllm.chunks import Chunk
from rxllm.operators.combining._streams import Streams, named
from rxllm.stream import Stream

__all__ = ["pipeable"]

_PLACEHOLDER: Final[Observable[Chunk]] = rx.empty()


def pipeable(
    operator: str,
    others: tuple[Observable[Chunk] | Streams, ...],
    name: str,
    combine: Callable[[Streams], Stream[Chunk]],
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """An operator that puts the piped stream first and combines it with `others`.

    `combine` is also called here, with a placeholder for the piped stream, so that it validates its
    arguments before there is a stream.

    Args:
        operator: the name of the operator.
        others: the other streams, numbered from 1, or one mapping of names to streams.
        name: the name of the piped stream.
        combine: the combining function.

    Raises:
        TypeError: something is not a stream, or a name is not a string.
        ValueError: there is no other stream, or two streams have the same name.
    """
    streams: dict[str, Any]
    if len(others) == 1 and isinstance(others[0], Mapping):
        streams = dict(others[0])
    else:
        streams = {str(number): stream for number, stream in enumerate(others, 1)}
    if not streams:
        raise ValueError(f"{operator} takes at least one other stream")
    if name in streams:
        raise ValueError(
            f"{operator} has two streams named {name!r}: pass another name= for the piped one"
        )
    combine(named(operator, {name: _PLACEHOLDER, **streams}))

    def operate(source: Observable[Chunk]) -> Stream[Chunk]:
        stream = combine(named(operator, {name: source, **streams}))
        stream.name = operator
        return stream

    return operate
