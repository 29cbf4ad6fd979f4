"""Streamed and plain side by side, and two models side by side."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Page, expect

from rxllm.models.scripted import ScriptedModel
from tests.server.page.actions import STORY, badge, open_page, slow
from tests.server.page.conftest import Serve

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_streamed_and_plain_side_by_side(page: Page, serve: Serve) -> None:
    await open_page(page, await serve(ScriptedModel(STORY, by="word", delay=0.02)), "compare")
    await page.fill("#compare [name=prompt]", "hi")
    await page.click("#compare [name=run]")
    await expect(badge(page, "compare")).to_have_text(["complete", "complete"])
    texts = await page.locator("#compare .output").all_inner_texts()
    assert texts == [STORY.replace("**", "")] * 2
    await expect(page.locator("#compare .hint:visible")).to_contain_text(
        "The first text appeared after"
    )


async def test_two_models_side_by_side(page: Page, serve: Serve) -> None:
    models = {name: ScriptedModel(f"I am {name}", name=name) for name in ("one", "two")}
    await open_page(page, await serve(models), "compare")
    await page.check("#compare [value=models]")
    await page.fill("#compare [name=prompt]", "who are you?")
    await page.click("#compare [name=run]")
    await expect(badge(page, "compare")).to_have_text(["complete", "complete"])
    assert await page.locator("#compare .output").all_inner_texts() == ["I am one", "I am two"]
    assert await page.locator("#compare .card h2").all_inner_texts() == ["one", "two"]


@pytest.mark.parametrize(
    "stop",
    [
        pytest.param(lambda page: page.click("#compare [name=stop]"), id="button"),
        pytest.param(lambda page: page.keyboard.press("Escape"), id="escape"),
    ],
)
async def test_stop_ends_both(page: Page, serve: Serve, stop: Any) -> None:
    models = {name: slow(name=name) for name in ("one", "two")}
    await open_page(page, await serve(models), "compare")
    await page.check("#compare [value=models]")
    await page.fill("#compare [name=prompt]", "count")
    await page.click("#compare [name=run]")
    await expect(badge(page, "compare")).to_have_text(["streaming", "streaming"])
    await stop(page)
    await expect(badge(page, "compare")).to_have_text(["stopped", "stopped"])
    assert [model.active for model in models.values()] == [0, 0]
