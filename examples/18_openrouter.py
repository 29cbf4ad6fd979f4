"""Stream from OpenRouter, with the reported cost and a mid-stream error.

The class of the error tells whether a retry may help, and the error keeps the text so far.
"""

import os

import rxllm
from rxllm.testing.fault_server import FaultServer, Reply
from rxllm.testing.provider_streams import openai_event, openai_events

NAME = "openrouter/openai/gpt-4o-mini"
COMMENT = b": OPENROUTER PROCESSING\n\n"


async def show(model: rxllm.Model) -> None:
    for _ in range(2):
        try:
            result = await model.stream("Greet me in one line")
        except rxllm.RxLLMError as error:
            print(f"{type(error).__name__} after {error.partial!r}, retryable: {error.retryable}")
        else:
            print(repr(result.text), "cost:", result.usage and result.usage.cost)


async def main() -> None:
    if os.environ.get("OPENROUTER_API_KEY"):
        await show(rxllm.model(NAME))
        return
    print("OPENROUTER_API_KEY is not set, so a local server stands in for OpenRouter")
    error = openai_event(error={"code": 502, "message": "Provider disconnected"}, choices=[])
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "cost": 0.000012}
    *text, done = openai_events("Good ", "morning!", usage=False)
    async with FaultServer(
        Reply([COMMENT, text[0], error]),
        Reply([COMMENT, *text, openai_event(choices=[], usage=usage), done]),
    ) as server:
        await show(rxllm.model(NAME, api_key="none", base_url=server.url))


rxllm.run(main())
