"""A model whose own operator raises: every endpoint responds with an error at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from rxllm import operators as ops
from rxllm.chunks import Chunk
from rxllm.models.scripted import ScriptedModel
from rxllm.requests import ModelInfo, Prompt
from rxllm.server import create_app
from rxllm.stream import Stream
from tests.server.serving import serving
from tests.sinks.test_web_failures import buggy

ASKED = {"prompt": "Hi", "model": "buggy"}
CHAT: dict[str, Any] = {"model": "buggy", "messages": [{"role": "user", "content": "Hi"}]}


class Buggy:
    """A model with a bug in its own operator."""

    def __init__(self) -> None:
        self.inner = ScriptedModel(["a", "b", "c"], delay=0.001)
        self.info = ModelInfo("buggy", "test")

    def stream(self, prompt: Prompt, **options: Any) -> Stream[Chunk]:
        stream = self.inner.stream(prompt, **options)
        return stream.pipe(buggy("c"), ops.retry_with_backoff(3, initial=0.001))


@pytest.fixture
def model() -> Buggy:
    return Buggy()


@pytest.fixture
async def session(model: Buggy) -> AsyncIterator[aiohttp.ClientSession]:
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # also reported there
    async with serving(create_app({"buggy": model})) as session:
        yield session
    assert (len(model.inner.requests), model.inner.active) == (1, 0)


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/stream", ASKED, "event: error"),
        ("/api/stream", ASKED, '"type":"error"'),
        ("/v1/chat/completions", CHAT | {"stream": True}, '"error"'),
    ],
)
async def test_streamed(
    session: aiohttp.ClientSession, path: str, body: dict[str, Any], words: str
) -> None:
    async with session.post(path, json=body) as response:
        assert words in await asyncio.wait_for(response.text(), 10)


@pytest.mark.parametrize(("path", "body"), [("/generate", ASKED), ("/v1/chat/completions", CHAT)])
async def test_whole(session: aiohttp.ClientSession, path: str, body: dict[str, Any]) -> None:
    async with session.post(path, json=body) as response:
        assert response.status == 500
        assert "error" in await asyncio.wait_for(response.text(), 10)


@pytest.mark.parametrize(
    "message",
    [
        {"type": "start", "id": "s", "prompt": "Hi"},
        {"type": "chat", "id": "c", "text": "Hi"},
    ],
)
async def test_over_the_websocket(session: aiohttp.ClientSession, message: dict[str, Any]) -> None:
    async with session.ws_connect("/ws") as socket:
        await socket.send_json(message)
        kinds: list[str] = []
        while not kinds or kinds[-1] != "error":
            kinds.append((await asyncio.wait_for(socket.receive_json(), 10))["type"])
