"""A browser's `EventSource` reads a stream: to its end, and across a lost connection."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from playwright.async_api import Page

from rxllm.models.scripted import ScriptedModel
from rxllm.server import create_app
from tests.server.page.conftest import Complaints, Serve

pytestmark = pytest.mark.asyncio(loop_scope="session")

STORY = "Once upon a time there was a robot who learned to paint"

READ = """
  async (url) => {
    const source = new EventSource(url);
    const ids = [];
    let text = "";
    let opened = 0;
    source.onopen = () => (opened += 1);
    source.addEventListener("chunk", async ({ data, lastEventId }) => {
      const { chunk } = JSON.parse(data);
      ids.push(Number(lastEventId));
      if (chunk.type === "token" || chunk.type === "batch") text += chunk.text;
      await fetch(`/seen?id=${lastEventId}`, { method: "POST" });
    });
    const complete = await new Promise((resolve) =>
      source.addEventListener("complete", ({ data }) => resolve(JSON.parse(data))));
    // It reconnects, as after a lost connection. 204 stops it.
    await new Promise((resolve) => {
      source.addEventListener("error", () => source.readyState === EventSource.CLOSED && resolve());
    });
    return { ids, text, opened, complete };
  }
"""


class Proxy:
    """Forwards requests to a server, and cuts the first stream after the event `cut` was seen."""

    def __init__(self, server: str, cut: int | None = None) -> None:
        self.answers: list[tuple[str | None, int]] = []  # Last-Event-ID, and the status
        self._server = server
        self._cut = cut
        self._seen = asyncio.Event()
        self.app = web.Application()
        self.app.router.add_get("/", _empty)
        self.app.router.add_get("/stream", self._stream)
        self.app.router.add_post("/seen", self._see)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        last = request.headers.get("Last-Event-ID")
        headers = {} if last is None else {"Last-Event-ID": last}
        async with (
            aiohttp.ClientSession(self._server) as session,
            session.get("/stream", params=request.query, headers=headers) as answer,
        ):
            self.answers.append((last, answer.status))
            response = web.StreamResponse(status=answer.status)
            response.content_type = answer.content_type
            await response.prepare(request)
            if answer.status == 204:
                return response
            # By default, a browser waits some seconds before it reconnects.
            await response.write(b"retry: 10\n\n")
            async for line in answer.content:
                await response.write(line)
                if self._cut is not None and line == f"id: {self._cut}\n".encode():
                    await response.write(await answer.content.readline() + b"\n")
                    await self._seen.wait()
                    self._cut = None
                    assert request.transport is not None
                    request.transport.abort()
                    break
        return response

    async def _see(self, request: web.Request) -> web.Response:
        if request.query["id"] == str(self._cut):
            self._seen.set()
        return web.Response()


async def _empty(_: web.Request) -> web.Response:
    return web.Response(text="<!doctype html><link rel=icon href=data:,>", content_type="text/html")


async def read(page: Page, serve: Serve, cut: int | None = None) -> tuple[Any, Proxy]:
    server = await serve(create_app({"tiny": ScriptedModel(STORY, by="word", delay=0.01)}))
    proxy = Proxy(str(server.make_url("/")), cut)
    front = await serve(proxy.app)
    await page.goto(str(front.make_url("/")))
    return await page.evaluate(READ, "/stream?prompt=Hi&id=mine"), proxy


async def test_it_reads_to_the_end_and_then_stops(page: Page, serve: Serve) -> None:
    got, proxy = await read(page, serve)
    assert got["text"] == STORY
    assert len(set(got["ids"])) == len(got["ids"])
    assert (got["complete"]["finishReason"], got["opened"]) == ("stop", 1)
    assert proxy.answers == [(None, 200), (str(got["complete"]["position"]), 204)]


async def test_it_resumes_after_a_lost_connection_with_no_gap_and_no_repeat(
    page: Page, serve: Serve, complaints: Complaints
) -> None:
    complaints.expected = ("ERR_",)  # the connection that is cut
    got, proxy = await read(page, serve, cut=4)
    assert got["text"] == STORY
    assert got["ids"] == sorted(set(got["ids"]))
    assert (got["complete"]["finishReason"], got["opened"]) == ("stop", 2)
    assert [status for _, status in proxy.answers] == [200, 200, 204]
    assert [last for last, _ in proxy.answers][:2] == [None, "4"]
