"""One tool call of a response, accumulated from the events of its item."""

from __future__ import annotations

import json
from typing import Any, Final

from msgspec.structs import replace

from rxllm.chunks import ToolCall
from rxllm.models.remote.coercion import as_arguments, as_optional_text, as_text, is_json
from rxllm.models.remote.state import Comparable
from rxllm.models.remote.text_joiner import TextJoiner

__all__ = ["CALLS", "CUSTOM_CALL", "FUNCTION_CALL", "PendingCall", "is_repeated"]

FUNCTION_CALL: Final = "function_call"
CUSTOM_CALL: Final = "custom_tool_call"
CALLS: Final = (FUNCTION_CALL, CUSTOM_CALL)
"""The types of the items that are calls."""


class PendingCall(Comparable):
    """A call so far. The input of a custom tool is a text: its arguments are `{"input": ...}`.

    Attributes:
        call: its first chunk, or `None` until its item has arrived.
        is_ended: whether the provider has ended the arguments, which may be empty then.
        is_closed: whether its last chunk has been emitted.
    """

    def __init__(self, *, is_custom: bool) -> None:
        self.call: ToolCall | None = None
        self.is_ended: bool = False
        self.is_closed: bool = False
        self._is_custom = is_custom
        self._text = ""
        self._is_given = False  # with the start of the item, and by no delta so far
        self._joiner = TextJoiner()

    def open(self, call: ToolCall, given: Any) -> ToolCall:
        """Return the first chunk; `given` are the arguments at the start of the item, if any."""
        self.call = call
        if not self._text and (text := as_optional_text(self._text_of(given))):
            self._text, self._is_given = text, True
        return self._so_far()

    def add(self, delta: Any) -> list[ToolCall]:
        """Add a delta, and return the call so far. Deltas may repeat what was given."""
        text = self._text_of(delta)
        if text and self._is_given:
            self._is_given = False
            is_whole = not self._is_custom and is_json(self._text)
            if is_whole or is_repeated(self._text, text):
                self._text = ""
        self._text += self._joiner.feed(text)
        return [self._so_far()] if self.call is not None and text else []

    def end(self, given: Any, name: str = "", *, is_ended: bool = True) -> None:
        """Take the whole arguments, if they are given here, in place of the deltas."""
        self.is_ended = self.is_ended or is_ended
        if self.call is not None and not self.call.name:
            self.call = replace(self.call, name=name)
        text = as_optional_text(self._text_of(given)) or ""
        if text.strip():
            self._text = text

    @property
    def has_arguments(self) -> bool:
        """Whether there are any so far."""
        return bool(self._text.strip())

    def close(self, *, may_be_complete: bool = True) -> ToolCall:
        """Return the last chunk; it is complete if its arguments are, and it has a name.

        Args:
            may_be_complete: false if the call was cut off.
        """
        self.is_closed = True
        self._text += self._joiner.flush()
        call = self._so_far()
        arguments = call.arguments
        if self._is_custom and self.is_ended:
            arguments = json.dumps({"input": self._text}, ensure_ascii=False)
        elif self.is_ended and not self.has_arguments and may_be_complete:
            arguments = "{}"
        complete = may_be_complete and bool(call.name) and is_json(arguments)
        return replace(call, arguments=arguments, complete=complete)

    def _text_of(self, value: Any) -> str:
        if isinstance(value, dict) and not self._is_custom:
            return as_arguments(value) or ""
        return as_text(value)

    def _so_far(self) -> ToolCall:
        assert self.call is not None  # noqa: S101 - only open calls have chunks
        arguments = self._text
        if self._is_custom and arguments:
            arguments = json.dumps({"input": arguments}, ensure_ascii=False).removesuffix('"}')
        return replace(self.call, arguments=arguments)


def is_repeated(given: str, delta: str) -> bool:
    """Return whether the first delta of a part repeats what came with its start.

    >>> is_repeated('{"at": 1}', '{"at"'), is_repeated("Once", " upon"), is_repeated("O", "Once")
    (True, False, True)
    """
    return given.startswith(delta) or delta.startswith(given)
