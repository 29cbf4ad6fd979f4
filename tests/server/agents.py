"""Agents for the tests of the wires: one run has all that a run can have."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import rxllm
from rxllm import operators as ops
from rxllm.agents import Agent, Inbox
from rxllm.chunks import ProviderState, Reasoning, ToolCall, Usage
from rxllm.models.scripted import ScriptedModel
from rxllm.piped_model import piped
from rxllm.requests import Model
from tests.agents.runs import calling

__all__ = ["STATE", "WEATHER", "Steered", "deleted", "everything", "restarting"]

STATE = ProviderState("anthropic", "claude", {"signature": "s"})
WEATHER = {
    "name": "weather",
    "description": "The weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}

deleted: list[str] = []
"""The paths that `delete` was called with."""


async def numbers() -> AsyncIterator[dict[str, int]]:
    """Count."""
    for number in range(3):
        yield {"n": number}


async def broken() -> str:
    """Fail."""
    raise ValueError("it is broken")


@rxllm.tool(approval="ask", thread=False)
def delete(path: str) -> str:
    """Delete a file."""
    deleted.append(path)
    return f"deleted {path}"


class Steered(Agent):
    """An agent whose user says one more thing during each run."""

    def stream(self, prompt: Any, **options: Any) -> Any:
        inbox = Inbox()
        if options.get("approvals") is None:
            inbox.steer("Be quick.")
        return super().stream(prompt, inbox=inbox, **options)


def restarting(*scripts: Any) -> Model:
    """A model that asks again after a failure amid an answer, and takes back what it has said."""
    again = ops.retry_with_backoff(2, initial=0, jitter=False, after_output="restart")
    return piped(ScriptedModel(*scripts), again)


def everything(kind: type[Agent] = Steered) -> Agent:
    """An agent whose run has interim outputs, errors, a nested run, a restart, a message of the
    user, and a call that waits for an approval."""
    inner = Agent(ScriptedModel(["Sub", " says", " hi"]))
    thinking: list[Any] = [Reasoning("Hm."), Reasoning("", STATE)]
    first = calling(
        ("a", "numbers", "{}"),
        ("b", "broken", "{}"),
        ("c", "sub", '{"task": "go"}'),
        ("d", "broken", '{"x'),
        text=["Let me", " look."],
    )
    cut_off = ["Wro", "ng", ToolCall("z", "broken", '{"par'), ConnectionResetError()]
    asking = calling(("e", "delete", '{"path": "/x"}'), text=["I would", " delete it."])
    last = ["It is gone.", Usage(7, 3)], "You are welcome."
    model = restarting([*thinking, *first], cut_off, asking, *last)
    tools: list[Any] = [numbers, broken, delete, inner.as_tool("sub", "Ask another one.")]
    return kind(model, tools, secret=b"the secret")
