"""A reload of the page while its stream runs."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from tests.server.page.actions import Small, badge, generate, open_page, slow, text_of
from tests.server.page.conftest import Serve

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_reload_resumes_the_stream_with_no_gap_and_no_repeat(
    page: Page, serve: Serve
) -> None:
    model = slow(120)
    await open_page(page, await serve(model))
    await generate(page, "count")
    await expect(page.locator("#generate .output")).to_contain_text("10")
    await page.reload()
    await expect(badge(page)).to_have_text("streaming")
    assert await page.input_value("#generate [name=prompt]") == "count"
    await expect(badge(page)).to_have_text("complete")
    assert (await text_of(page)).split() == [str(n) for n in range(120)]
    assert len(model.requests) == 1
    await page.reload()
    await expect(badge(page)).to_have_text("ready")


@pytest.mark.parametrize(("tokens", "temperature"), [("1000", "0.3"), ("", "")])
async def test_a_reload_restores_the_form_of_a_running_stream(
    page: Page, serve: Serve, tokens: str, temperature: str
) -> None:
    await open_page(page, await serve({"small": Small("x", name="small"), "slow": slow()}))
    await page.select_option("#generate [name=model]", "slow")
    await page.fill("#generate [name=temperature]", temperature)
    await generate(page, max_tokens=tokens)
    await expect(page.locator("#generate .output")).to_contain_text("3")
    await page.reload()
    await expect(badge(page)).to_have_text("streaming")
    await expect(page.locator("#generate [name=model] option")).to_have_count(2)
    await expect(page.locator("#generate [name=model]")).to_have_value("slow")
    await expect(page.locator("#generate [name=maxTokens]")).to_have_value(tokens)
    await expect(page.locator("#generate [name=maxTokens]")).to_have_js_property("max", "")
    await expect(page.locator("#generate [name=temperature]")).to_have_value(temperature)
    await page.click("#generate [name=stop]")
    await expect(badge(page)).to_have_text("stopped")


async def test_a_reload_of_a_paused_stream_shows_it_paused(page: Page, serve: Serve) -> None:
    await open_page(page, await serve(slow(60)))
    await generate(page)
    await expect(page.locator("#generate .output")).to_contain_text("10")
    await page.click("#generate [name=hold]")
    await expect(badge(page)).to_have_text("paused")
    await page.reload()
    await expect(badge(page)).to_have_text("paused")
    await expect(page.locator("#generate .output")).to_contain_text("10")
    await page.get_by_role("button", name="Resume").click()
    await expect(badge(page)).to_have_text("complete")
    assert (await text_of(page)).split() == [str(n) for n in range(60)]
