"""An agent on the page: its answers, the cards of its tools, and decisions about their calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web
from playwright.async_api import BrowserContext, Locator, Page, expect

import rxllm
from rxllm.chunks import Chunk, End, Notice, Token, ToolCall
from rxllm.models.scripted import Script, ScriptedModel
from rxllm.server.app import create_app
from tests.server.page.actions import badge, listen, open_page
from tests.server.page.conftest import Complaints, Serve

pytestmark = pytest.mark.asyncio(loop_scope="session")

TAGS = "<b>bold</b> & <script>alert(1)</script>"


def call(name: str, arguments: str = "{}", *, of: str = "1", index: int = 0) -> ToolCall:
    return ToolCall(of, name, arguments, index, complete=True)


def calling(text: str, *calls: ToolCall) -> list[Chunk]:
    return [Token(text), *calls, End("tool_calls")]


class Tools:
    """Tools that the tests hold and release, and what they have done."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.done: list[str] = []

        async def search(query: str) -> AsyncIterator[str]:
            yield f"looking for {query}"
            await self.go.wait()
            yield f"found {query}"

        def fail(why: str) -> str:
            raise rxllm.ToolError(why)

        def echo(value: Any) -> Any:
            return value

        @rxllm.tool(approval="ask")
        def delete(path: str) -> str:
            self.done.append(path)
            return f"deleted {path}"

        self.all: list[Callable[..., Any] | Any] = [search, fail, echo, delete]

    def app(self, *scripts: Script, tools: Any = (), **options: Any) -> web.Application:
        model = ScriptedModel(*scripts, **options)
        return create_app({"agent": rxllm.Agent(model, [*self.all, *tools])})


async def ask(page: Page, tab: str) -> None:
    """Ask the agent in the stream view or in the chat."""
    if tab == "chat":
        await page.fill("#chat [name=text]", "Do it")
        await page.keyboard.press("Enter")
    else:
        await page.fill("#generate [name=prompt]", "Do it")
        await page.fill("#generate [name=maxTokens]", "")  # a script with a restart has no limit
        await page.click("#generate [name=run]")


def answer_in(page: Page, tab: str) -> Locator:
    return page.locator("#chat .said:not(.mine) > .run" if tab == "chat" else "#generate .output")


def card(page: Page, name: str) -> Locator:
    return page.get_by_role("group", name=f"Tool {name}", exact=True)


def state_of(card: Locator) -> Locator:
    return card.locator("> header .badge")


async def parts(answer: Locator) -> list[str]:
    """The texts and the names of tools of an answer, in order."""
    found: list[str] = await answer.evaluate(
        """answer => [...answer.children].map((part) =>
          (part.querySelector(":scope > header .name") ?? part).innerText.trim())"""
    )
    return found


BOTH = pytest.mark.parametrize("tab", ["generate", "chat"])


@BOTH
async def test_the_texts_of_the_steps_are_in_their_places_between_the_tools(
    page: Page, serve: Serve, tab: str
) -> None:
    tools = Tools()
    app = tools.app(
        calling("First *look*.", call("search", '{"query": "tea"}')), "Then **answer**."
    )
    await open_page(page, await serve(app), tab)
    await ask(page, tab)
    search = card(page, "search")
    await expect(state_of(search)).to_have_text("running")
    await expect(search).to_contain_text("So far")
    await expect(search).to_contain_text("looking for tea")
    assert await parts(answer_in(page, tab)) == ["First look.", "search"]
    tools.go.set()
    await expect(state_of(search)).to_have_text("done")
    await expect(search).to_contain_text("found tea")
    await expect(search).not_to_contain_text("looking for")
    await expect(answer_in(page, tab)).to_contain_text("Then answer.")
    assert await parts(answer_in(page, tab)) == ["First look.", "search", "Then answer."]
    assert await answer_in(page, tab).locator(":is(em, strong)").count() == 2


@BOTH
async def test_texts_of_tools_are_never_html(page: Page, serve: Serve, tab: str) -> None:
    arguments = f'{{"why": "{TAGS}"}}'
    app = Tools().app(
        calling(
            "", call("fail", arguments), call("echo", '{"value": ["<i>x</i>"]}', of="2", index=1)
        ),
        "done",
    )
    await open_page(page, await serve(app), tab)
    await ask(page, tab)
    failed, echo = card(page, "fail"), card(page, "echo")
    await expect(state_of(failed)).to_have_text("failed")
    await expect(failed.locator(".failure")).to_have_text(f"ToolError: {TAGS}")
    await expect(failed.locator("pre").first).to_have_text(f'{{\n  "why": "{TAGS}"\n}}')
    await expect(echo.locator("pre").last).to_have_text('[\n  "<i>x</i>"\n]')
    await expect(page.locator(".tool :is(b, i, script)")).to_have_count(0)


async def test_long_arguments_and_results_are_collapsed(page: Page, serve: Serve) -> None:
    long = "x" * 300
    app = Tools().app(
        calling("", call("echo", '{"value": 1}'), call("echo", f'{{"value": "{long}"}}', of="2")),
        "done",
    )
    await open_page(page, await serve(app))
    await ask(page, "generate")
    short, collapsed = card(page, "echo").nth(0), card(page, "echo").nth(1)
    await expect(state_of(collapsed)).to_have_text("done")
    await expect(short.locator("pre").last).to_be_visible()
    await expect(collapsed.locator("pre").first).to_be_hidden()
    await expect(collapsed.locator("pre").last).to_be_hidden()
    await collapsed.get_by_text("Result").click()
    await expect(collapsed.locator("pre").last).to_have_text(long)


async def test_a_result_that_has_grown_long_is_collapsed(page: Page, serve: Serve) -> None:
    go = asyncio.Event()

    async def grow() -> AsyncIterator[str]:
        yield "short"
        await go.wait()
        yield "x" * 300

    app = Tools().app(calling("", call("grow")), "done", tools=[grow])
    await open_page(page, await serve(app))
    await ask(page, "generate")
    result = card(page, "grow").locator("pre").last
    await expect(result).to_have_text("short")
    await expect(result).to_be_visible()
    go.set()
    await expect(badge(page)).to_have_text("complete")
    await expect(result).to_be_hidden()


async def test_a_very_long_result_is_cut_off(page: Page, serve: Serve) -> None:
    def much() -> str:
        return "x" * 25_000

    app = Tools().app(calling("", call("much")), "done", tools=[much])
    await open_page(page, await serve(app))
    await ask(page, "generate")
    result = card(page, "much").locator("pre").last
    await expect(result).to_contain_text("… 5000 more characters")


@BOTH
async def test_a_restart_takes_back_the_answer_under_way_alone(
    page: Page, serve: Serve, tab: str
) -> None:
    go = asyncio.Event()

    async def wait() -> str:
        await go.wait()
        return "waited"

    second: Script = [
        "Wrong.",
        call("echo", '{"value": 0}', of="2"),
        Notice("restart"),
        0.1,
        "Right.",
    ]
    app = Tools().app(calling("First.", call("wait")), second, tools=[wait])
    await open_page(page, await serve(app), tab)
    await ask(page, tab)
    await expect(state_of(card(page, "wait"))).to_have_text("running")
    go.set()
    await expect(answer_in(page, tab)).to_contain_text("Right.")
    assert await parts(answer_in(page, tab)) == ["First.", "wait", "Right."]
    await expect(state_of(card(page, "wait"))).to_have_text("done")


@BOTH
@pytest.mark.parametrize("approved", [True, False])
async def test_a_call_that_waits_is_approved_or_refused(
    page: Page, serve: Serve, tab: str, approved: bool
) -> None:
    tools = Tools()
    app = tools.app(calling("I delete it.", call("delete", '{"path": "/x"}')), "So it is.")
    await open_page(page, await serve(app), tab)
    await listen(page)
    await ask(page, tab)
    delete = card(page, "delete")
    await expect(state_of(delete)).to_have_text("waits for approval")
    await expect(page.locator("#announcer")).to_have_text("delete: waits for approval")
    assert tools.done == []
    if approved:
        await page.get_by_role("button", name="Approve delete").click()
        await expect(state_of(delete)).to_have_text("done")
        await expect(delete).to_contain_text("deleted /x")
    else:
        await page.get_by_label("Reason to refuse (optional)").fill("I need it.")
        await page.keyboard.press("Enter")
        await expect(state_of(delete)).to_have_text("refused")
        await expect(delete).to_contain_text("the user has not allowed this: I need it.")
    await expect(answer_in(page, tab)).to_contain_text("So it is.")
    assert await parts(answer_in(page, tab)) == ["I delete it.", "delete", "So it is."]
    await expect(page.locator(".decision")).to_have_count(0)
    assert tools.done == (["/x"] if approved else [])


@BOTH
async def test_the_run_continues_when_all_calls_are_decided(
    page: Page, serve: Serve, tab: str
) -> None:
    tools = Tools()
    two = [call("delete", f'{{"path": "/{n}"}}', of=n, index=int(n)) for n in "01"]
    app = tools.app(calling("", *two), "Done.")
    await open_page(page, await serve(app), tab)
    await ask(page, tab)
    refuse = page.get_by_role("button", name="Refuse delete")
    await expect(refuse).to_have_count(2)
    await refuse.first.click()
    await expect(state_of(card(page, "delete").first)).to_have_text("decided")
    await expect(refuse).to_have_count(1)
    assert tools.done == []
    await page.get_by_role("button", name="Approve delete").click()
    await expect(answer_in(page, tab)).to_contain_text("Done.")
    assert tools.done == ["/1"]


async def test_a_chat_goes_on_after_an_approval(page: Page, serve: Serve) -> None:
    model = ScriptedModel(
        calling("", call("delete", '{"path": "/x"}')), "Done.", "You asked me to."
    )
    app = create_app({"agent": rxllm.Agent(model, Tools().all)})
    await open_page(page, await serve(app), "chat")
    await ask(page, "chat")
    await page.get_by_role("button", name="Approve delete").click()
    await expect(answer_in(page, "chat")).to_contain_text("Done.")
    await page.fill("#chat [name=text]", "Why?")
    await page.keyboard.press("Enter")
    await expect(answer_in(page, "chat").last).to_contain_text("You asked me to.")
    said = [message.role for message in model.requests[-1].messages]
    assert said == ["user", "assistant", "tool", "assistant", "user"]


async def test_another_message_takes_the_buttons_away(page: Page, serve: Serve) -> None:
    tools = Tools()
    app = tools.app(calling("", call("delete", '{"path": "/x"}')), "As you like.")
    await open_page(page, await serve(app), "chat")
    await ask(page, "chat")
    await expect(page.locator(".decision")).to_have_count(1)
    await page.fill("#chat [name=text]", "Rather not")
    await page.keyboard.press("Enter")
    await expect(answer_in(page, "chat").last).to_contain_text("As you like.")
    await expect(state_of(card(page, "delete"))).to_have_text("without a result")
    await expect(page.locator(".decision")).to_have_count(0)
    assert tools.done == []


async def test_a_decision_that_was_not_taken_can_be_made_again(page: Page, serve: Serve) -> None:
    tools = Tools()
    app = tools.app(calling("", call("delete", '{"path": "/x"}')), "Done.")
    await page.add_init_script(
        """
        const { send } = WebSocket.prototype;
        let first = true;
        WebSocket.prototype.send = function (text) {
          const message = JSON.parse(text);
          const breaks = first && message.approvals;
          if (breaks) [first, message.options] = [false, { model: "nobody" }];
          send.call(this, JSON.stringify(message));
        };
        """
    )
    await open_page(page, await serve(app), "chat")
    await ask(page, "chat")
    approve = page.get_by_role("button", name="Approve delete")
    await approve.click()
    await expect(page.locator("#chat .event.bad")).to_contain_text("there is no model 'nobody'")
    await approve.click()
    await expect(answer_in(page, "chat")).to_contain_text("Done.")
    assert tools.done == ["/x"]


async def test_a_run_inside_a_tool_is_collapsed_in_its_card(page: Page, serve: Serve) -> None:
    tools = Tools()
    inner = rxllm.Agent(
        ScriptedModel(calling("I **search**.", call("search", '{"query": "tea"}')), "Found it."),
        tools.all,
    )
    helper = inner.as_tool("helper", "Helps.")
    app = tools.app(calling("", call("helper", '{"task": "tea"}')), "Thanks.", tools=[helper])
    await open_page(page, await serve(app))
    await ask(page, "generate")
    outer = card(page, "helper")
    nested = outer.locator("> .nested")
    await expect(nested.locator("> summary")).to_have_text("Its own answer")
    await expect(nested.locator("> summary")).to_be_visible()
    await expect(card(page, "search")).to_be_hidden()
    await nested.locator("> summary").click()
    await expect(state_of(card(page, "search"))).to_have_text("running")
    await expect(state_of(outer)).to_have_text("running")
    tools.go.set()
    await expect(nested.locator("> .run")).to_contain_text("Found it.")
    assert await parts(nested.locator("> .run")) == ["I search.", "search", "Found it."]
    await expect(page.locator("#generate .output > .text")).to_have_text("Thanks.")
    assert await nested.locator("strong").inner_text() == "search"


async def test_a_message_of_the_user_that_joins_the_run_is_shown(page: Page, serve: Serve) -> None:
    class Steered(rxllm.Agent):
        def stream(self, prompt: Any, **options: Any) -> Any:
            inbox = rxllm.Inbox()
            inbox.steer(f"Be brief. {TAGS}")
            return super().stream(prompt, inbox=inbox, **options)

    model = ScriptedModel(calling("First.", call("echo", '{"value": 1}')), "Second.")
    app = create_app({"agent": Steered(model, Tools().all)})
    await open_page(page, await serve(app))
    await ask(page, "generate")
    await expect(page.locator("#generate .steering")).to_have_text(f"Be brief. {TAGS}")
    await expect(answer_in(page, "generate")).to_contain_text("Second.")
    steered = ["First.", "echo", f"Be brief. {TAGS}", "Second."]
    assert await parts(answer_in(page, "generate")) == steered


async def test_a_stopped_run_has_calls_without_a_result(page: Page, serve: Serve) -> None:
    app = Tools().app(calling("", call("search", '{"query": "tea"}')), "never")
    await open_page(page, await serve(app))
    await ask(page, "generate")
    await expect(state_of(card(page, "search"))).to_have_text("running")
    await page.click("#generate [name=stop]")
    await expect(badge(page)).to_have_text("stopped")
    await expect(state_of(card(page, "search"))).to_have_text("without a result")


# Reloads


async def test_a_reload_rejoins_a_run_amid_its_tools(page: Page, serve: Serve) -> None:
    tools = Tools()
    app = tools.app(
        calling("One.", call("echo", '{"value": 1}')),
        calling("Two.", call("search", '{"query": "tea"}', of="2")),
        "Three.",
    )
    await open_page(page, await serve(app))
    await ask(page, "generate")
    await expect(card(page, "search")).to_contain_text("looking for tea")
    await page.reload()
    await expect(card(page, "search")).to_contain_text("looking for tea")
    tools.go.set()
    await expect(answer_in(page, "generate")).to_contain_text("Three.")
    assert await parts(answer_in(page, "generate")) == ["One.", "echo", "Two.", "search", "Three."]
    await expect(badge(page)).to_have_text("complete")


async def test_a_reload_keeps_the_question_about_a_call(page: Page, serve: Serve) -> None:
    """And what came before it, while the run continues."""
    tools = Tools()
    app = tools.app(
        calling("One.", call("delete", '{"path": "/x"}')),
        calling("Two.", call("search", '{"query": "tea"}', of="2")),
        "Three.",
    )
    await open_page(page, await serve(app))
    await ask(page, "generate")
    await expect(badge(page)).to_have_text("waits for approval")
    await page.reload()
    await page.get_by_role("button", name="Approve delete").click()
    await expect(card(page, "search")).to_contain_text("looking for tea")
    await page.reload()
    await expect(card(page, "search")).to_contain_text("looking for tea")
    tools.go.set()
    await expect(answer_in(page, "generate")).to_contain_text("Three.")
    names = ["One.", "delete", "Two.", "search", "Three."]
    assert await parts(answer_in(page, "generate")) == names
    assert tools.done == ["/x"]
    await page.reload()
    await expect(badge(page)).to_have_text("ready")


# The inspector


async def test_the_inspector_shows_the_steps_and_their_calls(
    context: BrowserContext, serve: Serve
) -> None:
    tools = Tools()
    two = [
        call("search", '{"query": "tea"}'),
        call("fail", '{"why": "no"}', of="2", index=1),
        call("delete", '{"path": "/x"}', of="3", index=2),
    ]
    server = await serve(tools.app(calling("Look.", *two), "Done."))
    first, second = await context.new_page(), await context.new_page()
    await open_page(first, server)
    await ask(first, "generate")
    await expect(card(first, "search")).to_contain_text("looking for tea")
    await open_page(second, server, "inspect")
    await second.click("#inspect .streams button")
    events = second.locator("#inspect .events")
    interim = events.locator(".tool_result").filter(has_text="interim · search looking for tea")
    await expect(interim).to_be_visible()
    tools.go.set()
    await expect(badge(second, "inspect").first).to_have_text("waits for approval")
    kinds = await events.locator(
        ":is(.tool_call, .tool_result, .approval_request)"
    ).all_inner_texts()
    assert kinds[:3] == [
        'call · search {"query": "tea"}',
        'call · fail {"why": "no"}',
        'call · delete {"path": "/x"}',
    ]
    assert "error · fail ToolError: no" in kinds
    assert "result · search found tea" in kinds
    assert kinds[-1] == "asks for approval · 3"
    await expect(events).to_contain_text("end · tool_calls · a step follows")
    rows = second.get_by_role("region", name="Steps of the run").locator("tbody tr")
    await expect(rows).to_have_count(1)
    number, model, tokens, time, calls = await rows.locator("> *").all_inner_texts()
    assert (number, model, tokens) == ("1", "scripted", "1")
    assert time.endswith(" s")
    search, failed, delete = calls.split("\n")
    assert search.startswith("search · ")
    assert search.endswith(" s")
    assert failed.endswith(" · failed")
    assert delete == "delete · waits for approval"
    assert await second.locator("#inspect .decision").count() == 0

    await first.get_by_role("button", name="Approve delete").click()
    await expect(badge(first)).to_have_text("complete")
    await second.locator("#inspect .streams li").nth(1).wait_for()
    await second.locator("#inspect .streams button").first.click()
    await expect(badge(second, "inspect").first).to_have_text("complete")
    await expect(rows).to_have_count(2)
    assert (await rows.nth(0).locator("> *").all_inner_texts())[0] == "before"
    assert (await rows.nth(1).locator("> *").all_inner_texts())[:2] == ["1", "scripted"]


async def test_a_plain_answer_has_no_steps(context: BrowserContext, serve: Serve) -> None:
    server = await serve(ScriptedModel("x"))
    page = await context.new_page()
    await open_page(page, server)
    await page.click("#generate [name=run]")
    await expect(badge(page)).to_have_text("complete")
    await page.click("#tab-inspect")
    await page.click("#inspect .streams button")
    await expect(page.locator("#inspect .events .complete")).to_be_visible()
    await expect(page.locator("#inspect .steps")).to_be_hidden()


# Accessibility, and narrow screens


async def test_the_cards_work_with_the_keyboard_and_have_names(page: Page, serve: Serve) -> None:
    app = Tools().app(
        calling(
            "",
            call("echo", f'{{"value": "{"x" * 300}"}}'),
            call("delete", '{"path": "/x"}', of="2"),
        ),
        "Done.",
    )
    await open_page(page, await serve(app))
    await ask(page, "generate")
    await expect(page.locator(".decision")).to_be_visible()
    unnamed = await page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, textarea, summary")]
          .filter((e) => e.checkVisibility())
          .filter((e) => !(e.labels?.length || e.ariaLabel || e.textContent.trim()))
          .map((e) => e.outerHTML)"""
    )
    assert unnamed == []
    ids = await page.evaluate("[...document.querySelectorAll('[id]')].map(({ id }) => id)")
    assert len(ids) == len(set(ids))
    await page.focus("#generate .output")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(card(page, "echo").locator("pre").first).to_be_visible()
    await page.get_by_role("button", name="Approve delete").focus()
    await page.keyboard.press("Enter")
    await expect(card(page, "delete")).to_be_focused()
    await expect(badge(page)).to_have_text("complete")
    await expect(card(page, "delete")).to_be_focused()


@BOTH
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_texts_of_the_cards_have_contrast(
    page: Page, serve: Serve, tab: str, scheme: Any
) -> None:
    """At least 4.5 to 1 (WCAG 2.2, 1.4.3)."""
    await page.emulate_media(color_scheme=scheme)
    calls = [
        call("fail", '{"why": "no"}'),
        call("delete", '{"path": "/x"}', of="2", index=1),
        call("echo", '{"value": 1}', of="3", index=2),
    ]
    await open_page(page, await serve(Tools().app(calling("", *calls), "Done.")), tab)
    await ask(page, tab)
    await expect(page.locator(".decision")).to_be_visible()
    faint = await page.evaluate(
        """(tab) => {
          const context = document.createElement("canvas").getContext("2d");
          const rgb = (color) => {
            context.fillStyle = color;
            context.fillRect(0, 0, 1, 1);
            return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3).map((part) => part / 255);
          };
          const luminance = (color) => rgb(color)
            .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
            .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
          const ground = (element) => {
            const { backgroundColor } = getComputedStyle(element);
            return /, 0\\)|transparent/.test(backgroundColor)
              ? ground(element.parentElement) : backgroundColor;
          };
          return [...document.querySelectorAll(`#${tab} .tool :is(.name, .badge, summary, pre,
            .failure, label, button)`)].map((element) => {
              const { color, opacity, animationName } = getComputedStyle(element);
              const pair = [luminance(color), luminance(ground(element))].sort((a, b) => b - a);
              const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
              return [element.className || element.localName, ratio, opacity, animationName];
            }).filter(([, ratio, opacity, animation]) =>
              ratio < 4.5 || opacity !== "1" || animation !== "none");
        }""",
        tab,
    )
    assert faint == []


@pytest.mark.parametrize("width", [320, 768])
async def test_cards_are_no_wider_than_the_window(page: Page, serve: Serve, width: int) -> None:
    long = "w" * 300
    name = "a_tool_with_a_very_long_name_of_many_words_indeed"

    @rxllm.tool(name=name, approval="ask")
    def named(value: str) -> str:
        return value

    calls = [
        call("echo", f'{{"value": "{long}"}}'),
        call(name, '{"value": "x"}', of="2", index=1),
        call("fail", f'{{"why": "{long}"}}', of="3", index=2),
    ]
    await page.set_viewport_size({"width": width, "height": 800})
    for tab in ("chat", "generate"):
        server = await serve(Tools().app(calling(long, *calls), "Done.", tools=[named]))
        await open_page(page, server, tab)
        await ask(page, tab)
        await expect(page.locator(f"#{tab} .decision")).to_be_visible()
        for details in await page.locator(f"#{tab} .tool details").all():
            await details.evaluate("details => { details.open = true; }")
        wide = await page.evaluate(
            """() => Math.max(document.documentElement.scrollWidth,
              ...[...document.querySelectorAll(".tool")].filter((e) => e.checkVisibility())
                .map((e) => e.getBoundingClientRect().right))"""
        )
        assert wide <= width, tab
    await page.click("#tab-inspect")
    await page.click("#inspect .streams button")
    await expect(page.locator("#inspect .steps")).to_be_visible()
    assert await page.evaluate("document.documentElement.scrollWidth") <= width


async def test_a_failed_run_keeps_what_its_tools_have_done(
    page: Page, serve: Serve, complaints: Complaints
) -> None:
    app = Tools().app(
        calling("First.", call("echo", '{"value": 1}')), ["Sec", ValueError("broken")]
    )
    await open_page(page, await serve(app))
    await ask(page, "generate")
    await expect(badge(page)).to_have_text("failed")
    assert await parts(answer_in(page, "generate")) == ["First.", "echo", "Sec"]
    await expect(state_of(card(page, "echo"))).to_have_text("done")
