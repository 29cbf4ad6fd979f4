"""`prune`: a shorter conversation, without the results of tools that the model has read."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from rxllm.agents.run import Prepare, Turn
from rxllm.arguments import check_int
from rxllm.messages import Message, ReasoningPart

__all__ = ["prune", "prune_steps"]

_KEEP = "results of tools to keep"


def prune(
    messages: Sequence[Message], keep: int = 3, *, cleared: str = "[cleared]"
) -> tuple[Message, ...]:
    """Return a conversation without the contents of old tool results, and without old thinking.

    The last `keep` results stay, and so do those that the model hasn't answered yet. Each call
    keeps its result, and everything else its place, as the providers demand. Thinking of this turn
    (since the last message of the user) stays, with its states. Of earlier turns only that of
    answers with calls stays: some providers refuse such an answer without it.

    A pruned conversation is another prompt to the cache of a provider, from the first message on
    that has changed.

    Args:
        messages: a conversation.
        keep: results that stay, 0 or more.
        cleared: takes the place of a content.

    Raises:
        TypeError, ValueError: `keep` is not an integer, or below 0.

    >>> from rxllm.chunks import ToolCall
    >>> steps = []
    >>> for name in ("a", "b"):
    ...     call = ToolCall(name, "look", "{}", complete=True)
    ...     steps.append(Message("assistant", "", tool_calls=(call,)))
    ...     steps.append(Message("tool", "snow", tool_call_id=name))
    >>> [message.content for message in prune([Message("user", "Go"), *steps], keep=1)]
    ['Go', '', '[cleared]', '', 'snow']
    """
    keep = check_int("keep", keep, _KEEP, minimum=0)
    messages = tuple(messages)
    for message in messages:
        if not isinstance(message, Message):
            raise TypeError(f"prune takes messages, got {message!r}")
    results = [place for place, message in enumerate(messages) if message.role == "tool"]
    read, turn = _last(messages, "assistant"), _last(messages, "user")
    old = {place for place in results[: max(0, len(results) - keep)] if place < read}
    pruned: list[Message] = []
    for place, message in enumerate(messages):
        if place in old:
            pruned.append(replace(message, content=cleared))
        elif place < turn and not message.calls:
            pruned += _without_thinking(message)
        else:
            pruned.append(message)
    return tuple(pruned)


def prune_steps(keep: int = 3, *, cleared: str = "[cleared]") -> Prepare:
    """Return a function for `Agent(prepare=...)` that prunes the conversation before each step.

    Args:
        keep, cleared: those of `prune`.

    Raises:
        TypeError, ValueError: `keep` is not an integer, or below 0.

    >>> import rxllm
    >>> agent = rxllm.Agent(rxllm.model("tiny"), prepare=prune_steps(keep=3))
    """
    keep = check_int("keep", keep, _KEEP, minimum=0)

    def prepare(turn: Turn) -> Turn:
        messages = prune(turn.request.messages, keep, cleared=cleared)
        return replace(turn, request=replace(turn.request, messages=messages))

    return prepare


def _last(messages: Sequence[Message], role: str) -> int:
    """Return the place of the last message with this role, or 0."""
    return max([place for place, each in enumerate(messages) if each.role == role], default=0)


def _without_thinking(message: Message) -> list[Message]:
    """Return a message without its thinking; none if it has nothing else."""
    if isinstance(message.content, str):
        return [message]
    parts = tuple([part for part in message.content if not isinstance(part, ReasoningPart)])
    if len(parts) == len(message.content):
        return [message]
    return [replace(message, content=parts)] if parts else []
