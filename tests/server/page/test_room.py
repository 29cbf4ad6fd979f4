"""A room on the page: its members, its messages, and a lost connection."""

from __future__ import annotations

import pytest
from playwright.async_api import BrowserContext, Page, expect

from rxllm.models.scripted import ScriptedModel
from rxllm.server.websocket.endpoint import CONNECTIONS
from tests.server.page.actions import join, open_page, slow
from tests.server.page.conftest import Serve

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_two_tabs_in_a_room(context: BrowserContext, serve: Serve) -> None:
    """Each shows the members, who is typing, the messages, and the model's one answer."""
    model = ScriptedModel("It mixes **blue**.", by="word", delay=0.02)
    server = await serve(model)
    ada, bob = await context.new_page(), await context.new_page()
    await join(ada, server, "Ada")
    await join(bob, server, "Bob")
    await expect(ada.locator(".participants")).to_have_text("In the room: Ada (you), Bob")
    await bob.locator("#room-text").press_sequentially("How does")
    await expect(ada.locator("#room .typing")).to_have_text("Bob is writing …")
    await bob.fill("#room-text", "How does a robot paint?")
    await bob.keyboard.press("Enter")
    await expect(ada.locator("#room .typing")).to_be_empty()
    for page in (ada, bob):
        texts = page.locator("#room .said .text")
        await expect(texts).to_have_text(["How does a robot paint?", "It mixes blue."])
        await expect(page.locator("#room .said[data-state]")).to_have_count(0)
    assert await bob.locator("#room .said.mine").count() == 1
    await bob.click("#room [name=leave]")
    await expect(ada.locator(".participants")).to_have_text("In the room: Ada (you)")
    await expect(bob.locator("#room-text")).to_be_disabled()
    assert len(model.requests) == 1


async def test_the_rooms_are_listed_and_can_be_chosen(
    context: BrowserContext, serve: Serve
) -> None:
    server = await serve(ScriptedModel("fine"))
    ada, bob = await context.new_page(), await context.new_page()
    await join(ada, server, "Ada")
    await open_page(bob, server, "room")
    rooms = bob.locator("#room .rooms")
    await expect(rooms).to_have_text("Rooms: lobby (1)")
    await bob.fill("#room [name=room]", "another")
    await rooms.get_by_role("button", name="lobby").click()
    await expect(bob.locator("#room [name=room]")).to_have_value("lobby")
    await bob.fill("#room [name=name]", "Bob")
    await bob.click("#room [name=join]")
    await expect(ada.locator(".participants")).to_have_text("In the room: Ada (you), Bob")
    await expect(rooms).to_be_hidden()


async def test_an_answer_in_progress_continues_after_a_lost_connection(
    context: BrowserContext, serve: Serve
) -> None:
    """It is sent again from its beginning, once; the old text stays until then."""
    await context.add_init_script(
        """
        const { WebSocket } = globalThis;
        globalThis.sockets = [];
        globalThis.WebSocket = class extends WebSocket {
          constructor(url) {
            super(url);
            sockets.push(this);
          }
        };
        """
    )
    server = await serve(slow(150))
    ada, bob = await context.new_page(), await context.new_page()
    await join(ada, server, "Ada")
    await join(bob, server, "Bob")  # the room stays
    await ada.fill("#room-text", "bot, count")
    await ada.keyboard.press("Enter")
    reply = ada.locator("#room .said:not(.mine)")
    await expect(reply.locator(".text")).to_contain_text("10")
    await ada.fill("#room-text", "half a")
    await ada.evaluate("sockets[0].close()")
    await expect(ada.locator("#room-text")).not_to_be_editable()
    await expect(reply.locator(".text")).to_contain_text("10")
    await expect(ada.locator("#room-text")).to_be_editable()
    await expect(ada.locator("#room-text")).to_be_focused()
    await expect(ada.locator("#room-text")).to_have_value("half a")
    await expect(reply).not_to_have_attribute("data-state", "streaming")
    assert (await reply.locator(".text").inner_text()).split() == [str(n) for n in range(150)]
    await expect(reply).not_to_contain_text("lost")


async def test_a_late_member_sees_the_history(context: BrowserContext, serve: Serve) -> None:
    server = await serve(ScriptedModel("x"))
    ada, bob = await context.new_page(), await context.new_page()
    await join(ada, server, "Ada")
    await ada.fill("#room-text", "<b>nobody is here</b>")
    await ada.keyboard.press("Enter")
    await expect(ada.locator("#room .said .text")).to_have_text(["<b>nobody is here</b>"])
    await join(bob, server, "Bob")
    await expect(bob.locator("#room .said .text")).to_have_text(["<b>nobody is here</b>"])


async def test_joining_another_room_before_the_first_join_is_only_in_the_last(
    page: Page, serve: Serve
) -> None:
    server = await serve(ScriptedModel("x"))
    await page.add_init_script(
        """
        const { WebSocket } = globalThis;
        globalThis.opened = [];
        globalThis.WebSocket = class extends WebSocket {
          set onmessage(take) {
            super.onmessage = take && ((event) => { opened.push(() => take(event)); });
          }
        };
        """
    )
    await open_page(page, server, "room")
    await page.fill("#room [name=name]", "Ada")
    for room in ("one", "two"):
        await page.fill("#room [name=room]", room)
        await page.click("#room [name=join]")
    await page.wait_for_function("opened.length > 0")
    await page.evaluate("setInterval(() => { while (opened.length) opened.shift()(); }, 5)")
    await expect(page.locator("#room-text")).to_be_enabled()
    await expect(page.locator("#room .log")).to_contain_text("You are in two.")
    rooms = server.app[CONNECTIONS].rooms
    assert len(rooms) == 1


async def test_a_room_that_another_server_has_is_left(page: Page, serve: Serve) -> None:
    server = await serve(ScriptedModel("fine"))
    await join(page, server, "Ada")
    server.app[CONNECTIONS].rooms._on_lost("lobby", "http://other/")
    await expect(page.locator("#room .log")).to_contain_text(
        "the room 'lobby' is on another server: http://other/"
    )
    await expect(page.locator("#room [name=join]")).to_be_visible()
    await expect(page.locator("#room-text")).to_be_disabled()
