"""Each provider: where its requests go, with which key, and base URLs as people write them."""

from __future__ import annotations

from typing import Any

import pytest

import rxllm
from rxllm.errors import BadRequestError
from rxllm.models.remote.provider import Endpoint
from rxllm.models.remote.providers import PROVIDERS
from rxllm.testing.fault_server import FaultServer, Reply
from rxllm.testing.provider_streams import anthropic_events, openai_events

PATHS = {
    "openai": "https://api.openai.com/v1",
    "azure": None,
    "anthropic": "https://api.anthropic.com/v1",
    "openrouter": "https://openrouter.ai/api/v1",
    "groq": "https://api.groq.com/openai/v1",
    "xai": "https://api.x.ai/v1",
    "deepseek": "https://api.deepseek.com/v1",
    "mistral": "https://api.mistral.ai/v1",
    "together": "https://api.together.xyz/v1",
    "fireworks": "https://api.fireworks.ai/inference/v1",
    "vllm": "http://localhost:8000/v1",
    "lm_studio": "http://localhost:1234/v1",
    "openai_compatible": None,
}


def url_of(name: str, base_url: str | None = None) -> str:
    return Endpoint(PROVIDERS[name], None, base_url).base_url


@pytest.mark.parametrize("name", [name for name, url in PATHS.items() if url is not None])
def test_the_address_of_each_provider(name: str) -> None:
    assert url_of(name) == PATHS[name]


@pytest.mark.parametrize("name", [name for name, url in PATHS.items() if url is None])
def test_some_providers_require_an_address(name: str) -> None:
    with pytest.raises(BadRequestError, match=f"{PROVIDERS[name].variable}_BASE_URL"):
        url_of(name)


@pytest.mark.parametrize(
    ("name", "given", "url"),
    [
        ("openai_compatible", "http://host:8000", "http://host:8000/v1"),
        ("openai_compatible", "http://host:8000/", "http://host:8000/v1"),
        ("openai_compatible", " http://host:8000/v1/\n", "http://host:8000/v1"),
        ("openai_compatible", "http://host/engines/v1", "http://host/engines/v1"),
        ("openai_compatible", "http://host/api", "http://host/api"),
        ("groq", "http://proxy", "http://proxy/openai/v1"),
        ("anthropic", "https://api.anthropic.com", "https://api.anthropic.com/v1"),
        ("anthropic", "https://api.anthropic.com/v1", "https://api.anthropic.com/v1"),
        ("anthropic", "https://api.anthropic.com/v1/", "https://api.anthropic.com/v1"),
        ("anthropic", "http://proxy/anthropic", "http://proxy/anthropic/v1"),
        ("ollama", "http://localhost:11434/v1", "http://localhost:11434/api"),
        ("ollama", "http://localhost:11434/api/", "http://localhost:11434/api"),
        ("azure", "https://me.openai.azure.com/", "https://me.openai.azure.com/openai/v1"),
        ("azure", "https://me.openai.azure.com/openai/v1", "https://me.openai.azure.com/openai/v1"),
        ("azure", "https://me.openai.azure.com/openai", "https://me.openai.azure.com/openai/v1"),
        ("openrouter", "https://openrouter.ai/api", "https://openrouter.ai/api/v1"),
        ("groq", "https://api.groq.com/openai/", "https://api.groq.com/openai/v1"),
        ("gemini", "http://proxy/gemini", "http://proxy/gemini/v1beta"),
        ("openai", "https://proxy/v1/chat/completions", "https://proxy/v1"),
        ("anthropic", "https://proxy/v1/messages", "https://proxy/v1"),
    ],
)
def test_a_base_url_may_have_the_path_of_the_api_or_not(name: str, given: str, url: str) -> None:
    assert url_of(name, given) == url


async def ask(name: str, **options: Any) -> Any:
    """Ask a model, and return the request that its server received."""
    events = anthropic_events("a") if name.startswith("anthropic") else openai_events("a")
    async with FaultServer(Reply(events)) as server:
        model = rxllm.model(name, base_url=server.url, api_key="k1", **options)
        assert (await model.stream("Hi")).text == "a"
    return server.requests[0]


async def ask_gemini(**options: Any) -> Any:
    event = b'data: {"candidates": [{"content": {}, "finishReason": "STOP"}]}\n\n'
    async with FaultServer(Reply([event])) as server:
        await rxllm.model("gemini/g", base_url=server.url, api_key="k1", **options).stream("Hi")
    return server.requests[0]


async def test_azure_has_a_key_header_and_a_version() -> None:
    request = await ask("azure/my-deployment", api_version="preview")
    assert request.path == "/openai/v1/chat/completions?api-version=preview"
    assert request.headers["api-key"] == "k1"
    assert "authorization" not in request.headers
    assert request.json()["model"] == "my-deployment"
    request = (await ask_gemini(api_version="x")).path
    assert request.endswith(":streamGenerateContent?alt=sse&api-version=x")
    assert (await ask("azure/my-deployment")).path == "/openai/v1/chat/completions"


@pytest.mark.parametrize("path", ["", "/openai", "/openai/v1"])
async def test_a_dated_version_of_azure_has_the_deployment_in_its_path(path: str) -> None:
    async with FaultServer(Reply(openai_events("Hi"))) as server:
        model = rxllm.model(
            "azure/mine", base_url=server.url + path, api_key="k", api_version="2024-10-21"
        )
        assert (await model.stream("Hi")).text == "Hi"
    (request,) = server.requests
    assert request.path == ("/openai/deployments/mine/chat/completions?api-version=2024-10-21")


def test_an_address_of_blanks_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", " ")
    assert url_of("openai") == "https://api.openai.com/v1"


async def test_vllm_is_asked_for_the_usage_so_far_and_mistral_for_none() -> None:
    body = (await ask("vllm/any")).json()
    assert body["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
    assert "stream_options" not in (await ask("mistral/any")).json()


async def test_the_wire_may_be_chosen() -> None:
    assert (await ask("anthropic/claude")).path == "/v1/messages"
    request = await ask("openai_compatible/any", wire="openai_chat")
    assert request.path == "/v1/chat/completions"
    for name, wire in (("openai/gpt", "sse"), ("gemini/g", "openai_chat"), ("xai/grok", "ollama")):
        with pytest.raises(BadRequestError, match=f"wire must be .* got '{wire}'"):
            rxllm.model(name, api_key="k", wire=wire)
    with pytest.raises(BadRequestError, match="invalid options for openai"):
        rxllm.model("openai/gpt", api_key="k", wire="telegraph")


def test_all_providers_are_listed() -> None:
    listed = {info.id: info.description for info in rxllm.list_models()}
    assert {f"{name}/<model>" for name in PATHS} <= set(listed)
    assert listed["vllm/<model>"] == "remote, at http://localhost:8000/v1, or VLLM_BASE_URL"
    assert set(PATHS) <= set(PROVIDERS)
