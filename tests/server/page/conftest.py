"""A browser for the tests of the page: the system's Chromium, headless."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from rxllm.models.scripted import ScriptedModel
from rxllm.server.app import create_app

CHROMIUM = shutil.which("chromium")
PAGE = Path(create_app.__code__.co_filename).parent / "page"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    # A page that a test makes has no address, and may then open no socket to this machine.
    "--disable-features=LocalNetworkAccessChecks",
]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        await browser.close()


class Complaints(list[str]):
    """Console errors, including policy violations and uncaught errors. A test that cuts connections
    expects some."""

    expected: tuple[str, ...] = ()

    def unexpected(self) -> list[str]:
        return [each for each in self if not any(part in each for part in self.expected)]


@pytest_asyncio.fixture(loop_scope="session")
async def complaints() -> AsyncIterator[Complaints]:
    complaints = Complaints()
    yield complaints
    assert complaints.unexpected() == []


Serve = Callable[..., Awaitable[TestServer]]


@pytest_asyncio.fixture(loop_scope="session")
async def serve() -> AsyncIterator[Serve]:
    """Starts the server with these models, or an application; on a free port if `None`."""
    async with AsyncExitStack() as servers:

        async def serve(
            what: web.Application | ScriptedModel | Mapping[str, ScriptedModel],
            port: int | None = None,
            **options: Any,
        ) -> TestServer:
            if isinstance(what, ScriptedModel):
                what = {what.info.id: what}
            app = what if isinstance(what, web.Application) else create_app(what, **options)
            server = TestServer(app, port=port)
            await server.start_server(shutdown_timeout=0.1)
            servers.push_async_callback(server.close)
            return server

        yield serve


@pytest_asyncio.fixture(loop_scope="session")
async def context(
    browser: Browser, complaints: Complaints, serve: Serve
) -> AsyncIterator[BrowserContext]:
    """Pages are closed before their servers, since pages that poll would log errors."""
    context = await browser.new_context()
    context.set_default_timeout(15_000)

    def listen(page: Page) -> None:
        page.on(
            "console",
            lambda said: complaints.append(said.text) if said.type == "error" else None,
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))

    context.on("page", listen)
    yield context
    await context.close()


@pytest_asyncio.fixture(loop_scope="session")
async def page(context: BrowserContext) -> Page:
    return await context.new_page()


Library = Callable[..., Awaitable[Any]]


@pytest_asyncio.fixture(loop_scope="session")
async def in_browser(page: Page, serve: Serve) -> Library:
    """Runs JavaScript in a browser with access to the modules of the page.

    `await in_browser("return [...]", argument, routes)` calls an async function whose parameters
    are `rxllm` and `markdown` (the modules), and `given`. `routes` are served as well.
    """

    async def run(body: str, given: Any = None, routes: web.RouteTableDef | None = None) -> Any:
        app = web.Application()
        app.add_routes(routes or web.RouteTableDef())
        app.router.add_static("/static/", PAGE)
        app.router.add_get("/", _empty)
        server = await serve(app)
        await page.goto(str(server.make_url("/")))
        return await page.evaluate(
            """async ([body, given]) => {
              const rxllm = await import("/static/rxllm.js");
              const markdown = await import("/static/markdown.js");
              const AsyncFunction = (async () => {}).constructor;
              const run = new AsyncFunction("rxllm", "markdown", "given", body);
              const result = await run(rxllm, markdown, given);
              return JSON.parse(JSON.stringify(result ?? null)); // omits undefined values
            }""",
            [body, given],
        )

    return run


async def _empty(_: web.Request) -> web.Response:
    return web.Response(
        text="<!doctype html><link rel=icon href=data:,><title>empty</title>",
        content_type="text/html",
    )
