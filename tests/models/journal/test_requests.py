"""The request in a journal: nothing secret, no bytes, and how two requests differ."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rxllm
from rxllm.errors import UnsupportedError
from rxllm.messages import FilePart, ImagePart, Message, TextPart
from rxllm.models.scripted import ScriptedModel
from rxllm.requests import Request, as_request
from rxllm.testing import Marbles
from rxllm.testing.fault_server import FaultServer, Reply
from rxllm.testing.provider_streams import openai_events

KEY = "sk-very-secret-key"
PNG = b"\x89PNG" + bytes(range(256)) * 4
PDF = b"%PDF-1.7 " + b"what nobody should read " * 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal that doesn't exist yet."""
    return tmp_path / "run.jsonl"


def recorded_request(path: Path, prompt: Any, **options: Any) -> dict[str, Any]:
    Marbles().run(rxllm.recorded(ScriptedModel("a"), path).stream(prompt, **options))
    request: dict[str, Any] = json.loads(path.read_bytes().splitlines()[0])["begun"]["request"]
    return request


def refusal(path: Path, prompt: Any, **options: Any) -> str:
    ((_, error),) = Marbles().run(rxllm.replay(path).stream(prompt, **options))
    assert type(error) is UnsupportedError
    return str(error)


def test_every_option_is_recorded(path: Path) -> None:
    options: dict[str, Any] = {
        "max_tokens": 9, "temperature": 0.0, "top_p": 0.5, "top_k": 3, "min_p": 0.1,
        "repeat_penalty": 1.5, "frequency_penalty": 0.5, "presence_penalty": -0.5,
        "logit_bias": {"7": 1.0}, "stop": ["x"], "seed": 7, "response_format": {"type": "object"},
        "confidence": True, "top_logprobs": 2, "reasoning": "low", "verbosity": "high",
        "tools": [{"name": "clock", "parameters": {"properties": {"password": {}}}}],
        "tool_choice": "auto", "parallel_tool_calls": False, "cache": "mine",
        "extra": {"grammar": "root ::= x"},
    }  # fmt: skip
    assert options.keys() == set(Request.__struct_fields__) - {"messages", "strategy"}
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    assert recorded_request(path, messages, **options) == {"messages": messages, **options}


# Secrets.


def test_no_key_is_in_the_file_even_if_the_provider_repeats_it(path: Path) -> None:
    echo = b'{"error": {"message": "the key ' + KEY.encode() + b' is wrong"}}'

    async def main() -> None:
        replies = Reply([echo], status=401), Reply(openai_events("Hello"))
        async with FaultServer(*replies) as server:
            model = rxllm.model(
                "openai_compatible/any",
                base_url=server.url,
                api_key=KEY,
                headers={"X-Own": "my-own-secret"},
            )
            recorded = rxllm.recorded(model, path)
            with pytest.raises(rxllm.errors.AuthenticationError):
                await recorded.stream("Hi")
            assert (await recorded.stream("Hi")).text == "Hello"
            assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"

    rxllm.run(main())
    written = path.read_text(encoding="utf-8")
    assert KEY not in written
    assert "my-own-secret" not in written
    assert "AuthenticationError" in written


@pytest.mark.parametrize(
    "name",
    [
        "headers", "extra_headers", "extraHeaders", "api_key", "apiKey", "api-key", "X-API-Key",
        "Authorization", "token", "access_token", "auth-token", "password", "client_secret",
        "Cookie", "credentials", "key", "private_key",
    ],
)  # fmt: skip
def test_secrets_in_extra_are_left_out_at_any_depth(path: Path, name: str) -> None:
    extra = {name: KEY, "seen": {"list": [{name: {"deep": KEY}, "top_a": 1}]}}
    request = recorded_request(path, "Hi", extra=extra)
    assert request["extra"] == {"seen": {"list": [{"top_a": 1}]}}
    assert KEY not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "name", ["max_completion_tokens", "stop_token_ids", "prompt_cache_key", "tokenizer", "keys"]
)
def test_other_options_in_extra_are_kept(path: Path, name: str) -> None:
    assert recorded_request(path, "Hi", extra={name: 5})["extra"] == {name: 5}


def test_secrets_do_not_matter_for_the_replay(path: Path) -> None:
    recorded_request(path, "Hi", extra={"api_key": KEY, "mirostat": 2})
    again = rxllm.replay(path).stream("Hi", extra={"api_key": "another", "mirostat": 2})
    assert rxllm.run(again).text == "a"


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://a.example/b.png?size=9", "https://a.example/b.png?size=9"),
        ("https://me:secret@a.example:8/b.png", "https://a.example:8/b.png"),
        ("https://a.example/b?X-Amz-Signature=secret&id=7", "https://a.example/b?id=7"),
        ("https://a.example/b?sig=secret&token=secret#x", "https://a.example/b#x"),
    ],
)
def test_credentials_in_a_url_are_left_out(path: Path, url: str, kept: str) -> None:
    prompt = [Message("user", (TextPart("What is it?"), ImagePart(url=url)))]
    parts = recorded_request(path, prompt)["messages"][0]["content"]
    assert parts[1] == {"type": "image", "url": kept}
    assert rxllm.run(rxllm.replay(path).stream(prompt)).text == "a"


# Bytes.


def test_bytes_of_images_and_files_are_hashed(path: Path) -> None:
    parts = (ImagePart(data=PNG), FilePart(data=PDF, name="a.pdf"), TextPart("Which?"))
    request = recorded_request(path, [Message("user", parts)])
    assert request["messages"][0]["content"] == [
        {
            "type": "image",
            "media_type": "image/png",
            "data": {"sha256": hashlib.sha256(PNG).hexdigest(), "size": len(PNG)},
        },
        {
            "type": "file",
            "media_type": "application/pdf",
            "data": {"sha256": hashlib.sha256(PDF).hexdigest(), "size": len(PDF)},
            "name": "a.pdf",
        },
        {"type": "text", "text": "Which?"},
    ]
    assert_absent(path, PNG, PDF)


def test_a_data_url_is_recorded_as_its_bytes(path: Path) -> None:
    encoded = base64.b64encode(PNG).decode()
    by_url = [Message("user", (ImagePart(url=f"data:image/png;base64,{encoded}"),))]
    recorded_request(path, by_url)
    assert_absent(path, PNG)
    by_bytes = [Message("user", (ImagePart(data=PNG),))]
    assert rxllm.run(rxllm.replay(path).stream(by_bytes)).text == "a"


@pytest.mark.parametrize(
    "url", ["data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAx", "https://[secret/b.png"]
)
def test_a_url_that_cannot_be_read_is_hashed(path: Path, url: str) -> None:
    part = recorded_request(path, [Message("user", (ImagePart(url=url),))])
    assert part["messages"][0]["content"][0]["url"]["size"] == len(url)


@given(st.binary(min_size=30), st.binary(min_size=30))
def test_equal_bytes_match_and_others_do_not(one: bytes, other: bytes) -> None:
    from rxllm.models.journal._requests import key_of, record_of

    def key(data: bytes) -> str:
        image = ImagePart(data=data, media_type="image/png")
        return key_of(record_of(as_request([Message("user", (image,))])))

    assert (key(one) == key(other)) == (one == other)
    assert key(one) == key(bytes(one))


def test_bytes_in_extra_are_hashed(path: Path) -> None:
    request = recorded_request(path, "Hi", extra={"audio": bytearray(PDF)})
    assert request["extra"]["audio"]["size"] == len(PDF)
    assert_absent(path, PDF)


def assert_absent(path: Path, *contents: bytes) -> None:
    written = path.read_bytes()
    for content in contents:
        for offset in range(3):  # base64 has three forms of what stands in the middle
            assert base64.b64encode(content[offset : offset + 30]) not in written
        assert content[9:29] not in written
        assert content[9:29].hex().encode() not in written


# Requests that weren't recorded.


def test_what_differs_from_the_nearest_request_is_named(path: Path) -> None:
    for prompt in ("Tell me a story about a cat", "What is the time?"):
        recorded_request(path, prompt, temperature=0.5, seed=7)
    assert refusal(path, "Tell me a story about a cow", temperature=0.5, seed=7) == (
        f"the request isn't among the 2 recorded in {path}; the nearest one differs in "
        'messages[0].content ("Tell me a story about a cat", asked: "Tell me a story about a cow")'
    )
    assert refusal(path, "What is the time?", temperature=0.7).endswith(
        "differs in temperature (0.5, asked: 0.7), seed (7, asked: not set)"
    )


def test_of_a_long_text_the_part_that_differs_is_shown(path: Path) -> None:
    recorded_request(path, "so it goes on and on, " * 20 + "to Rome" + " and home" * 9)
    told = refusal(path, "so it goes on and on, " * 20 + "to Bonn" + " and home" * 9)
    assert "messages[0].content (... goes on and on, to Rome and home and ho..." in told
    assert "asked: ... goes on and on, to Bonn and home and ho...)" in told


def test_only_three_differences_are_listed(path: Path) -> None:
    recorded_request(path, "Hi", temperature=0, seed=1, top_k=2, top_p=0.5, max_tokens=9)
    assert refusal(path, "Hi").endswith("and 2 more")


def test_another_image_and_another_tool_are_named(path: Path) -> None:
    image = Message("user", (ImagePart(data=PNG),))
    recorded_request(path, [image], tools=[{"name": "clock"}])
    other = Message("user", (ImagePart(data=PNG + b"!"),))
    assert "messages[0].content[0].data.sha256" in refusal(path, [other], tools=[{"name": "clock"}])
    assert 'tools[0].name ("clock", asked: "clocks")' in refusal(
        path, [image], tools=[{"name": "clocks"}]
    )


def test_a_router_asks_the_next_model_what_was_not_recorded(path: Path) -> None:
    recorded_request(path, "Hi")
    router = rxllm.Router([rxllm.replay(path), ScriptedModel("live")], strategy="quality")
    assert rxllm.run(router.stream("Hi")).text == "a"
    assert rxllm.run(router.stream("Another question")).text == "live"
