"""What a restart leaves of what waits."""

from __future__ import annotations

from typing import Final

from rxllm.chunks import Chunk, Notice, Progress, Start, Usage

__all__ = ["outlives_restart"]

_TOLD: Final = (Notice, Progress, Start, Usage)


def outlives_restart(chunk: Chunk, restarted: str | None = None) -> bool:
    """Is `chunk`, which waits, still true after a restart of the stream `restarted` (None: of all)?

    That is what other streams say, what was used, and what happened on the way. A restart drops
    what belongs to the answer that is begun again: its content and its end. The others are sent
    before its notice, in their order.
    """
    return (restarted is not None and chunk.source != restarted) or isinstance(chunk, _TOLD)
