"""A chat completion over HTTP, CPU time of the client: beside a hand-written loop and other SDKs.

All clients are warm: one event loop and one session each, for all rounds. The server writes one
event or sixteen at a time, and the reads of the client are counted: a round in which they were
merged is measured again.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import cache
from typing import TypeAlias

import aiohttp
import msgspec
from aiohttp.client_proto import ResponseHandler

import rxllm
from rxllm import operators as ops
from tests.benchmarks.chat_server import chat_server, text_of, writes_of
from tests.benchmarks.side_by_side import Measure, Result, Row, compare, compare_all, cost_of

Ask: TypeAlias = Callable[[str], Awaitable[str]]
"""Reads one answer from a server whose base URL it is given, and returns the text."""

Client: TypeAlias = Callable[[], AbstractAsyncContextManager[Ask]]

TOKENS = 2_000
ANSWERS = 25
MOST_TRIES = 5


class Delta(msgspec.Struct):
    content: str | None = None


class Choice(msgspec.Struct):
    delta: Delta


class Event(msgspec.Struct):
    choices: list[Choice]


@asynccontextmanager
async def by_hand() -> AsyncIterator[Ask]:
    """As one would write it: no errors, no tools, no demand, and events in one form."""
    decode = msgspec.json.Decoder(Event).decode

    async with aiohttp.ClientSession() as session:

        async def ask(url: str) -> str:
            said: list[str] = []
            async with session.post(f"{url}/chat/completions", json={"messages": []}) as response:
                rest = b""
                async for data in response.content.iter_any():
                    *blocks, rest = (rest + data).split(b"\n\n")
                    for block in blocks:
                        if block.startswith(b"data: ") and block != b"data: [DONE]":
                            for choice in decode(block[6:]).choices:
                                if choice.delta.content:
                                    said.append(choice.delta.content)
            return "".join(said)

        yield ask


@cache
def model_at(url: str) -> rxllm.Model:
    return rxllm.model("openai/gpt", api_key="none", base_url=url)


@asynccontextmanager
async def bare() -> AsyncIterator[Ask]:
    """A stream into a `Result`, without operators."""

    async def ask(url: str) -> str:
        return (await rxllm.sinks.collect(model_at(url).stream("Hi"))).text

    yield ask


@asynccontextmanager
async def pipe_of_five() -> AsyncIterator[Ask]:
    """The operators that most applications need."""

    async def ask(url: str) -> str:
        model = model_at(url)
        stream = model.stream("Hi").pipe(
            ops.timeouts(first=10, between=5, total=300),
            ops.retry_with_backoff(3),
            ops.fallback_to(model.stream("Hi")),
            ops.stop_on("\nHuman:", "\nAssistant:"),
            ops.measure(lambda _: None),
        )
        return (await rxllm.sinks.collect(stream)).text

    yield ask


@asynccontextmanager
async def by_the_openai_sdk() -> AsyncIterator[Ask]:
    import openai

    async with openai.AsyncOpenAI(api_key="none", base_url="http://127.0.0.1") as client:

        async def ask(url: str) -> str:
            said: list[str] = []
            stream = await client.with_options(base_url=url).chat.completions.create(
                model="gpt", messages=[{"role": "user", "content": "Hi"}], stream=True
            )
            async for chunk in stream:
                for choice in chunk.choices:
                    said.append(choice.delta.content or "")
            return "".join(said)

        yield ask


@asynccontextmanager
async def by_langchain() -> AsyncIterator[Ask]:
    from langchain_openai import ChatOpenAI
    from pydantic import SecretStr

    async def ask(url: str) -> str:
        model = ChatOpenAI(model="gpt", base_url=url, api_key=SecretStr("none"))
        return "".join([str(chunk.content) async for chunk in model.astream("Hi")])

    yield ask


@asynccontextmanager
async def by_litellm() -> AsyncIterator[Ask]:
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else it asks the network
    import litellm

    async def ask(url: str) -> str:
        stream = await litellm.acompletion(
            model="openai/gpt",
            api_base=url,
            api_key="none",
            messages=[{"role": "user", "content": "Hi"}],
            stream=True,
        )
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    yield ask


OTHERS: dict[str, tuple[str, Client]] = {
    "openai": ("the openai SDK", by_the_openai_sdk),
    "langchain_openai": ("LangChain", by_langchain),
    "litellm": ("LiteLLM", by_litellm),
}
"""By the module that has to be installed."""


class Bench:
    """One event loop with the clients that were opened in it, and a count of what they read."""

    def __init__(self, runner: asyncio.Runner, address: str) -> None:
        self._runner = runner
        self._address = address
        self._opened = AsyncExitStack()
        self._reads = 0

    def open(self, client: Client) -> Ask:
        return self._runner.run(self._opened.enter_async_context(client()))

    def close(self) -> None:
        self._runner.run(self._opened.aclose())

    def count_reads(self) -> None:
        """Count each read of aiohttp's client. It costs all clients the same 0.1 us."""
        receive = ResponseHandler.data_received

        def counted(protocol: ResponseHandler, data: bytes) -> None:
            self._reads += 1
            receive(protocol, data)

        ResponseHandler.data_received = counted  # type: ignore[assignment]

    def tokens(self, ask: Ask, events_a_read: int) -> Measure:
        """The cost of a token, in an answer of `TOKENS`."""
        url, expected = f"{self._address}/{TOKENS}/{events_a_read}", text_of(TOKENS)
        reads = len(writes_of(TOKENS, events_a_read))

        async def listen() -> None:
            assert await ask(url) == expected

        def measure() -> float:
            for _ in range(MOST_TRIES):
                self._reads = 0
                cost = cost_of(lambda: self._runner.run(listen()), TOKENS)
                if not self._reads or self._reads >= 0.95 * reads:  # another HTTP client: 0
                    return cost
            print(f"{self._reads} reads in place of {reads}: a busy machine", file=sys.stderr)
            return cost

        return measure

    def starts(self, ask: Ask) -> Measure:
        """The cost of an answer of one token."""
        url, expected = f"{self._address}/1/1", text_of(1)

        async def listen() -> None:
            for _ in range(ANSWERS):
                assert await ask(url) == expected

        return lambda: cost_of(lambda: self._runner.run(listen()), ANSWERS)


def _beside_by_hand(bench: Bench, hand: Ask, plain: Ask, pipe: Ask) -> Iterator[Result]:
    # Short turns and many of them: other load then comes and goes within a turn or two.
    for name, events, limit, rounds in (
        ("one event", 1, 1.5, 11),
        ("sixteen events", 16, 2.0, 51),
    ):
        yield from compare_all(
            [
                Row(f"bare stream, {name} a read", bench.tokens(plain, events), limit),
                Row(f"pipe of five, {name} a read", bench.tokens(pipe, events), limit),
            ],
            bench.tokens(hand, events),
            unit="us a token",
            rounds=rounds,
        )
    yield from compare_all(
        [
            Row("start of a bare stream: an answer of one token", bench.starts(plain), 2.0),
            Row("start of the pipe of five", bench.starts(pipe), 3.0),
        ],
        bench.starts(hand),
        unit="us an answer",
        rounds=51,
    )


def benchmarks() -> Iterator[Result]:
    with asyncio.Runner() as runner, chat_server() as address:
        bench = Bench(runner, address)
        bench.count_reads()
        hand, plain, pipe = (bench.open(client) for client in (by_hand, bare, pipe_of_five))
        yield from _beside_by_hand(bench, hand, plain, pipe)
        for module, (name, client) in OTHERS.items():
            if importlib.util.find_spec(module):
                yield compare(
                    f"{name} beside the pipe of five, sixteen events a read",
                    bench.tokens(bench.open(client), 16),
                    bench.tokens(pipe, 16),
                    unit="us a token",
                    limit=3,
                    kind="at least",
                    rounds=3,
                )
        bench.close()
