"""Calls that somebody has to approve: in this process, or later in another one."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rxllm
from rxllm import Message, tool
from rxllm import operators as ops
from rxllm.agents import Agent, FunctionTool, ToolContext
from rxllm.agents._approvals import approval_token
from rxllm.chunks import ApprovalRequest, ErrorInfo, ToolCall, ToolResult
from rxllm.errors import BadRequestError
from rxllm.models.scripted import ScriptedModel
from rxllm.testing import no_leaks, run_virtual
from tests.agents.runs import calling, kinds, play, results_of


def tools_of(ran: list[str]) -> list[FunctionTool]:
    @tool(approval="ask")
    def delete(path: str) -> str:
        ran.append(f"delete {path}")
        return "deleted"

    @tool
    def look(path: str) -> str:
        ran.append(f"look {path}")
        return "there"

    return [delete, look]


ASK = calling(
    ("a", "delete", '{"path": "/x"}'),
    ("b", "look", '{"path": "/x"}'),
    text=["I would delete it."],
)


def waiting_run(ran: list[str]) -> tuple[list[Any], rxllm.Result, tuple[Message, ...]]:
    """A run that waits for an approval, and its conversation, as from a database."""
    agent = Agent(ScriptedModel(ASK), tools_of(ran), secret=b"s")
    chunks, result = rxllm.run(play(agent.stream("Delete /x")))
    stored = msgspec.json.encode((Message("user", "Delete /x"), *result.messages))
    return chunks, result, msgspec.json.decode(stored, type=tuple[Message, ...])


def test_harmless_calls_run_and_the_run_ends_with_the_others_open() -> None:
    ran: list[str] = []
    chunks, result, _ = waiting_run(ran)
    assert kinds(chunks)[-4:] == ["End+", "ToolResult", "ApprovalRequest", "End"]
    assert (ran, result.finish_reason) == (["look /x"], "tool_calls")
    assert result.text == "I would delete it."
    assert [request.id for request in result.pending] == ["a"]
    assert [message.role for message in result.messages] == ["assistant", "tool"]


def test_an_approved_call_runs_in_another_process() -> None:
    ran: list[str] = []
    _, result, history = waiting_run(ran)
    model = ScriptedModel("It is gone.")
    approvals = {result.pending[0].token: True}
    agent = Agent(model, tools_of(ran), secret=b"s")
    chunks, result = rxllm.run(play(agent.stream(history, approvals=approvals)))
    assert ran == ["look /x", "delete /x"]
    assert kinds(chunks) == ["ToolResult", "ToolResult", "Start", "Token", "Usage", "End"]
    assert chunks[0] == ToolResult("a", "delete", preliminary=True)  # it runs now
    assert [message.role for message in model.requests[0].messages] == [
        *["user", "assistant", "tool", "tool"],
    ]
    assert [each.tool_call_id for each in model.requests[0].messages[2:]] == ["b", "a"]
    assert [message.role for message in result.messages] == ["tool", "assistant"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=9,
    )
)
def test_the_token_of_a_call_is_the_same_however_a_client_encodes_it(value: Any) -> None:
    arguments = {"b": value, "a": 1.0}
    tokens = {
        approval_token(ToolCall("1", "pay", text), b"s")
        for text in (
            json.dumps(arguments),
            json.dumps(arguments, indent=1, ensure_ascii=False),
            json.dumps({"a": 1, "b": _as_javascript(value)}, separators=(",", ":")),
        )
    }
    assert len(tokens) == 1
    other = ToolCall("1", "pay", json.dumps({**arguments, "a": 2}))
    assert approval_token(other, b"s") not in tokens
    assert approval_token(ToolCall("1", "pay", '{"a'), b"s") not in tokens


def _as_javascript(value: Any) -> Any:
    """A value as `JSON.parse` and `JSON.stringify` leave it: a float may have become an integer."""
    if isinstance(value, dict):
        return {key: _as_javascript(each) for key, each in reversed(value.items())}
    if isinstance(value, list):
        return [_as_javascript(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


@pytest.mark.parametrize("reason", ["run", "ask"])
def test_a_reason_is_never_a_decision(reason: str) -> None:
    ran: list[str] = []
    _, result, history = waiting_run(ran)
    model = ScriptedModel("As you like.")
    agent = Agent(model, tools_of(ran), secret=b"s")
    rxllm.run(agent.stream(history, approvals={result.pending[0].token: reason}))
    assert ran == ["look /x"]
    assert model.requests[0].messages[-1].text.endswith(f"not allowed this: {reason}")


@pytest.mark.parametrize("decision", [False, "not that one"])
def test_the_model_is_told_that_a_call_was_refused(decision: Any) -> None:
    ran: list[str] = []
    _, result, history = waiting_run(ran)
    model = ScriptedModel("As you like.")
    agent = Agent(model, tools_of(ran), secret=b"s")
    rxllm.run(agent.stream(history, approvals={result.pending[0].token: decision}))
    told = model.requests[0].messages[-1]
    assert (ran, told.is_error) == (["look /x"], True)
    assert told.text.endswith("not that one" if decision else "not allowed this")


def test_without_a_decision_the_call_is_asked_for_again_and_no_model_is() -> None:
    ran: list[str] = []
    _, earlier, history = waiting_run(ran)
    model = ScriptedModel("never")
    agent = Agent(model, tools_of(ran), secret=b"s")
    chunks, result = rxllm.run(play(agent.stream(history, approvals={})))
    assert kinds(chunks) == ["ApprovalRequest", "End"]
    assert (model.requests, result.pending) == ([], earlier.pending)


def test_without_approvals_the_call_is_told_to_be_unknown() -> None:
    """Somebody has written something else instead."""
    ran: list[str] = []
    _, _, history = waiting_run(ran)
    model = ScriptedModel("Fine.")
    more = (*history, Message("user", "Never mind."))
    rxllm.run(Agent(model, tools_of(ran), secret=b"s").stream(more))
    assert "not known" in model.requests[0].messages[3].text
    assert ran == ["look /x"]


@pytest.mark.parametrize("change", ["arguments", "secret", "answered", "made up"])
def test_an_approval_is_of_one_call_with_its_very_arguments(change: str) -> None:
    ran: list[str] = []
    _, result, history = waiting_run(ran)
    token = result.pending[0].token
    if change == "arguments":
        changed = msgspec.json.encode(history).replace(b"/x", b"/y")
        history = msgspec.json.decode(changed, type=tuple[Message, ...])
    elif change == "answered":
        history = (*history, Message("tool", "deleted", tool_call_id="a"))
    elif change == "made up":
        token = "made up"
    secret = b"t" if change == "secret" else b"s"
    agent = Agent(ScriptedModel("never"), tools_of(ran), secret=secret)
    with pytest.raises(BadRequestError, match="no call waits"):
        rxllm.run(agent.stream(history, approvals={token: True}))
    assert ran == ["look /x"]


def test_two_clicks_run_a_call_once() -> None:
    ran: list[str] = []
    claimed: set[str] = set()

    @tool(approval="ask")
    async def pay() -> str:
        ran.append("paid")
        await asyncio.sleep(1)
        return "paid"

    async def claim(token: str, context: ToolContext) -> bool:
        await asyncio.sleep(0)
        is_first = token not in claimed
        claimed.add(token)
        return is_first

    async def main() -> Any:
        _, result = await play(
            Agent(ScriptedModel(calling(("a", "pay", "{}"))), [pay]).stream("Go")
        )
        history = (Message("user", "Go"), *result.messages)
        agent = Agent(ScriptedModel("ok"), [pay], claim=claim)
        approvals = {result.pending[0].token: True}
        async with no_leaks():
            runs = [play(agent.stream(history, approvals=approvals)) for _ in range(2)]
            return [results_of(chunks)["a"].error for chunks, _ in await asyncio.gather(*runs)]

    first, second = run_virtual(main())
    assert (first, second.type, ran) == (None, "ClaimedError", ["paid"])


def test_a_function_decides_and_may_wait_for_somebody_in_this_process() -> None:
    """A person who thinks is no stall of the model."""

    async def main() -> Any:
        asked: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def policy(arguments: dict[str, Any], context: ToolContext) -> bool | str:
            return await asked if arguments["amount"] > 100 else "run"

        @tool(approval=policy)
        def pay(amount: int) -> str:
            return f"paid {amount}"

        asyncio.get_running_loop().call_later(30, asked.set_result, "too much")
        calls = [("a", "pay", '{"amount": 5}'), ("b", "pay", '{"amount": 500}')]
        agent = Agent(ScriptedModel(calling(*calls), "Done."), [pay])
        limits = ops.timeouts(first=5, between=5, total=100)
        return await play(agent.stream("Go").pipe(limits))

    chunks, _ = run_virtual(main())
    errors = {name: each.error for name, each in results_of(chunks).items()}
    denied = ErrorInfo("DeniedError", "the user has not allowed this: too much")
    assert errors == {"a": None, "b": denied}


def test_a_policy_that_asks_about_some_calls() -> None:
    def policy(arguments: dict[str, Any], context: ToolContext) -> str:
        return "ask" if arguments["amount"] > 100 else "run"

    @tool(approval=policy)
    def pay(amount: int) -> str:
        return f"paid {amount}"

    calls = [("a", "pay", '{"amount": 5}'), ("b", "pay", '{"amount": 500}')]
    agent = Agent(ScriptedModel(calling(*calls), "Done."), [pay])
    chunks, result = rxllm.run(play(agent.stream("Go")))
    assert [request.id for request in result.pending] == ["b"]
    history = (Message("user", "Go"), *result.messages)
    chunks, result = rxllm.run(
        play(agent.stream(history, approvals={result.pending[0].token: True}))
    )
    assert (results_of(chunks)["b"].output, result.text) == ("paid 500", "Done.")


def test_an_approval_inside_a_tool_is_told_to_be_impossible() -> None:
    @tool(approval="ask")
    def wipe() -> str:
        return "wiped"

    inner = Agent(ScriptedModel(calling(("x", "wipe", "{}"))), [wipe])
    model = ScriptedModel(calling(("p", "sub", '{"task": "go"}')), "No.")
    chunks, result = rxllm.run(play(Agent(model, [inner.as_tool("sub", "s")]).stream("Go")))
    assert "approval" in model.requests[1].messages[-1].text
    assert result.text == "No."
    assert not any(isinstance(chunk, ApprovalRequest) for chunk in chunks)


def test_no_other_conversation_has_the_token_of_a_call_that_can_be_claimed() -> None:
    """Some models call by the same ids everywhere."""
    claimed: set[str] = set()

    def claim(token: str, context: ToolContext) -> bool:
        is_first = token not in claimed
        claimed.add(token)
        return is_first

    for _ in ("ann", "bob"):
        ran: list[str] = []
        agent = Agent(ScriptedModel(ASK, "Done."), tools_of(ran), claim=claim)
        result = rxllm.run(agent.stream("Delete /x"))
        history = (Message("user", "Delete /x"), *result.messages)
        approvals = {result.pending[0].token: True}
        assert rxllm.run(agent.stream(history, approvals=approvals)).text == "Done."
        assert ran == ["look /x", "delete /x"]
        assert [each.tool_call_id for each in result.messages if each.role == "tool"] == ["b"]
