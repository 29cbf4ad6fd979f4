"""Use any server with OpenAI's API: llama.cpp's, vLLM, Ollama."""

import os

import rxllm
from rxllm.testing.fault_server import FaultServer, Reply
from rxllm.testing.provider_streams import openai_events


async def main() -> None:
    if os.environ.get("OPENAI_COMPATIBLE_BASE_URL"):
        await rxllm.sinks.console(rxllm.model("openai_compatible/default").stream("Hello!"))
        return
    print("OPENAI_COMPATIBLE_BASE_URL is not set, so a local server answers")
    async with FaultServer(Reply(openai_events("Hello", " yourself!"))) as server:
        model = rxllm.model("openai_compatible/default", base_url=server.url)
        await rxllm.sinks.console(model.stream("Hello!"))


rxllm.run(main())
