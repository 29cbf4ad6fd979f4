"""The text and the thinking of a message, accumulated from the deltas of its blocks."""

from __future__ import annotations

from itertools import takewhile

from rxllm.chunks import Chunk, Reasoning, Token
from rxllm.models.remote.anthropic_types import Delta
from rxllm.models.remote.history import Target
from rxllm.models.remote.state import Comparable
from rxllm.models.remote.text_joiner import TextJoiner

__all__ = ["TextReader"]


class TextReader(Comparable):
    """Reads the text and the thinking of one message.

    Args:
        target: the model.
        space: white space at the end of the partial answer, which the model may repeat.

    Attributes:
        signature: of the thinking that is open, once it has arrived.
    """

    def __init__(self, target: Target, space: str) -> None:
        self.signature: str | None = None
        self._target = target
        self._space = space  # not yet repeated
        self._text = TextJoiner()
        self._reasoning = TextJoiner()
        self._ends_in_text = False

    def read(self, delta: Delta, chunks: list[Chunk]) -> None:
        """Append the thinking and the text of a delta."""
        self.signature = delta.signature or self.signature
        if delta.thinking and (thought := self._reasoning.feed(delta.thinking)):
            self.add(Reasoning(thought), chunks)
        if delta.text and (text := self._without_space(self._text.feed(delta.text))):
            self.add(Token(text), chunks)

    def add(self, chunk: Chunk, chunks: list[Chunk]) -> None:
        """Append a chunk that begins or continues a part of the answer."""
        self._ends_in_text = isinstance(chunk, Token) and chunk.state is None
        chunks.append(chunk)

    def begin_text(self, chunks: list[Chunk]) -> None:
        """Append a border if the new block of text would continue one before it."""
        if self._ends_in_text:
            self.add(Token("", state=self._target.state({"type": "text"})), chunks)

    def end(self, chunks: list[Chunk]) -> None:
        """Append what was held back. Blocks are sequential, so it belongs to the newest one."""
        if thought := self._reasoning.flush():
            self.add(Reasoning(thought), chunks)
        if self.signature:
            data = {"type": "thinking", "signature": self.signature}
            self.add(Reasoning("", self._target.state(data)), chunks)
            self.signature = None
        if text := self._text.flush():
            self.add(Token(text), chunks)

    def _without_space(self, text: str) -> str:
        """Return `text` without the white space that the partial answer ends with already."""
        if self._space and text:
            pairs = zip(text, self._space, strict=False)
            repeated = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
            self._space = self._space[repeated:] if repeated == len(text) else ""
            text = text[repeated:]
        return text
