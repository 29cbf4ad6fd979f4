"""Other people's clients for Python, in a virtual environment of their own: their versions of the
packages that they share differ from ours."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from asyncio.subprocess import PIPE
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets
from aiohttp import web
from httpx_sse import aconnect_sse

from rxllm import sinks
from rxllm.chunks import Chunk, End, Start, Token, ToolCall, Usage
from rxllm.errors import ContextLengthError
from rxllm.models.scripted import ScriptedModel
from rxllm.requests import ModelInfo, as_request
from rxllm.server import create_app
from tests.server.serving import STORY, Stepwise, port_of, serving
from tests.sinks.web import serving as sink_serving

SOURCES = Path(__file__).parent / "python"
FOLDER = Path(__file__).parents[2] / "build" / "clients"


@cache
def environment() -> Path:
    """Return a Python with the clients; skip the test if they can't be installed."""
    wanted = (SOURCES / "requirements.txt").read_bytes() + sys.version.encode()
    folder = FOLDER / f"py-{sha256(wanted).hexdigest()[:16]}"
    if not (folder / ".complete").exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        done = subprocess.run(
            [str(folder / "bin" / "python"), *install, "-r", str(SOURCES / "requirements.txt")],
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            pytest.skip(f"the clients could not be installed: {done.stderr[-500:]}")
        (folder / ".complete").touch()
    return folder / "bin" / "python"


class Caller:
    """Calls the tool that it is offered, and then says what the tool has said."""

    info = ModelInfo("caller", "test")

    def stream(self, prompt: Any, **options: Any) -> Any:
        request = as_request(prompt, **options)
        last = request.messages[-1]
        script: list[Chunk] = [Start("r", "caller"), Token(f"It is {last.text}."), End("stop")]
        if last.role != "tool" and request.tools:
            name = request.tools[0].name
            script = [
                Start("r", "caller"),
                ToolCall("c1", name, '{"city":', 0),
                ToolCall("c1", name, '{"city":"Oslo"}', 0, complete=True),
                Usage(3, 4),
                End("tool_calls"),
            ]
        return ScriptedModel(script[1:]).stream(request)


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        (
            "litellm",
            {
                "whole": STORY,
                "streamed": STORY,
                "call": ["weather", {"city": "Oslo"}],
                "anthropic": STORY,
                "too long": "ContextWindowExceededError",
            },
        ),
        (
            "langchain",
            {
                "whole": STORY,
                "streamed": STORY,
                "structured": "Oslo",
                "anthropic": STORY,
                "responses": STORY,
            },
        ),
        (
            "pydantic_ai",
            {
                "whole": STORY,
                "streamed": STORY,
                "responses": STORY,
                "answer": "It is snow.",
                "called": ["Oslo"],
            },
        ),
        ("instructor", {"tool_call": "Oslo", "json_mode": "Oslo"}),
        ("llm", {"streamed": STORY, "pieces": True}),
    ],
)
@pytest.mark.timeout(600)  # installing takes minutes
async def test_a_client_gets_what_it_asks_for(
    client: str, expected: dict[str, Any], tmp_path: Path
) -> None:
    python = environment()
    models: dict[str, Any] = {
        "tiny": ScriptedModel(*[STORY] * 8, by="word"),
        "caller": Caller(),
        "json": ScriptedModel('{"city": "Oslo"}'),
        "small": ScriptedModel([ContextLengthError("the prompt has 9 tokens")]),
    }
    async with serving(create_app(models)) as session:
        process = await asyncio.create_subprocess_exec(
            *(str(python), str(SOURCES / "ask.py"), client),
            f"http://127.0.0.1:{port_of(session)}",
            cwd=tmp_path,
            stdout=PIPE,
            stderr=PIPE,
            env={**os.environ, "HOME": str(tmp_path), "LLM_USER_PATH": str(tmp_path)},
        )
        async with asyncio.timeout(120):
            output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()[-3000:]
    assert json.loads(output.splitlines()[-1]) == expected


async def test_httpx_sse_reads_through_a_silence() -> None:
    """It takes an empty line after a comment for the end of an event without data."""
    model = Stepwise()

    async def answer(request: web.Request) -> web.StreamResponse:
        return await sinks.sse(request, model.stream("Hi"), heartbeat=0.02)

    async with sink_serving(answer) as url, httpx.AsyncClient() as client:
        model.let(2)
        seen = []
        async with aconnect_sse(client, "GET", url) as source:
            async for event in source.aiter_sse():
                seen.append(event)
                if len(seen) == 2:
                    await asyncio.sleep(0.2)  # several pings
                    model.let()
    assert [event.event for event in seen] == ["chunk"] * 8 + ["complete"]
    assert all(json.loads(event.data) for event in seen)


async def test_websockets_that_reads_slowly_keeps_its_stream() -> None:
    model = ScriptedModel("word " * 3000, by="word")
    async with serving(create_app({"tiny": model})) as session:
        url = f"ws://127.0.0.1:{port_of(session)}/ws"
        async with websockets.connect(url, max_queue=1) as socket:
            assert json.loads(await socket.recv())["type"] == "connected"
            await socket.send('{"type":"start","id":"a","prompt":"Hi"}')
            kinds = []
            async for message in socket:
                said = json.loads(message)
                kinds.append(said["type"])
                if len(kinds) % 100 == 0:
                    await asyncio.sleep(0.005)
                if said["type"] == "complete":
                    break
    assert kinds[-1] == "complete"
    assert len(kinds) > 2
