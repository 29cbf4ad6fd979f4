"""A chat completion over HTTP, CPU time a token: beside a hand-written loop and other clients."""

from __future__ import annotations

import asyncio
import importlib.util
import os
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeAlias

import aiohttp
import msgspec

import rxllm
from rxllm import operators as ops
from tests.benchmarks.chat_server import TEXTS, TOKENS, chat_server
from tests.benchmarks.side_by_side import Result, compare, cost_of

Client: TypeAlias = Callable[[str], Awaitable[str]]
"""Reads one answer from a server whose URL it is given, and returns the text."""

TEXT = "".join(TEXTS)


class Delta(msgspec.Struct):
    content: str | None = None


class Choice(msgspec.Struct):
    delta: Delta


class Event(msgspec.Struct):
    choices: list[Choice]


async def by_hand(url: str) -> str:
    """As one would write it: no errors, no tools, no demand, and events in one form."""
    decode = msgspec.json.Decoder(Event).decode
    said: list[str] = []
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{url}/chat/completions", json={"messages": []}) as response,
    ):
        rest = b""
        async for data in response.content.iter_any():
            *blocks, rest = (rest + data).split(b"\n\n")
            for block in blocks:
                if block.startswith(b"data: ") and block != b"data: [DONE]":
                    for choice in decode(block[6:]).choices:
                        if choice.delta.content:
                            said.append(choice.delta.content)
    return "".join(said)


_pool = ops.Pool(limit=10)
_registry = ops.StreamRegistry()


async def by_us(url: str) -> str:
    """With what the hand-written loop leaves out, and seven operators."""
    model = rxllm.model("openai/gpt", api_key="none", base_url=url)
    stream = model.stream("Hi").pipe(
        ops.timeouts(first=10, between=5, total=300),
        ops.pooled(_pool),
        ops.retry_with_backoff(3),
        ops.fallback_to(model.stream("Hi")),
        ops.stop_on("\nHuman:"),
        ops.tracked(_registry),
        ops.measure(lambda _: None),
    )
    return (await rxllm.sinks.collect(stream)).text


async def by_the_openai_sdk(url: str) -> str:
    import openai

    said: list[str] = []
    async with openai.AsyncOpenAI(api_key="none", base_url=url) as client:
        stream = await client.chat.completions.create(
            model="gpt", messages=[{"role": "user", "content": "Hi"}], stream=True
        )
        async for chunk in stream:
            for choice in chunk.choices:
                said.append(choice.delta.content or "")
    return "".join(said)


async def by_langchain(url: str) -> str:
    from langchain_openai import ChatOpenAI
    from pydantic import SecretStr

    model = ChatOpenAI(model="gpt", base_url=url, api_key=SecretStr("none"))
    return "".join([str(chunk.content) async for chunk in model.astream("Hi")])


async def by_litellm(url: str) -> str:
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else it asks the network
    import litellm

    stream = await litellm.acompletion(
        model="openai/gpt",
        api_base=url,
        api_key="none",
        messages=[{"role": "user", "content": "Hi"}],
        stream=True,
    )
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])


OTHERS: dict[str, tuple[str, Client]] = {
    "openai": ("the openai SDK", by_the_openai_sdk),
    "langchain_openai": ("LangChain", by_langchain),
    "litellm": ("LiteLLM", by_litellm),
}
"""By the module that has to be installed."""


def measured(client: Client, url: str) -> Callable[[], float]:
    """The cost of one stream, and a check that it was heard."""

    async def listen() -> None:
        assert await client(url) == TEXT

    return lambda: cost_of(lambda: asyncio.run(listen()), TOKENS)


def benchmarks() -> Iterator[Result]:
    with chat_server() as url:
        yield compare(
            "OpenAI-style stream through timeouts, pool, retry, fallback, stop_on, registry and "
            "measure to a sink, beside a bare loop",
            measured(by_us, url),
            measured(by_hand, url),
            unit="us a token",
            limit=1.5,
            kind="at most",
        )
        for module, (name, client) in OTHERS.items():
            if importlib.util.find_spec(module):
                yield compare(
                    f"{name}, beside that",
                    measured(client, url),
                    measured(by_us, url),
                    unit="us a token",
                    limit=3,
                    kind="at least",
                    rounds=3,
                )
