"""Measure a fast stream from Groq."""

import os

import rxllm
from rxllm import operators as ops
from rxllm.operators import Measurement
from rxllm.testing.fault_server import FaultServer, Reply
from rxllm.testing.provider_streams import openai_events

NAME = "groq/llama-3.3-70b-versatile"


def report(measured: Measurement) -> None:
    rate = measured.tokens_per_second or 0.0
    print(f"{measured.outcome}: {measured.tokens} tokens, {rate:.0f} per second")
    print(f"first token after {measured.time_to_first_token} s, {measured.intervals}")


async def show(model: rxllm.Model) -> None:
    await rxllm.sinks.console(model.stream("Count to fifty").pipe(ops.measure(report)))


async def main() -> None:
    if os.environ.get("GROQ_API_KEY"):
        await show(rxllm.model(NAME))
        return
    print("GROQ_API_KEY is not set, so a local server stands in for Groq")
    numbers = [f"{number} " for number in range(1, 51)]
    async with FaultServer(Reply(openai_events(*numbers), interval=0.001)) as server:
        await show(rxllm.model(NAME, api_key="none", base_url=server.url))


rxllm.run(main())
