"""`rxllm serve` in a separate process: where it listens, and how it shuts down."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

SECONDS = 30.0
PROGRAM = """
import sys
import rxllm
from rxllm.command_line import main
from rxllm.models.scripted import ScriptedModel

rxllm.register("slow", lambda rest: ScriptedModel("a b c d e f", by="word", delay=0.2))
sys.exit(main())
"""

Serve = Callable[..., tuple["subprocess.Popen[str]", str]]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts the server on a free port, and returns the process and its URL."""
    with ExitStack() as programs:

        def serve(*arguments: str) -> tuple[subprocess.Popen[str], str]:
            command = [sys.executable, "-c", PROGRAM, "serve", "--port", "0", *arguments]
            program = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
            programs.enter_context(program)
            programs.callback(program.kill)
            assert program.stdout is not None
            line = program.stdout.readline()
            found = re.search(r"http://\S+", line)
            assert found is not None, line
            return program, found[0]

        yield serve


def ask(url: str, **headers: str) -> Any:
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - our own server
    return urllib.request.urlopen(request, timeout=SECONDS)  # noqa: S310


def status(url: str, **headers: str) -> int:
    try:
        with ask(url, **headers) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_it_serves_the_bundled_model_on_loopback(serve: Serve) -> None:
    program, url = serve()
    assert url.startswith("http://127.0.0.1:")
    with ask(f"{url}stream?prompt=Hello&maxTokens=3") as response:
        assert b"event: complete" in response.read()
    with ask(f"{url}models") as response:
        assert json.load(response)["defaultModel"] == "tiny"
    program.send_signal(signal.SIGTERM)
    assert program.wait(SECONDS) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_active_streams_finish_and_refuses_new_ones(
    serve: Serve, number: signal.Signals
) -> None:
    program, url = serve("--model", "slow")
    with ask(f"{url}stream?prompt=Hello") as response:
        assert response.readline() == b"event: chunk\n"
        program.send_signal(number)
        assert program.stdout is not None
        assert "waiting for 1 stream" in program.stdout.readline()
        assert status(f"{url}stream?prompt=Hello") == 503
        assert status(f"{url}healthz") == 503
        if number == signal.SIGTERM:
            program.send_signal(number)  # a second SIGTERM changes nothing
        rest = response.read().decode()
    assert "event: complete" in rest
    assert '"finishReason":"stop"' in rest
    assert program.wait(SECONDS) == 0


def test_a_server_that_shares_its_port_leaves_new_connections_to_the_others(serve: Serve) -> None:
    program, url = serve("--model", "slow", "--reuse-port")
    with ask(f"{url}stream?prompt=Hello") as response:
        assert response.readline() == b"event: chunk\n"
        program.send_signal(signal.SIGTERM)
        assert program.stdout is not None
        assert "waiting for 1 stream" in program.stdout.readline()
        assert not accepts(urllib.parse.urlsplit(url).port or 0)
        assert '"finishReason":"stop"' in response.read().decode()
    assert program.wait(SECONDS) == 0


def test_a_second_ctrl_c_cancels_the_remaining_streams(serve: Serve) -> None:
    program, url = serve("--model", "slow")
    with ask(f"{url}stream?prompt=Hello") as response:
        response.readline()
        program.send_signal(signal.SIGINT)
        assert program.stdout is not None
        program.stdout.readline()
        program.send_signal(signal.SIGINT)
        assert '"finishReason":"cancelled"' in response.read().decode()
    assert program.wait(SECONDS) == 0


def test_an_api_key_is_required(serve: Serve) -> None:
    _, url = serve("--api-key", "s3cret", "--model", "slow")
    assert status(f"{url}models") == 401
    assert status(f"{url}models", Authorization="Bearer s3cret") == 200


def test_limits_and_settings_are_options(serve: Serve) -> None:
    _, url = serve(
        *("--limit", "prompt_characters=3", "--limit", "grace=0"),
        *("--setting", "shutdown=0.5", "--setting", "piece_size=16"),
    )
    assert status(f"{url}stream?prompt=Hi&maxTokens=1") == 200
    assert status(f"{url}stream?prompt=Hello") == 413


@pytest.mark.slow
def test_startup_errors_are_reported_in_one_line(serve: Serve) -> None:
    _, url = serve("--model", "slow")
    port = url.rstrip("/").rpartition(":")[2]
    for arguments, code, words in (
        (["--port", port], 1, "in use"),
        (["--model", "nothing"], 2, "there is no model"),
        (["--cors", "nowhere"], 2, "origin"),
        (["--limit", "streams"], 2, "--limit must be NAME=VALUE"),
        (["--limit", "stream=5"], 2, "did you mean streams?"),
        (["--limit", "streams=5", "--limit", "streams=6"], 2, "given twice"),
        (["--limit", "streams=many"], 2, "streams must be an integer, got 'many'"),
        (["--setting", "queue=0.5"], 2, "queue must be an integer, got '0.5'"),
        (["--setting", "piece_size=few"], 2, "piece_size must be an integer, got 'few'"),
        (["--setting", "total=0"], 2, "total must be a number of seconds"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "rxllm", "serve", *arguments],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert words in done.stderr
        assert done.stderr.count("\n") == 1


def test_a_second_sigterm_during_the_cleanup_changes_nothing(serve: Serve) -> None:
    program, url = serve()
    address = urllib.parse.urlsplit(url)
    with socket.create_connection((address.hostname, address.port), SECONDS) as client:
        client.sendall(
            b"POST /generate HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
            b"Content-Length: 50\r\n\r\n"
        )
        assert client.recv(100).startswith(b"HTTP/1.1 100")  # its handler waits for the body
        client.sendall(b"{")
        program.send_signal(signal.SIGTERM)
        while accepts(address.port or 0):
            pass
        program.send_signal(signal.SIGTERM)
        assert program.wait(SECONDS) == 0


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), SECONDS).close()
    except ConnectionError:
        return False
    return True
