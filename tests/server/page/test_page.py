"""Rows K8 and K9: the page of the demo server, in Chromium, against the demo server."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from typing import Any

import msgspec
import pytest
from aiohttp.test_utils import TestServer
from playwright.async_api import BrowserContext, Page, Route, expect

from rxllm.chunks import ErrorInfo, Notice
from rxllm.errors import RateLimitError
from rxllm.models.scripted import ScriptedModel, Step
from rxllm.requests import ModelInfo
from rxllm.server.limits import Limits
from rxllm.server.websocket import CONNECTIONS
from tests.server.page.conftest import PAGE, Complaints, Serve

pytestmark = pytest.mark.asyncio(loop_scope="session")

STORY = "Once there was a **robot** who learned to paint the sea."
HOSTILE = (
    "<script>window.hacked = 1</script> <img src=x onerror='window.hacked = 2'> "
    '[click](javascript:window.hacked=3) <a href="javascript:window.hacked=4">x</a>'
)


def slow(pieces: int = 400, name: str = "slow") -> ScriptedModel:
    """Some seconds of numbered words."""
    return ScriptedModel("".join(f" {n}" for n in range(pieces)), by="word", delay=0.02, name=name)


class Small(ScriptedModel):
    """A model with little room."""

    @property
    def info(self) -> ModelInfo:
        return msgspec.structs.replace(super().info, context_length=64)


async def open_page(page: Page, server: TestServer, tab: str = "generate") -> None:
    await page.goto(f"{server.make_url('/')}#{tab}")
    await expect(page.locator(f"#{tab}")).to_be_visible()
    await expect(page.locator("#generate select option").first).to_be_attached()


async def generate(page: Page, prompt: str = "Tell me a story") -> None:
    await page.fill("#generate [name=prompt]", prompt)
    await page.click("#generate [name=run]")


def badge(page: Page, tab: str = "generate") -> Any:
    return page.locator(f"#{tab} .card .badge")


async def text_of(page: Page) -> str:
    return await page.locator("#generate .output").inner_text()


# Generate.


async def test_a_prompt_becomes_an_answer_with_its_figures(page: Page, serve: Serve) -> None:
    model = ScriptedModel(STORY, by="word", delay=0.01, first_delay=0.1)
    server = await serve(model)
    await open_page(page, server)
    await page.fill("#generate [name=maxTokens]", "50")
    await page.fill("#generate [name=temperature]", "0")
    await generate(page)
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
    """The prompt is an example, which is selected when it is come to: typing replaces it."""
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


async def test_any_temperature_and_as_many_tokens_as_the_model_holds(
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
    await expect(page.locator("#generate .failure")).to_contain_text("8192 at most")


async def test_the_plot_shows_the_times_of_the_model_and_not_of_the_network(
    page: Page, serve: Serve
) -> None:
    """Many tokens may come in one read; the server says when each of them came."""

    def event(position: int, timestamp: float, **chunk: str) -> str:
        message = {"type": "chunk", "position": position, "timestamp": timestamp, "chunk": chunk}
        return f"data: {json.dumps(message)}\n\n"

    times = (1000.0, 1000.05, 1000.1, 1000.4)
    events = [event(n, at, type="token", text=" x") for n, at in enumerate(times, 1)]
    events.append(f"data: {json.dumps({'type': 'complete', 'tokens': 4, 'seconds': 0.4})}\n\n")

    async def at_once(route: Route) -> None:
        headers = {"Content-Type": "text/event-stream", "X-Stream-Id": "s"}
        await route.fulfill(body="".join(events), headers=headers)

    await open_page(page, await serve(ScriptedModel("x")))
    await page.route("**/stream", at_once)
    await generate(page)
    await expect(badge(page)).to_have_text("complete")
    await expect(page.locator("#generate canvas")).to_have_attribute(
        "aria-label", "Times between the last 4 tokens: median 50 ms, longest 300 ms"
    )


async def test_a_text_that_is_read_from_the_right_stands_there(page: Page, serve: Serve) -> None:
    await open_page(page, await serve(ScriptedModel("שלום עולם")))
    await generate(page, "ספר לי סיפור")
    await expect(badge(page)).to_have_text("complete")
    await page.click("#tab-chat")
    await page.fill("#chat textarea", "שלום")
    await page.keyboard.press("Enter")
    await expect(page.locator("#chat .said .text")).to_have_count(2)
    for place in ("#generate [name=prompt]", "#generate .output", "#chat .mine .text"):
        assert await page.locator(place).evaluate("e => e.matches(':dir(rtl)')"), place


async def test_stop_before_the_first_token(page: Page, serve: Serve) -> None:
    model = ScriptedModel("too late", first_delay=60.0)
    await open_page(page, await serve(model))
    await generate(page)
    await expect(badge(page)).to_have_text("waiting")
    await page.click("#generate [name=stop]")
    await expect(badge(page)).to_have_text("stopped")


async def test_pause_holds_the_model_and_resume_lets_it_go_on(page: Page, serve: Serve) -> None:
    model = slow(100)
    await open_page(page, await serve(model))
    await generate(page)
    await expect(badge(page)).to_have_text("streaming")
    await page.click("#generate [name=hold]")
    await expect(badge(page)).to_have_text("paused")
    await asyncio.sleep(0.15)  # what was on its way has come
    held = await text_of(page)
    await asyncio.sleep(0.25)  # a model that isn't held says ten words
    assert await text_of(page) == held
    await page.get_by_role("button", name="Resume").click()
    await expect(badge(page)).to_have_text("complete")
    assert (await text_of(page)).split() == [str(n) for n in range(100)]


async def test_a_reload_picks_the_stream_up_with_no_gap_and_no_repeat(
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


async def test_a_failure_is_told_and_what_was_said_stays(page: Page, serve: Serve) -> None:
    await open_page(page, await serve(ScriptedModel(["so far", RateLimitError("slow down")])))
    await generate(page)
    await expect(badge(page)).to_have_text("failed")
    await expect(page.locator("#generate .failure")).to_contain_text("slow down")
    assert await text_of(page) == "so far"
    await expect(page.locator("#announcer")).to_contain_text("slow down")


async def test_a_restart_drops_what_was_said(page: Page, serve: Serve) -> None:
    error = ErrorInfo("ConnectionFailedError", "cut")
    script: list[Step] = [
        "wrong ",
        "start",
        Notice(kind="restart", attempt=1, error=error),
        "right",
    ]
    await open_page(page, await serve(ScriptedModel(script)))
    await page.fill("#generate [name=maxTokens]", "")
    await generate(page)
    await expect(badge(page)).to_have_text("complete")
    assert await text_of(page) == "right"
    await expect(page.locator("#generate .happened")).to_contain_text("begins again")


async def test_a_refused_request_is_told(page: Page, serve: Serve, complaints: Complaints) -> None:
    complaints.expected = ("Failed to load resource",)
    server = await serve(ScriptedModel("x"), limits=Limits(prompt_characters=5))
    await open_page(page, server)
    await generate(page, "much too long")
    await expect(badge(page)).to_have_text("failed")
    await expect(page.locator("#generate .failure")).not_to_be_empty()


# Safety.


@pytest.mark.parametrize("by", ["word", "character"])
async def test_hostile_text_of_a_model_is_shown_as_text(page: Page, serve: Serve, by: Any) -> None:
    """Row K8: `innerHTML` with model text, in the original."""
    await open_page(page, await serve(ScriptedModel(HOSTILE, by=by)))
    await generate(page)
    await expect(badge(page)).to_have_text("complete")
    assert await text_of(page) == HOSTILE
    assert await page.locator("#generate .output :is(script, img, a)").count() == 0
    assert await page.evaluate("window.hacked") is None


async def test_nothing_on_the_page_reads_text_as_html() -> None:
    for file in PAGE.glob("*.js"):
        source = file.read_text(encoding="utf-8")
        source = re.sub(r"/\*.*?\*/", "", source, flags=re.DOTALL)
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", source
        )


async def test_the_page_asks_nobody_but_its_server(page: Page, serve: Serve) -> None:
    server = await serve(ScriptedModel(STORY))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await open_page(page, server)
    await generate(page)
    await expect(badge(page)).to_have_text("complete")
    assert {url.split("/")[2] for url in asked} == {f"{server.host}:{server.port}"}


async def test_the_policy_of_the_server_holds_no_part_of_the_page_back(
    page: Page, serve: Serve
) -> None:
    server = await serve(ScriptedModel(STORY))
    response = await page.goto(str(server.make_url("/")))
    assert response is not None
    policy = (await response.all_headers())["content-security-policy"]
    assert "unsafe" not in policy
    html = (PAGE / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"\son\w+=|\sstyle=|<style|<script>", html)


async def test_the_page_works_with_a_key(browser: Any, serve: Serve) -> None:
    server = await serve(ScriptedModel(STORY), api_key="open sesame")
    context = await browser.new_context(
        http_credentials={"username": "any", "password": "open sesame"}
    )
    page = await context.new_page()
    await open_page(page, server)
    await generate(page)
    await expect(badge(page)).to_have_text("complete")
    await page.click("#tab-chat")
    await expect(page.locator("#chat .connection")).to_have_text("connected")
    await context.close()


# Compare.


async def test_streamed_and_plain_side_by_side(page: Page, serve: Serve) -> None:
    await open_page(page, await serve(ScriptedModel(STORY, by="word", delay=0.02)), "compare")
    await page.fill("#compare [name=prompt]", "hi")
    await page.click("#compare [name=run]")
    await expect(badge(page, "compare")).to_have_text(["complete", "complete"])
    texts = await page.locator("#compare .output").all_inner_texts()
    assert texts == [STORY.replace("**", "")] * 2
    await expect(page.locator("#compare .hint:visible")).to_contain_text(
        "Something to read came after"
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


# Chat and room.


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


async def join(page: Page, server: TestServer, name: str) -> None:
    await open_page(page, server, "room")
    await page.fill("#room [name=name]", name)
    await page.click("#room [name=join]")
    await expect(page.locator("#room-text")).to_be_enabled()


async def test_two_tabs_in_a_room(context: BrowserContext, serve: Serve) -> None:
    """Each sees who is there, who writes, what is said, and the one answer of the model."""
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


async def test_an_answer_under_way_goes_on_after_the_connection_was_lost(
    context: BrowserContext, serve: Serve
) -> None:
    """It comes again from its beginning, once: what was there stays until it does."""
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


async def test_who_comes_late_sees_what_was_said(context: BrowserContext, serve: Serve) -> None:
    server = await serve(ScriptedModel("x"))
    ada, bob = await context.new_page(), await context.new_page()
    await join(ada, server, "Ada")
    await ada.fill("#room-text", "<b>nobody is here</b>")
    await ada.keyboard.press("Enter")
    await expect(ada.locator("#room .said .text")).to_have_text(["<b>nobody is here</b>"])
    await join(bob, server, "Bob")
    await expect(bob.locator("#room .said .text")).to_have_text(["<b>nobody is here</b>"])


async def test_who_changes_the_room_before_it_is_entered_is_only_in_the_last(
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


async def test_a_history_is_not_read_out_again_by_a_screen_reader(
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


# The inspector.


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


async def test_the_inspector_stops_what_others_began(context: BrowserContext, serve: Serve) -> None:
    model = slow()
    server = await serve(model)
    first, second = await context.new_page(), await context.new_page()
    await open_page(first, server)
    await generate(first)
    await expect(badge(first)).to_have_text("streaming")
    await open_page(second, server, "inspect")
    await second.click("#inspect .streams button")
    await expect(badge(second, "inspect").last).to_have_text("streaming")
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
    """And the next press of the button lets it go on."""
    model = slow(2000)
    server = await serve(model)
    first, second = await context.new_page(), await context.new_page()
    await open_page(first, server)
    await generate(first)
    await expect(badge(first)).to_have_text("streaming")
    await open_page(second, server, "inspect")
    await second.click("#inspect .streams button")
    inspected = badge(second, "inspect").last
    await expect(inspected).to_have_text("streaming")
    act = second.locator("#inspect .actions").get_by_role("button")
    await act.filter(has_text="Pause").click()
    await expect(badge(first)).to_have_text("paused", timeout=15_000)
    await act.filter(has_text="Resume").click()
    await expect(badge(first)).to_have_text("streaming")
    await act.filter(has_text="Pause").click()
    await expect(badge(first)).to_have_text("paused", timeout=15_000)
    await first.get_by_role("button", name="Resume").click()
    await expect(inspected).to_have_text("streaming")
    await first.click("#generate [name=stop]")
    await expect(badge(first)).to_have_text("stopped")
    assert model.active == 0


async def listen(page: Page) -> None:
    """What a screen reader is told goes into `told`."""
    await page.evaluate(
        """() => {
          window.told = [];
          const announcer = document.getElementById("announcer");
          new MutationObserver(() => window.told.push(announcer.textContent))
            .observe(announcer, { childList: true });
        }"""
    )


async def test_another_stream_can_be_inspected_without_the_first_being_stopped(
    context: BrowserContext, serve: Serve
) -> None:
    server = await serve(slow(2000))
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


async def test_an_inspector_without_a_server_says_so_once(
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
        "The server is there again.",
    ]


# The server goes away.


SERVER = """
import asyncio
from aiohttp.test_utils import TestServer
from rxllm.models.scripted import ScriptedModel
from rxllm.server.app import create_app

async def main():
    model = ScriptedModel("word " * 900, by="word", delay=0.02, name="slow")
    server = TestServer(create_app({"slow": model}))
    await server.start_server()
    print(server.port, flush=True)
    await asyncio.sleep(100)

asyncio.run(main())
"""


async def test_a_server_killed_under_the_page_and_started_again(
    page: Page, serve: Serve, complaints: Complaints
) -> None:
    """The stream is lost and said to be so; the page and its connection come back by themselves."""
    complaints.expected = ("Failed to load resource", "WebSocket connection")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVER, stdout=asyncio.subprocess.PIPE, cwd=PAGE.parents[2]
    )
    try:
        assert process.stdout is not None
        port = int(await process.stdout.readline())
        await page.goto(f"http://127.0.0.1:{port}/#chat")
        await expect(page.locator("#chat .connection")).to_have_text("connected")
        await page.click("#tab-room")
        await page.fill("#room [name=name]", "Ada")
        await page.click("#room [name=join]")
        await page.fill("#room-text", "bot, speak")
        await page.keyboard.press("Enter")
        reply = page.locator("#room .said:not(.mine)")
        await expect(reply.locator(".text")).to_contain_text("word word")
        await page.click("#tab-generate")
        await generate(page)
        await expect(page.locator("#generate .output")).to_contain_text("word word")
    finally:
        process.kill()
        await process.wait()
    await expect(page.locator("#chat .connection")).to_contain_text("connection lost")
    await expect(page.locator("#room-text")).not_to_be_editable()
    await expect(reply.locator(".text")).to_contain_text("word word")
    await expect(badge(page)).to_have_text("reconnecting")
    assert (await text_of(page)).startswith("word word")
    await serve(ScriptedModel("again", name="slow"), port=port)
    await expect(badge(page)).to_have_text("failed", timeout=30_000)
    assert (await text_of(page)).startswith("word word")
    await expect(page.locator("#chat .connection")).to_have_text("connected", timeout=30_000)
    await expect(page.locator("#room-text")).to_be_editable()
    await expect(reply).to_contain_text("word word")
    await expect(reply).to_contain_text("The answer was lost")
    assert await reply.get_attribute("data-state") is None
    await generate(page)
    await expect(page.locator("#generate .output")).to_have_text("again")


# How it is used.


async def test_the_tabs_are_worked_with_the_keyboard(page: Page, serve: Serve) -> None:
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
async def test_the_focus_goes_with_what_can_be_done(page: Page, serve: Serve, tab: str) -> None:
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


async def test_the_focus_of_a_talk_is_where_one_writes(page: Page, serve: Serve) -> None:
    server = await serve(ScriptedModel("yes"))
    await open_page(page, server, "chat")
    await page.fill("#chat textarea", "hello")
    await page.click("#chat [name=send]")
    await expect(page.locator("#chat textarea")).to_be_focused()
    await expect(page.locator("#chat [name=send]")).to_be_enabled()
    await join(page, server, "Ada")
    await expect(page.locator("#room-text")).to_be_focused()
    await page.click("#room [name=leave]")
    await expect(page.locator("#room [name=name]")).to_be_focused()


async def test_the_focus_stays_in_what_is_inspected_when_it_ends(
    context: BrowserContext, serve: Serve
) -> None:
    server = await serve(slow())
    first, second = await context.new_page(), await context.new_page()
    await open_page(first, server)
    await generate(first)
    await expect(badge(first)).to_have_text("streaming")
    await open_page(second, server, "inspect")
    await second.click("#inspect .streams button")
    await expect(badge(second, "inspect").last).to_have_text("streaming")
    await second.locator("#inspect .actions").get_by_role("button", name="Stop").click()
    await expect(second.locator("#inspect .events")).to_be_focused()


@pytest.mark.parametrize("hash_", ["main", "nothing"])
async def test_what_names_no_tab_leaves_the_tab(page: Page, serve: Serve, hash_: str) -> None:
    """As the link to the content, for those who come by the keyboard."""
    await open_page(page, await serve(ScriptedModel("x")), "chat")
    if hash_ == "main":
        await page.focus(".skip")
        await page.keyboard.press("Enter")
        await expect(page.locator("#main")).to_be_focused()
    else:
        await page.evaluate("location.hash = 'nothing'")
    await expect(page.locator("#chat")).to_be_visible()
    await expect(page.locator("#generate")).to_be_hidden()


async def test_everything_that_is_used_has_a_name(page: Page, serve: Serve) -> None:
    await open_page(page, await serve(ScriptedModel("x")))
    unnamed = await page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, textarea, progress")]
          .filter((e) => !(e.labels?.length || e.ariaLabel || e.textContent.trim()))
          .map((e) => e.outerHTML)"""
    )
    assert unnamed == []


async def test_a_screen_reader_is_told_of_states_and_not_of_tokens(
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


async def test_figures_stand_in_twos_on_a_phone(page: Page, serve: Serve) -> None:
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
