"""Several API keys: streams belong to the key that has begun them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from rxllm.errors import BadRequestError
from rxllm.server import create_app
from rxllm.server.keys import Key, Keys
from tests.server.serving import Stepwise, all_events, said, serving, take, until

KEYS = [
    Key(name="ada", key="a1", streams=1, max_tokens=50),
    Key(name="bob", key="b1"),
    Key(name="root", key="r1", admin=True),
]


def by(key: str, **more: str) -> dict[str, Any]:
    return {"headers": {"X-API-Key": key, **more}}


async def listed(client: Any, key: str) -> list[str]:
    async with client.get("/streams", **by(key)) as response:
        return [each["id"] for each in (await response.json())["streams"]]


async def test_a_stream_is_seen_and_controlled_by_its_key_and_by_an_admin() -> None:
    model = Stepwise()
    async with serving(create_app({"tiny": model}, keys=KEYS)) as client:
        model.let(3)
        response = await client.post("/stream", json={"prompt": "Hi", "id": "mine"}, **by("a1"))
        seen = await take(response, 3)
        assert await listed(client, "a1") == await listed(client, "r1") == ["mine"]
        assert await listed(client, "b1") == []
        for method, path in (
            ("GET", "/stream/mine"),
            ("DELETE", "/streams/mine"),
            ("POST", "/streams/mine/pause"),
            ("POST", "/streams/mine/resume"),
            ("GET", "/v1/responses/mine"),
            ("POST", "/v1/responses/mine/cancel"),
        ):
            async with client.request(method, path, **by("b1")) as foreign:
                assert foreign.status == 404, path
        body = {"prompt": "Hi", "id": "mine"}
        async with client.post("/stream", json=body, **by("b1", **{"Last-Event-ID": "1"})) as other:
            assert other.status == 204
        async with client.post("/stream", json=body, **by("b1")) as other:
            assert other.status == 409  # the same request of another key does not join it
        model.let()
        seen += await all_events(response)
        assert said(seen) == "abcdef"
        async with client.get("/stream/mine", **by("r1")) as response:
            assert said(await all_events(response)) == "abcdef"


async def test_whole_answers_belong_to_their_keys_too() -> None:
    model = Stepwise()
    async with serving(create_app({"tiny": model}, keys=KEYS)) as client:
        body = {"prompt": "Hi", "id": "whole"}
        asking = asyncio.ensure_future(client.post("/generate", json=body, **by("a1")))
        await until(lambda: model.active == 1)
        assert await listed(client, "a1") == await listed(client, "r1") == ["whole"]
        assert await listed(client, "b1") == []
        async with client.delete("/streams/whole", **by("b1")) as response:
            assert response.status == 404
        async with client.delete("/streams/whole", **by("a1")) as response:
            assert response.status == 200
        await (await asking).read()


async def test_the_chat_of_another_key_is_another_chat() -> None:
    model = Stepwise()
    ui = {
        "id": "c",
        "trigger": "submit-message",
        "messages": [{"role": "user", "parts": [{"type": "text", "text": "Hi"}]}],
    }
    async with serving(create_app({"tiny": model}, keys=KEYS)) as client:
        model.let(2)
        response = await client.post("/api/chat", json=ui, **by("a1"))
        async with client.get("/api/chat/c/stream", **by("b1")) as foreign:
            assert foreign.status == 204
        async with client.delete("/api/chat/c/stream", **by("b1")):
            assert model.active == 1
        async with client.delete("/api/chat/c/stream", **by("a1")):
            await until(lambda: model.active == 0)
        await response.read()


async def test_each_key_has_its_limits() -> None:
    model = Stepwise()
    async with serving(create_app({"tiny": model}, keys=KEYS)) as client:
        body = {"prompt": "Hi", "maxTokens": 51}
        model.let(2)
        async with client.post("/stream", json=body, **by("a1")) as response:
            assert response.status == 400
        async with client.post("/generate", json={"prompt": "Hi"}) as response:
            assert response.status == 401
        live = await client.get("/stream?prompt=Hi", **by("a1"))
        async with client.get("/stream?prompt=Hi", **by("a1")) as response:
            assert (response.status, (await response.json())["code"]) == (429, "pool_full")
        model.let(1)
        async with client.post("/stream", json=body, **by("b1")) as response:
            assert response.status == 200
        assert live.status == 200


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ([Key(name="a")], "exactly one of key and key_env"),
        ([Key(name="a", key="x", key_env="Y")], "exactly one of key and key_env"),
        ([Key(name="a", key_env="RXLLM_NO_SUCH_VARIABLE")], "RXLLM_NO_SUCH_VARIABLE"),
        ([Key(name="a", key="x"), Key(name="a", key="y")], "names"),
        ([Key(name="a", key="x"), Key(name="b", key="x")], "secrets"),
        ([Key(name="a", key="x", streams=0)], "streams"),
    ],
)
def test_a_key_that_can_not_be_used_is_refused(keys: list[Key], words: str) -> None:
    with pytest.raises(BadRequestError, match=words):
        Keys(keys)
