"""`RunAnswer`: all answers of a run as one, for clients that know no runs."""

from __future__ import annotations

from msgspec.structs import replace

from rxllm.answer_counts import NestedSources
from rxllm.chunks import Chunk, Citation, End, FileOutput, ToolCall, is_lasting, is_restart
from rxllm.messages import ReasoningPart, TextPart
from rxllm.restart import surviving
from rxllm.result import Result

__all__ = ["RunAnswer"]


class RunAnswer:
    """Gathers what a run says besides its last answer, which is all that a `Result` has.

    Calls that were answered in the run, and runs inside of them, aren't part of it.

    Args:
        keep: classes of chunks that are kept.

    Attributes:
        chunks: the chunks of these classes that no restart has taken back, and others.
    """

    def __init__(self, keep: tuple[type[Chunk], ...] = ()) -> None:
        self.chunks: list[Chunk] = []
        self._keep = (Citation, FileOutput, *keep)
        self._nested = NestedSources()

    def add(self, chunk: Chunk) -> None:
        """Note the next chunk of the stream."""
        if isinstance(chunk, self._keep) or is_lasting(chunk):
            if chunk.source not in self._nested:
                self.chunks.append(chunk)
        elif isinstance(chunk, ToolCall):
            self._nested.note(chunk)
        elif is_restart(chunk):
            self.chunks[:] = surviving(self.chunks, chunk.source)

    def whole(self, result: Result) -> Result:
        """Return the result with the answers of the run as one."""
        messages = result.messages
        if not any(isinstance(chunk, End) and chunk.more for chunk in self.chunks):
            return result
        answered = {message.tool_call_id for message in messages if message.role == "tool"}
        parts = tuple(
            part
            for message in messages
            if message.role == "assistant"
            for part in message.parts
            if not (isinstance(part, ToolCall) and part.id in answered)
        )
        return replace(
            result,
            parts=parts,
            text="".join([part.text for part in parts if isinstance(part, TextPart)]),
            reasoning="".join([part.text for part in parts if isinstance(part, ReasoningPart)]),
            tool_calls=tuple(part for part in parts if isinstance(part, ToolCall)),
            citations=tuple(each for each in self.chunks if isinstance(each, Citation)),
            files=tuple(each for each in self.chunks if isinstance(each, FileOutput)),
        )
