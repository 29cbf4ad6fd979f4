"""`available_models`: what a provider offers, in the form of each."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

import rxllm
from rxllm.command_line import main
from rxllm.errors import AuthenticationError, BadRequestError, MalformedStreamError
from rxllm.testing.fault_server import FaultServer, Reply

JSON = {"Content-Type": "application/json"}


async def listed(provider: str, answer: Any) -> tuple[list[str], str]:
    """The ids, and the path that was asked."""
    async with FaultServer(Reply([msgspec.json.encode(answer)], headers=JSON)) as server:
        infos = await rxllm.available_models(provider, api_key="k", base_url=server.url)
    (request,) = server.requests
    assert (request.method, request.body) == ("GET", b"")
    return [info.id for info in infos], request.path


@pytest.mark.parametrize(
    ("provider", "answer", "ids", "path"),
    [
        ("openai", {"object": "list", "data": [{"id": "gpt-b"}, {"id": "gpt-a"}]},
         ["openai/gpt-a", "openai/gpt-b"], "/v1/models"),
        ("anthropic", {"data": [{"id": "claude-opus-5", "type": "model"}], "has_more": False},
         ["anthropic/claude-opus-5"], "/v1/models?limit=1000"),
        ("gemini", {"models": [{"name": "models/gemini-3.8-flash"}]},
         ["gemini/gemini-3.8-flash"], "/v1beta/models?pageSize=1000"),
        ("ollama", {"models": [{"name": "qwen3:8b", "model": "qwen3:8b", "size": 5}]},
         ["ollama/qwen3:8b"], "/api/tags"),
        ("together", [{"id": "a/b"}, {"id": None}, 3], ["together/a/b"], "/v1/models"),
        ("lm_studio", {"data": []}, [], "/v1/models"),
    ],
)  # fmt: skip
async def test_each_form_of_list(provider: str, answer: Any, ids: list[str], path: str) -> None:
    assert await listed(provider, answer) == (ids, path)


async def test_the_table_of_models_adds_what_it_knows() -> None:
    body = b'{"data": [{"id": "claude-opus-5"}]}'
    async with FaultServer(Reply([body], headers=JSON)) as server:
        (info,) = await rxllm.available_models("anthropic", api_key="k", base_url=server.url)
    assert (info.context_length, info.supports("prefill")) == (1_000_000, False)


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b"3"])
async def test_anything_else_is_malformed(body: bytes) -> None:
    async with FaultServer(Reply([body], headers=JSON)) as server:
        with pytest.raises(MalformedStreamError, match="no list of models"):
            await rxllm.available_models("vllm", base_url=server.url)


async def test_errors() -> None:
    error = b'{"error": {"message": "bad key k-secret"}}'
    async with FaultServer(Reply([error], status=401, headers=JSON)) as server:
        with pytest.raises(AuthenticationError, match=r"bad key \[key\]"):
            await rxllm.available_models("openai", api_key="k-secret", base_url=server.url)
    with pytest.raises(BadRequestError, match="no remote provider 'tiny': there are openai, "):
        await rxllm.available_models("tiny")
    with pytest.raises(BadRequestError, match="colour"):
        await rxllm.available_models("openai", colour="red")
    with pytest.raises(BadRequestError, match="neither wire nor strict"):
        await rxllm.available_models("openai", strict=True)


def test_the_command_line_lists_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def models(provider: str) -> list[rxllm.ModelInfo]:
        return [rxllm.ModelInfo(f"{provider}/qwen3:8b", provider, 4096, ("text",))]

    monkeypatch.setattr(rxllm, "available_models", models)
    assert main(["models", "ollama"]) == 0
    assert capsys.readouterr().out == "ollama/qwen3:8b\t4096\ttext\t\n"


def test_the_command_line_reports_a_server_that_is_not_running(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_BASE_URL", "http://127.0.0.1:9")
    assert main(["models", "ollama"]) == 1
    assert "127.0.0.1:9" in capsys.readouterr().err
    assert main(["models", "nobody"]) == 2
    assert "there is no remote provider 'nobody'" in capsys.readouterr().err
