"""The example of a deployment, run: three servers and one Redis, behind nginx or on one port."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import rxllm.server
from rxllm.server.messages import Complete, StreamFailed
from rxllm.settings import Settings
from tests.redis.deployed import FILES, Deployment, Program, Reader, command, replaced
from tests.redis.server import RedisServer, free_port
from tests.server.nginx import PROGRAM as NGINX

pytestmark = pytest.mark.slow


@pytest.fixture
async def deployment(tmp_path: Path) -> AsyncIterator[Deployment]:
    """Three servers behind nginx."""
    async with Deployment(tmp_path) as deployment:
        yield deployment


async def begin(deployment: Deployment, stream_id: str = "tale") -> Reader:
    """Begin a stream through the balancer, and return a reader that has the first three words."""
    await deployment.provider.let("A tale", 3)
    body = {"model": "large", "prompt": "A tale", "id": stream_id}
    reader = Reader(await deployment.client.post("/stream", json=body))
    await reader.has(3)
    return reader


async def join(deployment: Deployment, stream_id: str = "tale", after: int = 0) -> Reader:
    """Read a stream through the balancer."""
    headers = {"Last-Event-ID": f"{after}"} if after else {}
    return Reader(await deployment.client.get(f"/stream/{stream_id}", headers=headers))


async def generate(client: aiohttp.ClientSession) -> int:
    """Ask the bundled model, and return the status."""
    body = {"model": "tiny", "prompt": "Hi", "maxTokens": 2}
    async with client.post("/generate", json=body) as response:
        return response.status


async def test_a_stream_is_read_on_whichever_server_a_reader_lands(deployment: Deployment) -> None:
    readers = [await begin(deployment)]
    readers += [await join(deployment) for _ in range(5)]
    readers += [await begin(deployment)]  # the same request again, as after a lost connection
    await deployment.provider.let("A tale")
    for reader in readers:
        assert isinstance(await reader.end(), Complete)
        assert reader.text == deployment.provider.text
    assert deployment.provider.begun == [""]
    servers = await deployment.answered_by("/stream/tale", 5)
    assert {server.partition(":")[2] for server in servers} == {
        f"{port}" for port in deployment.servers
    }


async def test_the_streams_of_a_killed_server_go_on_to_the_last_word(
    deployment: Deployment,
) -> None:
    cut_off = await begin(deployment)
    others = [await join(deployment), await join(deployment)]
    for other in others:
        await other.has(3)
    deployment.servers[await deployment.server_of_the_stream()].send(signal.SIGKILL)
    assert await cut_off.end() is None
    resumed = await join(deployment, after=cut_off.events[-1].position)
    await deployment.provider.let("A tale")
    for reader in (*others, resumed):
        assert isinstance(await reader.end(), Complete)
    assert [other.text for other in others] == [deployment.provider.text] * 2
    # Without an announced restart, of a client that was ahead of Redis, nothing is repeated.
    before = "" if resumed.has_restarted else cut_off.text
    assert before + resumed.text == deployment.provider.text
    assert deployment.provider.begun == ["", "word1 word2 word3"]
    # Nobody has to know which server is gone.
    assert {await generate(deployment.client) for _ in range(6)} == {200}


async def test_without_take_over_readers_learn_that_the_server_is_lost(tmp_path: Path) -> None:
    changes = {"take_over = true": "take_over = false"}
    async with Deployment(tmp_path, changes=changes) as deployment:
        await begin(deployment)
        other = await join(deployment)
        await other.has(3)
        deployment.servers[await deployment.server_of_the_stream()].send(signal.SIGKILL)
        last = await other.end()
        assert isinstance(last, StreamFailed)
        assert (last.code, other.text) == ("node_lost", "word1 word2 word3")


async def test_a_stream_is_listed_paused_and_cancelled_on_any_server(
    deployment: Deployment,
) -> None:
    reader = await begin(deployment)
    for other in [await join(deployment), await join(deployment)]:  # on each of the others
        await other.has(3)  # so that Redis has them
    client = deployment.client
    for action, status in (("pause", "paused"), ("resume", "running")):
        async with client.post(f"/streams/tale/{action}") as response:
            assert (await response.json())["status"] == status
        for _ in range(3):
            async with client.get("/streams") as response:
                [summary] = (await response.json())["streams"]
            assert (summary["id"], summary["status"], summary["owner"]) == ("tale", status, "app")
    async with client.delete("/streams/tale") as response:
        assert (await response.json())["status"] == "cancelled"
    last = await reader.end()
    assert isinstance(last, Complete)
    assert last.finish_reason == "cancelled"
    servers = await deployment.answered_by("/streams", 6)
    assert len(set(servers)) > 1


async def test_servers_are_replaced_one_by_one_without_a_refused_request(
    deployment: Deployment,
) -> None:
    for tale in ("tale1", "tale2"):
        reader = await begin(deployment, tale)
        leaving = deployment.servers[await deployment.server_of_the_stream()]
        leaving.send(signal.SIGTERM)
        await leaving.wait_for("waiting for 1 stream")
        assert {await generate(deployment.client) for _ in range(6)} == {200}
        late = await join(deployment, tale)
        await deployment.provider.let("A tale")
        assert isinstance(await reader.end(), Complete)
        assert isinstance(await late.end(), Complete)
        assert reader.text == late.text == deployment.provider.text
        assert await leaving.ended() == 0
        await leaving.start("is serving on")
    assert set(deployment.provider.begun) == {""}


async def test_a_websocket_connects_through_the_balancer(deployment: Deployment) -> None:
    async with deployment.client.ws_connect("/ws") as socket:
        assert (await socket.receive_json(timeout=30))["type"] == "connected"
        options = {"model": "tiny", "maxTokens": 2}
        await socket.send_json({"type": "start", "id": "1", "prompt": "Hi", "options": options})
        while (message := await socket.receive_json(timeout=30))["type"] == "chunk":
            pass
        assert message["type"] == "complete"


async def test_a_room_is_reached_at_the_address_of_its_server(deployment: Deployment) -> None:
    async with AsyncExitStack() as exits:

        async def join_room(path: str, name: str) -> dict[str, Any]:
            socket = await exits.enter_async_context(deployment.client.ws_connect(path))
            assert (await socket.receive_json(timeout=30))["type"] == "connected"
            await socket.send_json({"type": "join", "room": "painters", "name": name})
            answer: dict[str, Any] = await socket.receive_json(timeout=30)
            return answer

        assert (await join_room("/ws", "Ann"))["type"] == "joined"
        refused = await join_room("/ws", "Bob")  # on the next server, which has no client yet
        assert refused["code"] == "room_elsewhere"
        root = "http://llm.example.org"
        joined = await join_room(f"{refused['address'].removeprefix(root)}ws", "Bob")
        assert joined["participants"] == ["Ann", "Bob"]


async def test_other_names_and_clients_without_a_key_are_refused(deployment: Deployment) -> None:
    client = deployment.client
    for headers, status in (({"Host": "evil.example"}, 421), ({"Authorization": "Bearer x"}, 401)):
        async with client.get("/streams", headers=headers) as response:
            assert response.status == status


async def test_servers_that_share_a_port_share_their_streams(tmp_path: Path) -> None:
    async with Deployment(tmp_path, shares_port=True) as deployment:
        reader = await begin(deployment)
        counts = set()
        for _ in range(30):  # each on a connection of its own
            async with deployment.client.get("/healthz") as response:
                counts.add((await response.json())["streams"])
        assert counts == {0, 1}
        others = [await join(deployment) for _ in range(12)]
        first = next(iter(deployment.servers.values()))
        first.send(signal.SIGTERM)
        await deployment.provider.let("A tale")
        for each in (reader, *others):
            assert isinstance(await each.end(), Complete)
            assert each.text == deployment.provider.text
        assert await first.ended() == 0
        assert {await generate(deployment.client) for _ in range(12)} == {200}


async def test_three_commands_start_three_servers(tmp_path: Path, server: RedisServer) -> None:
    """Those of the page, whose streams go on wherever they are read."""
    page = Path(rxllm.server.__file__).with_name("SCALING.md").read_text(encoding="utf-8")
    commands = re.findall(r"^\$ rxllm (serve --store .+)$", page, re.MULTILINE)
    assert len(commands) == 3
    async with AsyncExitStack() as exits:
        clients = []
        for number, line in enumerate(commands):
            words = line.replace("redis://127.0.0.1:6379/0", server.url).split()
            port = free_port()
            words[words.index("--port") + 1] = f"{port}"
            program = Program(f"{number}", tmp_path, [sys.executable, "-m", "rxllm", *words])
            await program.start()
            exits.push_async_callback(program.close)
            await program.wait_for("is serving on")
            client = aiohttp.ClientSession(f"http://127.0.0.1:{port}")
            clients.append(await exits.enter_async_context(client))
        body = {"prompt": "Tell me a story", "id": "tale"}
        readers = [Reader(await clients[0].post("/stream", json=body))]
        readers += [Reader(await client.get("/stream/tale")) for client in clients[1:]]
        for reader in readers:
            assert isinstance(await reader.end(), Complete)
        assert len({reader.text for reader in readers}) == 1


async def test_redis_permits_what_the_servers_need_and_keeps_everything(
    deployment: Deployment,
) -> None:
    reader = await begin(deployment)
    await deployment.provider.let("A tale")
    await reader.end()
    assert deployment.redis.info("memory")["maxmemory_policy"] == "noeviction"
    assert deployment.redis.info("persistence")["aof_enabled"] == 1
    assert deployment.redis.acl_log() == []


def test_nginx_accepts_its_configuration(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path)
    config = deployment.nginx_config([8081, 8082, 8083])
    checked = subprocess.run(
        [NGINX or "", "-t", "-c", config], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    assert "[warn]" not in checked.stderr or "super-user" in checked.stderr


@pytest.mark.parametrize("name", ["rxllm@.service", "reuse-port.conf"])
def test_the_options_of_the_units_exist(name: str) -> None:
    program, *words = command(name)
    assert (Path(program).name, words[0]) == ("rxllm", "serve")
    shown = subprocess.run(
        [sys.executable, "-m", "rxllm", "serve", "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    options = {word for word in words if word.startswith("--")}
    assert options <= set(re.findall(r"--[\w-]+", shown))


def test_systemd_waits_longer_than_the_servers_do() -> None:
    unit = (FILES / "rxllm@.service").read_text()
    stop = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    drain = re.findall(r"^shutdown = (\d+)", (FILES / "rxllm.toml").read_text(), re.MULTILINE)
    assert int(stop[0]) >= int(drain[0]) + 15 > Settings().shutdown


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    program = tmp_path / "rxllm"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    changes = {"/opt/rxllm/bin/rxllm": str(program)}
    unit = tmp_path / "rxllm@.service"
    unit.write_text(replaced("rxllm@.service", changes))
    drop_in = tmp_path / "rxllm@.service.d" / "reuse-port.conf"
    drop_in.parent.mkdir()
    drop_in.write_text(replaced("reuse-port.conf", changes))
    if (analyze := shutil.which("systemd-analyze")) is not None:
        checked = subprocess.run(
            [analyze, "verify", str(unit)], capture_output=True, text=True, check=False
        )
        assert (checked.returncode, checked.stderr) == (0, "")
