"""The React hook of `examples/react`, with a stand-in for React."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from playwright.async_api import Page

from rxllm import Agent, tool
from rxllm.chunks import Chunk, End, Notice, Token, ToolCall
from rxllm.models.scripted import ScriptedModel
from rxllm.requests import Model
from rxllm.server.app import create_app
from tests.server.page.conftest import PAGE, Complaints, Serve

pytestmark = pytest.mark.asyncio(loop_scope="session")

EXAMPLE = Path(__file__).parents[3] / "examples" / "react"
EMPTY = """<!doctype html><link rel=icon href=data:,><title>empty</title>
<script type=importmap>{"imports": {"react": "/test/react_stand_in.js"}}</script>"""


async def in_component(page: Page, serve: Serve, model: Model, body: str) -> Any:
    """Run JavaScript with the names `mount` (a component that uses the hook) and `ended`."""
    app = create_app({"m": model})

    async def library(_: web.Request) -> web.FileResponse:
        return web.FileResponse(PAGE / "rxllm.js")

    app.router.add_get("/example/rxllm.js", library)
    app.router.add_static("/example/", EXAMPLE)
    app.router.add_static("/test/", Path(__file__).parent)
    server = await serve(app)
    # An import map is an inline script, which the policy of the server does not allow.
    await page.route("**/empty", lambda route: route.fulfill(body=EMPTY, content_type="text/html"))
    await page.goto(str(server.make_url("/empty")))
    return await page.evaluate(
        """async (body) => {
          const { Root } = await import("/test/react_stand_in.js");
          const { useStream } = await import("/example/useStream.js");
          const { useStreams } = await import("/example/useStreams.js");
          const mount = () => new Root(() => useStream());
          const mountMany = (options) => new Root(() => useStreams(options));
          const until = async (test) => {
            while (!test()) await new Promise((resolve) => setTimeout(resolve, 5));
          };
          const AsyncFunction = (async () => {}).constructor;
          const names = ["mount", "mountMany", "until"];
          return await new AsyncFunction(...names, body)(mount, mountMany, until);
        }""",
        body,
    )


async def test_early_chunks_are_not_dropped(page: Page, serve: Serve) -> None:
    """Chunks may arrive before the first render."""
    model = ScriptedModel("all of it at once", by="character")
    found = await in_component(
        page,
        serve,
        model,
        """
        const root = mount();
        const text = await root.output.start({ prompt: "hi" });
        await until(() => root.output.status === "complete");
        return [text, root.output.text, root.output.tokens];
        """,
    )
    assert found == ["all of it at once"] * 2 + [17]


async def test_a_component_has_one_store_however_often_it_renders(page: Page, serve: Serve) -> None:
    """A render must not create another client."""
    model = ScriptedModel("word " * 20, by="word", delay=0.02)
    renders, same, statuses = await in_component(
        page,
        serve,
        model,
        """
        const root = mount();
        root.output.start({ prompt: "hi" });
        await until(() => root.output.status === "complete");
        const { outputs } = root;
        const same = outputs.every(({ start, stop }) =>
          start === outputs[0].start && stop === outputs[0].stop);
        return [outputs.length, same, [...new Set(outputs.map(({ status }) => status))]];
        """,
    )
    assert renders > 3
    assert same is True
    assert statuses == ["ready", "waiting", "streaming", "complete"]
    assert len(model.requests) == 1


async def test_an_unmounted_component_ends_its_stream(page: Page, serve: Serve) -> None:
    model = ScriptedModel("word " * 900, by="word", delay=0.02)
    await in_component(
        page,
        serve,
        model,
        """
        const root = mount();
        root.output.start({ prompt: "hi" });
        await until(() => root.output.tokens > 2);
        root.unmount();
        """,
    )
    async with asyncio.timeout(10):
        while model.active:
            await asyncio.sleep(0.01)


async def test_a_remounted_component_finds_its_stream_stopped(
    page: Page, serve: Serve, complaints: Complaints
) -> None:
    """As in `StrictMode`, which unmounts each component once."""
    complaints.expected = ("Failed to load resource",)  # the server may be closed by then
    statuses = await in_component(
        page,
        serve,
        ScriptedModel("word " * 900, by="word", delay=0.02),
        """
        const { StreamStore } = await import("/example/streamStore.js");
        const { Client } = await import("/example/rxllm.js");
        const store = new StreamStore(new Client());
        const idle = (store.leave(), store.getSnapshot().status);
        store.start({ prompt: "hi" });
        await until(() => store.getSnapshot().status === "streaming");
        store.leave();
        return [idle, store.getSnapshot().status];
        """,
    )
    assert statuses == ["ready", "stopped"]


async def test_a_new_prompt_ends_the_previous_stream(page: Page, serve: Serve) -> None:
    model = ScriptedModel("one " * 900, "two", by="word", delay=0.02)
    text = await in_component(
        page,
        serve,
        model,
        """
        const root = mount();
        root.output.start({ prompt: "1" });
        await until(() => root.output.tokens > 2);
        await root.output.start({ prompt: "2" });
        await until(() => root.output.status === "complete");
        return root.output.text;
        """,
    )
    assert text == "two"
    async with asyncio.timeout(10):
        while model.active:
            await asyncio.sleep(0.01)


async def test_a_late_response_applies_only_to_its_own_stream(page: Page, serve: Serve) -> None:
    """A failed stop and a pause of a stream that was followed by another one."""
    model = ScriptedModel("one " * 900, "two " * 30, by="word", delay=0.02)
    found = await in_component(
        page,
        serve,
        model,
        """
        const { StreamStore } = await import("/example/streamStore.js");
        const { Client } = await import("/example/rxllm.js");
        const late = [];
        const store = new StreamStore(new Client({
          fetch: (path, init) => {
            const asks = init.method === "DELETE" || path.endsWith("/pause");
            return asks ? new Promise((resolve) => late.push([path, resolve])) : fetch(path, init);
          },
        }));
        store.start({ prompt: "1" });
        await until(() => store.getSnapshot().tokens > 2);
        const answered = [store.pause(), store.stop()];
        const ended = store.start({ prompt: "2" });
        await until(() => store.getSnapshot().text.startsWith("two"));
        for (const [path, resolve] of late) {
          resolve(new Response("{}", { status: path.endsWith("/pause") ? 200 : 503 }));
        }
        await Promise.all(answered);
        const { status } = store.getSnapshot();
        const text = await ended;
        return [status, store.getSnapshot().status, text];
        """,
    )
    assert found == ["streaming", "complete", "two " * 30]


async def test_stop_pause_and_resume(page: Page, serve: Serve) -> None:
    model = ScriptedModel("word " * 900, by="word", delay=0.02)
    statuses = await in_component(
        page,
        serve,
        model,
        """
        const root = mount();
        root.output.pause(); // there is nothing to pause
        root.output.start({ prompt: "hi" });
        await until(() => root.output.tokens > 2);
        await root.output.pause();
        await until(() => root.output.status === "paused");
        await root.output.resume();
        await until(() => root.output.status === "streaming");
        await root.output.stop();
        await until(() => root.output.status === "stopped");
        return root.output.status;
        """,
    )
    assert statuses == "stopped"


async def test_a_pause_outlasts_chunks_that_were_under_way(page: Page, serve: Serve) -> None:
    """Here all chunks are under way, since the server never receives the pause."""
    found = await in_component(
        page,
        serve,
        ScriptedModel("word " * 900, by="word", delay=0.01),
        """
        const { StreamStore } = await import("/example/streamStore.js");
        const { Client } = await import("/example/rxllm.js");
        const store = new StreamStore(new Client({
          fetch: (path, init) =>
            /(pause|resume)$/.test(path) ? Promise.resolve(new Response("{}")) : fetch(path, init),
        }));
        const shown = store.getSnapshot;
        store.start({ prompt: "hi" });
        await until(() => shown().tokens > 2);
        await store.pause();
        const { tokens } = shown();
        await until(() => shown().tokens > tokens + 3);
        const paused = shown().status;
        await store.resume();
        await until(() => shown().status !== "paused");
        const resumed = shown().status;
        store.leave();
        return [paused, resumed];
        """,
    )
    assert found == ["paused", "streaming"]


async def test_it_is_waiting_until_the_first_output(page: Page, serve: Serve) -> None:
    """A pause and its end aren't output. Reasoning is, and a restart discards it."""
    statuses = await in_component(
        page,
        serve,
        ScriptedModel("x"),
        """
        const { StreamStore } = await import("/example/streamStore.js");
        const statuses = [];
        const look = async () => {
          await new Promise(requestAnimationFrame);
          statuses.push(store.getSnapshot().status);
        };
        const chunks = [
          { type: "start" },
          { type: "reasoning", text: "hm" },
          { type: "notice", kind: "restart" },
          { type: "token", text: "well" },
        ];
        const stream = {
          pause: async () => {},
          resume: async () => {},
          async *[Symbol.asyncIterator]() {
            await store.pause();
            await look();
            await store.resume();
            await look();
            for (const chunk of chunks) {
              yield { type: "chunk", chunk };
              await look();
            }
            yield { type: "complete" };
          },
        };
        const store = new StreamStore({ stream: () => stream });
        await store.start({ prompt: "hi" });
        return [...statuses, store.getSnapshot().status];
        """,
    )
    live = ["waiting", "waiting", "streaming", "waiting", "streaming"]
    assert statuses == ["paused", *live, "complete"]


async def test_a_failure_is_part_of_the_state(
    page: Page, serve: Serve, complaints: Complaints
) -> None:
    complaints.expected = ("Failed to load resource",)
    found = await in_component(
        page,
        serve,
        ScriptedModel("x"),
        """
        const root = mount();
        const text = await root.output.start({ prompt: "hi", model: "another" });
        return [text, root.output.status, root.output.error.status];
        """,
    )
    assert found == ["", "failed", 404]


async def test_many_streams_share_a_connection_whose_state_is_known_each_with_progress(
    page: Page, serve: Serve
) -> None:
    model = ScriptedModel("one " * 20, "two " * 20, by="word", delay=0.01)
    found = await in_component(
        page,
        serve,
        model,
        """
        const root = mountMany();
        const before = root.output.isConnected;
        await until(() => root.output.isConnected);
        const ids = ["1", "2"].map((prompt) => root.output.start({ prompt, maxTokens: 20 }));
        await until(() => root.output.streams.length === 2);
        const begun = root.output.streams.map(({ isLive }) => isLive);
        await until(() => root.output.streams.every(({ isLive }) => !isLive));
        const { streams } = root.output;
        return {
          before, begun, known: streams.every(({ id }, index) => id === ids[index]),
          prompts: streams.map(({ prompt }) => prompt),
          texts: streams.map(({ text }) => text.length),
          statuses: streams.map(({ status }) => status),
          progress: streams.map(({ progress }) => progress.percentage),
          times: streams.map(({ started, duration }) => {
            return duration > 0.1 && Math.abs(started + duration - Date.now() / 1000) < 60;
          }),
        };
        """,
    )
    assert found == {
        "before": False,
        "begun": [True, True],
        "known": True,
        "prompts": ["1", "2"],
        "texts": [79, 79],
        "statuses": ["complete", "complete"],
        "progress": [100, 100],
        "times": [True, True],
    }


async def test_each_of_many_streams_can_be_stopped_and_removed(page: Page, serve: Serve) -> None:
    model = ScriptedModel("word " * 900, by="word", delay=0.01)
    found = await in_component(
        page,
        serve,
        model,
        """
        const root = mountMany();
        await until(() => root.output.isConnected);
        const [first, second] = ["1", "2"].map((prompt) => root.output.start({ prompt }));
        const of = (id) => root.output.streams.find((stream) => stream.id === id);
        await until(() => of(first)?.tokens > 2 && of(second)?.tokens > 2);
        root.output.stop(first);
        await until(() => of(first).status === "stopped");
        const others = [of(first).isLive, of(second).isLive];
        root.output.remove(second);
        await until(() => root.output.streams.length === 1);
        return others;
        """,
    )
    assert found == [False, True]
    async with asyncio.timeout(10):
        while model.active:
            await asyncio.sleep(0.01)


async def test_unmounting_stops_the_streams_and_closes_its_own_connection(
    page: Page, serve: Serve
) -> None:
    """The stand-in mounts, unmounts and mounts again, as strict mode does."""
    model = ScriptedModel("word " * 900, by="word", delay=0.01)
    found = await in_component(
        page,
        serve,
        model,
        """
        const { Connection } = await import("/example/rxllm.js");
        const shared = new Connection();
        const roots = [mountMany(), mountMany({ connection: shared })];
        for (const root of roots) {
          await until(() => root.output.isConnected);
          root.output.start({ prompt: "hi" });
        }
        await until(() => roots.every(({ output }) => output.streams[0]?.tokens > 2));
        for (const root of roots) root.unmount();
        const { status } = shared;
        shared.disconnect();
        return status;
        """,
    )
    assert found == "open"
    async with asyncio.timeout(10):
        while model.active:
            await asyncio.sleep(0.01)


async def test_a_stream_that_fails_says_why_and_leaves_the_others(page: Page, serve: Serve) -> None:
    found = await in_component(
        page,
        serve,
        ScriptedModel("fine"),
        """
        const root = mountMany();
        await until(() => root.output.isConnected);
        root.output.start({ prompt: "hi", model: "another" });
        root.output.start({ prompt: "hi" });
        await until(() => root.output.streams.length === 2
          && root.output.streams.every(({ isLive }) => !isLive));
        return root.output.streams.map(({ status, error, text }) => [status, error?.code, text]);
        """,
    )
    assert found == [["failed", "model_not_found", ""], ["complete", None, "fine"]]


PAY: list[Chunk] = [
    *(Token("I pay."), ToolCall("1", "pay", '{"usd": 5}', complete=True), End("tool_calls"))
]
RESTARTED: list[Chunk] = [Token("Wrong."), Notice("restart"), Token("Thanks.")]


def shop() -> Agent:
    @tool(approval="ask")
    def pay(usd: int) -> str:
        return f"paid {usd}"

    return Agent(ScriptedModel(PAY, RESTARTED), [pay])


async def test_a_component_decides_about_a_call_and_shows_its_tools(
    page: Page, serve: Serve
) -> None:
    """The restart takes back what the second step said, and not the call before it."""
    found = await in_component(
        page,
        serve,
        shop(),
        """
        const root = mount();
        const said = ({ text, tokens, tools, status, messages }) =>
          ({ text, tokens, status, tools: tools.map(({ state, output }) => [state, output ?? null]),
            roles: messages.map(({ role }) => role) });
        await root.output.start({ prompt: "Pay." });
        const seen = [said(root.output)];
        const [{ token }] = root.output.tools;
        const text = await root.output.approve({ [token]: true });
        return [...seen, said(root.output), text];
        """,
    )
    assert found == [
        {
            "text": "I pay.",
            "tokens": 1,
            "status": "complete",
            "tools": [["waiting", None]],
            "roles": ["assistant"],
        },
        {
            "text": "Thanks.",
            "tokens": 2,
            "status": "complete",
            "tools": [["done", "paid 5"]],
            "roles": ["assistant", "tool", "assistant"],
        },
        "Thanks.",
    ]


async def test_each_of_many_streams_has_its_tools(page: Page, serve: Serve) -> None:
    found = await in_component(
        page,
        serve,
        shop(),
        """
        const root = mountMany();
        await until(() => root.output.isConnected);
        const id = root.output.start({ prompt: "Pay." });
        await until(() => root.output.streams[0]?.isLive === false);
        const [{ text, tools, messages }] = root.output.streams;
        const { token } = tools[0];
        const asked = [{ role: "user", content: "Pay." }, ...messages];
        root.output.start({ messages: asked, approvals: { [token]: "too dear" } });
        await until(() => root.output.streams[1]?.isLive === false);
        const [, next] = root.output.streams;
        return [text, tools[0].state, next.text, next.tools[0].state];
        """,
    )
    assert found == ["I pay.", "waiting", "Thanks.", "denied"]
