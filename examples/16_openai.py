"""Stream from OpenAI, and calculate the cost of the answer."""

import os

import rxllm
from rxllm import operators as ops
from rxllm.testing.fault_server import FaultServer, Reply
from rxllm.testing.provider_streams import openai_events

NAME = "openai/gpt-4o-mini"


async def show(model: rxllm.Model) -> None:
    stream = model.stream("Greet me in one line", temperature=0)
    result = await rxllm.sinks.console(stream.pipe(ops.price()))
    print(result.model, result.usage and result.usage.cost, "USD")


async def main() -> None:
    if os.environ.get("OPENAI_API_KEY"):
        await show(rxllm.model(NAME))
        return
    print("OPENAI_API_KEY is not set, so a local server stands in for OpenAI")
    answer = openai_events("Hello", ", ", "human", "!", model="gpt-4o-mini-2024-07-18")
    async with FaultServer(Reply(answer)) as server:
        await show(rxllm.model(NAME, api_key="none", base_url=server.url))


rxllm.run(main())
