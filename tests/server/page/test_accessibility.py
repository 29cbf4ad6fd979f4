"""The page with the keyboard and with a screen reader."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import BrowserContext, Page, Route, expect

from rxllm.models.scripted import ScriptedModel
from tests.server.page.actions import badge, generate, inspected, join, listen, open_page, slow
from tests.server.page.conftest import Complaints, Serve

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_the_tabs_work_with_the_keyboard(page: Page, serve: Serve) -> None:
    await open_page(page, await serve(ScriptedModel("x")))
    await page.focus("#tab-generate")
    await page.keyboard.press("ArrowRight")
    await expect(page.locator("#compare")).to_be_visible()
    await expect(page.locator("#tab-compare")).to_be_focused()
    await page.keyboard.press("End")
    await expect(page.locator("#inspect")).to_be_visible()
    await page.keyboard.press("ArrowRight")
    await expect(page.locator("#generate")).to_be_visible()
    selected = page.locator("[role=tab][aria-selected=true]")
    await expect(selected).to_have_text("Generate")
    assert await page.locator("[role=tab][tabindex='0']").count() == 1


@pytest.mark.parametrize("tab", ["generate", "compare"])
async def test_the_focus_moves_to_the_enabled_button(page: Page, serve: Serve, tab: str) -> None:
    await open_page(page, await serve(slow()), tab)
    run, stop = page.locator(f"#{tab} [name=run]"), page.locator(f"#{tab} [name=stop]")
    await run.focus()
    await page.keyboard.press("Enter")
    await expect(stop).to_be_focused()
    await expect(badge(page, tab).first).to_have_text("streaming")
    await page.keyboard.press("Enter")
    await expect(run).to_be_focused()
    await page.focus(f"#{tab} [name=prompt]")
    await page.keyboard.press("Control+Enter")
    await expect(stop).to_be_enabled()
    await page.keyboard.press("Escape")
    await expect(run).to_be_enabled()
    await expect(page.locator(f"#{tab} [name=prompt]")).to_be_focused()


async def test_the_focus_of_a_conversation_stays_in_the_text_field(
    page: Page, serve: Serve
) -> None:
    server = await serve(ScriptedModel("yes"))
    await open_page(page, server, "chat")
    await page.fill("#chat [name=text]", "hello")
    await page.click("#chat [name=send]")
    await expect(page.locator("#chat [name=text]")).to_be_focused()
    await expect(page.locator("#chat [name=send]")).to_be_enabled()
    await join(page, server, "Ada")
    await expect(page.locator("#room-text")).to_be_focused()
    await page.click("#room [name=leave]")
    await expect(page.locator("#room [name=name]")).to_be_focused()


async def test_the_focus_stays_in_the_inspected_stream_when_it_ends(
    context: BrowserContext, serve: Serve
) -> None:
    _, second = await inspected(context, await serve(slow()))
    await second.locator("#inspect .actions").get_by_role("button", name="Stop").click()
    await expect(second.locator("#inspect .events")).to_be_focused()


@pytest.mark.parametrize("hash_", ["main", "nothing"])
async def test_a_hash_that_names_no_tab_keeps_the_tab(page: Page, serve: Serve, hash_: str) -> None:
    """Such as that of the skip link for keyboard users."""
    await open_page(page, await serve(ScriptedModel("x")), "chat")
    if hash_ == "main":
        await page.focus(".skip")
        await page.keyboard.press("Enter")
        await expect(page.locator("#main")).to_be_focused()
    else:
        await page.evaluate("location.hash = 'nothing'")
    await expect(page.locator("#chat")).to_be_visible()
    await expect(page.locator("#generate")).to_be_hidden()


async def test_every_control_has_a_name(page: Page, serve: Serve) -> None:
    await open_page(page, await serve(ScriptedModel("x")))
    unnamed = await page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, textarea, progress")]
          .filter((e) => !(e.labels?.length || e.ariaLabel || e.textContent.trim()))
          .map((e) => e.outerHTML)"""
    )
    assert unnamed == []


async def test_a_screen_reader_is_notified_of_states_but_not_of_tokens(
    page: Page, serve: Serve
) -> None:
    await open_page(page, await serve(slow(30)))
    await listen(page)
    await generate(page)
    await expect(badge(page)).to_have_text("complete")
    told = await page.evaluate("window.told")
    assert [re.sub(r"[\d.]+ s", "n s", each) for each in told] == [
        "Answer: streaming",
        "Complete: 30 tokens in n s",
    ]


async def test_a_history_is_not_announced_to_a_screen_reader(
    context: BrowserContext, serve: Serve
) -> None:
    server = await serve(ScriptedModel("x"))
    ada, bob = await context.new_page(), await context.new_page()
    await join(ada, server, "Ada")
    await ada.fill("#room-text", "hello there")
    await ada.keyboard.press("Enter")
    await expect(ada.locator("#room .said")).to_have_count(1)
    await join(bob, server, "Bob")
    await expect(bob.locator("#room .said")).to_have_count(1)
    assert "hello" not in (await bob.locator("#announcer").inner_text())
    await ada.fill("#room-text", "and again")
    await ada.keyboard.press("Enter")
    await expect(bob.locator("#announcer")).to_have_text("Ada: and again")


async def test_a_failed_action_is_shown_until_the_next_action(
    page: Page, serve: Serve, complaints: Complaints
) -> None:
    """A screen reader announces the visible text, not a second copy."""
    complaints.expected = ("Failed to load resource",)

    async def refuse(route: Route) -> None:
        error = {"type": "error", "code": "stream_state", "message": "it can't be paused"}
        await route.fulfill(status=409, json=error)

    await page.route("**/pause", refuse)
    await open_page(page, await serve(slow()))
    await generate(page)
    await expect(badge(page)).to_have_text("streaming")
    await page.click("#generate [name=hold]")
    shown = page.get_by_role("status").filter(has_text="Pause failed: it can't be paused")
    await expect(shown).to_have_count(1)
    await expect(shown).to_be_in_viewport()
    assert await shown.evaluate("line => line.offsetHeight > 15")
    await page.click("#generate [name=stop]")
    await expect(badge(page)).to_have_text("stopped")
    await expect(shown).to_have_count(0)


async def test_what_could_not_be_done_is_shown_for_a_while(
    page: Page, serve: Serve, complaints: Complaints
) -> None:
    complaints.expected = ("Failed to load resource",)
    await page.clock.install()
    await page.route("**/models", lambda route: route.abort())
    server = await serve(ScriptedModel("x"))
    await page.goto(str(server.make_url("/")))
    shown = page.get_by_role("status").filter(has_text="Couldn't load the list of models")
    await expect(shown).to_be_visible()
    await page.clock.fast_forward(10_000)
    await expect(shown).to_have_count(0)
