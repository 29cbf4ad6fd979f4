"""`count_tokens`: exact where somebody counts, else an estimate that says so."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

import rxllm
from rxllm.errors import (
    AuthenticationError,
    BadRequestError,
    MalformedStreamError,
    ModelLoadError,
    UnsupportedError,
)
from rxllm.messages import ImagePart, Message
from rxllm.models.local.guidance import Vocabulary
from rxllm.models.remote.connection import close_connections
from rxllm.models.scripted import ScriptedModel
from rxllm.requests import as_request
from rxllm.testing import no_leaks
from rxllm.testing.fault_server import FaultServer, Reply
from rxllm.token_count import TokenCount, estimated_tokens

JSON = {"Content-Type": "application/json"}
TALK = [Message("system", "Be brief."), Message("user", "Hello!")]


def claude(server: FaultServer) -> Any:
    return rxllm.model("anthropic/claude", api_key="sk-secret", base_url=server.url)


@pytest.mark.parametrize("name", ["tiny/onnx", "tiny/llama"])
async def test_a_local_model_counts_with_its_own_tokenizer(name: str) -> None:
    if name == "tiny/llama":
        pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    model: Any = rxllm.model(name)
    async with no_leaks():
        for prompt in ("Hello!", "Tell me a story about a cat.", TALK):
            count = await model.count_tokens(prompt)
            usage = (await model.stream(prompt, max_tokens=1)).usage
            assert count == TokenCount(usage.input_tokens)


async def test_a_local_model_counts_beside_its_streams() -> None:
    model: Any = rxllm.model("tiny", slots=1)
    async with no_leaks():
        stream = model.stream("Tell me a story", max_tokens=20, temperature=0)
        before = (await stream).text
        assert (await model.count_tokens("Tell me a story")).tokens > 3
        assert (await stream).text == before
    model.close()


async def test_the_errors_of_a_local_model() -> None:
    broken: Any = rxllm.model("llama/nowhere.gguf")
    with pytest.raises(ModelLoadError):
        await broken.count_tokens("Hi")
    tiny: Any = rxllm.model("tiny")
    with pytest.raises(UnsupportedError, match="images"):
        await tiny.count_tokens([Message("user", (ImagePart(url="u"),))])
    with_tool = await tiny.count_tokens("Hi", tools=[rxllm.Tool("f")])
    assert with_tool.tokens > (await tiny.count_tokens("Hi")).tokens
    with pytest.raises(BadRequestError, match="empty"):
        await tiny.count_tokens(" ")


async def test_counting_compiles_no_grammar(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny: Any = rxllm.model("tiny")
    tools = [rxllm.Tool("f", "", {"properties": {"a": {"const": "never compiled"}}})]
    monkeypatch.setattr(Vocabulary, "compile", lambda *_: pytest.fail("it was compiled"))
    assert (await tiny.count_tokens("Hi", tools=tools, tool_choice="required")).tokens > 20


async def test_anthropic_counts_without_an_answer() -> None:
    reply = Reply([b'{"input_tokens": 23}'], headers=JSON)
    async with no_leaks(), FaultServer(reply) as server:
        count = await claude(server).count_tokens(TALK, tools=[rxllm.Tool("f")], max_tokens=9)
        await close_connections()
    assert count == TokenCount(23)
    (request,) = server.requests
    assert request.path == "/v1/messages/count_tokens"
    assert set(request.json()) == {"model", "messages", "system", "tools"}


async def test_the_errors_of_anthropic_hide_the_key() -> None:
    body = b'{"type":"error","error":{"type":"authentication_error","message":"no sk-secret"}}'
    async with FaultServer(Reply([body], status=401, headers=JSON)) as server:
        with pytest.raises(AuthenticationError, match=r"no \[key\]"):
            await claude(server).count_tokens("Hi")
    for body in (b"{}", b"<html>", b'{"input_tokens": "many"}', b"[]"):
        async with FaultServer(Reply([body], headers=JSON)) as server:
            with pytest.raises(MalformedStreamError, match="no count of tokens"):
                await claude(server).count_tokens("Hi")


async def test_a_server_with_an_api_that_it_does_not_count_for_is_estimated() -> None:
    for status in (404, 405):
        async with FaultServer(Reply([b"{}"], status=status)) as server:
            model: Any = rxllm.model("anthropic/c", api_key="k", base_url=server.url)
            assert (await model.count_tokens("Hello!")).estimated


@pytest.mark.parametrize("count", ["14", 14.0])
async def test_a_count_of_another_type_is_read(count: Any) -> None:
    body = json.dumps({"input_tokens": count}).encode()
    async with FaultServer(Reply([body])) as server:
        model: Any = rxllm.model("anthropic/claude-opus-5", api_key="k", base_url=server.url)
        assert await model.count_tokens("Hello!", temperature=0.3) == rxllm.TokenCount(14)


async def test_other_providers_are_estimated() -> None:
    model: Any = rxllm.model("openai/gpt-5", api_key="k", base_url="http://127.0.0.1:9")
    count = await model.count_tokens(TALK)
    assert count == estimated_tokens(as_request(TALK))
    assert count.estimated


def test_an_estimate_grows_with_all_parts() -> None:
    def tokens(*messages: Message, **options: Any) -> int:
        return estimated_tokens(as_request(messages, **options)).tokens

    word = Message("user", "word" * 100)
    assert tokens(word) == 104
    assert tokens(word, word) == 208
    assert tokens(Message("user", "字" * 100)) == 4 + math.ceil(100 / 1.5)
    assert tokens(Message("user", (ImagePart(url="https://a.example/b.png"),))) == 1004
    call = rxllm.ToolCall("c", "look", '{"at": "Oslo"}')
    assert tokens(Message("assistant", "", tool_calls=(call,))) > 8
    assert tokens(word, tools=[rxllm.Tool("look", "Look at a place.")]) > tokens(word)


async def test_a_scripted_model_counts_words_and_a_router_asks_its_first_model() -> None:
    model = ScriptedModel("Hi")
    assert await model.count_tokens("one two three") == TokenCount(3)
    assert await rxllm.Router([model, "tiny"]).count_tokens("one two three") == TokenCount(3)

    class Bare:
        info = rxllm.ModelInfo("bare", "bare")
        stream = model.stream

    bare: Any = Bare()
    assert (await rxllm.Router([bare]).count_tokens("one two three")).estimated
