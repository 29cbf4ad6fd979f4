"""A chat on the page: its history, and an answer that is stopped."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from rxllm.models.scripted import ScriptedModel
from tests.server.page.actions import open_page, slow
from tests.server.page.conftest import Serve

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_chat_keeps_its_history(page: Page, serve: Serve) -> None:
    model = ScriptedModel("I am *fine*", "You said hello")
    await open_page(page, await serve(model), "chat")
    await page.fill("#chat textarea", "hello")
    await page.keyboard.press("Enter")
    answers = page.locator("#chat .said:not(.mine) .text")
    await expect(answers).to_have_text(["I am fine"])
    await page.fill("#chat textarea", "what did I say?")
    await page.keyboard.press("Enter")
    await expect(answers).to_have_text(["I am fine", "You said hello"])
    said = [message.text for message in model.requests[1].messages if message.role != "system"]
    assert said == ["hello", "I am *fine*", "what did I say?"]


async def test_an_answer_of_a_chat_can_be_stopped(page: Page, serve: Serve) -> None:
    model = slow()
    await open_page(page, await serve(model), "chat")
    await page.fill("#chat textarea", "count")
    await page.keyboard.press("Enter")
    await expect(page.locator("#chat .said:not(.mine) .text")).to_contain_text("3")
    await page.click("#chat [name=stop]")
    await expect(page.locator("#chat [name=send]")).to_be_enabled()
    assert model.active == 0


async def test_escape_stops_an_answer_of_a_chat(page: Page, serve: Serve) -> None:
    model = slow()
    await open_page(page, await serve(model), "chat")
    await page.fill("#chat textarea", "count")
    await page.click("#chat [name=send]")
    await expect(page.locator("#chat .said:not(.mine) .text")).to_contain_text("3")
    await page.keyboard.press("Escape")
    await expect(page.locator("#chat [name=send]")).to_be_enabled()
    assert model.active == 0
