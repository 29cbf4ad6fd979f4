"""Actions on the page and assertions about it for tests, and a slow model."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web
from aiohttp.test_utils import TestServer
from playwright.async_api import BrowserContext, Page, expect

from rxllm.models.scripted import ScriptedModel
from rxllm.requests import ModelInfo

SCRIPT = "<!doctype html><link rel=icon href=data:,><div id=root></div><script src=%s></script>"

STORY = "Once there was a **robot** who learned to paint the sea."


def with_bundle(app: web.Application, path: str, script: str) -> web.Application:
    """Add a page at `path` that runs `script`, under the server's own policy."""

    async def page(_: web.Request) -> web.Response:
        return web.Response(text=SCRIPT % f"{path}.js", content_type="text/html")

    async def code(_: web.Request) -> web.Response:
        return web.Response(text=script, content_type="text/javascript")

    app.router.add_get(path, page)
    app.router.add_get(f"{path}.js", code)
    return app


class Small(ScriptedModel):
    """A model with a small context."""

    @property
    def info(self) -> ModelInfo:
        return msgspec.structs.replace(super().info, context_length=64)


def slow(pieces: int = 2000, name: str = "slow") -> ScriptedModel:
    """Numbered words, 50 per second: more than any test waits for."""
    return ScriptedModel("".join(f" {n}" for n in range(pieces)), by="word", delay=0.02, name=name)


async def open_page(page: Page, server: TestServer, tab: str = "generate") -> None:
    await page.goto(f"{server.make_url('/')}#{tab}")
    await expect(page.locator(f"#{tab}")).to_be_visible()
    await expect(page.locator("#generate select option").first).to_be_attached()


async def generate(
    page: Page, prompt: str = "Tell me a story", *, max_tokens: str = "2000"
) -> None:
    await page.fill("#generate [name=prompt]", prompt)
    await page.fill("#generate [name=maxTokens]", max_tokens)
    await page.click("#generate [name=run]")


async def inspected(context: BrowserContext, server: TestServer) -> tuple[Page, Page]:
    """Open a page that runs a stream, and one that inspects it."""
    first, second = await context.new_page(), await context.new_page()
    await open_page(first, server)
    await generate(first)
    await expect(badge(first)).to_have_text("streaming")
    await open_page(second, server, "inspect")
    await second.click("#inspect .streams button")
    await expect(badge(second, "inspect").last).to_have_text("streaming")
    return first, second


def badge(page: Page, tab: str = "generate") -> Any:
    return page.locator(f"#{tab} .card > header .badge")


async def text_of(page: Page) -> str:
    return await page.locator("#generate .output").inner_text()


async def join(page: Page, server: TestServer, name: str) -> None:
    await open_page(page, server, "room")
    await page.fill("#room [name=name]", name)
    await page.click("#room [name=join]")
    await expect(page.locator("#room-text")).to_be_enabled()


async def listen(page: Page) -> None:
    """Collect the announcements to screen readers in `window.told`."""
    await page.evaluate(
        """() => {
          window.told = [];
          const announcer = document.getElementById("announcer");
          new MutationObserver(() => window.told.push(announcer.textContent))
            .observe(announcer, { childList: true });
        }"""
    )
