"""The WebSocket client of `rxllm.js`."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from aiohttp import web
from playwright.async_api import Page

from rxllm.chunks import End, Token
from rxllm.models.scripted import ScriptedModel
from rxllm.server.messages import (
    ChatMessage,
    Complete,
    Connected,
    Joined,
    Left,
    Pong,
    Reconnected,
    ServerMessage,
    StreamChunk,
    StreamFailed,
)
from tests.server.page.actions import slow
from tests.server.page.conftest import Complaints, Library, Serve

pytestmark = pytest.mark.asyncio(loop_scope="session")

CONNECT = """
  const backoff = { base: 0.02, cap: 0.04 };
  // `pings`: a heartbeat that would be too short for the connection, on a busy machine.
  const connect = ({ pings, ...options } = {}) => {
    const connection = new rxllm.Connection({ backoff, ...options });
    connection.statuses = [];
    connection.addEventListener("status", ({ detail: { status } }) => {
      connection.statuses.push(status);
      if (pings && status === "connecting") connection.heartbeat = pings;
    });
    return connection;
  };
  const next = (target, type) =>
    new Promise((resolve) =>
      target.addEventListener(type, ({ detail }) => resolve(detail), { once: true }));
"""


@pytest.fixture(autouse=True)
def _servers_go_first(complaints: Complaints) -> None:
    """A connection that reconnects after the end of a test finds no server."""
    complaints.expected = ("WebSocket connection",)


class Sockets:
    """A server with scripted replies that counts its connections."""

    def __init__(self) -> None:
        self.routes = web.RouteTableDef()
        self.routes.get("/ws")(self.serve)
        self.connections = 0
        self.live: list[web.WebSocketResponse] = []
        self.got: list[dict[str, Any]] = []
        self.ungreeted = 0
        self.cut_first = 0
        self.deaf = False
        self.ghosts = 0
        self.taken = StreamFailed(code="invalid_message", message="taken", field="name")
        self.kept: tuple[str, ...] = ()  # secrets of sessions
        self.lasting: str | None = None  # one that all servers know
        self.away = 0  # how often the store of the sessions can't be reached

    def asked(self) -> list[str]:
        """Return the types of the requests for streams."""
        return [message["type"] for message in self.got if message["type"] in ("start", "chat")]

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.connections += 1
        self.live.append(socket)
        if self.connections > self.ungreeted:
            secret = f"session {self.connections}"
            await self.send(
                socket,
                Connected(capabilities=(), models=(), default_model="m", session=secret),
            )
        if self.connections <= self.cut_first:
            await socket.close()
        async for message in socket:
            self.got.append(msgspec.json.decode(message.data))
            await self.answer(socket, self.got[-1])
        self.live.remove(socket)
        return socket

    async def send(self, socket: web.WebSocketResponse, message: ServerMessage) -> None:
        await socket.send_str(msgspec.json.encode(message).decode())

    async def say(self, socket: web.WebSocketResponse, stream: str, *texts: str) -> None:
        for position, text in enumerate(texts, 1):
            chunk = StreamChunk(id=stream, position=position, timestamp=1.0, chunk=Token(text))
            await self.send(socket, chunk)

    async def answer(self, socket: web.WebSocketResponse, message: dict[str, Any]) -> None:
        kind, stream = message["type"], message.get("id", "")
        if self.deaf:
            return
        if kind == "ping":
            await self.send(socket, Pong())
        elif kind == "reconnect" and self.away:
            self.away -= 1
            await self.send(socket, StreamFailed(code="store_unavailable", message="away"))
        elif kind == "reconnect" and message["session"] in self.kept:
            await self.send(socket, Reconnected(session=self.lasting))
        elif kind == "reconnect":
            unknown = StreamFailed(code="session_not_found", message="unknown")
            await self.send(socket, unknown)
        elif kind == "start" and message["prompt"] == "too big":
            await socket.close(code=1009, message=b"it is too big")
        elif kind == "start" and message["prompt"] == "nothing":
            await socket.close()
        elif kind == "start" and message["prompt"] == "cut me":
            await self.say(socket, stream, "so ", "far")
            await socket.close()
        elif kind == "start" and message["prompt"] == "cut me once" and self.connections == 1:
            await self.say(socket, stream, "lost")
            await socket.close()
        elif kind == "start" and message["prompt"] == "fail":
            await self.send(socket, StreamFailed(code="rate_limit", message="slow down", id=stream))
        elif kind == "start":
            await self.say(socket, stream, message["prompt"], "!")
            if message["prompt"] != "for ever":
                await self.send(socket, Complete(id=stream, tokens=2, seconds=0.1))
        elif kind == "stop":
            end = StreamChunk(id=stream, position=9, timestamp=1.0, chunk=End("cancelled"))
            await self.send(socket, end)
            await self.send(
                socket, Complete(id=stream, tokens=2, seconds=0.1, finish_reason="cancelled")
            )
        elif kind == "chat":
            await self.say(socket, stream, "well")
            await self.send(socket, Complete(id=stream, tokens=1, seconds=0.1))
            await self.send(socket, ChatMessage(id=stream, text="well", history=1))
        elif kind == "join" and self.connections > 1 and self.ghosts:
            self.ghosts -= 1
            self.taken.room = message["room"]
            await self.send(socket, self.taken)
        elif kind == "leave":
            await self.send(socket, Left(room=message["room"], name="Ada", participants=()))
        elif kind == "join":
            joined = Joined(room=message["room"], name=message["name"], participants=("Ada",))
            await self.send(socket, joined)


async def test_many_streams_share_a_connection(in_browser: Library) -> None:
    """Each receives all of its own messages, even if started before there is a connection."""
    sockets = Sockets()
    found = await in_browser(
        CONNECT
        + """
        const connection = connect();
        const heard = { one: [], two: [], three: [] };
        const streams = Object.keys(heard).map((prompt) =>
          connection.start({ prompt, maxTokens: 5 }, ({ type }) => heard[prompt].push(type)));
        const ends = await Promise.all(streams.map(({ done }) => done));
        return [heard, streams.map(({ text }) => text), ends.map(({ tokens }) => tokens)];
        """,
        None,
        sockets.routes,
    )
    kinds = ["chunk", "chunk", "complete"]
    assert found == [
        dict.fromkeys(("one", "two", "three"), kinds),
        ["one!", "two!", "three!"],
        [2] * 3,
    ]
    assert sockets.connections == 1
    assert sockets.got[0]["options"] == {"maxTokens": 5}
    assert len({message["id"] for message in sockets.got}) == 3


async def test_stop_pause_and_resume_are_sent(in_browser: Library) -> None:
    sockets = Sockets()
    reason = await in_browser(
        CONNECT
        + """
        const stream = connect().start({ prompt: "for ever" }, ({ position }) => {
          if (position !== 2) return;
          stream.pause();
          stream.resume();
          stream.stop();
        });
        return (await stream.done).finishReason;
        """,
        None,
        sockets.routes,
    )
    assert reason == "cancelled"
    assert [message["type"] for message in sockets.got] == ["start", "pause", "resume", "stop"]


async def test_a_failure_rejects_with_its_code(in_browser: Library) -> None:
    sockets = Sockets()
    found = await in_browser(
        CONNECT
        + """
        const heard = [];
        const stream = connect().start({ prompt: "fail" }, ({ code }) => heard.push(code));
        await stream.done.catch(({ code, name }) => heard.push(name, code));
        return heard;
        """,
        None,
        sockets.routes,
    )
    assert found == ["rate_limit", "RxllmError", "rate_limit"]


async def test_there_is_one_attempt_to_reconnect_at_a_time(in_browser: Library) -> None:
    """A lost connection must not start a second series of attempts."""
    sockets = Sockets()
    sockets.cut_first = 4
    statuses = await in_browser(
        CONNECT
        + """
        const connection = connect();
        connection.connect();
        connection.connect(); // already connecting
        let connected = 0;
        await new Promise((resolve) => connection.addEventListener("connected", () => {
          connected += 1;
          if (connected === 5) resolve();
        }));
        connection.connect(); // already connected
        await new Promise((resolve) => setTimeout(resolve, 200)); // extra attempts would come now
        return connection.statuses;
        """,
        None,
        sockets.routes,
    )
    assert sockets.connections == 5
    assert statuses == ["connecting", "open", *["waiting", "connecting", "open"] * 4]
    assert len(sockets.live) == 1


async def test_a_lost_websocket_is_reconnected_with_backoff_until_it_lasts(
    in_browser: Library,
) -> None:
    sockets = Sockets()
    sockets.cut_first = 3
    found = await in_browser(
        CONNECT
        + """
        const attempts = [];
        const connection = connect();
        connection.addEventListener("status", ({ detail }) => {
          if (detail.attempt) attempts.push([detail.attempt, detail.delay <= 0.04]);
        });
        connection.connect();
        while (attempts.length < 3) await next(connection, "status");
        return attempts;
        """,
        None,
        sockets.routes,
    )
    assert found == [[1, True], [2, True], [3, True]]


async def test_disconnecting_is_for_good(in_browser: Library) -> None:
    sockets = Sockets()
    found = await in_browser(
        CONNECT
        + """
        const connection = connect();
        const stream = connection.start({ prompt: "for ever" }, ({ position }) => {
          if (position === 2) connection.disconnect();
        });
        const code = await stream.done.catch((error) => [error.code, error.partial]);
        await new Promise((resolve) => setTimeout(resolve, 150)); // an attempt would come now
        return [code, connection.status];
        """,
        None,
        sockets.routes,
    )
    assert found == [["disconnected", "for ever!"], "closed"]
    assert sockets.connections == 1


async def test_disconnecting_while_it_waits_cancels_the_attempt(in_browser: Library) -> None:
    sockets = Sockets()
    sockets.cut_first = 1
    await in_browser(
        CONNECT
        + """
        const connection = connect();
        connection.connect();
        while ((await next(connection, "status")).status !== "waiting");
        connection.disconnect();
        await new Promise((resolve) => setTimeout(resolve, 150));
        """,
        None,
        sockets.routes,
    )
    assert sockets.connections == 1


async def test_a_stream_whose_connection_is_lost_fails_with_its_partial_text(
    in_browser: Library,
) -> None:
    sockets = Sockets()
    found = await in_browser(
        CONNECT
        + """
        const stream = connect().start({ prompt: "cut me" });
        return stream.done.catch(({ code, partial }) => [code, partial]);
        """,
        None,
        sockets.routes,
    )
    assert found == ["connection_lost", "so far"]


async def test_a_stream_whose_connection_is_lost_can_restart(in_browser: Library) -> None:
    sockets = Sockets()
    found = await in_browser(
        CONNECT
        + """
        const kinds = [];
        const stream = connect().start(
          { prompt: "cut me once" },
          ({ type, chunk }) => kinds.push(chunk?.kind ?? chunk?.type ?? type),
          { onLost: "restart" },
        );
        await stream.done;
        return [kinds, stream.text];
        """,
        None,
        sockets.routes,
    )
    assert found == [["token", "restart", "token", "token", "complete"], "cut me once!"]
    assert sockets.asked() == ["start", "start"]


async def test_a_stream_continues_on_the_next_connection(page: Page, serve: Serve) -> None:
    text = "".join(f" {n}" for n in range(60))
    model = ScriptedModel(text, by="word", delay=0.01)
    server = await serve(model)
    await page.goto(str(server.make_url("/")))
    found = await page.evaluate(
        """async () => {
          const { Connection } = await import("/static/rxllm.js");
          const sockets = [];
          class Socket extends WebSocket {
            constructor(url) {
              super(url);
              sockets.push(this);
            }
          }
          const connection = new Connection({ WebSocket: Socket, backoff: { base: 0.02 } });
          const cut = [5, 20, 21];
          const numbers = [];
          const stream = connection.start({ prompt: "count" }, ({ position, chunk }) => {
            numbers.push(position);
            if (chunk?.text && numbers.length >= cut[0]) {
              cut.shift();
              sockets.at(-1).close();
            }
          });
          const { finishReason } = await stream.done;
          connection.disconnect();
          const inOrder = numbers.every((n, at) => at === 0 || n > numbers[at - 1]);
          return [stream.text, finishReason, inOrder, sockets.length];
        }"""
    )
    assert found == [text, "stop", True, 4]
    assert len(model.requests) == 1


async def test_the_newest_session_that_the_server_keeps_is_continued(in_browser: Library) -> None:
    """A connection may be lost again before the server has replied."""
    sockets = Sockets()
    sockets.kept = ("session 1",)
    events = await in_browser(
        CONNECT
        + """
        const connection = connect();
        const events = [];
        for (const type of ["reconnected", "forgotten"]) {
          connection.addEventListener(type, () => events.push(type));
        }
        connection.connect();
        await next(connection, "connected");
        connection.send({ type: "start", id: "x", prompt: "nothing" });  // closes
        await next(connection, "reconnected");
        connection.send({ type: "start", id: "y", prompt: "nothing" });
        await next(connection, "forgotten");
        connection.disconnect();
        return events;
        """,
        None,
        sockets.routes,
    )
    assert events == ["reconnected", "forgotten"]
    tried = [message["session"] for message in sockets.got if message["type"] == "reconnect"]
    assert tried == ["session 1", "session 2"]


async def test_a_secret_that_all_servers_know_is_kept_for_the_next_loss(
    in_browser: Library,
) -> None:
    sockets = Sockets()
    sockets.kept, sockets.lasting = ("session 1",), "session 1"
    await in_browser(
        CONNECT
        + """
        const connection = connect();
        const stream = connection.start({ prompt: "for ever" });
        for (let count = 0; count < 3; count += 1) {
          await next(connection, "connected");
          if (count) await next(connection, "reconnected");
          connection.start({ prompt: "nothing" });
        }
        await next(connection, "reconnected");
        """,
        None,
        sockets.routes,
    )
    tried = [message["session"] for message in sockets.got if message["type"] == "reconnect"]
    assert tried == ["session 1"] * 3


@pytest.mark.parametrize(("rejoin_for", "event"), [(30, "reconnected"), (0, "forgotten")])
async def test_a_session_is_asked_for_again_while_the_store_of_the_servers_is_away(
    in_browser: Library, rejoin_for: int, event: str
) -> None:
    sockets = Sockets()
    sockets.kept, sockets.away = ("session 1",), 3
    found = await in_browser(
        CONNECT
        + f"""
        const connection = connect({{ rejoinFor: {rejoin_for} }});
        const events = [];
        for (const type of ["reconnected", "forgotten", "error"]) {{
          connection.addEventListener(type, () => events.push(type));
        }}
        const stream = connection.start({{ prompt: "for ever" }});
        stream.done.catch(() => {{}});
        await next(connection, "chunk");
        connection.send({{ type: "start", id: "x", prompt: "nothing" }});  // closes
        await next(connection, "{event}");
        const later = connection.start({{ prompt: "later" }});
        await later.done;
        connection.disconnect();
        return [events, later.text];
        """,
        None,
        sockets.routes,
    )
    assert found == [[event], "later!"]
    tried = [message["session"] for message in sockets.got if message["type"] == "reconnect"]
    assert tried == ["session 1"] * (4 if rejoin_for else 1)


@pytest.mark.parametrize("calls", [["stop"], ["pause"], ["stop", "pause"], ["pause", "stop"]])
async def test_what_is_to_be_stopped_or_paused_waits_for_its_session(
    in_browser: Library, calls: list[str]
) -> None:
    sockets = Sockets()
    sockets.kept, sockets.away = ("session 1",), 3
    found = await in_browser(
        CONNECT
        + """
        const connection = connect();
        const stream = connection.start({ prompt: "for ever" }, undefined, { onLost: "restart" });
        await next(connection, "chunk");
        connection.send({ type: "start", id: "x", prompt: "nothing" });  // closes
        await next(connection, "connected");
        for (const call of given) stream[call]();
        await next(connection, "reconnected");
        if (!given.includes("stop")) stream.stop();
        const { finishReason } = await stream.done;
        connection.disconnect();
        return [finishReason, stream.text];
        """,
        calls,
        sockets.routes,
    )
    assert found == ["cancelled", "for ever!"]
    kinds = [message["type"] for message in sockets.got]
    assert kinds[:6] == ["start", "start", *["reconnect"] * 4]
    assert kinds[6:] == (["stop"] if "stop" in calls else ["pause", "stop"])


CUTTABLE = """
  const { Connection } = await import("/static/rxllm.js");
  const sockets = [];
  class Socket extends WebSocket {
    constructor(url) {
      super(url);
      sockets.push(this);
    }
  }
  const connection = new Connection({ WebSocket: Socket, backoff: { base: 0.02 } });
  const next = (type) =>
    new Promise((resolve) => connection.addEventListener(type, resolve, { once: true }));
  const cut = () => {
    const waiting = new Promise((resolve) =>
      connection.addEventListener("status", ({ detail }) =>
        detail.status === "waiting" && resolve()));
    sockets.at(-1).close();
    return waiting;
  };
"""
"""For pages of a real server: `cut()` loses the connection."""


async def in_page(page: Page, serve: Serve, model: ScriptedModel, body: str) -> Any:
    server = await serve(model)
    await page.goto(str(server.make_url("/")))
    return await page.evaluate(f"async () => {{ {CUTTABLE} {body} }}")


async def test_a_chat_begun_while_the_connection_is_lost_is_answered(
    page: Page, serve: Serve
) -> None:
    """Its session was empty, so the server has forgotten it: that is no loss."""
    model = ScriptedModel("Hello")
    found = await in_page(
        page,
        serve,
        model,
        """
        connection.connect();
        await next("connected");
        await cut();
        const chat = connection.chat("hi");
        const { finishReason } = await chat.done;
        connection.disconnect();
        return [chat.text, finishReason];
        """,
    )
    assert found == ["Hello", "stop"]
    assert len(model.requests) == 1


async def test_a_stream_begun_by_a_listener_does_not_keep_others_from_continuing(
    page: Page, serve: Serve
) -> None:
    model = slow(100)
    found = await in_page(
        page,
        serve,
        model,
        """
        const streams = [];
        connection.addEventListener("status", ({ detail }) => {
          if (detail.status === "open") streams.push(connection.start({ prompt: "count" }));
        });
        connection.connect();
        await next("chunk");
        await cut();
        await Promise.all([next("reconnected"), next("connected")]);
        await Promise.all(streams.map(({ done }) => done));
        connection.disconnect();
        return streams.map(({ text }) => text);
        """,
    )
    text = "".join(f" {n}" for n in range(100))
    assert found == [text, text]


async def test_a_stream_stopped_while_the_connection_is_lost_is_stopped_after_it(
    page: Page, serve: Serve
) -> None:
    model = slow()
    found = await in_page(
        page,
        serve,
        model,
        """
        const stream = connection.start({ prompt: "count" });
        await next("chunk");
        await cut();
        stream.stop();
        const { finishReason } = await stream.done;
        connection.disconnect();
        return finishReason;
        """,
    )
    assert found == "cancelled"
    assert model.active == 0


async def test_disconnecting_stops_the_streams(page: Page, serve: Serve) -> None:
    """Otherwise they would run on for the grace period."""
    model = slow()
    server = await serve(model)
    await page.goto(str(server.make_url("/")))
    code = await page.evaluate(
        """async () => {
          const { Connection } = await import("/static/rxllm.js");
          const connection = new Connection();
          const stream = connection.start({ prompt: "count" }, ({ chunk }) => {
            if (chunk?.text) connection.disconnect();
          });
          return stream.done.catch(({ code }) => code);
        }"""
    )
    assert code == "disconnected"
    async with asyncio.timeout(5):
        while model.active:
            await asyncio.sleep(0.01)


async def test_rooms_are_joined_again(in_browser: Library) -> None:
    sockets = Sockets()
    sockets.cut_first = 1
    await in_browser(
        CONNECT
        + """
        const connection = connect();
        connection.join("lobby", "Ada");
        await next(connection, "joined");
        """,
        None,
        sockets.routes,
    )
    assert sockets.got[-1] == {"type": "join", "room": "lobby", "name": "Ada"}
    assert sockets.connections == 2


async def test_sending_without_a_connection_is_an_error(in_browser: Library) -> None:
    code = await in_browser(
        CONNECT + "try { connect().say('lobby', 'hi'); } catch (error) { return error.code; }"
    )
    assert code == "not_connected"


async def test_a_chat_is_a_stream_and_then_a_message(in_browser: Library) -> None:
    sockets = Sockets()
    found = await in_browser(
        CONNECT
        + """
        const connection = connect();
        const whole = next(connection, "chat_message");
        const stream = connection.chat("hello", undefined, { model: "m" });
        await stream.done;
        return [stream.text, (await whole).text];
        """,
        None,
        sockets.routes,
    )
    assert found == ["well", "well"]
    assert sockets.got[0]["options"] == {"model": "m"}


async def test_a_connection_gone_silent_is_lost(in_browser: Library) -> None:
    """If the network drops packets, nothing closes the connection: only a missing pong shows it."""
    sockets = Sockets()
    sockets.deaf = True
    await in_browser(
        CONNECT
        + """
        const connection = connect({ pings: 0.05 });
        connection.connect();
        while ((await next(connection, "status")).status !== "waiting");
        connection.disconnect();
        """,
        None,
        sockets.routes,
    )
    assert sockets.got[0] == {"type": "ping"}


async def test_a_connection_without_its_first_message_is_lost(in_browser: Library) -> None:
    """`connect()` wouldn't help, since it is connecting. Streams wait for the next connection."""
    sockets = Sockets()
    sockets.ungreeted = 1
    statuses, text = await in_browser(
        CONNECT
        + """
        const connection = connect({ heartbeat: 0.3 });
        const stream = connection.start({ prompt: "hi" });
        await stream.done;
        return [connection.statuses, stream.text];
        """,
        None,
        sockets.routes,
    )
    assert (statuses[:3], text) == (["connecting", "waiting", "connecting"], "hi!")
    assert [message["type"] for message in sockets.got] == ["start"]


async def test_disconnecting_before_the_first_message_is_for_good(in_browser: Library) -> None:
    sockets = Sockets()
    sockets.ungreeted = 1
    statuses = await in_browser(
        CONNECT
        + """
        const connection = connect({ heartbeat: 0.02 });
        connection.connect();
        connection.disconnect();
        await new Promise((resolve) => setTimeout(resolve, 150)); // an attempt would come now
        return connection.statuses;
        """,
        None,
        sockets.routes,
    )
    assert statuses == ["connecting", "closed"]


async def test_a_heartbeat_may_be_infinite(in_browser: Library) -> None:
    """A timer of more than 24 days would fire at once."""
    sockets = Sockets()
    statuses = await in_browser(
        CONNECT
        + """
        const connection = connect({ heartbeat: Infinity });
        const greeted = next(connection, "connected");
        connection.connect();
        await greeted;
        return connection.statuses;
        """,
        None,
        sockets.routes,
    )
    assert statuses == ["connecting", "open"]


async def test_a_hidden_tab_keeps_its_connection(in_browser: Library) -> None:
    """Its timers are late: silence isn't a loss as long as pings are answered."""
    sockets = Sockets()
    statuses = await in_browser(
        CONNECT
        + """
        const { setInterval } = globalThis;
        globalThis.setInterval = (beat, delay) => setInterval(beat, 4 * delay);
        const connection = connect({ pings: 0.05 });
        connection.connect();
        for (let pongs = 0; pongs < 3; pongs += 1) await next(connection, "pong");
        return connection.statuses;
        """,
        None,
        sockets.routes,
    )
    assert statuses == ["connecting", "open"]


async def test_a_hidden_tab_finds_a_connection_lost_after_a_second_ping(
    in_browser: Library,
) -> None:
    sockets = Sockets()
    sockets.deaf = True
    await in_browser(
        CONNECT
        + """
        const { setInterval } = globalThis;
        globalThis.setInterval = (beat, delay) => setInterval(beat, 4 * delay);
        const connection = connect({ pings: 0.05 });
        connection.connect();
        while ((await next(connection, "status")).status !== "waiting");
        connection.disconnect();
        """,
        None,
        sockets.routes,
    )
    assert sockets.got == [{"type": "ping"}] * 2


async def test_disconnecting_as_soon_as_it_is_open_is_for_good(in_browser: Library) -> None:
    sockets = Sockets()
    found = await in_browser(
        CONNECT
        + """
        const connection = connect({ pings: 0.02 });
        let greeted = 0;
        connection.addEventListener("connected", () => { greeted += 1; });
        connection.addEventListener("status", ({ detail }) => {
          if (detail.status === "open") connection.disconnect();
        });
        connection.join("lobby", "Ada");
        await new Promise((resolve) => setTimeout(resolve, 200)); // some beats
        return [connection.statuses, greeted];
        """,
        None,
        sockets.routes,
    )
    assert found == [["connecting", "open", "closed"], 0]
    assert (sockets.connections, sockets.got) == (1, [])


async def test_a_message_that_made_the_server_close_the_connection_is_not_sent_again(
    in_browser: Library,
) -> None:
    sockets = Sockets()
    found = await in_browser(
        CONNECT
        + """
        const stream = connect().start({ prompt: "too big" }, undefined, { onLost: "restart" });
        return stream.done.catch(({ code, message }) => [code, message]);
        """,
        None,
        sockets.routes,
    )
    assert found == ["connection_lost", "the connection was lost: it is too big"]
    assert sockets.asked() == ["start"]


async def test_restarts_without_output_are_limited(in_browser: Library) -> None:
    sockets = Sockets()
    code = await in_browser(
        CONNECT
        + """
        const stream = connect().start({ prompt: "nothing" }, undefined, { onLost: "restart" });
        return stream.done.catch(({ code }) => code);
        """,
        None,
        sockets.routes,
    )
    assert code == "connection_lost"
    assert sockets.asked() == ["start"] * 6


@pytest.mark.parametrize(
    "refusal",
    [
        StreamFailed(code="invalid_message", message="taken", field="name"),
        StreamFailed(code="room_elsewhere", message="elsewhere", address="http://other/"),
    ],
)
async def test_a_room_is_rejoined_once_the_lost_connection_has_left_it(
    in_browser: Library, refusal: StreamFailed
) -> None:
    """Of several servers, the one of the lost connection may still have the room."""
    sockets = Sockets()
    sockets.ghosts, sockets.taken = 3, refusal
    found = await in_browser(
        CONNECT
        + """
        const connection = connect();
        const errors = [];
        const tries = [];
        connection.addEventListener("error", ({ detail }) => errors.push(detail.message));
        connection.addEventListener("rejoining", ({ detail }) => tries.push(detail.room));
        connection.join("lobby", "Ada");
        await next(connection, "joined");
        connection.start({ prompt: "cut me" });
        await next(connection, "joined");
        return [errors, tries];
        """,
        None,
        sockets.routes,
    )
    assert found == [[], ["lobby"] * 3]


async def test_a_room_that_the_server_has_closed_is_not_joined_again(in_browser: Library) -> None:
    sockets = Sockets()
    found = await in_browser(
        CONNECT
        + """
        const connection = connect();
        connection.join("lobby", "Ada");
        await next(connection, "joined");
        connection.join("other", "Ada");
        await next(connection, "joined");
        connection.send({ type: "leave", room: "lobby" }); // which this server answers as it closes
        await next(connection, "left");
        connection.start({ prompt: "cut me" });
        return (await next(connection, "joined")).room;
        """,
        None,
        sockets.routes,
    )
    assert found == "other"
    assert [each["room"] for each in sockets.got if each["type"] == "join"] == [
        *("lobby", "other"),
        "other",
    ]


async def test_a_name_that_stays_taken_is_an_error(in_browser: Library) -> None:
    """At once if this client never had the name, otherwise after `rejoinFor` seconds."""
    sockets = Sockets()
    sockets.ghosts = 10**6
    found = await in_browser(
        CONNECT
        + """
        const connection = connect({ rejoinFor: 0.2 });
        const tries = [];
        connection.addEventListener("rejoining", ({ detail }) => tries.push(detail.room));
        connection.join("lobby", "Ada");
        await next(connection, "joined");
        connection.start({ prompt: "cut me" });
        const { field } = await next(connection, "error");
        const before = tries.length;
        connection.join("other", "Ada");
        const other = await next(connection, "error");
        return [field, before > 1, tries.length - before, other.room];
        """,
        None,
        sockets.routes,
    )
    assert found == ["name", True, 0, "other"]


async def test_a_lone_surrogate_is_sent_as_a_replacement_character(in_browser: Library) -> None:
    sockets = Sockets()
    await in_browser(
        CONNECT + r'await connect().start({ prompt: "half \ud83d" }).done;', None, sockets.routes
    )
    assert sockets.got[0]["prompt"] == "half \ufffd"


async def test_a_callback_that_throws_does_not_affect_other_streams(
    in_browser: Library, complaints: Complaints
) -> None:
    """One throwing subscriber must not end the connection for all. Its error is reported like that
    of an event listener."""
    complaints.expected += ("not my day",)
    sockets = Sockets()
    found = await in_browser(
        CONNECT
        + """
        const connection = connect();
        const heard = [];
        connection.addEventListener("chunk", ({ detail }) => heard.push(detail.chunk.text));
        const throwing = () => { throw new Error("not my day"); };
        const told = ({ code }) => code;
        const lost = [
          connection.start({ prompt: "for ever" }, throwing),
          connection.start({ prompt: "cut me" }),
        ];
        const codes = await Promise.all(lost.map(({ done }) => done.catch(told)));
        const closed = [
          connection.start({ prompt: "for ever" }, throwing),
          connection.start({ prompt: "for ever" }),
        ];
        while ((await next(connection, "chunk")).id !== closed[1].id);
        connection.disconnect();
        codes.push(...(await Promise.all(closed.map(({ done }) => done.catch(told)))));
        return [codes, heard.slice(0, 4), connection.status];
        """,
        None,
        sockets.routes,
    )
    codes = ["connection_lost"] * 2 + ["disconnected"] * 2
    assert found == [codes, ["for ever", "!", "so ", "far"], "closed"]
    assert len(complaints) >= 4


async def test_an_invalid_url_throws_at_once(in_browser: Library) -> None:
    found = await in_browser(
        """
        const told = given.map((url) => {
          try {
            return new rxllm.Connection({ url }).url;
          } catch (error) {
            return error.name;
          }
        });
        class Forbidden {
          constructor() { throw new DOMException("no", "SecurityError"); }
        }
        const connection = new rxllm.Connection({ WebSocket: Forbidden });
        try {
          connection.connect();
        } catch (error) {
          told.push(error.name);
        }
        return [...told, connection.status];
        """,
        ["http://[", "ftp://a/ws", "https://a/ws"],
    )
    assert found == ["TypeError", "TypeError", "wss://a/ws", "SecurityError", "closed"]
