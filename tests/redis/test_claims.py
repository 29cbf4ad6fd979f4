"""`RedisClaims`, and approvals that several servers take: a call is made once."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

import rxllm
from rxllm.chunks import Chunk, End, ToolCall
from rxllm.errors import NoEventLoopError, StoreUnavailableError
from rxllm.models.scripted import ScriptedModel
from rxllm.redis import RedisClaims, RedisConnections, RedisStreams
from rxllm.server import create_app
from rxllm.server.agent_config import ConfiguredAgent
from rxllm.testing import no_leaks
from tests.redis.server import RedisServer
from tests.redis.streams import eventually
from tests.server.serving import Uncancelled

PAY: list[Chunk] = [ToolCall("1", "pay", '{"usd": 5}', complete=True), End("tool_calls")]


async def test_of_many_processes_one_makes_a_call(
    server: RedisServer, connections: RedisConnections
) -> None:
    async with RedisConnections(server.url) as others:
        claims = [RedisClaims(each, "x") for each in (connections, others)]
        firsts = await asyncio.gather(*[claims[number % 2]("t") for number in range(10)])
        assert sorted(firsts) == [False] * 9 + [True]
        assert await claims[1]("u")
        assert await RedisClaims(others, "y")("t")


async def test_a_claim_expires_and_its_key_says_nothing(
    server: RedisServer, connections: RedisConnections
) -> None:
    claims = RedisClaims(connections, "x", ttl=50)
    assert await claims("sesame \ud800")
    (key,) = server.all_keys()
    assert 49_000 < server.client.pttl(key) <= 50_000
    assert b"sesame" not in server.content()
    assert 29 * 86_400 < RedisClaims(connections, "x").ttl < 31 * 86_400


async def test_a_claim_that_is_sent_again_is_the_same(server: RedisServer) -> None:
    """After a lost connection, a script is sent once more."""
    async with RedisConnections(server.url) as connections:
        claims = RedisClaims(connections, "x")
        assert await claims("s")
        for number in range(20):
            asked = asyncio.create_task(claims(f"t{number}"))
            await asyncio.sleep(0)
            server.client.client_kill_filter(_type="normal", skipme=True)
            assert await asked


async def test_while_redis_is_away_no_call_is_made(own_server: RedisServer) -> None:
    async with RedisConnections(own_server.url, timeout=0.3) as connections, no_leaks():
        claims, others = (RedisClaims(connections, "x") for _ in range(2))
        assert await claims("s")
        own_server.hang()
        with pytest.raises(StoreUnavailableError):
            await claims("t")
        own_server.go_on()
        await eventually(lambda: len(own_server.all_keys()) == 2)
        await asyncio.sleep(0.5)  # it isn't asked before
        assert not await others("t")
        assert await claims("t")  # the one whose claim it is
        assert not await claims("t")


def test_without_an_event_loop_the_error_says_so() -> None:
    with pytest.raises(NoEventLoopError):
        RedisClaims("redis://127.0.0.1", "x")("t").send(None)


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ({"ttl": 0}, ValueError, "ttl"),
        ({"name": "}"}, ValueError, "name must not be empty or contain a brace"),
        ({"server": None}, TypeError, "server must be a URL"),
    ],
)
def test_bad_arguments(bad: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        RedisClaims(**{"server": "redis://127.0.0.1", "name": "x", **bad})


class Shop:
    """A server whose agent pays once somebody has allowed it."""

    def __init__(self, url: str, *scripts: Any) -> None:
        self.paid: list[int] = []

        @rxllm.tool(approval="ask")
        async def pay(usd: int) -> str:
            self.paid.append(usd)
            return "paid"

        agent = ConfiguredAgent(ScriptedModel(*scripts), [pay], secret=b"k", name="shop")
        store = partial(RedisStreams, url, lease=0.6)
        self.client = TestClient(Uncancelled(create_app({"shop": agent}, store=store)))

    async def ask(self, **body: Any) -> tuple[int, Any]:
        async with self.client.post("/generate", json=body) as response:
            return response.status, await response.json()


async def test_an_approval_makes_a_call_once_whichever_servers_take_it(
    own_server: RedisServer,
) -> None:
    one, two = Shop(own_server.url, PAY, "Thanks."), Shop(own_server.url, "Thanks.", "Oh.")
    async with no_leaks(), one.client, two.client:
        asked = [{"role": "user", "content": "Pay."}]
        _, first = await one.ask(messages=asked)
        (token,) = [each["token"] for each in first["pending"]]
        body = {"messages": [*asked, *first["messages"]], "approvals": {token: True}}
        answers = await asyncio.gather(one.ask(**body), two.ask(**body))
        assert [(status, answer["text"]) for status, answer in answers] == [(200, "Thanks.")] * 2
        assert one.paid + two.paid == [5]
        own_server.stop()
        status, answer = await two.ask(**body)
        assert (status, answer["code"]) == (503, "store_unavailable")
        assert one.paid + two.paid == [5]
