"""`rxllm check`: the table, the JSON, and the exit codes."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from rxllm.command_line import main
from rxllm.doctor import Checkup
from rxllm.server import create_app
from rxllm.testing.fault_server import FaultServer, Reply
from rxllm.testing.faults import faulty_reply
from tests.server.serving import serving


async def test_a_right_server(capsys: pytest.CaptureFixture[str]) -> None:
    async with serving(create_app(models=["tiny"])) as client:
        url = str(client._base_url).rstrip("/")
        code = await asyncio.to_thread(main, ["check", url, "--wire", "anthropic"])
    lines = capsys.readouterr().out.splitlines()
    assert code == 0
    assert lines[:3] == [f"{url}, model tiny", "", "anthropic"]
    assert "  tools         ok" in lines


async def test_a_server_with_a_fault(capsys: pytest.CaptureFixture[str]) -> None:
    async with FaultServer(faulty_reply("the body ends", "in the middle")) as server:
        arguments = ["check", server.url, "--wire", "openai_chat", "-m", "m"]
        assert await asyncio.to_thread(main, arguments) == 1
        table = capsys.readouterr().out
        assert await asyncio.to_thread(main, [*arguments, "--json"]) == 1
    assert "  end           wrong   the stream ends without an event that says so\n" in table
    assert "                        [DONE] is missing\n" in table
    checkup = msgspec.json.decode(capsys.readouterr().out, type=Checkup)
    assert not checkup.is_clean
    assert checkup.model == "m"


async def test_the_key_comes_from_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = create_app(models=["tiny"], api_key="secret")
    monkeypatch.setenv("CHECK_KEY", "secret")
    async with serving(app) as client:
        asked = ["check", str(client._base_url), "--wire", "openai_chat"]
        assert await asyncio.to_thread(main, [*asked, "--key-env", "CHECK_KEY"]) == 0
        assert await asyncio.to_thread(main, [*asked, "-m", "tiny"]) == 1
    assert "status 401" in capsys.readouterr().out


def test_what_is_refused(capsys: pytest.CaptureFixture[str], unused_tcp_port: int) -> None:
    refused = {
        "localhost:8080": (2, "must begin with http:// or https://"),
        f"http://127.0.0.1:{unused_tcp_port}": (1, "nothing answers at"),
    }
    for url, (code, words) in refused.items():
        assert main(["check", url]) == code
        assert words in capsys.readouterr().err
    assert main(["check", "http://127.0.0.1", "--key-env", "NO_SUCH_KEY"]) == 2
    assert "NO_SUCH_KEY is not set" in capsys.readouterr().err


async def test_a_server_without_any_wire(capsys: pytest.CaptureFixture[str]) -> None:
    async with FaultServer(Reply(status=404)) as server:
        assert await asyncio.to_thread(main, ["check", server.url]) == 2
    assert "serves no stream" in capsys.readouterr().err
