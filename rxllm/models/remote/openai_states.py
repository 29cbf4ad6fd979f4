"""What chat completions want back with the next request, besides text and calls.

Sources: https://api-docs.deepseek.com/guides/thinking_mode (`reasoning_content`),
https://openrouter.ai/docs/use-cases/reasoning-tokens (`reasoning_details`),
https://docs.mistral.ai/capabilities/reasoning (`thinking` parts),
https://ai.google.dev/gemini-api/docs/thought-signatures (`extra_content`).
"""

from __future__ import annotations

from typing import Any, Final

from rxllm.chunks import Chunk, Reasoning, Token
from rxllm.messages import Message, ReasoningPart, TextPart
from rxllm.models.remote.coercion import as_objects, as_optional_text, as_text
from rxllm.models.remote.history import Target
from rxllm.models.remote.openai_types import Delta
from rxllm.models.remote.state import Comparable
from rxllm.models.remote.text_joiner import TextJoiner
from rxllm.wire_names import EXTENSION, TEXT_STATE

__all__ = ["ReasoningReader", "returned_fields"]

_FIELDS: Final = ("reasoning_content", "reasoning", "reasoning_text", "thinking")
_GROWING: Final = ("text", "summary", "data")


class ReasoningReader(Comparable):
    """Reads the reasoning in deltas, and what the server wants back with it.

    The state of a thinking block is the name of the field that it came in, or the
    `reasoning_details` that came beside it; its text is sent back under that name. A server of
    rxllm sends the states of other providers, each in its place.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._joiner = TextJoiner()
        self._field = ""  # of the open block
        self._has_field = self._has_details = False
        self._details: list[dict[str, Any]] = []
        self._extra: Any = None

    def read(self, delta: Delta, chunks: list[Chunk]) -> None:
        """Append the chunks of the reasoning in `delta`, and the state of a block that it ends."""
        thought = (
            delta.reasoning_content or delta.reasoning or delta.reasoning_text or delta.thinking
        )
        if thought:
            self._field = next(name for name in _FIELDS if getattr(delta, name))
            self._has_field = True
            if thought := self._joiner.feed(thought):
                chunks.append(Reasoning(thought))
        if delta.reasoning_details:
            self._read_details(as_objects(delta.reasoning_details), chunks)
        if delta.extra_content:
            self._extra = delta.extra_content
        if (self._field or self._details) and (
            delta.content or delta.tool_calls or delta.function_call or delta.refusal
        ):
            self._close(chunks)

    def _read_details(self, details: list[dict[str, Any]], chunks: list[Chunk]) -> None:
        own = [each for each in details if each.get("format") == EXTENSION]
        others = [each for each in details if each not in own]
        self._has_details = self._has_details or bool(others)
        self._add_details(others)
        if not self._has_field:  # else the same text is in a field, too
            thoughts = (as_text(each.get("text") or each.get("summary")) for each in others)
            if thought := self._joiner.feed("".join(thoughts)):
                chunks.append(Reasoning(thought))
        for detail in own:
            self._read_own(detail, chunks)

    @property
    def has_begun(self) -> bool:
        """Whether there was any reasoning."""
        return self._has_field or self._has_details

    def finish(self, chunks: list[Chunk]) -> None:
        """Append what is left at the end of the answer's text."""
        if self._field or self._details:
            self._close(chunks)
        if self._extra:
            state = self._target.state({"extra_content": self._extra})
            chunks.append(Token("", state=state))

    def _read_own(self, detail: dict[str, Any], chunks: list[Chunk]) -> None:
        """Read a state that a server of rxllm passes on, in its place."""
        if detail.get("type") == TEXT_STATE:
            state = self._target.state({"reasoning_details": [detail]})
            chunks.append(Token("", state=state))
        else:
            self._details.append(detail)
            self._close(chunks)

    def _close(self, chunks: list[Chunk]) -> None:
        if thought := self._joiner.flush():
            chunks.append(Reasoning(thought))
        whole = [_in_unicode(each) for each in self._details]
        data = {"reasoning_details": whole} if whole else {"field": self._field}
        chunks.append(Reasoning("", self._target.state(data)))
        self._field, self._details = "", []

    def _add_details(self, details: list[dict[str, Any]]) -> None:
        """Join the pieces of a detail, which come one after another."""
        for given in details:
            last = self._details[-1] if self._details else {}
            detail = {name: value for name, value in given.items() if value is not None}
            if last and _is_same(last, detail) and not last.get("signature"):
                grown: dict[str, Any] = {
                    name: as_text(last.get(name)) + as_text(detail[name])
                    for name in _GROWING
                    if name in detail
                }
                self._details[-1] = {**last, **detail, **grown}
            else:
                self._details.append(detail)


def _in_unicode(detail: dict[str, Any]) -> dict[str, Any]:
    """Join the surrogates at the ends of pieces; one without its pair becomes U+FFFD."""
    return {
        name: as_optional_text(value) if isinstance(value, str) else value
        for name, value in detail.items()
    }


def _is_same(last: dict[str, Any], detail: dict[str, Any]) -> bool:
    """Whether a detail goes on with the last one; the id may be in the first piece alone."""
    names = ("type", "index", "format")
    ids = {each["id"] for each in (last, detail) if each.get("id")}
    return len(ids) < 2 and all(last.get(name) == detail.get(name) for name in names)


def returned_fields(message: Message) -> dict[str, Any]:
    """Return the fields of an assistant message that hold what its model wants back."""
    fields: dict[str, Any] = {}
    parts: list[dict[str, Any]] = []
    for part in message.parts:
        if not isinstance(part, ReasoningPart | TextPart) or part.state is None:
            continue
        data = part.state.data
        if "reasoning_details" in data:
            details = fields.setdefault("reasoning_details", [])
            details += as_objects(data["reasoning_details"])
        elif data.get("field") == "thinking":
            parts.append({"type": "thinking", "thinking": [{"type": "text", "text": part.text}]})
        elif data.get("field") in _FIELDS:
            fields[data["field"]] = fields.get(data["field"], "") + part.text
        if "extra_content" in data:
            fields["extra_content"] = data["extra_content"]
    if parts:
        text = message.text
        fields["content"] = [*parts, *([{"type": "text", "text": text}] if text else [])]
    return fields
