"""The inspector shows, stops and pauses the streams of others."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import ClientSession
from playwright.async_api import BrowserContext, Page, Route, expect

from rxllm.chunks import ErrorInfo, Notice
from rxllm.models.scripted import ScriptedModel, Step
from tests.server.page.actions import STORY, badge, generate, inspected, listen, open_page, slow
from tests.server.page.conftest import Complaints, Serve

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_the_inspector_shows_a_stream_token_by_token(
    context: BrowserContext, serve: Serve
) -> None:
    notice = Notice(kind="retry", attempt=1, error=ErrorInfo("RateLimitError", "slow down"))
    script: list[Step] = [notice, *(part for n in range(120) for part in (0.02, f" {n}"))]
    server = await serve(ScriptedModel(script))
    first, second = await context.new_page(), await context.new_page()
    await open_page(first, server)
    await generate(first)
    await expect(badge(first)).to_have_text("streaming")
    await open_page(second, server, "inspect")
    await second.click("#inspect .streams button")
    events = second.locator("#inspect .events")
    await expect(events.locator(".notice")).to_contain_text("RateLimitError: slow down")
    await expect(events.locator(".token").nth(5)).to_be_visible()
    await expect(events.locator(".complete")).to_contain_text("120 tokens")
    text = await second.locator("#inspect .output").inner_text()
    assert text.split() == [str(n) for n in range(120)]


async def test_the_inspector_stops_the_stream_of_another(
    context: BrowserContext, serve: Serve
) -> None:
    model = slow()
    first, second = await inspected(context, await serve(model))
    await second.locator("#inspect .actions").get_by_role("button", name="Stop").click()
    await expect(badge(first)).to_have_text("stopped")
    assert model.active == 0


async def test_the_inspector_shows_that_a_stream_is_paused(
    context: BrowserContext, serve: Serve
) -> None:
    server = await serve(slow())
    first, second = await context.new_page(), await context.new_page()
    await open_page(first, server)
    await generate(first)
    await expect(first.locator("#generate .output")).to_contain_text("10")
    await first.click("#generate [name=hold]")
    await expect(badge(first)).to_have_text("paused")
    await open_page(second, server, "inspect")
    await second.click("#inspect .streams button")
    await expect(badge(second, "inspect").last).to_have_text("paused")
    await expect(second.locator("#inspect .output")).to_contain_text("10")
    await first.get_by_role("button", name="Resume").click()
    await expect(badge(second, "inspect").last).to_have_text("streaming")
    await first.click("#generate [name=stop]")
    await expect(badge(first)).to_have_text("stopped")
    await expect(badge(second, "inspect").last).to_have_text("stopped")


async def test_a_pause_by_somebody_else_is_shown(context: BrowserContext, serve: Serve) -> None:
    """The next click on the button resumes the stream."""
    model = slow()
    first, second = await inspected(context, await serve(model))
    act = second.locator("#inspect .actions").get_by_role("button")
    await act.filter(has_text="Pause").click()
    await expect(badge(first)).to_have_text("paused", timeout=15_000)
    await act.filter(has_text="Resume").click()
    await expect(badge(first)).to_have_text("streaming")
    await act.filter(has_text="Pause").click()
    await expect(badge(first)).to_have_text("paused", timeout=15_000)
    await first.get_by_role("button", name="Resume").click()
    await expect(badge(second, "inspect").last).to_have_text("streaming")
    await first.click("#generate [name=stop]")
    await expect(badge(first)).to_have_text("stopped")
    assert model.active == 0


async def test_inspecting_another_stream_does_not_stop_the_first(
    context: BrowserContext, serve: Serve
) -> None:
    server = await serve(slow())
    pages = [await context.new_page() for _ in range(3)]
    for page in pages[:2]:
        await open_page(page, server)
        await generate(page)
        await expect(badge(page)).to_have_text("streaming")
    page = pages[2]
    await open_page(page, server, "inspect")
    await listen(page)
    for index in (0, 1):
        await page.locator("#inspect .streams button").nth(index).click()
        await expect(page.locator("#inspect .events .token").first).to_be_visible()
    told = await page.evaluate("window.told")
    assert [each.partition(": ")[2] for each in told] == ["streaming"] * 2
    for page in pages[:2]:
        await page.click("#generate [name=stop]")


async def test_an_inspector_reports_an_unreachable_server_once(
    page: Page, serve: Serve, complaints: Complaints
) -> None:
    complaints.expected = ("Failed to load resource",)
    server = await serve(ScriptedModel("x"))
    port = server.port
    await open_page(page, server, "inspect")
    trouble = page.locator("#inspect .panel .failure")
    await expect(trouble).to_be_hidden()
    await listen(page)
    await server.close()
    await expect(trouble).to_contain_text("Can't reach the server")
    await expect(page.locator("#inspect .panel .empty")).to_be_hidden()
    for _ in range(2):
        await page.wait_for_event("requestfailed")
    await serve(ScriptedModel("x"), port=port)
    await expect(trouble).to_be_hidden(timeout=30_000)
    await expect(page.locator("#inspect .panel .empty")).to_be_visible()
    told = await page.evaluate("window.told")
    assert told == [
        "Can't reach the server, trying again.",
        "The server is back.",
    ]


async def test_an_inspector_reports_a_missing_response_and_retries(
    page: Page, serve: Serve
) -> None:
    asked = 0
    silent = asyncio.Event()

    async def silent_once(route: Route) -> None:
        nonlocal asked
        asked += 1
        if asked == 2:
            silent.set()
        else:
            await route.continue_()

    await page.clock.install()
    await page.route("**/streams", silent_once)
    await open_page(page, await serve(ScriptedModel("x")), "inspect")
    trouble = page.locator("#inspect .panel .failure")
    await silent.wait()
    await expect(trouble).to_be_hidden()
    await page.clock.fast_forward(5_000)
    await expect(trouble).to_contain_text("Can't reach the server")
    await expect(trouble).to_be_hidden()
    assert asked > 2


async def test_events_before_the_inspection_are_joined(page: Page, serve: Serve) -> None:
    server = await serve(ScriptedModel(STORY, by="word"))
    async with ClientSession() as session:
        url = server.make_url("/stream").with_query(prompt="Hi")
        await (await session.get(url)).read()
    await open_page(page, server, "inspect")
    await page.click("#inspect .streams button")
    joined = page.locator("#inspect .events .batch")
    await expect(joined).to_contain_text("events joined · Once there was")
