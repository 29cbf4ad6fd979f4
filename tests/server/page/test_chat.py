"""A chat on the page: its history, lost connections, and an answer that is stopped."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from rxllm.models.scripted import ScriptedModel
from rxllm.server import create_app
from rxllm.server.websocket.endpoint import CONNECTIONS
from tests.server.page.actions import open_page, slow
from tests.server.page.conftest import Serve

pytestmark = pytest.mark.asyncio(loop_scope="session")

# `sockets` are the connections of the page. After `hold()`, messages of the server wait for
# `greet()`.
HELD = """
const { WebSocket } = globalThis;
globalThis.sockets = [];
globalThis.hold = () => {
  globalThis.held = new Promise((greet) => { globalThis.greet = greet; });
};
globalThis.WebSocket = class extends WebSocket {
  constructor(url) {
    super(url);
    sockets.push(this);
  }
  set onmessage(take) {
    super.onmessage = take && (async (event) => { await globalThis.held; take(event); });
  }
};
"""
WELCOME = "Send a message to the model. It remembers this conversation."
FORGOTTEN = "The connection was lost, and the server dropped the conversation."


async def say(page: Page, text: str) -> None:
    await page.fill("#chat [name=text]", text)
    await page.keyboard.press("Enter")


async def test_a_chat_keeps_its_history(page: Page, serve: Serve) -> None:
    model = ScriptedModel("I am *fine*", "You said hello")
    await open_page(page, await serve(model), "chat")
    await page.fill("#chat [name=text]", "hello")
    await page.keyboard.press("Enter")
    answers = page.locator("#chat .said:not(.mine) .text")
    await expect(answers).to_have_text(["I am fine"])
    await page.fill("#chat [name=text]", "what did I say?")
    await page.keyboard.press("Enter")
    await expect(answers).to_have_text(["I am fine", "You said hello"])
    said = [message.text for message in model.requests[1].messages if message.role != "system"]
    assert said == ["hello", "I am *fine*", "what did I say?"]


async def test_a_chat_has_a_system_prompt_and_options(page: Page, serve: Serve) -> None:
    model = ScriptedModel("Arr.")
    await open_page(page, await serve(model), "chat")
    await page.click("#chat summary")
    await page.fill("#chat [name=system]", "Talk like a pirate.")
    await page.fill("#chat [name=maxTokens]", "0")
    await page.click("#chat summary")
    await say(page, "hello")
    await expect(page.locator("#chat [name=maxTokens]")).to_be_focused()
    await expect(page.locator("#chat .said")).to_have_count(0)
    await page.fill("#chat [name=maxTokens]", "9")
    await page.fill("#chat [name=temperature]", "0.5")
    await say(page, "")
    await page.click("#chat [name=send]")
    await expect(page.locator("#chat .said")).to_have_count(0)
    await say(page, "hello")
    await expect(page.locator("#chat .said:not(.mine) .text")).to_have_text(["Arr."])
    [asked] = model.requests
    assert [(each.role, each.text) for each in asked.messages] == [
        ("system", "Talk like a pirate."),
        ("user", "hello"),
    ]
    assert (asked.max_tokens, asked.temperature) == (9, 0.5)


async def test_an_answer_of_a_chat_can_be_stopped(page: Page, serve: Serve) -> None:
    model = slow()
    await open_page(page, await serve(model), "chat")
    await page.fill("#chat [name=text]", "count")
    await page.keyboard.press("Enter")
    await expect(page.locator("#chat .said:not(.mine) .text")).to_contain_text("3")
    await page.click("#chat [name=stop]")
    await expect(page.locator("#chat [name=send]")).to_be_enabled()
    assert model.active == 0


async def test_escape_stops_an_answer_of_a_chat(page: Page, serve: Serve) -> None:
    model = slow()
    await open_page(page, await serve(model), "chat")
    await page.fill("#chat [name=text]", "count")
    await page.click("#chat [name=send]")
    await expect(page.locator("#chat .said:not(.mine) .text")).to_contain_text("3")
    await page.keyboard.press("Escape")
    await expect(page.locator("#chat [name=send]")).to_be_enabled()
    assert model.active == 0


async def test_a_message_before_there_is_a_connection_is_kept(page: Page, serve: Serve) -> None:
    await page.add_init_script(f"{HELD} hold();")
    await open_page(page, await serve(ScriptedModel("yes")), "chat")
    await say(page, "hello")
    await page.evaluate("greet()")
    await expect(page.locator("#chat .said:not(.mine) .text")).to_have_text(["yes"])
    await expect(page.locator("#chat .log .event")).to_have_count(0)


async def test_a_chat_keeps_its_history_over_a_lost_connection(page: Page, serve: Serve) -> None:
    model = ScriptedModel("yes", "and no")
    await page.add_init_script(HELD)
    await open_page(page, await serve(model), "chat")
    log = page.locator("#chat .log > *")
    await say(page, "one")
    await expect(log).to_have_text([WELCOME, "youone", "scriptedyes"])
    await page.evaluate("hold(), sockets[0].close()")
    await say(page, "two")
    await page.wait_for_function("() => sockets.length === 2")
    await page.evaluate("greet()")
    told = [WELCOME, "youone", "scriptedyes", "youtwo", "scriptedand no"]
    await expect(log).to_have_text(told)
    said = [message.text for message in model.requests[1].messages if message.role != "system"]
    assert said == ["one", "yes", "two"]


async def test_a_chat_reports_when_the_server_has_dropped_it(page: Page, serve: Serve) -> None:
    app = create_app({"scripted": ScriptedModel("yes")})
    await page.add_init_script(HELD)
    await open_page(page, await serve(app), "chat")
    log = page.locator("#chat .log > *")
    await say(page, "one")
    await expect(log).to_have_text([WELCOME, "youone", "scriptedyes"])
    app[CONNECTIONS].sessions.close()
    await page.evaluate("sockets[0].close()")
    await expect(log).to_have_text([WELCOME, "youone", "scriptedyes", FORGOTTEN])
    await say(page, "two")
    told = [WELCOME, "youone", "scriptedyes", FORGOTTEN, "youtwo", "scriptedyes"]
    await expect(log).to_have_text(told)


async def test_a_connection_lost_before_the_first_message_reports_no_loss(
    page: Page, serve: Serve
) -> None:
    await page.add_init_script(HELD)
    await open_page(page, await serve(ScriptedModel("yes")), "chat")
    log = page.locator("#chat .log > *")
    await expect(log).to_have_text([WELCOME])
    await page.evaluate("sockets[0].close()")
    await expect(page.locator("#chat .connection")).to_contain_text("connection lost")
    await expect(page.locator("#chat .connection")).to_have_text("connected")
    await expect(log).to_have_text([WELCOME])
