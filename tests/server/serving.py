"""A server on loopback, and helpers to read from it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
from aiohttp import web
from aiohttp.test_utils import TestServer

from rxllm import from_async
from rxllm.chunks import Chunk, End, Start, Token, ToolCall, state_key, text_of
from rxllm.models.scripted import ScriptedModel
from rxllm.requests import ModelInfo, Request, as_request
from rxllm.server import create_app
from rxllm.server.messages import Complete, StreamChunk, StreamFailed
from rxllm.testing import no_leaks

Message = StreamChunk | Complete | StreamFailed
decode = msgspec.json.Decoder(Message).decode

STORY = "Once upon a time there was a robot who learned to paint"


class Event(msgspec.Struct):
    """A server-sent event."""

    kind: str
    position: int
    message: Message


class Stepwise:
    """A model that emits `chunks` one by one, each when the test permits it."""

    def __init__(self, *chunks: Chunk | Exception) -> None:
        self.chunks = chunks or (Start("r", "m"), *map(Token, "abcdef"), End("stop"))
        self.info = ModelInfo("stepwise", "test")
        self.allowed = asyncio.Semaphore(0)
        self.active = 0
        self.said = 0
        self.requests: list[Request] = []

    def let(self, count: int = 1000) -> None:
        for _ in range(count):
            self.allowed.release()

    def stream(self, prompt: Any, **options: Any) -> Any:
        self.requests.append(as_request(prompt, **options))
        return from_async(self._say)

    async def _say(self) -> AsyncIterator[Chunk]:
        self.active += 1
        try:
            for chunk in self.chunks:
                await self.allowed.acquire()
                if isinstance(chunk, Exception):
                    raise chunk
                self.said += 1
                yield chunk
        finally:
            self.active -= 1


def scripted(*scripts: Any, **options: Any) -> web.Application:
    """An application with one scripted model."""
    model = ScriptedModel(*(scripts or (STORY,)), by="word")
    return create_app({"tiny": model}, **options)


class Uncancelled(TestServer):
    """A test server that, like `rxllm serve`, doesn't cancel the handler of a client that left."""

    async def _make_runner(self, **options: Any) -> web.AppRunner:
        return web.AppRunner(self.app, **{**options, "handler_cancellation": False})


@asynccontextmanager
async def serving(
    app: web.Application, *, cancels: bool = True, **runner: Any
) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of a server that runs `app`; neither may leave anything behind."""
    async with no_leaks():
        server = TestServer(app) if cancels else Uncancelled(app)
        await server.start_server(**runner)
        try:
            timeout = aiohttp.ClientTimeout()  # its timers outlive unread responses
            base = server.make_url("/")
            answers: list[aiohttp.ClientResponse] = []

            class Answer(aiohttp.ClientResponse):
                async def start(self, connection: Any) -> aiohttp.ClientResponse:
                    answers.append(self)
                    return await super().start(connection)

            async with aiohttp.ClientSession(
                base, timeout=timeout, response_class=Answer
            ) as session:
                yield session
                for answer in answers:
                    answer.close()
        finally:
            await server.close()
            await asyncio.sleep(0.01)  # closed sockets are reported in the next iterations


async def events(response: aiohttp.ClientResponse) -> AsyncIterator[Event]:
    """Iterate over server-sent events."""
    fields: dict[str, str] = {}
    async for raw in response.content:
        line = raw.decode().rstrip("\n")
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            yield Event(fields["event"], int(fields["id"]), decode(fields["data"]))
            fields = {}


async def all_events(response: aiohttp.ClientResponse) -> list[Event]:
    return [event async for event in events(response)]


async def take(response: aiohttp.ClientResponse, count: int) -> list[Event]:
    """Read the first events, and no more."""
    got: list[Event] = []
    if count:
        async for event in events(response):
            got.append(event)
            if len(got) == count:
                break
    return got


class Calls:
    """Completes the tool calls of one stream, of which only what is new was sent."""

    def __init__(self) -> None:
        self._arguments: dict[Any, str] = {}

    def whole(self, message: Message) -> Message:
        if not isinstance(message, StreamChunk) or not isinstance(message.chunk, ToolCall):
            return message
        call, offset = message.chunk, message.offset or 0
        before = self._arguments.get(state_key(call), "")
        assert len(before) >= offset, "the reader doesn't have these arguments"
        arguments = self._arguments[state_key(call)] = before[:offset] + call.arguments
        whole = msgspec.structs.replace(call, arguments=arguments)
        return msgspec.structs.replace(message, chunk=whole, offset=None)


def said(got: list[Event]) -> str:
    """Return the text in events."""
    return "".join(
        text_of(event.message.chunk) for event in got if isinstance(event.message, StreamChunk)
    )


def port_of(client: aiohttp.ClientSession) -> int:
    """Return the port of the server."""
    assert client._base_url is not None
    assert client._base_url.port is not None
    return client._base_url.port


async def turns(count: int = 100) -> None:
    """Let the loop iterate: afterwards, everything that takes no time has happened."""
    for _ in range(count):
        await asyncio.sleep(0)


def reports() -> list[dict[str, Any]]:
    """Collect the reports to the event loop's exception handler from now on."""
    found: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: found.append(context))
    return found


async def until(condition: Any, seconds: float = 30.0) -> None:
    """Wait for a condition by polling."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)
