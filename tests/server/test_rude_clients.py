"""Clients that send nonsense, too much, or leave at once: no traceback, and nobody else waits."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import selectors
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from typing import Any
from urllib.parse import quote

import pytest
from yarl import URL

from tests.server.serving import port_of, reports, scripted, serving

WS = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


async def sent(port: int, data: bytes, *, reads: bool = True) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    line = await reader.readline() if reads else b""
    writer.transport.abort()
    return line


@pytest.mark.parametrize("path", ["/generate", "/stream", "/v1/messages", "/api/chat"])
async def test_a_compressed_body_is_refused_before_it_is_unpacked(path: str) -> None:
    body = gzip.compress(b'{"prompt": "' + b"x" * 50_000_000 + b'"}')
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    async with serving(scripted(), auto_decompress=False) as client:
        async with client.post(path, data=body, headers=headers) as response:
            assert response.status == 415
        headers["Content-Encoding"] = "identity"
        plain = json.dumps({"prompt": "Hi"})
        async with client.post("/generate", data=plain, headers=headers) as response:
            assert response.status == 200


@pytest.mark.parametrize("expect", [b"\xff", b"nonsense"])
async def test_an_unknown_expectation_fails(expect: bytes, caplog: Any) -> None:
    async with serving(scripted()) as client:
        found = reports()
        head = b"POST /generate HTTP/1.1\r\nHost: localhost\r\nExpect: " + expect + b"\r\n"
        line = await sent(port_of(client), head + b"Content-Length: 2\r\n\r\n{}")
        assert line.split()[1] == b"417"
        assert found == []
    assert caplog.records == []


async def test_an_expected_continue_is_sent() -> None:
    async with (
        serving(scripted()) as client,
        client.post("/generate", json={"prompt": "Hi"}, expect100=True) as response,
    ):
        assert response.status == 200
        async with client.post("/generate", json={}, expect100=True) as refused:
            assert refused.status == 400


async def test_a_client_that_leaves_after_asking_for_a_websocket_leaves_no_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving(scripted()) as client:
        found = reports()
        for _ in range(20):
            await sent(port_of(client), WS, reads=False)
        async with client.get("/healthz") as response:
            assert response.status == 200
        assert found == []
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.parametrize(
    ("stream_id", "status"),
    [
        ("{braces}", 200),
        ("a b", 200),
        ("!#$%&'()*+,-.:;<=>?@[]^_`|~", 200),
        (" a", 400),
        ("a ", 400),
        ("", 400),
        ("a/b", 400),
        ("x" * 101, 400),
        ("\u00e9", 400),
    ],
)
async def test_the_id_of_a_stream_is_one_that_can_be_asked_for(stream_id: str, status: int) -> None:
    async with serving(scripted()) as client:
        body = {"prompt": "Hi", "id": stream_id}
        async with client.post("/stream", json=body) as response:
            assert response.status == status
            await response.read()
        if status == 200:
            path = f"/stream/{quote(stream_id, safe='')}"
            async with client.get(URL(path, encoded=True)) as response:
                assert response.status == 200
                assert response.headers["X-Stream-Id"] == stream_id


def served(*arguments: str, files: int | None = None) -> tuple[subprocess.Popen[bytes], int]:
    """Start `rxllm serve` on a free port, with a limit of open files."""
    limit = f"ulimit -n {files}; " if files else ""
    program = "from rxllm.command_line import main; main()"
    command = f'{limit}exec "$@"'
    started = [sys.executable, "-c", program, "serve", "--port", "0", *arguments]
    process = subprocess.Popen(
        ["/bin/sh", "-c", command, "sh", *started],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    line = process.stdout.readline().decode()
    return process, int(line.split(":")[2].split("/")[0])


def ended(process: subprocess.Popen[bytes]) -> str:
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    return errors.decode()


def answered(sockets: list[socket.socket], count: int) -> list[bytes]:
    """Wait for the answers to `count` of the sockets, and return these."""
    found: list[bytes] = []
    with selectors.DefaultSelector() as selector:
        for each in sockets:
            selector.register(each, selectors.EVENT_READ)
        while len(found) < count:
            ready = selector.select(timeout=30)
            assert ready, f"{len(found)} answers"
            for key, _ in ready:
                assert isinstance(key.fileobj, socket.socket)
                found.append(key.fileobj.recv(100))
                selector.unregister(key.fileobj)
    return found


def test_more_connections_than_the_process_can_open_get_503_and_one_line() -> None:
    process, port = served(files=256)  # 128 are reserved; each client may have one to a provider
    with ExitStack() as opened:
        opened.callback(process.kill)
        sockets = [
            opened.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(300)
        ]
        answers = answered(sockets, 300 - 64)
        assert all(answer.startswith(b"HTTP/1.1 503 ") for answer in answers)
        lines = ended(process).splitlines()
    assert len([line for line in lines if "refused" in line]) == 1
    assert len(lines) == 1


def test_requests_that_are_not_http_leave_no_traceback() -> None:
    process, port = served()
    try:
        for data in (
            b"nonsense\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: abc\r\n\r\n",
            b"POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        ):
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(data)
                assert client.recv(100).split()[1] == b"400"
    finally:
        errors = ended(process)
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "streams", "clients"),
    [
        (200, 4000, 1000, 100, 1000),
        (200, 4000, 10_000, 100, 4000 - 128 - 100),
        (200, 1024, 10_000, 1000, (1024 - 128) // 2),
        (16, 16, 10, 10, 1),
    ],
)
def test_the_limit_of_open_files_is_raised_to_what_is_wanted(
    soft: int, hard: int, wanted: int, streams: int, clients: int
) -> None:
    program = (
        "import resource; from rxllm.server.connections import most_connections;"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}));"
        f"clients = most_connections({wanted}, {streams});"
        "print(clients, resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    raised = min(hard, max(soft, wanted + streams + 128))
    assert done.stdout.split() == [str(clients), str(raised)]
