"""`Run` of `rxllm.js`: the same text, tools and messages as `Transcript` has of the same chunks."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

import rxllm
from rxllm.chunks import (
    ApprovalRequest,
    Batch,
    Chunk,
    End,
    ErrorInfo,
    Notice,
    ProviderState,
    Reasoning,
    Start,
    Steering,
    Token,
    ToolCall,
    ToolResult,
)
from rxllm.messages import Message
from rxllm.models.scripted import ScriptedModel
from rxllm.server.app import create_app
from rxllm.transcript import Transcript
from tests.server.page.conftest import Library
from tests.server.page.test_node import in_node
from tests.server.serving import port_of, serving

pytestmark = pytest.mark.asyncio(loop_scope="session")

STATE = ProviderState("provider", "model", "signature")
FOLD = """
  return given.map((chunks) => {
    const run = new rxllm.Run();
    for (const [position, chunk] of chunks.entries()) {
      run.take({ type: "chunk", position: position + 1, chunk });
    }
    const { text, step, messages, tools } = run;
    return { text, step, messages, pending: run.pending.map(({ token }) => token), tools };
  });
"""


async def folded(in_browser: Library, *runs: list[Chunk]) -> list[Any]:
    found: list[Any] = await in_browser(FOLD, [msgspec.to_builtins(chunks) for chunks in runs])
    return found


def content_of(dice: random.Random) -> Iterator[Chunk]:
    for _ in range(dice.randrange(5)):
        kinds: list[Chunk] = [
            Token(dice.choice("abc")),
            Reasoning(dice.choice("xyz")),
            Batch((Token("d"), Reasoning("w")), "d"),
            Token("", state=STATE),
            Reasoning("", state=STATE),
            Notice("retry"),
        ]
        yield dice.choice(kinds)


def a_run(dice: random.Random) -> Iterator[Chunk]:
    """Answers with calls, their results in any order, and restarts at any place of an answer."""
    for step in range(1, dice.randrange(2, 5)):
        for attempt in range(dice.choice([1, 1, 2])):
            if attempt:
                yield Notice("restart")
            yield Start("r", "m")
            yield from content_of(dice)
            calls = [ToolCall(f"{step}-{n}", "f", "{}", n) for n in range(dice.randrange(1, 3))]
            for call in calls:
                yield call
                arguments = dice.choice(['{"a":1}', "no object"])
                yield msgspec.structs.replace(call, arguments=arguments, complete=True)
                yield from content_of(dice)
        yield End("tool_calls", more=True)
        for call in dice.sample(calls, len(calls)):
            yield ToolResult(call.id, "f", "so far", preliminary=True)
            yield Token("inside", source=call.id)
            if dice.random() < 0.3:
                yield Notice("restart", source=call.id)
            output = dice.choice(["text", {"a": [1, None]}, None])
            error = dice.choice([None, None, ErrorInfo("ToolError", "no")])
            yield ToolResult(call.id, "f", None if error else output, error)
        if dice.random() < 0.3:
            yield Steering("Be brief.")
    yield Start("r", "m")
    yield from content_of(dice)
    if dice.random() < 0.7:
        yield End("stop")


async def test_a_run_is_folded_as_a_transcript_is(in_browser: Library) -> None:
    runs = [list(a_run(random.Random(seed))) for seed in range(300)]
    found = await folded(in_browser, *runs)
    for chunks, run in zip(runs, found, strict=True):
        expected = Transcript()
        for chunk in chunks:
            expected.add(chunk)
        messages = tuple(msgspec.convert(each, Message) for each in run["messages"])
        assert (run["text"], run["step"]) == (expected.text, expected.steps)
        assert messages == expected.messages


CALL = ToolCall("1", "f", '{"a": 1}', complete=True)


@pytest.mark.parametrize(
    ("chunks", "tool"),
    [
        ([ToolCall("1", "f", '{"a"')], {"state": "calling", "arguments": '{"a"'}),
        ([CALL, End("tool_calls", more=True)], {"state": "running", "arguments": '{"a": 1}'}),
        (
            [CALL, End("tool_calls", more=True), ToolResult("1", "f", 3, preliminary=True)],
            {"state": "running", "output": 3},
        ),
        (
            [CALL, End("tool_calls", more=True), ToolResult("1", "f", [3])],
            {"state": "done", "output": [3]},
        ),
        (
            [
                CALL,
                End("tool_calls", more=True),
                ToolResult("1", "f", error=ErrorInfo("ToolError", "no")),
            ],
            {"state": "failed", "error": {"type": "ToolError", "message": "no"}},
        ),
        (
            [
                CALL,
                End("tool_calls", more=True),
                ToolResult("1", "f", error=ErrorInfo("DeniedError", "no")),
            ],
            {"state": "denied"},
        ),
        (
            [
                CALL,
                End("tool_calls", more=True),
                ApprovalRequest("1", "t", "it is dear"),
                End("tool_calls"),
            ],
            {"state": "waiting", "token": "t", "reason": "it is dear"},
        ),
        ([CALL, End("tool_calls")], {"state": "open"}),
        ([CALL, End("tool_calls", more=True), End("cancelled")], {"state": "open"}),
    ],
)
async def test_a_call_has_a_state(
    in_browser: Library, chunks: list[Chunk], tool: dict[str, Any]
) -> None:
    [run] = await folded(in_browser, [Start("r", "m"), *chunks])
    [found] = run["tools"]
    assert (found["id"], found["name"]) == ("1", "f")
    assert tool.items() <= found.items()


async def test_a_restart_takes_back_the_answer_under_way_alone(in_browser: Library) -> None:
    chunks: list[Chunk] = [
        *(Token("First."), CALL, End("tool_calls", more=True), ToolResult("1", "f", 3)),
        *(Start("r", "m"), Token("wrong"), ToolCall("2", "g", "{}"), Notice("restart")),
        Token("Second."),
    ]
    [run] = await folded(in_browser, chunks)
    assert run["text"] == "Second."
    assert [tool["id"] for tool in run["tools"]] == ["1"]
    assert [each.get("content") for each in run["messages"]] == ["First.", "3", "Second."]


async def test_a_stream_that_begins_again_drops_all_but_what_it_continues(
    in_browser: Library,
) -> None:
    """A server that has another stream under the id, or a connection that starts it once more."""
    found = await in_browser(
        """
        const first = new rxllm.Run();
        const chunk = (chunk, position = 1) => ({ type: "chunk", position, chunk });
        first.take(chunk({ type: "token", text: "First." }));
        first.take(chunk(
          { type: "tool_call", id: "1", name: "f", arguments: "{}", complete: true },
        ));
        first.take(chunk({ type: "end", finishReason: "tool_calls", more: true }));
        first.take(chunk({ type: "approval_request", id: "1", token: "t" }));
        first.take(chunk({ type: "end", finishReason: "tool_calls" }));
        const run = first.continued({ t: true });
        const seen = [run.tools[0].state];
        run.take(chunk({ type: "tool_result", id: "1", name: "f", output: 3 }));
        run.take(chunk({ type: "start" }));
        run.take(chunk({ type: "token", text: "Second." }));
        seen.push(run.tools[0].state, run.messages.map(({ content }) => content));
        run.take(chunk({ type: "notice", kind: "restart" }, 0));
        seen.push(run.tools[0].state, run.messages.map(({ content }) => content));
        const copy = new rxllm.Run(JSON.parse(JSON.stringify(run)));
        return [...seen, first.tools[0].state, copy.tools[0].state];
        """
    )
    assert found == [
        *("running", "done", ["First.", "3", "Second."]),
        *("running", ["First."], "waiting", "running"),
    ]


async def test_a_run_inside_a_tool_is_a_run_of_its_call(in_browser: Library) -> None:
    chunks: list[Chunk] = [
        *(CALL, End("tool_calls", more=True), Token("deep", source="1")),
        *(ToolCall("x", "g", "{}", complete=True, source="1"),),
        *(End("tool_calls", more=True, source="1"), Token("deeper", source="1/x")),
        *(ToolResult("x", "g", 5, source="1"), Token("Out.", source="1")),
        ToolResult("1", "f", "Out."),
    ]
    [run] = await folded(in_browser, chunks)
    [tool] = run["tools"]
    inner = {part["type"]: part for part in tool["run"]["parts"]}
    assert [part["type"] for part in tool["run"]["parts"]] == ["text", "tool", "text"]
    assert inner["tool"]["output"] == 5
    assert inner["tool"]["run"]["parts"][0]["text"] == "deeper"
    assert run["text"] == ""


async def test_a_program_continues_a_run_after_an_approval(tmp_path: Any) -> None:
    """Over HTTP and over a WebSocket, and what it sends is what the agent takes."""
    done: list[str] = []

    @rxllm.tool(approval="ask")
    def pay(usd: int) -> str:
        done.append(f"{usd} USD")
        return "paid"

    calling: list[Chunk] = [ToolCall("1", "pay", '{"usd": 5}', complete=True), End("tool_calls")]
    agent = rxllm.Agent(ScriptedModel(calling, "Thanks.", calling, "Fine."), [pay], secret=b"k")
    program = """
    import { Client } from "./rxllm.mjs";
    const client = new Client({ base: process.argv[2] });
    const conversation = [{ role: "user", content: "Pay." }];
    const seen = [];
    for (const decision of [true, "too dear"]) {
      const { run } = await read(client.stream({ messages: conversation }));
      const [{ token }] = run.pending;
      const approvals = { [token]: decision };
      const messages = [...conversation, ...run.messages];
      const next = run.continued(approvals);
      await read(client.stream({ messages, approvals }), next);
      seen.push([next.tools[0].state, next.text, next.messages.map(({ role }) => role)]);
    }
    async function read(stream, run) {
      for await (const message of stream) run?.take(message);
      return stream;
    }
    console.log(JSON.stringify(seen));
    """
    async with serving(create_app({"agent": agent})) as client:
        found = await in_node(tmp_path, program, f"http://127.0.0.1:{port_of(client)}")
    roles = ["assistant", "tool", "assistant"]
    assert found == [["done", "Thanks.", roles], ["denied", "Fine.", roles]]
    assert done == ["5 USD"]
