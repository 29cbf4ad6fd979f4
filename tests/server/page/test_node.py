"""`rxllm.js` in Node: the oldest version that it supports, and others."""

from __future__ import annotations

import asyncio
import json
import shutil
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import pytest

from rxllm.models.scripted import ScriptedModel
from rxllm.server.app import create_app
from tests.server.page.conftest import PAGE
from tests.server.serving import STORY, port_of, serving

NODE = shutil.which("node")


async def in_node(folder: Path, program: str, *arguments: str) -> Any:
    """Run a program next to the module, as an application that has copied it."""
    if NODE is None:
        pytest.skip("there is no node")
    (folder / "rxllm.mjs").write_text((PAGE / "rxllm.js").read_text())
    (folder / "main.mjs").write_text(program)
    process = await asyncio.create_subprocess_exec(
        NODE, str(folder / "main.mjs"), *arguments, stdout=PIPE, stderr=PIPE
    )
    async with asyncio.timeout(60):
        output, errors = await process.communicate()
    assert (process.returncode, errors.decode()) == (0, "")
    return json.loads(output)


async def test_streams_over_http(tmp_path: Path) -> None:
    program = """
    import { Client, textOf } from "./rxllm.mjs";
    const client = new Client({ base: process.argv[2] });
    const seen = { chunks: "", lines: "" };
    const stream = client.stream({ prompt: "hi" });
    for await (const chunk of stream.chunks()) seen.chunks += textOf(chunk);
    for await (const { chunk } of client.ndjson({ prompt: "hi" })) {
      if (chunk) seen.lines += textOf(chunk);
    }
    seen.whole = (await client.generate({ prompt: "hi" })).text;
    seen.again = [];
    for await (const message of client.watch(stream.id, { after: stream.position })) {
      seen.again.push(message);
    }
    console.log(JSON.stringify(seen));
    """
    async with serving(create_app({"m": ScriptedModel(STORY)})) as client:
        url = f"http://127.0.0.1:{port_of(client)}"
        found = await in_node(tmp_path, program, url)
    assert found == {"chunks": STORY, "lines": STORY, "whole": STORY, "again": []}


async def test_without_a_websocket_of_its_own_it_says_what_to_pass(tmp_path: Path) -> None:
    """Node has had one since version 22."""
    program = """
    delete globalThis.WebSocket;
    import { Connection } from "./rxllm.mjs";
    try {
      new Connection({ url: "http://127.0.0.1:1/ws" });
    } catch ({ name, message }) {
      console.log(JSON.stringify([name, message]));
    }
    """
    name, message = await in_node(tmp_path, program)
    assert name == "TypeError"
    assert "WebSocket" in message


async def test_it_can_be_imported_from_the_package(tmp_path: Path) -> None:
    if NODE is None:
        pytest.skip("there is no node")
    program = f"import {{ Client }} from {json.dumps(str(PAGE / 'rxllm.js'))}; console.log(1);"
    (tmp_path / "main.mjs").write_text(program)
    process = await asyncio.create_subprocess_exec(
        NODE, str(tmp_path / "main.mjs"), stdout=PIPE, stderr=PIPE
    )
    assert await process.communicate() == (b"1\n", b"")
