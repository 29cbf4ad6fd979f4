"""Let an Anthropic model call a tool, and send the result back."""

import os

import rxllm
from rxllm import Message, Tool, ToolCall
from rxllm.testing.fault_server import FaultServer, Reply
from rxllm.testing.provider_streams import anthropic_event, anthropic_events

NAME = "anthropic/claude-haiku-4-5"
WEATHER = Tool(
    "weather",
    "Get the current weather at a place",
    {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
)


def keep(call: ToolCall, calls: list[ToolCall]) -> None:
    """A chunk arrives each time the arguments grow; the last one is complete."""
    if call.complete:
        calls.append(call)


async def show(model: rxllm.Model) -> None:
    messages = [Message("user", "How is the weather in Oslo?")]
    asked = model.stream(messages, tools=[WEATHER])
    calls: list[ToolCall] = await rxllm.sinks.dispatch(asked, {ToolCall: keep}, [])
    for call in calls:
        print("calls:", call.name, call.arguments)
    messages += [
        Message("assistant", "", tool_calls=tuple(calls)),
        *(Message("tool", "snow, -4 degrees", tool_call_id=call.id) for call in calls),
    ]
    await rxllm.sinks.console(model.stream(messages, tools=[WEATHER]))


def tool_call_events() -> list[bytes]:
    """Return the events of an answer that calls the tool."""
    start, *_ = anthropic_events()
    block = {"type": "tool_use", "id": "call-1", "name": "weather", "input": {}}
    delta = {"type": "input_json_delta", "partial_json": '{"place": "Oslo"}'}
    return [
        start,
        anthropic_event("content_block_start", index=0, content_block=block),
        anthropic_event("content_block_delta", index=0, delta=delta),
        anthropic_event("content_block_stop", index=0),
        anthropic_event("message_delta", delta={"stop_reason": "tool_use"}),
        anthropic_event("message_stop"),
    ]


async def main() -> None:
    if os.environ.get("ANTHROPIC_API_KEY"):
        await show(rxllm.model(NAME))
        return
    print("ANTHROPIC_API_KEY is not set, so a local server stands in for Anthropic")
    answer = anthropic_events("It snows", " in Oslo.")
    async with FaultServer(Reply(tool_call_events()), Reply(answer)) as server:
        await show(rxllm.model(NAME, api_key="none", base_url=server.url))


rxllm.run(main())
