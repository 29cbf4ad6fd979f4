"""Which waiting chunks and which per-source state a restart discards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from rxllm.chunks import Chunk, is_lasting

__all__ = ["committed", "forget", "matching_sources", "survives_restart", "surviving"]

_State = TypeVar("_State")


def survives_restart(chunk: Chunk, restarted: str | None = None) -> bool:
    """Return whether a waiting `chunk` is still valid after a restart of the stream `restarted`.

    `None` means a restart of all streams. Chunks of other streams survive, and so do usage, notices
    and the like (see `survives_restart` of the chunk classes). A restart drops what belongs to the
    answer that begins again: its content and its end. Surviving chunks are sent before the notice,
    in order.
    """
    return chunk.survives_restart or (restarted is not None and chunk.source != restarted)


def committed(chunks: Sequence[Chunk | None], source: str | None) -> int:
    """Return how many of `chunks`, from the first on, no restart of `source` takes back.

    These are the earlier answers of a run, and the results of their tools (see `is_lasting`).
    """
    for position in range(len(chunks) - 1, -1, -1):
        chunk = chunks[position]
        if chunk is not None and chunk.source == source and is_lasting(chunk):
            return position + 1
    return 0


def surviving(chunks: Sequence[Chunk], source: str | None) -> list[Chunk]:
    """Return the waiting `chunks` that are still valid after a restart of `source`, in order."""
    kept = committed(chunks, source)
    return [
        chunk
        for position, chunk in enumerate(chunks)
        if position < kept or survives_restart(chunk, source)
    ]


def matching_sources(states: dict[str | None, _State], source: str | None) -> list[str | None]:
    """Return the sources in `states` that a chunk of `source` concerns; `None` means all."""
    if source is None:
        return list(states)
    return [source] if source in states else []


def forget(states: dict[str | None, _State], source: str | None) -> None:
    """Drop the state of `source`; `None` drops everything."""
    if source is None:
        states.clear()
    else:
        states.pop(source, None)
