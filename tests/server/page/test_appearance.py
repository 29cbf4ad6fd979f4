"""The theme, the width of the window, times, and right-to-left text."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Page, expect

from rxllm.models.scripted import ScriptedModel
from tests.server.page.actions import badge, generate, open_page
from tests.server.page.conftest import Library, Serve

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_the_theme_is_the_systems_until_one_is_chosen(page: Page, serve: Serve) -> None:
    async def ground() -> int:
        color: str = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        return int(re.findall(r"\d+", color)[0])

    server = await serve(ScriptedModel("x"))
    await page.emulate_media(color_scheme="dark")
    await open_page(page, server)
    assert await ground() < 60
    await page.click("#theme")
    assert await ground() > 200
    await page.reload()
    assert await ground() > 200
    await page.click("#theme")
    assert await ground() < 60


async def test_figures_are_in_two_columns_on_a_phone(page: Page, serve: Serve) -> None:
    await page.set_viewport_size({"width": 360, "height": 800})
    await open_page(page, await serve(ScriptedModel("x")))
    tops = await page.evaluate(
        """[...document.querySelectorAll("#generate .figures div")]
          .map((figure) => figure.getBoundingClientRect().top)"""
    )
    assert tops[0] == tops[1] < tops[2] == tops[3]


@pytest.mark.parametrize("width", [320, 768, 1280])
async def test_nothing_is_wider_than_the_window(page: Page, serve: Serve, width: int) -> None:
    text = f"{'w' * 300}\n\n```\n{'x' * 300}\n```\n\n[{'l' * 90}](https://example.org)"
    server = await serve(ScriptedModel(text))
    await page.set_viewport_size({"width": width, "height": 800})
    await open_page(page, server)
    await generate(page)
    await expect(badge(page)).to_have_text("complete")
    for tab in ("generate", "compare", "chat", "room", "inspect"):
        await page.click(f"#tab-{tab}")
        if tab == "inspect":
            await page.click("#inspect .streams button")
            await expect(badge(page, "inspect").last).to_have_text("complete")
        wide = await page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, tab


async def test_right_to_left_text_is_aligned_right(page: Page, serve: Serve) -> None:
    await open_page(page, await serve(ScriptedModel("שלום עולם")))
    await generate(page, "ספר לי סיפור")
    await expect(badge(page)).to_have_text("complete")
    await page.click("#tab-chat")
    await page.fill("#chat [name=text]", "שלום")
    await page.keyboard.press("Enter")
    await expect(page.locator("#chat .said .text")).to_have_count(2)
    for place in ("#generate [name=prompt]", "#generate .output .text", "#chat .mine .text"):
        assert await page.locator(place).evaluate("e => e.matches(':dir(rtl)')"), place


async def test_a_time_is_rounded_before_it_is_formatted(in_browser: Library) -> None:
    """No minute has 60 seconds."""
    written = await in_browser(
        'return given.map((await import("/static/dom.js")).duration)',
        [0.004, 1.234, 9.999, 59.94, 59.97, 119.4, 119.6, 179.9],
    )
    assert written == [
        "0.00 s",
        "1.23 s",
        "10.0 s",
        "59.9 s",
        "1 min 0 s",
        "1 min 59 s",
        "2 min 0 s",
        "3 min 0 s",
    ]
