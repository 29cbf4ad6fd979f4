"""The components of `examples/react`, bundled with React and rendered in its strict mode."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from rxllm.chunks import End, Start, Token
from rxllm.server.app import create_app
from tests.clients.node import installed
from tests.server.page.actions import with_bundle
from tests.server.page.conftest import Serve
from tests.server.serving import Stepwise

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROOT = Path(__file__).parents[3]
MAIN = """
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { Streams } from "./Streams.jsx";

const root = createRoot(document.getElementById("root"));
root.render(<StrictMode><Streams model="tiny" /></StrictMode>);
"""


def bundle(folder: Path) -> str:
    """Bundle the components, as an application would."""
    modules = installed() / "node_modules"
    for source in (ROOT / "examples" / "react").glob("*.js*"):
        shutil.copy(source, folder)
    shutil.copy(ROOT / "rxllm" / "server" / "page" / "rxllm.js", folder)
    (folder / "main.jsx").write_text(MAIN)
    command = [
        str(modules / ".bin" / "esbuild"),
        *("main.jsx", "--bundle", "--jsx=automatic", "--log-level=error"),
        '--define:process.env.NODE_ENV="development"',
    ]
    environment = {**os.environ, "NODE_PATH": str(modules)}
    done = subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    return done.stdout.decode()


async def test_each_of_many_streams_shows_its_cursor_progress_and_stop(
    page: Page, serve: Serve, tmp_path: Path
) -> None:
    text = "word " * 6
    model = Stepwise(Start("r", "tiny", max_tokens=500), *map(Token, text), End("stop"))
    server = await serve(with_bundle(create_app({"tiny": model}), "/our", bundle(tmp_path)))
    await page.goto(str(server.make_url("/our")))
    await expect(page.locator("[role=status]")).to_have_text("Connected")
    for prompt in ("first", "second"):
        await page.fill("input", prompt)
        await page.keyboard.press("Enter")
    items = page.locator("li")
    await expect(items.locator(".prompt")).to_have_text(["first", "second"])
    await expect(items.locator(".cursor")).to_have_count(2)
    model.let(2 * 12)
    await expect(items.locator("progress")).to_have_count(2)
    await items.nth(0).locator("button").click()
    await expect(items.nth(0).locator(".cursor")).to_have_count(0)
    await expect(items.nth(0).locator(".figures")).to_contain_text(" tokens in ")
    await expect(items.nth(1).locator(".cursor")).to_have_count(1)
    model.let()
    await expect(items.nth(1).locator(".answer")).to_have_text(text)
    await expect(items.locator(".cursor, button")).to_have_count(0)
    assert model.active == 0
