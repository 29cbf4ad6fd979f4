"""Rooms of several servers: each is on one of them, and the others say where."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from rxllm.errors import StoreUnavailableError
from rxllm.redis import RedisConnections
from rxllm.redis.names import RedisNames
from rxllm.redis.stream_scripts import StreamKeys
from rxllm.server.rooms.room import Room
from rxllm.server.websocket.endpoint import CONNECTIONS
from rxllm.testing import no_leaks
from tests.redis.apps import LEASE, ServerNode, serving_all
from tests.redis.proxy import Proxy
from tests.redis.server import RedisServer
from tests.redis.streams import eventually
from tests.server.websocket_client import Client, talking

KEY = "rx:{streams}:room:r"
ONE, TWO = "https://one.example.org/", "https://two.example.org/"


def two_nodes(url: str, **limits: Any) -> tuple[ServerNode, ServerNode]:
    return ServerNode(url, address=ONE, **limits), ServerNode(url, address=TWO, **limits)


async def join_elsewhere(client: Client, name: str = "Bob") -> str:
    """Ask for the room `r`, which another server has, and return the address of that one."""
    error = await client.ask("join", room="r", name=name)
    assert (error["type"], error["code"], error["room"]) == ("error", "room_elsewhere", "r")
    address: str = error["address"]
    assert address in error["message"]
    return address


async def test_who_asks_for_a_room_of_another_server_learns_where_it_is(
    server: RedisServer,
) -> None:
    one, two = two_nodes(server.url)
    async with (
        serving_all(one, two),
        talking(one.session) as ann,
        talking(two.session) as bob,
        talking(one.session) as cat,
    ):
        await ann.join("r", "Ann")
        assert await join_elsewhere(bob) == ONE
        assert (await cat.join("r", "Cat"))["participants"] == ["Ann", "Cat"]
        await bob.join("other", "Bob")
        assert (await one.rooms(), await two.rooms()) == (["r"], ["other"])


async def test_a_room_may_open_elsewhere_once_its_last_member_has_left(
    server: RedisServer,
) -> None:
    one, two = two_nodes(server.url)
    async with serving_all(one, two), talking(two.session) as bob:
        async with talking(one.session) as ann, talking(one.session) as cat:
            await ann.join("r", "Ann")
            await cat.join("r", "Cat")
            await ann.send("leave", room="r")
            await ann.until("left")
            assert await join_elsewhere(bob) == ONE
        await eventually(lambda: not server.all_keys() & {KEY})
        await bob.join("r", "Bob")
        async with talking(one.session) as ann:
            assert await join_elsewhere(ann, "Ann") == TWO
    assert KEY not in server.all_keys()


async def test_of_two_that_open_a_room_at_once_one_has_it(server: RedisServer) -> None:
    one, two = two_nodes(server.url, messages_per_second=1000)
    async with serving_all(one, two), talking(one.session) as ann, talking(two.session) as bob:
        for _ in range(20):
            replies = await asyncio.gather(
                ann.ask("join", room="r", name="Ann"), bob.ask("join", room="r", name="Bob")
            )
            assert sorted(each["type"] for each in replies) == ["error", "joined"]
            inside = ann if replies[0]["type"] == "joined" else bob
            await inside.send("leave", room="r")
            await inside.until("left")
            await inside.quiet()


async def test_many_who_open_a_room_at_once_are_in_one(server: RedisServer) -> None:
    one, two = two_nodes(server.url)
    async with serving_all(one, two), AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(talking(one.session)) for _ in range(5)]
        await asyncio.gather(*[each.join("r", f"{n}") for n, each in enumerate(clients)])
        assert [len(room.members) for room in _rooms(one)] == [5]
        for each in clients[1:]:
            await each.send("leave", room="r")
            await each.until("left", name=f"{clients.index(each)}")
        bob = await stack.enter_async_context(talking(two.session))
        assert await join_elsewhere(bob) == ONE


async def test_a_room_lives_as_long_as_its_members_however_long_that_is(
    server: RedisServer,
) -> None:
    one, two = two_nodes(server.url)
    async with serving_all(one, two), talking(one.session) as ann, talking(two.session) as bob:
        await ann.join("r", "Ann")
        await asyncio.sleep(2 * LEASE)
        assert await join_elsewhere(bob) == ONE


async def test_a_refused_member_does_not_keep_the_room_here(server: RedisServer) -> None:
    one = ServerNode(server.url, rooms=1)
    two = ServerNode(server.url)
    async with serving_all(one, two), talking(one.session) as ann, talking(two.session) as bob:
        await ann.join("first", "Ann")
        assert (await ann.ask("join", room="r", name="Ann"))["code"] == "too_many_rooms"
        await bob.join("r", "Bob")


async def test_the_key_of_a_room_names_the_server_alone_and_expires(server: RedisServer) -> None:
    one = ServerNode(server.url, address=ONE)
    async with serving_all(one), talking(one.session) as ann:
        await ann.join("r", "Ann")
        value = server.client.get(KEY)
        assert isinstance(value, bytes)
        assert value.partition(b" ")[2] == ONE.encode()
        assert server.client.pttl(KEY) <= LEASE * 1000
        assert not server.keys_without_expiry()


async def test_while_redis_is_away_rooms_go_on_and_new_ones_are_refused(
    own_server: RedisServer,
) -> None:
    one, two = two_nodes(own_server.url)
    async with (
        serving_all(one, two),
        talking(one.session) as ann,
        talking(one.session) as cat,
        talking(two.session) as bob,
    ):
        await ann.join("r", "Ann")
        own_server.stop()
        await cat.join("r", "Cat")
        await ann.until("joined", name="Cat")
        for client, room in ((bob, "r"), (ann, "new")):
            error = await client.ask("join", room=room, name="Bob")
            assert (error["code"], error["room"]) == ("store_unavailable", room)
            assert error["retryable"]
        own_server.start()  # it has forgotten everything
        await eventually(lambda: KEY in own_server.all_keys())
        assert await join_elsewhere(bob) == ONE
        await ann.join("new", "Ann")


async def test_a_server_that_was_cut_off_closes_the_rooms_that_another_one_has(
    server: RedisServer,
) -> None:
    async with Proxy(server.port) as proxy:
        one = ServerNode(proxy.url, address=ONE)
        two = ServerNode(server.url, address=TWO)
        async with (
            serving_all(one, two),
            talking(one.session) as ann,
            talking(one.session) as cat,
            talking(two.session) as bob,
        ):
            await ann.join("r", "Ann")
            await cat.join("r", "Cat")
            await ann.send("say", room="r", text="bot, a story")
            one.model.let(2)
            await ann.until("chunk")
            proxy.cut()
            await eventually(lambda: KEY not in server.all_keys())
            await bob.join("r", "Bob")
            proxy.mend()
            for client, name in ((ann, "Ann"), (cat, "Cat")):
                error = await client.until("error")
                assert (error["code"], error["room"]) == ("room_elsewhere", "r")
                assert error["address"] == TWO
                left = await client.receive()
                assert left == {"type": "left", "room": "r", "name": name, "participants": []}
            assert await ann.quiet() == []
            assert await one.rooms() == []
            await eventually(lambda: one.model.active == 0)
            assert await join_elsewhere(ann, "Ann") == TWO
            assert (await ann.ask("say", room="r", text="hello"))["code"] == "not_in_room"
            assert await bob.quiet() == []


async def test_a_client_that_leaves_while_the_room_is_asked_for_opens_none(
    own_server: RedisServer,
) -> None:
    one, two = two_nodes(own_server.url)
    async with serving_all(one, two):
        async with talking(one.session) as ann:
            own_server.hang()
            await ann.send("join", room="r", name="Ann")
            connections = one.app[CONNECTIONS]
            await eventually(lambda: connections.rooms._binding["r"] == 1)
        own_server.go_on()
        await eventually(lambda: not connections.rooms._binding)
        assert len(connections.rooms) == 0
        await eventually(lambda: KEY not in own_server.all_keys())
        async with talking(two.session) as bob:
            await bob.join("r", "Bob")


def _rooms(node: ServerNode) -> list[Room]:
    return list(node.app[CONNECTIONS].rooms._rooms.values())


# The leases alone.


class Names(RedisNames):
    """The names of one server, and those that it has lost."""

    def __init__(self, connections: RedisConnections, address: str) -> None:
        self.lost: list[tuple[str, str]] = []
        super().__init__(
            connections.link,
            StreamKeys("streams").room,
            LEASE,
            lambda: address,
            lambda *lost: self.lost.append(lost),
        )


@asynccontextmanager
async def two_names(url: str) -> AsyncIterator[tuple[Names, Names]]:
    async with no_leaks(), RedisConnections(url) as ours, RedisConnections(url) as theirs:
        names = Names(ours, ONE), Names(theirs, TWO)
        yield names
        for each in names:
            await each.close()


async def test_a_name_is_bound_once_and_binding_it_again_changes_nothing(
    server: RedisServer,
) -> None:
    async with two_names(server.url) as (ours, theirs):
        assert await ours.bind("r") is None
        assert await ours.bind("r") is None
        assert await theirs.bind("r") == ONE
        theirs.unbind("r")  # which isn't theirs
        assert await theirs.bind("r") == ONE
        ours.unbind("r")
        assert await theirs.bind("r") is None
        assert await ours.bind("r") == TWO
        assert await ours.bind("another") is None
    assert not server.all_keys()


async def test_the_names_of_a_server_that_died_are_free_after_its_lease(
    server: RedisServer,
) -> None:
    async with no_leaks(), RedisConnections(server.url) as connections:
        theirs = Names(connections, TWO)
        async with RedisConnections(server.url) as others:
            dead = Names(others, ONE)
            await dead.bind("r")
            dead._renewing.cancel()  # type: ignore[union-attr]
        assert await theirs.bind("r") == ONE
        await eventually(lambda: KEY not in server.all_keys())
        assert await theirs.bind("r") is None
        await theirs.close()


async def test_a_lost_name_is_reported_once_and_the_others_are_kept(server: RedisServer) -> None:
    async with two_names(server.url) as (ours, theirs):
        await ours.bind("r")
        await ours.bind("kept")
        server.client.delete(KEY)
        await theirs.bind("r")
        await eventually(lambda: ours.lost)
        await asyncio.sleep(2 * LEASE)
        assert ours.lost == [("r", TWO)]
        assert await theirs.bind("kept") == ONE
        assert theirs.lost == []


async def test_an_exception_of_who_is_told_does_not_end_the_renewals(server: RedisServer) -> None:
    async with two_names(server.url) as (ours, theirs):
        reports: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, each: reports.append(each))
        await ours.bind("r")
        await ours.bind("kept")
        ours._on_lost = lambda name, address: 1 / 0
        server.client.delete(KEY)
        await theirs.bind("r")
        await eventually(lambda: reports)
        await asyncio.sleep(2 * LEASE)
        assert await theirs.bind("kept") == ONE


async def test_the_leases_are_renewed_when_the_memory_is_full(own_server: RedisServer) -> None:
    async with two_names(own_server.url) as (ours, theirs):
        await ours.bind("r")
        own_server.client.config_set("maxmemory", "1")
        with pytest.raises(StoreUnavailableError):
            await theirs.bind("new")
        await asyncio.sleep(2 * LEASE)
        assert own_server.client.exists(KEY)
        assert ours.lost == []
        own_server.client.config_set("maxmemory", "0")


async def test_names_may_have_any_characters(server: RedisServer) -> None:
    name = "caf\u00e9 {x} \u4e16\u754c *?"
    async with two_names(server.url) as (ours, theirs):
        await ours.bind(name)
        assert await theirs.bind(name) == ONE
        assert await theirs.bind("cafe") is None


# `rxllm serve`.


@asynccontextmanager
async def program(*arguments: str) -> AsyncIterator[str]:
    """Run a server in a process of its own, and return where it listens."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "rxllm", "serve", "--port", "0", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()
        yield next(word for word in line.split() if word.startswith("http://"))
    finally:
        process.terminate()
        await process.wait()


async def test_the_address_is_where_the_server_listens_or_its_public_url(
    server: RedisServer, tmp_path: Path
) -> None:
    config = tmp_path / "rxllm.toml"
    config.write_text(f'[server]\nstore = "{server.url}"\npublic_url = "{ONE}"\n')
    async with AsyncExitStack() as stack:
        clients = []
        for arguments in (
            ("--store", server.url),
            ("--config", str(config)),
            ("--config", str(config), "--public-url", TWO),
        ):
            url = await stack.enter_async_context(program(*arguments))
            session = await stack.enter_async_context(aiohttp.ClientSession(url))
            clients.append((url, await stack.enter_async_context(talking(session))))
        (url, ann), (_, bob), (_, cat) = clients
        for client, address in ((ann, url), (bob, ONE), (cat, TWO)):
            await client.join("r", "Ann")
            for _, other in clients:
                if other is not client:
                    assert await join_elsewhere(other) == address
            await client.send("leave", room="r")
            await client.until("left")
            await eventually(lambda: KEY not in server.all_keys())
