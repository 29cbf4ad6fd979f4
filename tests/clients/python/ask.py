"""Asks a server as one of other people's clients does, and prints what it got as JSON.

    python ask.py CLIENT URL

Each function is what the documentation of the client shows for a server with OpenAI's API.
"""

import asyncio
import json
import os
import sys
from typing import Any

MODEL = "tiny"
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


def litellm(url: str) -> Any:
    import litellm as client

    client.suppress_debug_info = True
    ask: dict[str, Any] = {
        "model": f"openai/{MODEL}",
        "api_base": f"{url}/v1",
        "api_key": "none",
        "messages": [{"role": "user", "content": "Hi"}],
    }
    whole = client.completion(**ask).choices[0].message.content
    parts = [part.choices[0].delta.content or "" for part in client.completion(**ask, stream=True)]
    called = client.completion(**{**ask, "model": "openai/caller"}, tools=[TOOL])
    call = called.choices[0].message.tool_calls[0].function
    claude = client.completion(
        **{**ask, "model": f"anthropic/{MODEL}", "api_base": url}, max_tokens=50
    )
    try:
        client.completion(**{**ask, "model": "openai/small"})
        failure = ""
    except client.ContextWindowExceededError as error:
        failure = type(error).__name__
    return {
        "whole": whole,
        "streamed": "".join(parts),
        "call": [call.name, json.loads(call.arguments)],
        "anthropic": claude.choices[0].message.content,
        "too long": failure,
    }


def langchain(url: str) -> Any:
    from langchain_anthropic import ChatAnthropic
    from langchain_openai import ChatOpenAI
    from pydantic import BaseModel

    class Record(BaseModel):
        city: str

    chat = ChatOpenAI(model=MODEL, base_url=f"{url}/v1", api_key="none")
    caller = ChatOpenAI(model="caller", base_url=f"{url}/v1", api_key="none")
    structured = caller.with_structured_output(Record, method="function_calling")
    claude = ChatAnthropic(model=MODEL, base_url=url, api_key="none", max_tokens=50)
    responses = ChatOpenAI(
        model=MODEL, base_url=f"{url}/v1", api_key="none", use_responses_api=True
    )
    return {
        "whole": chat.invoke("Hi").content,
        "streamed": "".join(part.content for part in chat.stream("Hi")),
        "structured": structured.invoke("Hi").city,
        "anthropic": "".join(part.text for part in claude.stream("Hi")),
        "responses": "".join(part.text for part in responses.stream("Hi")),
    }


def pydantic_ai(url: str) -> Any:
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
    from pydantic_ai.providers.openai import OpenAIProvider

    provider = OpenAIProvider(base_url=f"{url}/v1", api_key="none")
    agent = Agent(OpenAIChatModel(MODEL, provider=provider))
    other = Agent(OpenAIResponsesModel(MODEL, provider=provider))
    caller = Agent(OpenAIChatModel("caller", provider=provider))
    seen: list[str] = []

    @caller.tool_plain
    def weather(city: str) -> str:
        seen.append(city)
        return "snow"

    async def streamed() -> str:
        async with agent.run_stream("Hi") as result:
            return "".join([part async for part in result.stream_text(delta=True)])

    return {
        "whole": agent.run_sync("Hi").output,
        "streamed": asyncio.run(streamed()),
        "responses": other.run_sync("Hi").output,
        "answer": caller.run_sync("Hi").output,
        "called": seen,
    }


def instructor(url: str) -> Any:
    import instructor as client
    from openai import OpenAI
    from pydantic import BaseModel

    class weather(BaseModel):  # noqa: N801 - the name of the tool
        city: str

    sdk = OpenAI(base_url=f"{url}/v1", api_key="none")
    found = {}
    for mode, model in ((client.Mode.TOOLS, "caller"), (client.Mode.JSON, "json")):
        asked = client.from_openai(sdk, mode=mode).chat.completions.create(
            model=model,
            response_model=weather,
            messages=[{"role": "user", "content": "Hi"}],
            max_retries=1,
        )
        found[mode.value] = asked.city
    return found


def llm(url: str) -> Any:
    from llm.default_plugins.openai_models import Chat

    model = Chat(MODEL, model_name=MODEL, api_base=f"{url}/v1")
    model.needs_key = None
    streamed = list(model.prompt("Hi"))
    return {"streamed": "".join(streamed), "pieces": len(streamed) > 1}


if __name__ == "__main__":
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    print(json.dumps(globals()[sys.argv[1]](sys.argv[2])))
