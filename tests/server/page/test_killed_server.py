"""The server is killed while a page is open, and started again."""

from __future__ import annotations

import asyncio
import sys

import pytest
from playwright.async_api import Page, expect

from rxllm.models.scripted import ScriptedModel
from tests.server.page.actions import badge, generate, text_of
from tests.server.page.conftest import PAGE, Complaints, Serve

pytestmark = pytest.mark.asyncio(loop_scope="session")

SERVER = """
import asyncio
from aiohttp.test_utils import TestServer
from rxllm.models.scripted import ScriptedModel
from rxllm.server.app import create_app

async def main():
    model = ScriptedModel("word " * 900, by="word", delay=0.02, name="slow")
    server = TestServer(create_app({"slow": model}))
    await server.start_server()
    print(server.port, flush=True)
    await asyncio.sleep(100)

asyncio.run(main())
"""


async def test_the_page_recovers_after_the_server_is_killed_and_restarted(
    page: Page, serve: Serve, complaints: Complaints
) -> None:
    """The lost stream is reported; the page and its connection recover by themselves."""
    complaints.expected = ("Failed to load resource", "WebSocket connection")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVER, stdout=asyncio.subprocess.PIPE, cwd=PAGE.parents[2]
    )
    try:
        assert process.stdout is not None
        port = int(await process.stdout.readline())
        await page.goto(f"http://127.0.0.1:{port}/#chat")
        await expect(page.locator("#chat .connection")).to_have_text("connected")
        await page.click("#tab-room")
        await page.fill("#room [name=name]", "Ada")
        await page.click("#room [name=join]")
        await page.fill("#room-text", "bot, speak")
        await page.keyboard.press("Enter")
        reply = page.locator("#room .said:not(.mine)")
        await expect(reply.locator(".text")).to_contain_text("word word")
        await page.click("#tab-generate")
        await generate(page)
        await expect(page.locator("#generate .output")).to_contain_text("word word")
    finally:
        process.kill()
        await process.wait()
    await expect(page.locator("#chat .connection")).to_contain_text("connection lost")
    await expect(page.locator("#room-text")).not_to_be_editable()
    await expect(reply.locator(".text")).to_contain_text("word word")
    await expect(badge(page)).to_have_text("reconnecting")
    assert (await text_of(page)).startswith("word word")
    await serve(ScriptedModel("again", name="slow"), port=port)
    await expect(badge(page)).to_have_text("failed", timeout=30_000)
    assert (await text_of(page)).startswith("word word")
    await expect(page.locator("#chat .connection")).to_have_text("connected", timeout=30_000)
    await expect(page.locator("#room-text")).to_be_editable()
    await expect(reply).to_contain_text("word word")
    await expect(reply).to_contain_text("The answer was lost")
    assert await reply.get_attribute("data-state") is None
    await generate(page)
    await expect(page.locator("#generate .output")).to_have_text("again")
