"""Where the new part of the arguments of a tool call begins."""

from __future__ import annotations

from rxllm.chunks import Chunk, StateKey, ToolCall, is_restart, state_key

__all__ = ["CallOffsets"]


class CallOffsets:
    """Notes the arguments of the calls of one stream, so that only what is new has to be sent.

    Each chunk of a call repeats its arguments so far: sent as they are, calls would cost the square
    of their length.
    """

    def __init__(self) -> None:
        self._arguments: dict[StateKey | None, tuple[str | None, str]] = {}  # with the source

    def next(self, chunk: Chunk) -> int | None:
        """Return the number of characters that earlier chunks of the call had; `None` if none had.

        Call this with each chunk that may be a call or a restart, in order.
        """
        if type(chunk) is ToolCall:
            key = state_key(chunk)
            _, sent = self._arguments.get(key, (None, ""))
            self._arguments[key] = chunk.source, chunk.arguments
            return len(sent) if sent and chunk.arguments.startswith(sent) else None
        if is_restart(chunk):
            self._arguments = {
                key: noted
                for key, noted in self._arguments.items()
                if chunk.source is not None and noted[0] != chunk.source
            }
        return None
