"""What a restart takes back, and what it leaves: of chunks that wait, and of state by source."""

from __future__ import annotations

from typing import TypeVar

from rxllm.chunks import Chunk

__all__ = ["forget", "matching_sources", "survives_restart"]

_State = TypeVar("_State")


def survives_restart(chunk: Chunk, restarted: str | None = None) -> bool:
    """Whether `chunk`, which waits, is still true after a restart of the stream `restarted`.

    `None` means a restart of all. What other streams say survives, and what was used and happened
    on the way (see `survives_restart` of the chunk classes). A restart drops what belongs to the
    answer that begins again: its content and its end. What survives is sent before its notice, in
    order.
    """
    return chunk.survives_restart or (restarted is not None and chunk.source != restarted)


def matching_sources(states: dict[str | None, _State], source: str | None) -> list[str | None]:
    """The streams with a state that a chunk of `source` is about; `None` is about all."""
    if source is None:
        return list(states)
    return [source] if source in states else []


def forget(states: dict[str | None, _State], source: str | None) -> None:
    """Drop the state of `source`; `None` drops everything."""
    if source is None:
        states.clear()
    else:
        states.pop(source, None)
