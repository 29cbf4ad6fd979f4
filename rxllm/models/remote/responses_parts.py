"""The parts of messages and of reasoning: texts, refusals, paragraphs of a summary."""

from __future__ import annotations

from typing import Any, Final

from rxllm.chunks import Chunk, Reasoning, Token
from rxllm.models.remote.coercion import as_text
from rxllm.models.remote.logprobs import logprobs_in, token_of
from rxllm.models.remote.responses_calls import is_repeated
from rxllm.models.remote.responses_items import OutputItem, Place
from rxllm.models.remote.responses_types import Event, annotations_in, parts_in, text_in
from rxllm.models.remote.state import Comparable
from rxllm.models.remote.text_joiner import TextJoiner
from rxllm.models.remote.wire import unsupported

__all__ = ["MESSAGE", "REASONING", "PartReader", "parts_of"]

MESSAGE: Final = "message"
REASONING: Final = "reasoning"
_PARTS: Final = (None, "output_text", "text", "refusal", "reasoning_text", "summary_text")


class PartReader(Comparable):
    """Reads the parts of items.

    What comes whole (a text at its end, a part, an item, the output in the last event) repeats what
    came before: of it, only what is new is emitted. What comes with the start of a part or of an
    item is held, since deltas may repeat it.

    Attributes:
        is_refused: whether the model has refused to answer.
    """

    def __init__(self, *, with_logprobs: bool) -> None:
        self.is_refused: bool = False
        self._with_logprobs = with_logprobs
        self._text = TextJoiner()
        self._reasoning = TextJoiner()

    def add(self, item: OutputItem, place: Place, event: Event, chunks: list[Chunk]) -> None:
        """Read a delta of a part; the first may repeat what came with its start."""
        text = as_text(event.delta)
        if text and place not in item.read:
            held = item.held.pop(place, {})
            if is_repeated(text_in(held), text):
                held = {"annotations": held.get("annotations")}
            self.read_part(item, place, held, chunks)
            self.separate(item, place, chunks)
            item.read.add(place)
        self._emit(item, text, event.logprobs, chunks)

    def _emit(self, item: OutputItem, text: str, logprobs: Any, chunks: list[Chunk]) -> None:
        if item.kind == REASONING:
            if text := self._reasoning.feed(text):
                chunks.append(Reasoning(text))
        elif text := self._text.feed(text):
            is_asked = self._with_logprobs
            chunks.append(token_of(text, logprobs_in(logprobs), is_asked=is_asked))

    def flush(self, chunks: list[Chunk]) -> None:
        """Emit the half of a character that is still waiting for the other."""
        if thought := self._reasoning.flush():
            chunks.append(Reasoning(thought))
        if text := self._text.flush():
            chunks.append(Token(text))

    def separate(self, item: OutputItem, place: Place, chunks: list[Chunk]) -> None:
        """Separate the paragraphs of a summary."""
        border = ("border", place[1])
        if place[0] == "summary" and place[1] and item.read and border not in item.read:
            item.read.add(border)
            chunks.append(Reasoning("\n\n"))

    def read_part(
        self, item: OutputItem, place: Place, part: dict[str, Any], chunks: list[Chunk]
    ) -> None:
        """Read a whole part; of one that has been read before, only what is new."""
        kind, text = part.get("type"), text_in(part)
        self.is_refused = self.is_refused or kind == "refusal"
        if text and place not in item.read:
            self.separate(item, place, chunks)
            item.read.add(place)
            self._emit(item, text, part.get("logprobs"), chunks)
        for each in annotations_in(part.get("annotations")):
            item.emit_once(each, chunks)
        if kind not in _PARTS and (not text or part.get("data")):
            item.emit_once(unsupported(part), chunks)
        if held := item.held.pop(place, None):
            self.read_part(item, place, held, chunks)

    def read_held(self, item: OutputItem, chunks: list[Chunk]) -> None:
        """Read the parts of which only the start came."""
        for place in tuple(item.held):
            self.read_part(item, place, {}, chunks)


def parts_of(known: OutputItem, item: dict[str, Any]) -> dict[Place, dict[str, Any]]:
    """Return the parts of a message or of reasoning."""
    if known.kind not in (MESSAGE, REASONING):
        return {}
    return {
        (name, index): part
        for name in ("content", "summary")
        for index, part in enumerate(parts_in(item.get(name)))
    }
