"""Agents behind a server, as other people's clients read them: a run with interim outputs, errors,
a nested run, a restart, a message of the user, an approval, and what follows it."""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import PIPE
from typing import Any

import pytest

from rxllm.server import create_app
from tests.clients.node import NODE, installed
from tests.server.agents import deleted, everything
from tests.server.serving import port_of, serving


async def asked_by(client: str, approved: str) -> Any:
    folder = installed()
    assert NODE is not None
    deleted.clear()
    async with serving(create_app({"agent": everything()})) as session:
        process = await asyncio.create_subprocess_exec(
            *(NODE, "agents.mjs", client, f"http://127.0.0.1:{port_of(session)}", approved),
            cwd=folder,
            stdout=PIPE,
            stderr=PIPE,
        )
        async with asyncio.timeout(60):
            output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()[-3000:]
    return json.loads(output)


@pytest.mark.parametrize("approved", ["yes", "no"])
async def test_ai_sdk(approved: str) -> None:
    found = await asked_by("aiSdk", approved)
    print(json.dumps(found, indent=1))
    assert found["errors"] == []


@pytest.mark.parametrize("approved", ["yes", "no"])
async def test_ag_ui(approved: str) -> None:
    found = await asked_by("agUi", approved)
    print(json.dumps(found, indent=1))
    assert found["errors"] == []
