"""Other people's clients in a browser: the AI SDK's `useChat`, and readers of events."""

from __future__ import annotations

import asyncio
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from rxllm.models.scripted import ScriptedModel
from rxllm.server.app import create_app
from tests.clients.node import NODE, installed
from tests.server.page.actions import with_bundle
from tests.server.page.conftest import Complaints, Serve
from tests.server.serving import STORY, Stepwise

pytestmark = pytest.mark.asyncio(loop_scope="session")


@cache
def bundle() -> Path:
    """Bundle `page.jsx` for the browser."""
    folder = installed()
    assert NODE is not None
    command = [
        str(folder / "node_modules" / ".bin" / "esbuild"),
        *("page.jsx", "--bundle", "--outfile=page.js", "--jsx=transform", "--log-level=error"),
        '--define:process.env.NODE_ENV="production"',
    ]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "page.js"


async def open_page(page: Page, serve: Serve, model: Any) -> None:
    server = await serve(with_bundle(create_app({"tiny": model}), "/them", bundle().read_text()))
    await page.goto(str(server.make_url("/them")))


async def test_use_chat_shows_an_answer_and_the_next_one(page: Page, serve: Serve) -> None:
    model = ScriptedModel(STORY, "And then it slept.")
    await open_page(page, serve, model)
    await page.evaluate("mount()")
    for text, answer in (("Hi", STORY), ("And?", "And then it slept.")):
        await page.evaluate("text => void chat.sendMessage({ text })", text)
        await expect(page.locator("p.assistant").last).to_have_text(answer)
        await expect(page.locator("#status")).to_have_text("ready")
    roles = [message.role for message in model.requests[1].messages]
    assert roles == ["user", "assistant", "user"]
    assert model.requests[1].messages[1].text == STORY


async def test_use_chat_resumes_a_running_answer_after_a_reload(page: Page, serve: Serve) -> None:
    model = Stepwise()
    await open_page(page, serve, model)
    await page.evaluate("mount()")
    model.let(4)
    await page.evaluate("() => void chat.sendMessage({ text: 'Hi' })")
    await expect(page.locator("p.assistant")).to_have_text("abc")
    await page.reload()
    await page.evaluate("mount(true)")
    await expect(page.locator("p.assistant")).to_have_text("abc")
    model.let()
    await expect(page.locator("p.assistant")).to_have_text("abcdef")
    await expect(page.locator("#status")).to_have_text("ready")
    await page.reload()
    await page.evaluate("mount(true)")  # nothing runs: 204
    await expect(page.locator("#status")).to_have_text("ready")
    assert model.said == len(model.chunks)


async def test_use_chat_shows_an_error(page: Page, serve: Serve, complaints: Complaints) -> None:
    complaints.expected = ("Failed to load resource", "no model")
    await open_page(page, serve, ScriptedModel(STORY))
    await page.evaluate("mount()")
    await page.evaluate("() => void chat.sendMessage({ text: 'Hi' }, { body: { model: 'none' } })")
    await expect(page.locator("#error")).to_contain_text("no model 'none'")


async def test_fetch_event_source_in_a_tab_that_is_hidden_and_shown(
    page: Page, serve: Serve
) -> None:
    """It repeats its POST with `Last-Event-ID`: the model is asked once, nothing comes twice."""
    model = ScriptedModel(STORY, by="word", delay=0.05)
    await open_page(page, serve, model)
    seen = await page.evaluate("fetchEventSource({ prompt: 'Hi', id: 'f' }, 4)")
    assert seen["text"] == STORY
    assert seen["complete"]
    assert seen["opened"] == 2
    assert len(model.requests) == 1


async def test_fetch_event_source_that_comes_back_after_the_end(page: Page, serve: Serve) -> None:
    model = ScriptedModel("a b", by="word")
    await open_page(page, serve, model)
    reading = asyncio.create_task(page.evaluate("fetchEventSource({ prompt: 'x', id: 'g' }, 4)"))
    async with asyncio.timeout(20):
        seen = await reading
    assert seen["text"] == "a b"
    assert len(model.requests) == 1


async def test_a_polyfill_of_event_source_reads_a_stream(page: Page, serve: Serve) -> None:
    model = ScriptedModel(STORY, by="word")
    await open_page(page, serve, model)
    seen = await page.evaluate("polyfill('prompt=Hi&id=p')")
    assert seen == {"text": STORY, "opened": 1}
