"""`RedisConnections`: one connection for commands and one for messages, on each event loop."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.sentinel import Sentinel

import rxllm
from rxllm import operators as ops
from rxllm.errors import NoEventLoopError, StoreUnavailableError
from rxllm.models.scripted import ScriptedModel
from rxllm.redis import RedisConnections, RedisPool
from rxllm.redis.scripts import Script, key_for
from rxllm.testing import no_leaks
from rxllm.web.failures import status_of
from tests.operators.controlling.test_after_fork import in_child
from tests.redis.server import RedisServer
from tests.redis.streams import Gate, eventually, start

ECHO = Script("return ARGV[1]")
COUNT = Script("return redis.call('INCR', KEYS[1])")
STORE = Script("return redis.call('SET', KEYS[1], ARGV[1])")


async def test_the_master_of_a_sentinel_is_named_in_place_of_an_address() -> None:
    sentinel: Any = Sentinel([("127.0.0.1", 1)])  # type: ignore[no-untyped-call]
    connections = RedisConnections(sentinel.master_for("mine"), timeout=1)
    assert repr(connections) == "RedisConnections('mine', timeout=1.0)"


async def test_commands_are_answered_in_order_over_one_connection(
    server: RedisServer, connections: RedisConnections
) -> None:
    link = connections.link()
    replies = [link.send(COUNT, ["n"]) for _ in range(500)]
    assert await asyncio.gather(*replies) == list(range(1, 501))
    others = [each for each in server.client.client_list() if each["cmd"] != "client|list"]
    assert len(others) <= 2  # of which one is that of the test


async def test_callers_that_are_cancelled_never_get_the_reply_of_another_one(
    connections: RedisConnections,
) -> None:
    link = connections.link()

    async def ask(number: int) -> None:
        assert await link.send(ECHO, [], number) == str(number).encode()

    async with no_leaks():
        asked = [asyncio.create_task(ask(number)) for number in range(400)]
        for number, each in enumerate(asked):
            if number % 3 == 0:
                each.cancel()
            if number % 7 == 0:
                await asyncio.sleep(0)
        done = await asyncio.gather(*asked, return_exceptions=True)
        assert {type(each) for each in done} == {type(None), asyncio.CancelledError}


async def test_scripts_are_loaded_again_after_redis_has_forgotten_them(
    server: RedisServer, connections: RedisConnections
) -> None:
    link = connections.link()
    for _ in range(2):
        assert await link.send(ECHO, [], "a") == b"a"
        server.client.script_flush()


async def test_after_a_restart_the_first_command_is_answered(own_server: RedisServer) -> None:
    async with RedisConnections(own_server.url) as connections:
        for _ in range(2):
            assert await connections.link().send(ECHO, [], "a") == b"a"
            own_server.stop()
            own_server.start()


async def test_a_command_that_redis_refuses_fails_alone(
    server: RedisServer, connections: RedisConnections
) -> None:
    server.client.set("text", "a")
    link = connections.link()
    refused, answered = link.send(COUNT, ["text"]), link.send(ECHO, [], "a")
    with pytest.raises(StoreUnavailableError, match="not an integer"):
        await refused
    assert await answered == b"a"


async def test_a_redis_that_is_full_refuses_new_streams(own_server: RedisServer) -> None:
    async with RedisConnections(own_server.url) as connections:
        slots, gate = RedisPool(connections, "x", 1), Gate()
        gate.opened.set()
        own_server.client.config_set("maxmemory", 1)
        with pytest.raises(StoreUnavailableError, match="used memory > 'maxmemory'"):
            await start(gate.stream(), ops.limit_concurrency(slots))
        own_server.client.config_set("maxmemory", 0)
        await start(gate.stream(), ops.limit_concurrency(slots))


@pytest.mark.parametrize("seconds", [0.2, 0.5])
async def test_what_waits_behind_a_command_that_hangs_fails_with_it(
    own_server: RedisServer, seconds: float
) -> None:
    async with RedisConnections(own_server.url, timeout=seconds) as connections, no_leaks():
        link = connections.link()
        await link.send(ECHO, [], "a")
        own_server.hang()
        begun = time.monotonic()
        first = link.send(ECHO, [], "a")
        await asyncio.sleep(seconds / 2)
        second = link.send(ECHO, [], "a")
        for reply in (first, second):
            with pytest.raises(StoreUnavailableError, match="didn't answer"):
                await reply
        assert time.monotonic() - begun < seconds + 0.2
        own_server.go_on()


async def test_a_process_that_was_stopped_reads_the_reply_that_has_come_meanwhile(
    server: RedisServer,
) -> None:
    async with RedisConnections(server.url, timeout=0.2) as connections:
        link = connections.link()
        await link.send(ECHO, [], "a")
        reply = link.send(ECHO, [], "b")
        await asyncio.sleep(0)
        time.sleep(0.5)  # noqa: ASYNC251 - the process is stopped
        assert await reply == b"b"


async def test_messages_arrive_after_the_connection_was_lost_or_hung(
    own_server: RedisServer,
) -> None:
    async with RedisConnections(own_server.url, timeout=0.2) as connections, no_leaks():
        heard: list[str] = []
        ready: list[None] = []
        messages = connections.link().messages
        listener = messages.listen("x", heard.append, lambda: ready.append(None))
        await eventually(lambda: len(ready) == 1)
        own_server.stop()
        own_server.start()
        await eventually(lambda: len(ready) == 2)
        own_server.hang()
        await asyncio.sleep(1.5)  # a second of silence, and the timeout
        own_server.go_on()
        await eventually(lambda: len(ready) >= 3)
        await eventually(lambda: own_server.client.publish("x", "hello"))
        await eventually(lambda: "hello" in heard)
        listener.dispose()
        listener.dispose()


async def test_listeners_of_one_channel_come_and_go(
    server: RedisServer, connections: RedisConnections
) -> None:
    async with no_leaks():
        heard: list[Any] = []
        ready: list[str] = []
        messages = connections.link().messages
        first = messages.listen("x", heard.append, lambda: ready.append("first"))
        await eventually(lambda: ready == ["first"])
        second = messages.listen("x", heard.append, lambda: ready.append("second"))
        other = messages.listen("y", heard.append, lambda: ready.append("other"))
        await eventually(lambda: set(ready) == {"first", "second", "other"})
        first.dispose()
        server.client.publish("x", "a")
        await eventually(lambda: heard == ["a"])
        second.dispose()
        second = messages.listen("x", heard.append, lambda: ready.append("again"))
        await eventually(lambda: ready[-1] == "again")
        second.dispose()
        await eventually(lambda: server.client.pubsub_channels() == [b"y"])
        other.dispose()
        await eventually(lambda: server.client.pubsub_channels() == [])


async def test_a_listener_that_raises_is_reported_and_disturbs_no_other(
    server: RedisServer, connections: RedisConnections
) -> None:
    reports: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report))
    heard: list[str] = []
    messages = connections.link().messages
    messages.listen("x", lambda _: 1 / 0, lambda: None)
    messages.listen("x", heard.append, lambda: None)
    await eventually(lambda: server.client.publish("x", "a"))
    await eventually(lambda: heard == ["a"])
    assert isinstance(reports[0]["exception"], ZeroDivisionError)


async def test_close_fails_what_is_under_way_and_the_next_use_connects_again(
    own_server: RedisServer,
) -> None:
    async with no_leaks():
        connections = RedisConnections(own_server.url)
        link = connections.link()
        await link.send(ECHO, [], "a")
        own_server.hang()
        under_way = link.send(ECHO, [], "a")
        await asyncio.sleep(0.01)
        waiting = link.send(ECHO, [], "a")
        await connections.close()
        await connections.close()
        for reply in (under_way, waiting, link.send(ECHO, [], "a")):
            with pytest.raises(StoreUnavailableError, match="the connections were closed"):
                await reply
        own_server.go_on()
        assert await connections.link().send(ECHO, [], "a") == b"a"
        await connections.close()
        await eventually(lambda: len(own_server.client.client_list()) == 1)


async def test_the_options_of_a_url_or_of_a_client_do_not_change_the_rules(
    server: RedisServer,
) -> None:
    theirs = Redis(port=server.port, decode_responses=True, socket_timeout=1)
    url = f"{server.url}?decode_responses=1&socket_timeout=1"
    for given in (theirs, url):
        async with RedisConnections(given) as connections:
            link = connections.link()
            assert await link.send(STORE, ["key"], b"\xff") == b"OK"
            assert link.client.connection_pool.connection_kwargs["socket_timeout"] is None
    assert server.client.get("key") == b"\xff"
    await theirs.aclose()


def test_a_program_that_closes_nothing_leaves_no_warning(server: RedisServer) -> None:
    program = (
        "import rxllm; from rxllm import operators as ops; from rxllm.redis import *\n"
        "from rxllm.models.scripted import ScriptedModel\n"
        f"url = {server.url!r}\n"
        "hello = ScriptedModel('Hello').stream('Hi').pipe(\n"
        "    ops.circuit_breaker(RedisBreaker(url, 'x')),\n"
        "    ops.limit_concurrency(RedisPool(url, 'x', 1)),\n"
        "    ops.limit(RedisLimiter(url, 'x', requests=60)),\n"
        "    ops.cache(RedisCache(url, 'x'), 'key'))\n"
        "print(rxllm.run(hello).text)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", program],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "Hello\n"
    assert "Warning" not in done.stderr
    assert "never retrieved" not in done.stderr
    assert server.client.zcard("rx:{pool:x}") == 0


def test_importing_rxllm_and_its_server_loads_no_redis() -> None:
    program = (
        "import sys, rxllm; rxllm.server.create_app; rxllm.operators.cache\n"
        "print('redis' in sys.modules or 'rxllm.redis' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


def test_without_the_extra_the_error_says_what_to_install() -> None:
    program = "import sys; sys.modules['redis'] = None; import rxllm.redis"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert "ImportError: rxllm.redis requires redis 8.1: pip install 'rxllm[redis]'" in done.stderr


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
async def test_a_forked_child_has_no_slot_and_its_own_connections(server: RedisServer) -> None:
    slots, gate = RedisPool(server.url, "x", 2), Gate()
    asked = start(gate.stream(), ops.limit_concurrency(slots))
    await eventually(lambda: gate.running)

    def ask() -> str:
        held = slots.active
        asyncio._set_running_loop(None)  # that of the parent
        hello = ScriptedModel("Hello").stream("Hi").pipe(ops.limit_concurrency(slots))
        return f"{held} {rxllm.run(hello).text}"

    assert in_child(ask) == "0 Hello"
    assert slots.active == 1
    gate.opened.set()
    assert (await asked).text == "a"
    await slots.close()


def test_the_error_is_a_503_of_a_server() -> None:
    assert status_of(StoreUnavailableError("away")) == 503


def test_without_an_event_loop_the_error_says_so() -> None:
    with pytest.raises(NoEventLoopError):
        RedisConnections("redis://127.0.0.1").link()


def test_a_password_is_not_shown() -> None:
    assert "secret" not in repr(RedisConnections("redis://user:secret@127.0.0.1"))
    assert repr(RedisConnections("unix:///run/redis.sock", timeout=1)) == (
        "RedisConnections('/run/redis.sock', timeout=1.0)"
    )


@pytest.mark.parametrize(
    ("bad", "error"), [({"timeout": 0}, ValueError), ({"server": "nowhere"}, ValueError)]
)
def test_bad_arguments(bad: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        RedisConnections(**{"server": "redis://127.0.0.1", **bad})


def test_keys_of_one_name_share_a_slot_of_a_cluster() -> None:
    assert key_for("pool", "gpt-4: x") == "rx:{pool:gpt-4: x}"
