"""`sse`: a stream as server-sent events, and the behaviour that both HTTP sinks share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import aiohttp
import pytest
import reactivex
from aiohttp import web
from reactivex.subject import Subject

from rxllm import End, Notice, Start, Token, sinks
from rxllm.chunks import Json, is_restart
from rxllm.errors import LaggedBehindError, RateLimitError
from rxllm.sinks import DeliveryReport
from rxllm.testing import no_leaks
from rxllm.valve import valve_of
from rxllm.web.encoded_stream import EncodedStream
from rxllm.web.frame_sender import send_frames
from rxllm.web.response_writer import ResponseWriter
from rxllm.web.stream_messages import Complete, StreamChunk, StreamFailed
from rxllm.web.wire import SSE_WIRE
from tests.sinks.web import Endless, SilentReader, events_of, fetch, serving

Sink = Callable[..., Coroutine[Any, Any, web.StreamResponse]]

STORY = [Start("r1", "m"), Token("Once"), Token(" upon"), End("stop")]


@pytest.fixture(params=["sse", "ndjson"])
def sink(request: pytest.FixtureRequest) -> Sink:
    kind: Sink = getattr(sinks, request.param)
    return kind


class Handler:
    """Answers each request with one stream, and records the outcome."""

    def __init__(self, sink: Sink, stream: Any, **options: Any) -> None:
        self._sink, self._stream, self._options = sink, stream, options
        self.started = asyncio.Event()
        self.returned = asyncio.Event()
        self.ends: asyncio.Queue[DeliveryReport] = asyncio.Queue()
        self.task: asyncio.Task[Any] | None = None

    def _end(self, delivered: DeliveryReport) -> None:
        self.ends.put_nowait(delivered)

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        self.task = asyncio.current_task()
        self.started.set()
        try:
            return await self._sink(request, self._stream, on_end=self._end, **self._options)
        finally:
            self.returned.set()


async def test_each_chunk_is_an_event_and_complete_is_the_last(source: Any) -> None:
    handler = Handler(sinks.sse, source.stream(*STORY), stream_id="story")
    async with no_leaks(), serving(handler) as url:
        response, body = await fetch(url)
    events = events_of(body)
    assert [event.kind for event in events] == ["chunk"] * 4 + ["complete"]
    assert [event.id for event in events] == [1, 2, 3, 4, 5]
    assert [event.message.position for event in events] == [1, 2, 3, 4, 5]
    chunks = [event.message.chunk for event in events if isinstance(event.message, StreamChunk)]
    assert chunks == STORY
    last = events[-1].message
    assert isinstance(last, Complete)
    assert (last.id, last.tokens, last.finish_reason, last.model) == ("story", 2, "stop", "m")
    assert last.text is None
    assert response.headers["Content-Type"] == "text/event-stream"
    assert response.headers["X-Stream-Id"] == "story"
    delivered = handler.ends.get_nowait()
    assert (delivered.result.text, delivered.error, delivered.left) == ("Once upon", None, False)
    assert source.cleaned_up == 1


async def test_no_proxy_buffers_or_stores_it_and_headers_can_be_added(
    sink: Sink, source: Any
) -> None:
    handler = Handler(sink, source.stream(*STORY), headers={"X-Mine": "1"})
    async with serving(handler) as url:
        response, _ = await fetch(url)
    assert response.headers["X-Accel-Buffering"] == "no"
    assert response.headers["Cache-Control"] == "no-store, no-transform"
    assert response.headers["X-Mine"] == "1"


async def test_a_failure_is_an_error_event_and_never_a_clean_end(source: Any) -> None:
    stream = source.stream(Token("so "), Token("far"), RateLimitError("slow down"))
    handler = Handler(sinks.sse, stream, stream_id="s")
    async with no_leaks(), serving(handler) as url:
        _, body = await fetch(url)
    *chunks, last = events_of(body)
    assert [event.kind for event in chunks] == ["chunk", "chunk"]
    assert last.kind == "error"
    assert last.message == StreamFailed(
        code="rate_limit", message="slow down", id="s", retryable=True, partial="so far", position=3
    )
    delivered = handler.ends.get_nowait()
    assert isinstance(delivered.error, RateLimitError)
    assert delivered.error.partial == "so far"
    assert delivered.result.finish_reason == "cancelled"


async def test_a_stream_that_completes_without_an_end_is_complete(source: Any) -> None:
    """As with RxPY's `take` and `first`. The source itself detects a truncated answer."""
    handler = Handler(sinks.sse, source.stream(Start("r1", "m"), Token("Once upon")))
    async with no_leaks(), serving(handler) as url:
        _, body = await fetch(url)
    last = events_of(body)[-1].message
    assert isinstance(last, Complete)
    assert (last.tokens, last.finish_reason) == (1, None)
    delivered = handler.ends.get_nowait()
    assert (delivered.error, delivered.result.text) == (None, "Once upon")


async def test_an_error_before_any_output_is_an_event_too(source: Any) -> None:
    async with serving(Handler(sinks.sse, source.stream(RateLimitError("no")))) as url:
        (event,) = events_of((await fetch(url))[1])
    assert (event.kind, event.id) == ("error", 1)
    assert isinstance(event.message, StreamFailed)
    assert event.message.partial is None


async def test_messages_of_foreign_exceptions_are_not_sent_to_clients(source: Any) -> None:
    reports: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: reports.append(context["exception"]))
    secret = KeyError("/home/ada/passwords")

    async def handler(request: web.Request) -> web.StreamResponse:
        return await sinks.sse(request, source.stream(Token("a"), secret))

    async with serving(handler) as url:
        _, body = await fetch(url)
    last = events_of(body)[-1].message
    assert isinstance(last, StreamFailed)
    assert last.code == "internal"
    assert "passwords" not in body
    assert reports == [secret]


async def test_a_value_that_json_cannot_express_is_an_error_that_stops_the_stream(
    source: Any,
) -> None:
    handler = Handler(sinks.sse, source.stream(Token("a"), Json(value=object()), waits=True))
    async with no_leaks(), serving(handler) as url:
        *_, last = events_of((await fetch(url))[1])
    assert last.kind == "error"
    assert isinstance(handler.ends.get_nowait().error, TypeError)
    assert source.cleaned_up == 1


async def test_a_lone_surrogate_is_sent_as_a_question_mark(source: Any) -> None:
    async with serving(Handler(sinks.sse, source.stream(Token("a\ud83d"), End("stop")))) as url:
        first, *_ = events_of((await fetch(url))[1])
    assert isinstance(first.message, StreamChunk)
    assert first.message.chunk == Token("a?")


async def test_line_breaks_in_the_text_do_not_break_events(source: Any) -> None:
    text = "one\n\ndata: two\r\u2028three"
    async with serving(Handler(sinks.sse, source.stream(Token(text), End("stop")))) as url:
        first, *_ = events_of((await fetch(url))[1])
    assert isinstance(first.message, StreamChunk)
    assert first.message.chunk == Token(text)


async def test_a_restart_is_sent_and_complete_counts_only_the_restarted_answer(
    source: Any,
) -> None:
    steps = [Token("lost"), Notice(kind="restart"), Token("again"), End("stop")]
    handler = Handler(sinks.sse, source.stream(*steps))
    async with serving(handler) as url:
        events = events_of((await fetch(url))[1])
    assert isinstance(events[1].message, StreamChunk)
    assert is_restart(events[1].message.chunk)
    assert isinstance(events[-1].message, Complete)
    assert events[-1].message.tokens == 1
    assert handler.ends.get_nowait().result.text == "again"


async def test_a_resuming_client_gets_the_following_ids(source: Any) -> None:
    handler = Handler(sinks.sse, source.stream(*STORY[2:]), first_position=3)
    async with serving(handler) as url:
        events = events_of((await fetch(url))[1])
    assert [event.id for event in events] == [3, 4, 5]


async def test_a_stream_without_an_id_gets_one(sink: Sink, source: Any) -> None:
    async with serving(Handler(sink, source.stream(*STORY))) as url:
        names = {(await fetch(url))[0].headers["X-Stream-Id"] for _ in range(2)}
    assert len(names) == 2


async def test_head_returns_the_headers_and_asks_no_model(sink: Sink, source: Any) -> None:
    async with no_leaks(), serving(Handler(sink, source.stream(*STORY))) as url:
        response, body = await fetch(url, "HEAD")
    assert (response.status, body, source.subscriptions) == (200, "", 0)
    assert "X-Stream-Id" in response.headers


async def test_chunks_that_arrive_together_after_the_first_are_written_in_one_call(
    sink: Sink, source: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[int] = []
    write = web.StreamResponse.write

    async def counted(self: web.StreamResponse, data: Any) -> None:
        writes.append(len(data))
        await write(self, data)

    monkeypatch.setattr(web.StreamResponse, "write", counted)
    stream = reactivex.from_iterable([*(Token("word ") for _ in range(100)), End("stop")])
    async with serving(Handler(sink, stream)) as url:
        _, body = await fetch(url)
    assert len(writes) <= 2
    assert sum(writes) == len(body)


async def test_a_connection_serves_the_next_request_after_a_stream(sink: Sink, source: Any) -> None:
    seen = []

    async def handler(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        seen.append((request.transport, request.transport.get_protocol()))
        return await sink(request, source.stream(*STORY))

    async with no_leaks(), serving(handler) as url, aiohttp.ClientSession() as session:
        for _ in range(2):
            async with session.get(url) as response:
                await response.read()
    assert seen[0] == seen[1]


async def test_silence_is_filled_with_comments(source: Any) -> None:
    words: Subject[Any] = Subject()
    handler = Handler(sinks.sse, words, heartbeat=0.01)
    async with no_leaks(), serving(handler) as url:
        client = await SilentReader.ask(url)
        await client.reader.readuntil(b": ping\n\r\n")
        await client.reader.readuntil(b": ping\n\r\n")
        words.on_next(Token("at last"))
        await client.reader.readuntil(b"at last")
        await client.reader.readuntil(b": ping\n\r\n")
        words.on_next(End("stop"))
        words.on_completed()
        await client.reader.readuntil(b"event: complete")
        await client.leave()


async def test_silence_is_filled_with_spaces_before_the_next_line(source: Any) -> None:
    words: Subject[Any] = Subject()
    async with no_leaks(), serving(Handler(sinks.ndjson, words, heartbeat=0.01)) as url:
        client = await SilentReader.ask(url)
        await client.reader.readuntil(b"\r\n\r\n")
        assert await client.reader.readline() == b"1\r\n"  # a chunk of one byte ...
        assert await client.reader.readline() == b" \r\n"  # ... a space
        await client.leave()


@pytest.mark.parametrize("emitted", [[], [Token("a")]], ids=["before", "after"])
@pytest.mark.parametrize("way", ["leave", "stop_sending"])
async def test_a_client_that_disconnects_before_or_after_a_token_stops_the_model(
    sink: Sink, source: Any, emitted: list[Any], way: str
) -> None:
    handler = Handler(sink, source.stream(*emitted, waits=True))
    async with no_leaks(), serving(handler) as url:
        client = await SilentReader.ask(url)
        await source.emitted_all.wait()
        if way == "leave":
            await client.leave()
        else:
            client.stop_sending()
        delivered = await handler.ends.get()
        assert source.cleaned_up == 1
        await client.leave()
    assert delivered.left
    assert delivered.error is None
    assert delivered.result.text == "".join(token.text for token in emitted)
    assert delivered.result.finish_reason == "cancelled"


async def test_no_model_is_asked_for_a_client_that_has_disconnected(
    sink: Sink, source: Any
) -> None:
    ends: asyncio.Queue[DeliveryReport] = asyncio.Queue()
    asked = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        transport = request.transport
        assert transport is not None
        transport.abort()
        asked.set()
        return await sink(request, source.stream(*STORY), on_end=ends.put_nowait)

    async with no_leaks(), serving(handler) as url:
        client = await SilentReader.ask(url)
        assert (await ends.get()).left
        await client.leave()
    assert source.subscriptions == 0


async def test_a_slow_client_holds_the_stream_and_then_lets_it_continue(sink: Sink) -> None:
    endless = Endless("x" * 10_000)
    handler = Handler(sink, endless.stream)
    async with no_leaks(), serving(handler) as url:
        client = await SilentReader.ask(url)
        await endless.held.wait()
        emitted = endless.emitted
        for _ in range(100):
            await asyncio.sleep(0)
        assert endless.emitted == emitted, "it kept emitting although nothing is read"
        while not endless.resumed.is_set():
            assert await client.reader.read(65536)
        await client.leave()
        assert (await handler.ends.get()).left
        assert endless.disposed.is_set()


async def test_much_output_at_once_closes_the_valve_before_the_transport_can(sink: Sink) -> None:
    """A source that has everything but respects demand emits no more than the high-water mark."""
    emitted = 0

    def subscribe(observer: Any, scheduler: Any = None) -> Any:
        valve = valve_of(scheduler)

        def emit(is_open: bool) -> None:
            nonlocal emitted
            while valve.is_open and emitted < 1_000:
                emitted += 1
                observer.on_next(Token("x" * 10_000))

        watching = valve.on_change(emit)
        asyncio.get_running_loop().call_soon(emit, True)
        asyncio.get_running_loop().call_soon(lambda: turns.append(emitted))
        return watching

    turns: list[int] = []
    handler = Handler(sink, reactivex.create(subscribe))
    async with no_leaks(), serving(handler) as url:
        client = await SilentReader.ask(url)
        size = 0
        while size < 10_000_000:
            data = await client.reader.read(65536)
            assert data
            size += len(data)
        await client.leave()
        assert (await handler.ends.get()).left
    assert turns[0] < 10


async def test_a_slow_client_receives_everything(sink: Sink) -> None:
    tokens = [Token(f"{number} " + "x" * 10_000) for number in range(2_000)]
    handler = Handler(sink, reactivex.from_iterable([*tokens, End("stop")]))
    async with no_leaks(), serving(handler) as url:
        client = await SilentReader.ask(url)
        await handler.started.wait()
        size, last = 0, b""
        while not last.endswith(b"0\r\n\r\n"):
            data = await client.reader.read(65536)
            assert data
            size, last = size + len(data), (last + data)[-100:]
        await client.leave()
    assert size > 20_000_000
    assert not (await handler.ends.get()).left


async def test_a_client_that_stalls_for_too_long_is_disconnected(sink: Sink) -> None:
    endless = Endless("x" * 10_000)
    handler = Handler(sink, endless.stream, max_stall=0.05)
    async with no_leaks(), serving(handler) as url:
        client = await SilentReader.ask(url)
        delivered = await handler.ends.get()
        assert endless.disposed.is_set()
        await client.leave()
    assert delivered.left
    assert isinstance(delivered.error, LaggedBehindError)
    assert "stalled for 0.05 s" in str(delivered.error)


async def test_a_client_that_stalls_at_the_end_of_a_stream_is_disconnected_too(sink: Sink) -> None:
    text = [Token("x" * 20_000_000), End("stop")]
    handler = Handler(sink, reactivex.from_iterable(text), max_stall=0.05)
    async with no_leaks(), serving(handler) as url:
        client = await SilentReader.ask(url)
        assert isinstance((await handler.ends.get()).error, LaggedBehindError)
        await client.leave()


async def test_a_source_without_demand_uses_bounded_memory(sink: Sink) -> None:
    endless = Endless("x" * 10_000, with_demand=False)
    handler = Handler(sink, endless.stream)
    async with no_leaks(), serving(handler) as url:
        client = await SilentReader.ask(url)
        delivered = await handler.ends.get()
        await client.leave()
    assert isinstance(delivered.error, LaggedBehindError)
    assert "waiting for a client" in str(delivered.error)


async def test_cancelling_the_handler_stops_the_model_and_cuts_the_response(
    sink: Sink, source: Any
) -> None:
    handler = Handler(sink, source.stream(Token("a"), waits=True))
    async with no_leaks(), serving(handler) as url, aiohttp.ClientSession() as session:
        async with session.get(url) as response:
            await response.content.readany()
            await source.emitted_all.wait()
            assert handler.task is not None
            handler.task.cancel()
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()
        await handler.returned.wait()
        assert source.cleaned_up == 1
    assert handler.ends.empty()


async def test_a_server_shutdown_stops_the_model(sink: Sink, source: Any) -> None:
    handler = Handler(sink, source.stream(Token("a"), waits=True))
    async with no_leaks():
        async with serving(handler) as url:
            client = await SilentReader.ask(url)
            await source.emitted_all.wait()
        await handler.returned.wait()
        assert source.cleaned_up == 1
        await client.leave()


async def test_handler_cancellation_of_the_application_does_no_harm(
    sink: Sink, source: Any
) -> None:
    handler = Handler(sink, source.stream(Token("a"), waits=True))
    async with no_leaks(), serving(handler, handler_cancellation=True) as url:
        client = await SilentReader.ask(url)
        await source.emitted_all.wait()
        await client.leave()
        await handler.returned.wait()
        assert source.cleaned_up == 1


async def test_invalid_arguments_are_rejected_before_anything_is_sent(
    sink: Sink, source: Any
) -> None:
    stream = source.stream(*STORY)
    checked = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        with pytest.raises(TypeError, match=r"takes a stream, such as model\.stream\(prompt\)"):
            await sink(request, "a prompt")
        with pytest.raises(TypeError, match="request must be an aiohttp request, got Stream"):
            await sink(stream, request)
        for wrong in ({"first_position": 0}, {"heartbeat": 0}, {"max_stall": -1.0}):
            with pytest.raises(ValueError, match=next(iter(wrong))):
                await sink(request, stream, **wrong)
        for name in ("", "a\r\nSet-Cookie: b", " a", "ü"):
            with pytest.raises(ValueError, match="stream_id must be printable ASCII"):
                await sink(request, stream, stream_id=name)
        checked.set()
        return web.Response(text="refused")

    async with serving(handler) as url:
        assert (await fetch(url))[1] == "refused"
    assert checked.is_set()
    assert source.subscriptions == 0


async def test_frames_encoded_once_can_be_sent_to_several_clients(source: Any) -> None:
    frames = await asyncio.ensure_future(_frames_of(source.stream(*STORY)))

    async def handler(request: web.Request) -> web.StreamResponse:
        return await send_frames(request, reactivex.from_iterable(frames))

    async with no_leaks(), serving(handler) as url:
        bodies = [body for _, body in await asyncio.gather(*(fetch(url) for _ in range(5)))]
    assert bodies == [b"".join(frames).decode()] * 5
    assert source.subscriptions == 1


async def test_frames_that_fail_cut_the_connection(source: Any) -> None:
    ends: list[ResponseWriter] = []
    frames = reactivex.concat(
        reactivex.of(b"event: chunk\n\n"), reactivex.throw(LaggedBehindError("put out"))
    )

    async def handler(request: web.Request) -> web.StreamResponse:
        with pytest.raises(LaggedBehindError):
            await send_frames(request, frames, on_end=ends.append)
        raise ConnectionResetError

    async with no_leaks(), serving(handler) as url:
        with pytest.raises(aiohttp.ClientPayloadError):
            await fetch(url)
    assert isinstance(ends[0].error, LaggedBehindError)
    assert not ends[0].left


async def _frames_of(stream: Any) -> list[bytes]:
    frames: list[bytes] = []
    done = asyncio.Event()
    EncodedStream(stream, "story", SSE_WIRE.writer("story")).frames.subscribe(
        frames.append, on_completed=done.set
    )
    await done.wait()
    return frames
