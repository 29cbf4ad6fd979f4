"""`RunAnswer`: all answers of a run as one, for clients that know no runs."""

from __future__ import annotations

from msgspec.structs import replace

from rxllm.answer_counts import NestedSources
from rxllm.chunks import Chunk, End, ToolCall, ToolResult, is_lasting, is_restart
from rxllm.messages import ReasoningPart, TextPart
from rxllm.restart import surviving
from rxllm.result import Result
from rxllm.transcript import Transcript

__all__ = ["RunAnswer"]


class RunAnswer:
    """Gathers what a run says besides its last answer, which is all that a `Result` has.

    Calls that were answered in the run, and runs inside of them, aren't part of it.

    Args:
        keep: classes of chunks that are kept.

    Attributes:
        chunks: the chunks of these classes that no restart has taken back.
    """

    def __init__(self, keep: tuple[type[Chunk], ...] = ()) -> None:
        self.chunks: list[Chunk] = []
        self._keep = keep
        self._nested = NestedSources()
        self._answers = [Transcript()]
        self._answered: set[str] = set()

    def add(self, chunk: Chunk) -> None:
        """Note the next chunk of the stream."""
        if self._keep and chunk.source not in self._nested:
            self._add_kept(chunk)
        if chunk.source is not None:
            return
        self._answers[-1].add(chunk)
        if isinstance(chunk, End) and chunk.more:
            self._answers.append(Transcript())
        elif isinstance(chunk, ToolResult) and not chunk.preliminary:
            self._answered.add(chunk.id)

    def whole(self, result: Result) -> Result:
        """Return the result with the answers of the run as one."""
        answers = self._answers
        if len(answers) == 1:
            return result
        parts = tuple(
            part
            for answer in answers
            for part in answer.parts
            if not (isinstance(part, ToolCall) and part.id in self._answered)
        )
        return replace(
            result,
            parts=parts,
            text="".join([part.text for part in parts if isinstance(part, TextPart)]),
            reasoning="".join([part.text for part in parts if isinstance(part, ReasoningPart)]),
            tool_calls=tuple(part for part in parts if isinstance(part, ToolCall)),
            citations=tuple(each for answer in answers for each in answer.citations),
            files=tuple(each for answer in answers for each in answer.files),
        )

    def _add_kept(self, chunk: Chunk) -> None:
        if isinstance(chunk, ToolCall | ToolResult):
            self._nested.note(chunk)
        if is_restart(chunk):
            self.chunks = surviving(self.chunks, chunk.source)
        elif isinstance(chunk, self._keep) or is_lasting(chunk):
            self.chunks.append(chunk)
