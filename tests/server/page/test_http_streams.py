"""Streams over HTTP with `rxllm.js`: resumed with no gap and no repeat, or an error."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import msgspec
import pytest
from aiohttp import web
from playwright.async_api import Page

from rxllm.chunks import Chunk, End, Notice, Start, Token, ToolCall
from rxllm.models.scripted import ScriptedModel
from rxllm.server.messages import Complete, StreamChunk, StreamFailed
from tests.server.page.actions import slow
from tests.server.page.conftest import PAGE, Library, Serve
from tests.server.serving import until

pytestmark = pytest.mark.asyncio(loop_scope="session")

FOLLOW = """
  const client = new rxllm.Client({ retries: 3, backoff: { base: 0.01, cap: 0.02 } });
  const follow = async (stream) => {
    const positions = [];
    let error;
    try {
      for await (const { position } of stream) {
        positions.push(position);
        await fetch(`/seen?position=${position}`, { method: "POST" });
      }
    } catch (caught) {
      const { code, partial, status, field, id } = caught;
      error = { code, partial, status, field, id };
    }
    return { positions, error, text: stream.text, id: stream.id, resumed: stream.resumed };
  };
"""


def event(message: StreamChunk | Complete | StreamFailed) -> bytes:
    name = message.__struct_config__.tag
    data = msgspec.json.encode(message)
    return f"event: {name}\nid: {message.position}\ndata: ".encode() + data + b"\n\n"


def token(position: int, text: str | Chunk) -> bytes:
    chunk = Token(text) if isinstance(text, str) else text
    return event(StreamChunk(id="s 1", position=position, timestamp=1.0, chunk=chunk))


def complete(position: int) -> bytes:
    return event(Complete(id="s 1", tokens=position - 1, seconds=1.0, position=position))


class Replies:
    """A server with one scripted reply per connection: bytes, a status to refuse with, or `None`
    for no response. A connection is cut once its events were seen, since a browser may drop unread
    data when a connection breaks."""

    def __init__(self, *replies: bytes | int | None) -> None:
        self.replies = list(replies)
        self.asked: list[tuple[str, str, str | None]] = []
        self.routes = web.RouteTableDef()
        self.seen = asyncio.Condition()
        self.position = 0
        self.keep_open = False
        self.routes.post("/seen")(self.see)
        self.routes.post("/stream")(self.reply)
        self.routes.get("/stream/{id}")(self.reply)

    async def reply(self, request: web.Request) -> web.StreamResponse:
        last = request.headers.get("Last-Event-ID")
        self.asked.append((request.method, request.path, last))
        reply = self.replies.pop(0)
        if reply is None:
            await asyncio.Event().wait()  # until the server is closed
        assert reply is not None
        if isinstance(reply, int):
            failed = StreamFailed(code="not_now", message="no", field="prompt")
            return web.Response(status=reply, body=msgspec.json.encode(failed))
        response = web.StreamResponse(headers={"X-Stream-Id": "s 1"})
        await response.prepare(request)
        await response.write(reply)
        ended = b"event: complete" in reply or b"event: error" in reply
        reply = reply.split(b"event: error")[0]  # after that, the client reads no more
        last_event = max(map(int, re.findall(rb"id: (\d+)\n.*\n\n", reply)), default=0)
        async with self.seen:
            await self.seen.wait_for(lambda: self.position >= last_event)
        if self.keep_open and not ended:
            await asyncio.Event().wait()  # until the client leaves
        if request.transport is not None and not ended:
            request.transport.close()
        return response

    async def see(self, request: web.Request) -> web.Response:
        async with self.seen:
            self.position = int(request.query["position"])
            self.seen.notify_all()
        return web.Response()


async def follow(in_browser: Library, replies: Replies, ask: str = "") -> Any:
    ask = ask or "client.stream({ prompt: 'hi' })"
    return await in_browser(FOLLOW + f"return await follow({ask});", None, replies.routes)


async def test_a_stream_ends_with_its_last_message(in_browser: Library) -> None:
    replies = Replies(token(1, "a") + token(2, "b") + complete(3))
    found = await follow(in_browser, replies)
    assert found == {"positions": [1, 2, 3], "text": "ab", "id": "s 1", "resumed": 0}
    assert replies.asked == [("POST", "/stream", None)]


async def test_a_cut_connection_is_resumed_after_the_last_event(
    in_browser: Library, complaints: Any
) -> None:
    """The incomplete event is dropped and sent again; repeated events are skipped."""
    complaints.expected = ("Failed to load resource",)
    half = token(3, "c")[:-9]
    replies = Replies(
        token(1, "a") + token(2, "b") + half,
        503,
        token(2, "b") + token(3, "c"),
        complete(4),
    )
    found = await follow(in_browser, replies)
    assert found == {"positions": [1, 2, 3, 4], "text": "abc", "id": "s 1", "resumed": 3}
    assert [last for _, _, last in replies.asked] == [None, "2", "2", "3"]
    assert replies.asked[1][1] == "/stream/s 1"


async def test_an_event_cut_before_its_blank_line_is_dropped(
    in_browser: Library, complaints: Any
) -> None:
    """Its data is complete, but isn't carried over to the next connection."""
    complaints.expected = ("Failed to load resource",)
    replies = Replies(token(1, "a") + token(2, "b")[:-1], token(2, "b") + complete(3))
    found = await follow(in_browser, replies)
    assert found == {"positions": [1, 2, 3], "text": "ab", "id": "s 1", "resumed": 1}


async def test_a_silent_connection_is_replaced(in_browser: Library) -> None:
    """If the network drops packets, nothing closes the connection; the server's comments stop."""
    replies = Replies(token(1, "a"), token(2, "b") + complete(3))
    replies.keep_open = True
    found = await follow(
        in_browser,
        replies,
        "new rxllm.Client({ silence: 0.5, backoff: { base: 0.01 } }).stream({ prompt: 'hi' })",
    )
    assert found == {"positions": [1, 2, 3], "text": "ab", "id": "s 1", "resumed": 1}
    assert [last for _, _, last in replies.asked] == [None, "1"]


async def test_an_attempt_without_a_response_is_repeated(in_browser: Library) -> None:
    """If the network drops packets, it also drops requests."""
    replies = Replies(token(1, "a"), None, token(2, "b") + complete(3))
    replies.keep_open = True
    found = await follow(
        in_browser,
        replies,
        "new rxllm.Client({ silence: 0.5, backoff: { base: 0.01 } }).stream({ prompt: 'hi' })",
    )
    assert found == {"positions": [1, 2, 3], "text": "ab", "id": "s 1", "resumed": 2}
    assert [last for _, _, last in replies.asked] == [None, "1", "1"]


async def test_attempts_without_a_response_are_limited(in_browser: Library) -> None:
    replies = Replies(None, None)
    found = await follow(
        in_browser,
        replies,
        "new rxllm.Client({ silence: 0.4, retries: 1, backoff: { base: 0.01 } }).watch('s 1')",
    )
    assert found["error"] == {"code": "connection_lost", "partial": "", "id": "s 1"}
    assert len(replies.asked) == 2


async def test_an_attempt_without_a_response_can_be_aborted(in_browser: Library) -> None:
    replies = Replies(token(1, "a"), None)
    replies.keep_open = True
    name = await in_browser(
        """
        const client = new rxllm.Client({ silence: 0.3, backoff: { base: 0.01 } });
        const aborter = new AbortController();
        const stream = client.stream({ prompt: "hi" }, { signal: aborter.signal });
        const { fetch } = client;
        client.fetch = (path, init) => {
          const response = fetch(path, init);
          if (path !== "/stream") aborter.abort();
          return response;
        };
        try {
          for await (const { position } of stream) {
            await window.fetch(`/seen?position=${position}`, { method: "POST" });
          }
        } catch (error) {
          return error.name;
        }
        """,
        None,
        replies.routes,
    )
    assert name == "AbortError"


async def test_each_request_can_have_a_time_limit(in_browser: Library) -> None:
    routes = web.RouteTableDef()

    @routes.get("/models")
    @routes.get("/streams")
    @routes.post("/generate")
    @routes.delete("/streams/{id}")
    @routes.post("/streams/{id}/{what}")
    async def silent(_: web.Request) -> web.Response:
        await asyncio.Event().wait()  # until the server is closed
        raise AssertionError

    names = await in_browser(
        """
        const client = new rxllm.Client();
        const options = { signal: AbortSignal.timeout(50) };
        const asked = [
          client.models(options),
          client.streams(options),
          client.generate({ prompt: "hi" }, options),
          client.cancel("s", options),
          client.pause("s", options),
          client.resume("s", options),
        ];
        return Promise.all(asked.map((answer) => answer.catch(({ name }) => name)));
        """,
        None,
        routes,
    )
    assert names == ["TimeoutError"] * 6


async def test_the_example_of_the_module_runs(in_browser: Library) -> None:
    source = (PAGE / "rxllm.js").read_text(encoding="utf-8")
    found = re.search(r" \* An HTTP client of a server\.\n \*\n((?: \*     .*\n)+)", source)
    assert found is not None
    example = re.sub(r"^ \* {5}", "", found[1], flags=re.MULTILINE)
    replies = Replies(token(1, "one ") + token(2, "two") + complete(3))
    said = await in_browser(
        """
        const said = [];
        const AsyncFunction = (async () => {}).constructor;
        const run = new AsyncFunction("Client", "textOf", "console", given);
        await run(rxllm.Client, rxllm.textOf, { log: (text) => said.push(text) });
        return said;
        """,
        example,
        replies.routes,
    )
    assert said == ["one ", "two"]


async def test_attempts_without_new_messages_are_limited(
    in_browser: Library, complaints: Any
) -> None:
    complaints.expected = ("Failed to load resource",)
    replies = Replies(token(1, "a"), b": ping\n\n", b"", 500, 500, 500, 500)
    found = await follow(in_browser, replies)
    assert found["error"] == {"code": "connection_lost", "partial": "a", "id": "s 1"}
    assert len(replies.asked) == 4  # the first, and three in a row


async def test_a_stream_that_no_longer_exists_is_not_requested_again(
    in_browser: Library, complaints: Any
) -> None:
    complaints.expected = ("Failed to load resource",)
    replies = Replies(token(1, "a"), 404)
    found = await follow(in_browser, replies)
    said = {"partial": "a", "id": "s 1"}
    assert found["error"] == {"code": "not_now", "status": 404, "field": "prompt", **said}
    assert found["text"] == "a"


async def test_a_request_that_was_refused_is_not_sent_again(
    in_browser: Library, complaints: Any
) -> None:
    complaints.expected = ("Failed to load resource",)
    replies = Replies(503)
    found = await follow(in_browser, replies)
    assert found["error"] == {"code": "not_now", "status": 503, "field": "prompt"}
    assert len(replies.asked) == 1


async def test_a_failure_of_the_stream_is_an_error_with_the_partial_text(
    in_browser: Library,
) -> None:
    failed = event(StreamFailed(code="rate_limit", message="slow down", id="s 1", position=2))
    found = await follow(in_browser, Replies(token(1, "a") + failed))
    assert found["error"] == {"code": "rate_limit", "partial": "a", "id": "s 1"}
    assert found["positions"] == [1]


async def test_a_late_reader_starts_after_the_given_position(in_browser: Library) -> None:
    replies = Replies(token(5, "e") + complete(6))
    found = await follow(in_browser, replies, "client.watch('s 1', { after: 4 })")
    assert found["positions"] == [5, 6]
    assert replies.asked == [("GET", "/stream/s 1", "4")]


async def test_a_position_of_another_stream_restarts_the_text(
    in_browser: Library, complaints: Any
) -> None:
    """The id is in use by a newer stream, or the server has restarted."""
    complaints.expected = ("Failed to load resource",)
    again = token(0, Notice("restart")) + token(1, "new ") + token(2, "text") + complete(3)
    replies = Replies(token(5, "old") + token(6, "er"), again)
    found = await follow(in_browser, replies, "client.watch('s 1', { after: 4 })")
    assert found["positions"] == [5, 6, 0, 1, 2, 3]
    assert found["text"] == "new text"


async def test_an_aborted_stream_ends_at_once_and_is_not_resumed(in_browser: Library) -> None:
    replies = Replies(token(1, "a"), token(2, "b"))
    name = await in_browser(
        FOLLOW
        + """
        const aborter = new AbortController();
        try {
          for await (const _ of client.stream({ prompt: "hi" }, { signal: aborter.signal })) {
            aborter.abort();
          }
        } catch (error) {
          return error.name;
        }
        """,
        None,
        replies.routes,
    )
    assert name == "AbortError"
    assert len(replies.asked) == 1


async def test_ndjson_without_its_last_message_is_truncated(in_browser: Library) -> None:
    routes = web.RouteTableDef()

    @routes.post("/api/stream")
    async def stream(_: web.Request) -> web.Response:
        message = StreamChunk(id="s", position=1, timestamp=1.0, chunk=Token("so far"))
        return web.Response(body=msgspec.json.encode(message) + b"\n")

    found = await in_browser(
        """
        try {
          for await (const _ of new rxllm.Client().ndjson({ prompt: "hi" }));
        } catch (error) {
          return [error.code, error.partial];
        }
        """,
        None,
        routes,
    )
    assert found == ["truncated", "so far"]


async def test_a_stream_watched_at_its_end_ends_at_once(in_browser: Library) -> None:
    replies = Replies(204)
    replies.routes = web.RouteTableDef()

    @replies.routes.get("/stream/{id}")
    async def nothing_more(request: web.Request) -> web.Response:
        replies.asked.append((request.method, request.path, request.headers["Last-Event-ID"]))
        return web.Response(status=204)

    found = await follow(in_browser, replies, "client.watch('s 1', { after: 7 })")
    assert found == {"positions": [], "text": "", "id": "s 1", "resumed": 0}
    assert len(replies.asked) == 1


@pytest.mark.parametrize("cut", ["in a line", "in a character", "after a line"])
async def test_lines_that_are_cut_off_are_truncated_with_the_text_so_far(
    in_browser: Library, cut: str, complaints: Any
) -> None:
    complaints.expected = ("Failed to load resource",)
    routes = web.RouteTableDef()

    @routes.post("/api/stream")
    async def lines(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        message = StreamChunk(id="s", position=1, timestamp=1.0, chunk=Token("caf\u00e9 "))
        line = msgspec.json.encode(message) + b"\n"
        cuts = {"in a line": 20, "in a character": line.index(b"\xa9"), "after a line": 0}
        await response.write(line + line[: cuts[cut]])
        assert request.transport is not None
        request.transport.close()
        return response

    found = await in_browser(
        """
        const seen = [];
        try {
          for await (const { chunk } of new rxllm.Client().ndjson({ prompt: "hi" })) {
            seen.push(chunk.text);
          }
        } catch ({ code, partial }) {
          return { seen, code, partial };
        }
        """,
        None,
        routes,
    )
    assert found["code"] == "truncated"
    assert found["partial"] == "".join(found["seen"])


@pytest.mark.parametrize("action", ["stop", "pause"])
async def test_with_six_streams_in_a_browser_each_can_be_stopped_and_paused(
    page: Page, serve: Serve, action: str
) -> None:
    """A browser has six connections to a server: a request that needs a seventh would wait."""
    models = slow(pieces=100_000)
    server = await serve(models)
    await page.goto(str(server.make_url("/")))
    found = await page.evaluate(
        """async (action) => {
          const { Client } = await import("/static/rxllm.js");
          const client = new Client();
          const streams = Array.from({ length: 6 }, () => client.stream({ prompt: "hi" }));
          const ends = streams.map(async (stream) => {
            let last;
            const positions = [];
            for await (const message of stream) {
              last = message;
              positions.push(message.position);
            }
            const inOrder = positions.every((at, n) => !n || at > positions[n - 1]);
            return [last.finishReason, inOrder, stream.resumed];
          });
          while (!streams.every((stream) => stream.position > 3)) {
            await new Promise((resolve) => setTimeout(resolve, 20));
          }
          if (action === "pause") {
            await streams[2].pause();
            const [paused] = (await client.streams({ signal: AbortSignal.timeout(20) }).catch(
              () => [],
            )).filter(({ id }) => id === streams[2].id);
            if (paused && paused.status !== "paused") return paused.status;
            await streams[2].resume();
          }
          for (const stream of streams) await stream.stop();
          return await Promise.all(ends);
        }""",
        action,
    )
    assert found == [["cancelled", True, 0]] * 6
    await until(lambda: models.active == 0)


async def test_a_call_arrives_whole(page: Page, serve: Serve) -> None:
    text = '{"city":"Oslo"}'
    pieces = [ToolCall("c", "weather", text[:end]) for end in range(1, len(text))]
    script: list[Any] = [Start("r", "m"), *pieces, ToolCall("c", "weather", text, complete=True)]
    server = await serve(ScriptedModel([*script, End("tool_calls")], delay=0.001))
    await page.goto(str(server.make_url("/")))
    found = await page.evaluate(
        """async () => {
          const { Client } = await import("/static/rxllm.js");
          const client = new Client();
          const seen = [];
          for await (const chunk of client.stream({ prompt: "hi" }).chunks()) {
            if (chunk.type === "tool_call") seen.push(chunk.arguments);
          }
          return seen;
        }"""
    )
    assert found[-1] == text
    assert all(text.startswith(each) for each in found)
