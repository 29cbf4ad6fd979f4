"""Several servers as one: what a client asks at one, it reads, lists and stops at another."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from rxllm.server.keys import Key
from tests.redis.apps import LEASE, ServerNode, serving_all
from tests.redis.server import RedisServer
from tests.redis.streams import eventually

PROMPT = "a-secret-prompt"


@pytest.fixture
def pair(server: RedisServer) -> tuple[ServerNode, ServerNode]:
    return ServerNode(server.url), ServerNode(server.url)


async def begin(
    node: ServerNode, path: str = "/stream", headers: Any = None, **fields: Any
) -> aiohttp.ClientResponse:
    node.model.let(1)
    return await node.session.post(path, json={"prompt": PROMPT, **fields}, headers=headers)


async def events(response: aiohttp.ClientResponse) -> list[Any]:
    """Return the data of all events."""
    text = await response.text()
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


def texts(messages: list[Any]) -> str:
    return "".join([each.get("chunk", {}).get("text", "") for each in messages])


async def test_a_stream_is_resumed_at_another_server(pair: tuple[ServerNode, ServerNode]) -> None:
    first, second = pair
    async with serving_all(*pair):
        async with await begin(first) as response:
            stream_id = response.headers["X-Stream-Id"]
            first.model.let(3)
            position = 0
            while position < 3:
                line = await response.content.readline()
                position = int(line[4:]) if line.startswith(b"id: ") else position
        headers = {"Last-Event-ID": "3"}
        async with second.session.get(f"/stream/{stream_id}", headers=headers) as rest:
            first.model.let()
            got = await events(rest)
        assert texts(got) == "cdef"
        last = got[-1]
        assert (last["type"], last["finishReason"]) == ("complete", "stop")
        headers = {"Last-Event-ID": f"{last['position']}"}
        async with second.session.get(f"/stream/{stream_id}", headers=headers) as over:
            assert over.status == 204
        async with second.session.get("/stream/none") as missing:
            assert missing.status == 404


async def test_a_repeated_request_joins_at_another_server(
    pair: tuple[ServerNode, ServerNode],
) -> None:
    first, second = pair
    async with serving_all(*pair):
        async with await begin(first, id="mine"), await begin(second, id="mine") as joined:
            first.model.let()
            assert texts(await events(joined)) == "abcdef"
        assert (len(first.model.requests), len(second.model.requests)) == (1, 0)
        async with await begin(second, id="mine", maxTokens=7) as other:
            assert other.status == 409


async def test_streams_belong_to_their_key_everywhere(server: RedisServer) -> None:
    keys = [Key(name="ann", key="a"), Key(name="bob", key="b"), Key(name="op", key="o", admin=True)]
    first, second = ServerNode(server.url, keys=keys), ServerNode(server.url, keys=keys)
    async with serving_all(first, second):
        ann, bob, op = [{"Authorization": f"Bearer {each}"} for each in "abo"]
        async with await begin(first, headers=ann, id="hers") as response:
            for headers, ids in ((ann, ["hers"]), (bob, []), (op, ["hers"])):
                async with second.session.get("/streams", headers=headers) as listed:
                    shown = (await listed.json())["streams"]
                    assert [each["id"] for each in shown] == ids
            for method, path in (
                ("GET", "/stream/hers"),
                ("DELETE", "/streams/hers"),
                ("POST", "/streams/hers/pause"),
            ):
                async with second.session.request(method, path, headers=bob) as refused:
                    assert refused.status == 404
            async with second.session.delete("/streams/hers", headers=ann) as stopped:
                assert (await stopped.json())["status"] == "cancelled"
            assert (await events(response))[-1]["finishReason"] == "cancelled"


async def test_whole_answers_are_listed_and_stopped_everywhere(
    pair: tuple[ServerNode, ServerNode],
) -> None:
    first, second = pair
    async with serving_all(*pair):
        asked = asyncio.create_task(begin(first, "/generate", id="whole"))
        async with asyncio.timeout(10):
            listed: list[Any] = []
            while not listed:
                async with second.session.get("/streams") as response:
                    listed = (await response.json())["streams"]
        assert [(each["id"], each["status"]) for each in listed] == [("whole", "running")]
        async with first.session.get("/streams") as response:
            assert [each["id"] for each in (await response.json())["streams"]] == ["whole"]
        async with second.session.get("/stream/whole") as response:
            assert response.status == 404  # nobody else can read it
        async with second.session.delete("/streams/whole") as response:
            assert (await response.json())["status"] == "cancelled"
        async with await asked as answer:
            assert (await answer.json())["finishReason"] == "cancelled"
        await eventually(lambda: not first.model.active)


async def test_a_chat_of_the_ai_sdk_is_resumed_and_stopped_elsewhere(
    pair: tuple[ServerNode, ServerNode],
) -> None:
    first, second = pair
    message = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": PROMPT}]}
    body = {"id": "chat", "trigger": "regenerate-message", "messageId": "m7", "messages": [message]}
    async with serving_all(*pair):
        first.model.let(2)
        async with (
            first.session.post("/api/chat", json=body),
            second.session.get("/api/chat/chat/stream") as resumed,
        ):
            assert resumed.status == 200
            begun = json.loads((await resumed.content.readline()).removeprefix(b"data: "))
            assert begun["messageId"] == "m7"
            async with second.session.delete("/api/chat/chat/stream") as stopped:
                assert stopped.status == 204
            await resumed.read()
        async with second.session.get("/api/chat/other/stream") as none:
            assert none.status == 204


async def test_a_response_is_read_elsewhere_with_what_it_repeats(
    pair: tuple[ServerNode, ServerNode],
) -> None:
    first, second = pair
    body = {"input": PROMPT, "instructions": "Be kind.", "background": True, "metadata": {"a": "b"}}
    async with serving_all(*pair):
        first.model.let()
        async with first.session.post("/v1/responses", json=body) as response:
            stream_id = (await response.json())["id"]
        read: dict[str, Any] = {}
        async with asyncio.timeout(10):
            while read.get("status") != "completed":
                async with second.session.get(f"/v1/responses/{stream_id}") as response:
                    read = await response.json()
        assert (read["instructions"], read["metadata"]) == ("Be kind.", {"a": "b"})
        assert read["output"][0]["content"][0]["text"] == "abcdef"


async def test_a_reader_is_held_while_redis_is_away(own_server: RedisServer) -> None:
    """An `EventSource` that gets a 503 never comes back."""
    first, second = ServerNode(own_server.url), ServerNode(own_server.url)
    async with serving_all(first, second), await begin(first, id="held"):
        own_server.stop()
        for path in ("/streams/held", "/streams/held/pause"):
            method = "POST" if path.endswith("pause") else "DELETE"
            async with second.session.request(method, path) as refused:
                assert refused.status == 503
                assert refused.headers["Retry-After"]
        async with (
            second.session.get("/stream/held") as held,
            second.session.get("/stream/none") as none,
        ):
            assert (held.status, none.status) == (200, 200)
            own_server.start()
            first.model.let()
            assert texts(await events(held)) == "abcdef"
            (told,) = await events(none)
            assert told["code"] == "stream_not_found"


async def test_a_prompt_is_in_no_key_but_the_request_and_all_keys_expire(
    server: RedisServer,
) -> None:
    nodes = ServerNode(server.url), ServerNode(server.url)
    async with serving_all(*nodes):
        first, second = nodes
        first.model.let()
        async with (
            await begin(first, id="mine"),
            second.session.get("/stream/mine"),
            await begin(first, "/api/stream"),
            first.session.ws_connect("/ws") as socket,
        ):
            await socket.send_json({"type": "start", "id": "w", "prompt": PROMPT})
            await eventually(lambda: len(server.client.keys("*:l")) == 3)
            assert not server.keys_without_expiry()
            client: Any = server.client
            for key in client.keys("*"):
                if client.type(key) == b"hash":
                    assert client.hdel(key, "ask") == (b"ws-" in key or b"mine" in key)
            assert PROMPT.encode() not in server.content()


async def test_without_take_over_no_prompt_is_in_redis(server: RedisServer) -> None:
    node = ServerNode(server.url, take_over=False)
    async with serving_all(node), await begin(node, id="mine"):
        await eventually(lambda: server.client.keys("*:l"))
        assert PROMPT.encode() not in server.content()
        node.model.let()


async def test_the_health_of_a_server_says_whether_it_reaches_redis(
    own_server: RedisServer,
) -> None:
    node = ServerNode(own_server.url)

    async def health() -> tuple[int, Any]:
        async with node.session.get("/healthz") as response:
            return response.status, (await response.json())["store"]

    async def until(store: str) -> None:
        async with asyncio.timeout(10):
            while await health() != (200, store):
                await asyncio.sleep(0.02)

    async with serving_all(node):
        await until("ok")
        own_server.stop()
        await until("away")
        own_server.start()
        await until("ok")


async def test_what_is_left_of_a_dead_server_expires(server: RedisServer) -> None:
    node = ServerNode(server.url, grace=0.2)
    async with serving_all(node), await begin(node, id="mine") as response:
        node.model.let()
        await response.read()
    assert not server.keys_without_expiry()
    await eventually(lambda: not server.client.keys("*{streams:mine}*"))
    assert not server.client.keys("*:node:*")
    assert LEASE < 1
