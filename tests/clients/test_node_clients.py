"""Other people's clients for Node: OpenAI's SDK, EventSource, and a WebSocket for `rxllm.js`."""

from __future__ import annotations

import asyncio
import json
import shutil
from asyncio.subprocess import PIPE
from typing import Any

import pytest

from rxllm.models.scripted import ScriptedModel
from rxllm.server import create_app
from tests.clients.node import NODE, installed
from tests.clients.test_python_clients import Caller
from tests.server.page.conftest import PAGE
from tests.server.serving import STORY, port_of, serving


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        (
            "openai",
            {
                "whole": STORY,
                "streamed": STORY,
                "tools": "It is snow in Oslo.",
                "responses": STORY,
                "deltas": STORY,
            },
        ),
        ("eventSource", {"text": STORY, "opened": 1}),
        ("websocket", {"text": STORY, "tokens": 12}),
    ],
)
async def test_a_client_gets_what_it_asks_for(client: str, expected: dict[str, Any]) -> None:
    folder = installed()
    assert NODE is not None
    shutil.copy(PAGE / "rxllm.js", folder / "rxllm.mjs")
    models: dict[str, Any] = {
        "tiny": ScriptedModel(*[STORY] * 8, by="word"),
        "caller": Caller(),
    }
    async with serving(create_app(models)) as session:
        process = await asyncio.create_subprocess_exec(
            *(NODE, "clients.mjs", client, f"http://127.0.0.1:{port_of(session)}"),
            cwd=folder,
            stdout=PIPE,
            stderr=PIPE,
        )
        async with asyncio.timeout(60):
            output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()[-3000:]
    assert json.loads(output) == expected
