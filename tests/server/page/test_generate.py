"""Generating an answer on the page: shown, stopped, paused, failed."""

from __future__ import annotations

import json
import re

import aiohttp
import pytest
from playwright.async_api import Page, Route, expect

from rxllm.chunks import Citation, End, ErrorInfo, FileOutput, Notice, Start, Token
from rxllm.errors import RateLimitError
from rxllm.models.scripted import ScriptedModel, Step
from rxllm.server.app import create_app
from rxllm.server.limits import Limits
from rxllm.settings import Settings
from tests.server.page.actions import STORY, Small, badge, generate, open_page, slow, text_of
from tests.server.page.conftest import Complaints, Serve
from tests.server.serving import Stepwise, turns

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_an_answer_has_a_progress_bar_tokens_per_second_and_elapsed_time(
    page: Page, serve: Serve
) -> None:
    model = ScriptedModel(STORY, by="word", delay=0.01, first_delay=0.1)
    server = await serve(model)
    await open_page(page, server)
    await page.fill("#generate [name=temperature]", "0")
    await generate(page, max_tokens="50")
    await expect(badge(page)).to_have_text("complete")
    assert await text_of(page) == STORY.replace("**", "")
    assert await page.locator("#generate .output strong").inner_text() == "robot"
    figures = await page.locator("#generate .figures dd").all_inner_texts()
    assert figures[0] == "11"
    assert [re.sub(r"[\d.]+", "n", figure) for figure in figures[1:]] == ["n", "n s", "n s"]
    assert await page.locator("#generate progress").evaluate("bar => bar.value") == 100
    label = await page.locator("#generate canvas").get_attribute("aria-label")
    assert label is not None
    assert label.startswith("Times between the last 11 tokens")
    request = model.requests[0]
    assert (request.max_tokens, request.temperature) == (50, 0)
    assert request.messages[0].content == "Tell me a story"


async def test_a_stream_that_waits_shows_its_place(page: Page, serve: Serve) -> None:
    model = Stepwise()
    server = await serve(create_app({"m": model}, settings=Settings(remote_streams=1)))
    await open_page(page, server)
    model.let(1)
    async with (
        aiohttp.ClientSession(server.make_url("/")) as other,
        other.get("/stream?prompt=Hi"),
    ):
        await generate(page)
        await expect(badge(page)).to_have_text("number 1 in the queue")
        model.let()
        await expect(badge(page)).to_have_text("complete")


async def test_control_and_enter_generate(page: Page, serve: Serve) -> None:
    await open_page(page, await serve(ScriptedModel("done")))
    await page.fill("#generate [name=prompt]", "hi")
    await page.keyboard.press("Control+Enter")
    await expect(badge(page)).to_have_text("complete")


@pytest.mark.parametrize("by", ["button", "escape"])
async def test_stop_ends_the_model(page: Page, serve: Serve, by: str) -> None:
    model = slow()
    await open_page(page, await serve(model))
    await generate(page)
    await expect(badge(page)).to_have_text("streaming")
    if by == "button":
        await page.click("#generate [name=stop]")
    else:
        await page.keyboard.press("Escape")
    await expect(badge(page)).to_have_text("stopped")
    assert model.active == 0
    assert (await text_of(page)).startswith("0")
    await expect(page.locator("#generate [name=run]")).to_be_enabled()


async def test_the_first_click_streams_a_story(page: Page, serve: Serve) -> None:
    """The example prompt is selected when its field is focused, so that typing replaces it."""
    model = ScriptedModel(STORY)
    await open_page(page, await serve(model))
    await page.click("#generate [name=run]")
    await expect(badge(page)).to_have_text("complete")
    assert model.requests[0].messages[0].text.startswith("Tell me a story")
    await page.click("#generate [name=prompt]")
    await page.keyboard.type("And now?")
    assert await page.input_value("#generate [name=prompt]") == "And now?"
    await page.click("#tab-compare")
    await page.click("#compare [name=run]")
    await expect(badge(page, "compare")).to_have_text(["complete", "complete"])


async def test_any_temperature_and_as_many_tokens_as_fit_the_context(
    page: Page, serve: Serve, complaints: Complaints
) -> None:
    complaints.expected = ("Failed to load resource",)
    small, large = Small("x", name="small"), ScriptedModel("x", name="large")
    await open_page(page, await serve({"small": small, "large": large}))
    tokens = page.locator("#generate [name=maxTokens]")
    await page.fill("#generate [name=temperature]", "0.75")
    await expect(tokens).to_have_js_property("max", "64")
    await tokens.fill("50")
    await page.click("#generate [name=run]")
    await expect(badge(page)).to_have_text("complete")
    assert (small.requests[0].temperature, small.requests[0].max_tokens) == (0.75, 50)
    await page.select_option("#generate [name=model]", "large")
    await expect(tokens).to_have_js_property("max", "")
    await tokens.fill("1000000")
    await page.click("#generate [name=run]")
    await expect(page.locator("#generate .failure")).to_contain_text("at most 8192")


async def answer_at_once(page: Page, *chunks: tuple[float, dict[str, object]]) -> None:
    """Send the next stream in one read, each chunk with its server timestamp."""
    messages = [
        {"type": "chunk", "position": position, "timestamp": timestamp, "chunk": chunk}
        for position, (timestamp, chunk) in enumerate(chunks, 1)
    ]
    tokens = sum(chunk["type"] == "token" for _, chunk in chunks)
    messages.append({"type": "complete", "tokens": tokens, "seconds": 0.4})
    body = "".join(f"data: {json.dumps(message)}\n\n" for message in messages)

    async def answer(route: Route) -> None:
        headers = {"Content-Type": "text/event-stream", "X-Stream-Id": "s"}
        await route.fulfill(body=body, headers=headers)

    await page.route("**/stream", answer)


async def test_the_plot_shows_the_times_of_the_model_and_not_of_the_network(
    page: Page, serve: Serve
) -> None:
    """One read may contain many tokens, each with a timestamp of the server."""
    token: dict[str, object] = {"type": "token", "text": " x"}
    await open_page(page, await serve(ScriptedModel("x")))
    await answer_at_once(page, *((at, token) for at in (1000.0, 1000.05, 1000.1, 1000.4)))
    await generate(page)
    await expect(badge(page)).to_have_text("complete")
    await expect(page.locator("#generate canvas")).to_have_attribute(
        "aria-label", "Times between the last 4 tokens: median 50 ms, longest 300 ms"
    )


async def test_the_speed_of_an_ended_stream_is_that_of_the_model(page: Page, serve: Serve) -> None:
    """`progress` doesn't count the pauses of the reader as time of the model."""
    await open_page(page, await serve(ScriptedModel("x")))
    await answer_at_once(
        page,
        (1000.0, {"type": "token", "text": "x"}),
        (1000.1, {"type": "progress", "tokens": 1, "elapsed": 9.0, "tokensPerSecond": 12.5}),
    )
    await generate(page)
    await expect(badge(page)).to_have_text("complete")
    await expect(page.locator("#generate .figures dd").nth(1)).to_have_text("12.5")


async def test_stop_before_the_first_token(page: Page, serve: Serve) -> None:
    model = ScriptedModel("too late", first_delay=60.0)
    await open_page(page, await serve(model))
    await generate(page)
    await expect(badge(page)).to_have_text("waiting")
    await page.click("#generate [name=stop]")
    await expect(badge(page)).to_have_text("stopped")


async def test_pause_holds_the_model_and_resume_releases_it(page: Page, serve: Serve) -> None:
    model = Stepwise()
    await open_page(page, await serve({"tiny": model}))
    await generate(page)
    model.let(3)
    await expect(page.locator("#generate .output")).to_have_text("ab")
    await page.click("#generate [name=hold]")
    await expect(badge(page)).to_have_text("paused")
    model.let()
    await turns()
    assert model.said <= 4  # the one already being generated
    assert await text_of(page) in ("ab", "abc")
    await page.get_by_role("button", name="Resume").click()
    await expect(badge(page)).to_have_text("complete")
    assert await text_of(page) == "abcdef"


async def test_a_failure_is_shown_and_the_partial_text_stays(page: Page, serve: Serve) -> None:
    await open_page(page, await serve(ScriptedModel(["so far", RateLimitError("slow down")])))
    await generate(page)
    await expect(badge(page)).to_have_text("failed")
    await expect(page.locator("#generate .failure")).to_contain_text("slow down")
    assert await text_of(page) == "so far"
    await expect(page.locator("#announcer")).to_contain_text("slow down")


async def test_a_restart_drops_the_text_before_it(page: Page, serve: Serve) -> None:
    error = ErrorInfo("ConnectionFailedError", "cut")
    script: list[Step] = [
        "wrong ",
        "start",
        Notice(kind="restart", attempt=1, error=error),
        "right",
    ]
    await open_page(page, await serve(ScriptedModel(script)))
    await generate(page, max_tokens="")
    await expect(badge(page)).to_have_text("complete")
    assert await text_of(page) == "right"
    await expect(page.locator("#generate .happened")).to_contain_text("starts over")


async def test_a_refused_request_is_shown(page: Page, serve: Serve, complaints: Complaints) -> None:
    complaints.expected = ("Failed to load resource",)
    server = await serve(ScriptedModel("x"), limits=Limits(prompt_characters=5))
    await open_page(page, server)
    await generate(page, "much too long")
    await expect(badge(page)).to_have_text("failed")
    await expect(page.locator("#generate .failure")).not_to_be_empty()


PIXEL = "R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"


async def test_sources_and_images_are_shown_below_the_answer(page: Page, serve: Serve) -> None:
    """A link leads to the web only, and an address is never loaded as an image."""
    script: list[Step] = [
        Start("r", "m"),
        Token("It is so."),
        Citation("https://a.example/b", "The source"),
        Citation("javascript:alert(1)", "A trap"),
        FileOutput("image/gif", PIXEL),
        FileOutput("image/svg+xml", "PHN2Zz4="),
        FileOutput("image/png", url="https://a.example/c.png"),
        End("stop"),
    ]
    await open_page(page, await serve(ScriptedModel(script)))
    await generate(page)
    await expect(badge(page)).to_have_text("complete")
    extras = page.locator("#generate .extras li")
    shown = ["The source", "A trap", "", "image/svg+xml", "image/png: https://a.example/c.png"]
    await expect(extras).to_have_text(shown)
    links = page.locator("#generate .extras a")
    assert [await each.get_attribute("href") for each in await links.all()] == [
        "https://a.example/b"
    ]
    images = page.locator("#generate .extras img")
    await expect(images).to_have_count(1)
    assert await images.evaluate("image => image.naturalWidth") == 1
