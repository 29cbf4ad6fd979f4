"""Fixtures for tests of remote models: a model on a local server, and its output."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import pytest

import rxllm
from rxllm.chunks import Chunk, Token, Usage
from rxllm.testing.fault_server import FaultServer, Reply, Step

KEY = "sk-very-secret-key"
NAMES = {
    "openai": "openai/gpt",
    "anthropic": "anthropic/claude",
    "openrouter": "openrouter/vendor/gpt",
    "groq": "groq/llama",
    "openai_compatible": "openai_compatible/any",
}


class Heard(NamedTuple):
    """What a subscriber received: the chunks, with estimates of the usage apart, and the error."""

    chunks: list[Chunk]
    error: Exception | None
    estimates: list[Usage]

    @property
    def text(self) -> str:
        return "".join(chunk.text for chunk in self.chunks if isinstance(chunk, Token))

    def of(self, kind: type[Any]) -> list[Any]:
        return [chunk for chunk in self.chunks if isinstance(chunk, kind)]


def make(server: FaultServer, provider: str = "openai", **options: Any) -> rxllm.Model:
    given = {"api_key": KEY, "base_url": server.url, **options}
    return rxllm.model(NAMES[provider], **given)


async def subscribe(model: rxllm.Model, prompt: Any = "Hi", **options: Any) -> Heard:
    heard = Heard([], None, [])
    try:
        async for chunk in rxllm.to_async(model.stream(prompt, **options)):
            if isinstance(chunk, Usage) and chunk.estimated:
                heard.estimates.append(chunk)
            else:
                heard.chunks.append(chunk)
    except Exception as error:
        return heard._replace(error=error)
    return heard


async def answer(
    body: Sequence[Step], provider: str = "openai", *, strict: bool = False, **reply: Any
) -> Heard:
    async with FaultServer(Reply(body, **reply)) as server:
        return await subscribe(make(server, provider, strict=strict))


@pytest.fixture
def model_on() -> Callable[..., rxllm.Model]:
    """Make a model of a provider on a server."""
    return make


@pytest.fixture
def listen() -> Callable[..., Awaitable[Heard]]:
    """Subscribe to a model and collect its stream."""
    return subscribe


@pytest.fixture
def hear() -> Callable[..., Awaitable[Heard]]:
    """Collect the stream of a model whose server sends one reply."""
    return answer


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the keys, addresses and proxies in the environment of whoever runs the tests."""
    for provider in NAMES:
        monkeypatch.delenv(f"{provider.upper()}_API_KEY", raising=False)
        monkeypatch.delenv(f"{provider.upper()}_BASE_URL", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
