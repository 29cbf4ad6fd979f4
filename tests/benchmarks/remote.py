"""A chat completion over HTTP: CPU time of the client vs a hand-written loop and other SDKs.

All clients are warm: each has one event loop and one session for all rounds. The server writes one
event or sixteen at a time. The client's reads are counted, and a round in which writes were merged
is measured again.
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
"""Reads one answer from the server with the given base URL, and returns the text."""

Client: TypeAlias = Callable[[], AbstractAsyncContextManager[Ask]]

TOKENS = 2_000
ANSWERS = 25
MAX_TRIES = 5


class Delta(msgspec.Struct):
    content: str | None = None


class Choice(msgspec.Struct):
    delta: Delta


class Event(msgspec.Struct):
    choices: list[Choice]


@asynccontextmanager
async def by_hand() -> AsyncIterator[Ask]:
    """A hand-written client: no errors, no tools, no demand, and a single form of events."""
    decode = msgspec.json.Decoder(Event).decode

    async with aiohttp.ClientSession() as session:

        async def ask(url: str) -> str:
            texts: list[str] = []
            async with session.post(f"{url}/chat/completions", json={"messages": []}) as response:
                rest = b""
                async for data in response.content.iter_any():
                    *blocks, rest = (rest + data).split(b"\n\n")
                    for block in blocks:
                        if block.startswith(b"data: ") and block != b"data: [DONE]":
                            for choice in decode(block[6:]).choices:
                                if choice.delta.content:
                                    texts.append(choice.delta.content)
            return "".join(texts)

        yield ask


@cache
def model_at(url: str) -> rxllm.Model:
    return rxllm.model("openai/gpt", api_key="none", base_url=url)


@asynccontextmanager
async def bare() -> AsyncIterator[Ask]:
    """A stream collected into a `Result`, without operators."""

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
            texts: list[str] = []
            stream = await client.with_options(base_url=url).chat.completions.create(
                model="gpt", messages=[{"role": "user", "content": "Hi"}], stream=True
            )
            async for chunk in stream:
                for choice in chunk.choices:
                    texts.append(choice.delta.content or "")
            return "".join(texts)

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
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else it uses the network
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
"""By the module that must be installed."""


class Bench:
    """An event loop with the clients opened in it, and a count of their reads."""

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
        """Count each read of aiohttp's client, at the same cost of 0.1 us for all clients."""
        receive = ResponseHandler.data_received

        def counted(protocol: ResponseHandler, data: bytes) -> None:
            self._reads += 1
            receive(protocol, data)

        ResponseHandler.data_received = counted  # type: ignore[assignment]

    def tokens(self, ask: Ask, events_per_read: int) -> Measure:
        """Return the measure of the cost per token, in an answer of `TOKENS`."""
        url, expected = f"{self._address}/{TOKENS}/{events_per_read}", text_of(TOKENS)
        reads = len(writes_of(TOKENS, events_per_read))

        async def listen() -> None:
            assert await ask(url) == expected

        def measure() -> float:
            for _ in range(MAX_TRIES):
                self._reads = 0
                cost = cost_of(lambda: self._runner.run(listen()), TOKENS)
                if not self._reads or self._reads >= 0.95 * reads:  # another HTTP client: 0
                    return cost
            print(f"{self._reads} reads instead of {reads}: the machine is busy", file=sys.stderr)
            return cost

        return measure

    def starts(self, ask: Ask) -> Measure:
        """Return the measure of the cost of an answer of one token."""
        url, expected = f"{self._address}/1/1", text_of(1)

        async def listen() -> None:
            for _ in range(ANSWERS):
                assert await ask(url) == expected

        return lambda: cost_of(lambda: self._runner.run(listen()), ANSWERS)


def _compare_with_hand_written(bench: Bench, hand: Ask, plain: Ask, pipe: Ask) -> Iterator[Result]:
    # Many short rounds, so that a burst of other load affects only one or two of them.
    for name, events, limit, rounds in (
        ("one event", 1, 1.5, 11),
        ("sixteen events", 16, 2.0, 51),
    ):
        yield from compare_all(
            [
                Row(f"bare stream, {name} per read", bench.tokens(plain, events), limit),
                Row(f"pipe of five, {name} per read", bench.tokens(pipe, events), limit),
            ],
            bench.tokens(hand, events),
            unit="us per token",
            rounds=rounds,
        )
    yield from compare_all(
        [
            Row("start of a bare stream: an answer of one token", bench.starts(plain), 2.0),
            Row("start of the pipe of five", bench.starts(pipe), 3.0),
        ],
        bench.starts(hand),
        unit="us per answer",
        rounds=51,
    )


def benchmarks() -> Iterator[Result]:
    with asyncio.Runner() as runner, chat_server() as address:
        bench = Bench(runner, address)
        bench.count_reads()
        hand, plain, pipe = (bench.open(client) for client in (by_hand, bare, pipe_of_five))
        yield from _compare_with_hand_written(bench, hand, plain, pipe)
        for module, (name, client) in OTHERS.items():
            if importlib.util.find_spec(module):
                yield compare(
                    f"{name} vs the pipe of five, sixteen events per read",
                    bench.tokens(bench.open(client), 16),
                    bench.tokens(pipe, 16),
                    unit="us per token",
                    limit=3,
                    kind="at least",
                    rounds=3,
                )
        bench.close()
