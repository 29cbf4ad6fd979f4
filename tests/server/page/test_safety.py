"""Model output stays text, and the page keeps to its server and its policy."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.async_api import Page, expect

from rxllm.models.scripted import ScriptedModel
from tests.server.page.actions import STORY, badge, generate, open_page, text_of
from tests.server.page.conftest import PAGE, Serve

pytestmark = pytest.mark.asyncio(loop_scope="session")

HOSTILE = (
    "<script>window.hacked = 1</script> <img src=x onerror='window.hacked = 2'> "
    '[click](javascript:window.hacked=3) <a href="javascript:window.hacked=4">x</a>'
)


@pytest.mark.parametrize("by", ["word", "character"])
async def test_hostile_text_of_a_model_is_shown_as_text(page: Page, serve: Serve, by: Any) -> None:
    """Model text must not be inserted as HTML."""
    await open_page(page, await serve(ScriptedModel(HOSTILE, by=by)))
    await generate(page)
    await expect(badge(page)).to_have_text("complete")
    assert await text_of(page) == HOSTILE
    assert await page.locator("#generate .output :is(script, img, a)").count() == 0
    assert await page.evaluate("window.hacked") is None


async def test_nothing_on_the_page_reads_text_as_html() -> None:
    for file in PAGE.glob("*.js"):
        source = file.read_text(encoding="utf-8")
        source = re.sub(r"/\*.*?\*/", "", source, flags=re.DOTALL)
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", source
        )


async def test_the_page_sends_requests_only_to_its_server(page: Page, serve: Serve) -> None:
    server = await serve(ScriptedModel(STORY))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await open_page(page, server)
    await generate(page)
    await expect(badge(page)).to_have_text("complete")
    assert {url.split("/")[2] for url in asked} == {f"{server.host}:{server.port}"}


async def test_the_policy_of_the_server_does_not_block_the_page(page: Page, serve: Serve) -> None:
    server = await serve(ScriptedModel(STORY))
    response = await page.goto(str(server.make_url("/")))
    assert response is not None
    policy = (await response.all_headers())["content-security-policy"]
    assert "unsafe" not in policy
    html = (PAGE / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"\son\w+=|\sstyle=|<style|<script>", html)


async def test_the_page_works_with_a_key(browser: Any, serve: Serve) -> None:
    server = await serve(ScriptedModel(STORY), api_key="open sesame")
    context = await browser.new_context(
        http_credentials={"username": "any", "password": "open sesame"}
    )
    page = await context.new_page()
    await open_page(page, server)
    await generate(page)
    await expect(badge(page)).to_have_text("complete")
    await page.click("#tab-chat")
    await expect(page.locator("#chat .connection")).to_have_text("connected")
    await context.close()
