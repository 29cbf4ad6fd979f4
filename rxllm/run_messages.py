"""`RunMessages`: what a run of several answers adds to a conversation."""

from __future__ import annotations

from collections.abc import Sequence

from rxllm.chunks import ToolResult
from rxllm.messages import Message

__all__ = ["RunMessages", "with_all_calls_answered"]

_UNKNOWN = "interrupted: it is not known whether this was done"


class RunMessages:
    """The closed messages of a run: answers, results of their tools, messages of the user.

    Results come as the tools end, and are in the order of the calls in the conversation.

    Args:
        last: the message whose calls the first results answer, if the run continues after it.
    """

    __slots__ = ("_closed", "_last", "_results")

    def __init__(self, last: Message | None = None) -> None:
        self._closed: list[Message] = []
        self._last = last
        self._results: dict[str, ToolResult] = {}

    def add_answer(self, message: Message) -> None:
        """Append an answer that has ended, unless it is empty."""
        self._settle()
        if message.content or message.tool_calls:
            self._closed.append(message)
        self._last = message

    def add_result(self, result: ToolResult) -> None:
        """Add the result of a call. Preliminary ones are for the reader, not for the model."""
        if not result.preliminary:
            self._results[result.id] = result

    def add_user(self, text: str) -> None:
        """Append a message of the user."""
        self._settle()
        self._closed.append(Message("user", text))

    @property
    def messages(self) -> tuple[Message, ...]:
        """All of them, in order."""
        return (*self._closed, *self._tool_messages())

    def _settle(self) -> None:
        self._closed += self._tool_messages()
        self._results = {}

    def _tool_messages(self) -> list[Message]:
        calls = () if self._last is None else self._last.calls
        order = {call.id: position for position, call in enumerate(calls)}
        results = sorted(self._results.values(), key=lambda each: order.get(each.id, len(order)))
        return [
            Message("tool", each.content, tool_call_id=each.id, is_error=each.error is not None)
            for each in results
        ]


def with_all_calls_answered(
    messages: Sequence[Message], *, but: Sequence[str] = ()
) -> tuple[Message, ...]:
    """Return `messages` with an answer to each call, since no provider takes one without.

    A call without an answer is answered with an error: nobody knows whether its tool has run. An
    answer to a call that isn't in the messages before it is dropped.

    Args:
        messages: a conversation.
        but: ids of calls that stay open.

    >>> from rxllm.chunks import ToolCall
    >>> call = ToolCall("1", "pay", "{}", complete=True)
    >>> history = [Message("assistant", "", tool_calls=(call,)), Message("user", "Well?")]
    >>> [message.role for message in with_all_calls_answered(history)]
    ['assistant', 'tool', 'user']
    """
    answered: list[Message] = []
    waiting: dict[str, None] = {}

    def close() -> None:
        answered.extend(
            Message("tool", _UNKNOWN, tool_call_id=call_id, is_error=True)
            for call_id in waiting
            if call_id not in but
        )
        waiting.clear()

    for message in messages:
        if message.role == "tool":
            if message.tool_call_id in waiting:
                del waiting[message.tool_call_id]
                answered.append(message)
            continue
        close()
        answered.append(message)
        waiting.update((call.id, None) for call in message.calls)
    close()
    return tuple(answered)
