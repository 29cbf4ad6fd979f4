"""How the output of a web sink reaches its client: combined writes, demand, disconnection.

The client is a transport without a socket, so that time is virtual and nothing depends on how much
a kernel buffers. Tests about exact writes use `ndjson`, whose events are shorter.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
import reactivex as rx
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from reactivex import Observable, abc
from reactivex.disposable import Disposable
from reactivex.subject import Subject

from rxllm import from_async, sinks
from rxllm.chunks import Chunk, End, Token
from rxllm.errors import LaggedBehindError
from rxllm.sinks import DeliveryReport
from rxllm.testing import no_leaks, run_virtual

Sink = Callable[..., Coroutine[Any, Any, web.StreamResponse]]
MIB = 1024 * 1024


class Protocol(asyncio.Protocol):
    """The protocol of a web framework."""

    writing_paused = False

    def pause_writing(self) -> None:
        self.writing_paused = True

    def resume_writing(self) -> None:
        self.writing_paused = False


class Client(asyncio.Transport):
    """A client, and everything between it and the sink.

    Attributes:
        writes: the data of each write.
        writing: how many writes are waiting.
        failure: an exception for the next write to raise.
        free: while this isn't set, writes wait.
        aborted: whether the connection was aborted.
    """

    output_size = buffer_size = 0
    length: int | None = None

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.writing = 0
        self.failure: Exception | None = None
        self.free = asyncio.Event()
        self.free.set()
        self.aborted = False
        self._protocol: asyncio.BaseProtocol = Protocol()
        self.request = make_mocked_request("GET", "/", transport=self, writer=self)
        self.ends: list[DeliveryReport] = []

    async def answer(self, sink: Sink, stream: Observable[Chunk], **options: Any) -> None:
        async with asyncio.timeout(1000):  # virtual: a sink that never ends would send pings
            await sink(self.request, stream, on_end=self.ends.append, **options)

    @property
    def end(self) -> DeliveryReport:
        """The report of the delivery."""
        (end,) = self.ends
        return end

    def pause(self) -> None:
        """Stop accepting data for now."""
        self._current_protocol.pause_writing()

    def resume(self) -> None:
        self._current_protocol.resume_writing()

    def leave(self) -> None:
        self._current_protocol.connection_lost(None)

    @property
    def _current_protocol(self) -> asyncio.Protocol:
        assert isinstance(self._protocol, asyncio.Protocol)
        return self._protocol

    @property
    def chunks(self) -> list[str]:
        """The text of each chunk that was written."""
        messages = [json.loads(line) for line in b"".join(self.writes).split(b"\n") if line]
        return [each["chunk"].get("text", "") for each in messages if each["type"] == "chunk"]

    # The interface that the sink uses: a transport, and aiohttp's writer.

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def is_closing(self) -> bool:
        return self.aborted

    def get_write_buffer_size(self) -> int:
        return 0

    def abort(self) -> None:
        self.aborted = True

    def enable_chunking(self) -> None: ...

    def send_headers(self) -> None: ...

    async def write_headers(self, *_: object) -> None: ...

    async def write(self, data: bytes) -> None:  # type: ignore[override]
        self.writing += 1
        try:
            await self.free.wait()
            if self.failure is not None:
                raise self.failure
            self.writes.append(data)
        finally:
            self.writing -= 1


class Words:
    """A stream without demand that emits the given texts.

    Attributes:
        disposed: set when its subscriber has disposed.
    """

    def __init__(self, *, on_dispose: Callable[[], None] = lambda: None) -> None:
        self._subject: Subject[Chunk] = Subject()
        self._on_dispose = on_dispose
        self.disposed = asyncio.Event()
        self.stream: Observable[Chunk] = Observable(self._subscribe)

    def emit(self, *texts: str) -> None:
        for text in texts:
            self._subject.on_next(Token(text))

    def end(self) -> None:
        self._subject.on_next(End("stop"))
        self._subject.on_completed()

    def _subscribe(
        self, observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        inner = self._subject.subscribe(observer, scheduler=scheduler)

        def dispose() -> None:
            inner.dispose()
            self.disposed.set()
            self._on_dispose()

        return Disposable(dispose)


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.fixture(params=["sse", "ndjson"])
def sink(request: pytest.FixtureRequest) -> Sink:
    kind: Sink = getattr(sinks, request.param)
    return kind


@pytest.mark.parametrize("waits", [False, True], ids=["at once", "after waiting"])
def test_a_write_to_a_disconnected_client_stops_the_stream(sink: Sink, waits: bool) -> None:
    async def main() -> None:
        async with no_leaks():
            client, words = Client(), Words()
            answering = asyncio.create_task(client.answer(sink, words.stream))
            await asyncio.sleep(1)
            client.failure = BrokenPipeError("gone")
            if waits:
                client.free.clear()
            words.emit("a")
            await turns()
            client.free.set()
            await answering
            assert words.disposed.is_set()
            assert (client.end.left, client.end.error) == (True, None)
            assert client.end.result.finish_reason == "cancelled"

    run_virtual(main())


@pytest.mark.parametrize("waits", [False, True], ids=["at once", "after waiting"])
def test_another_write_error_is_raised_and_stops_the_stream(sink: Sink, waits: bool) -> None:
    async def main() -> None:
        async with no_leaks():
            client, words = Client(), Words()
            answering = asyncio.create_task(client.answer(sink, words.stream))
            await asyncio.sleep(1)
            client.failure = RuntimeError("a bug in the framework")
            if waits:
                client.free.clear()
            words.emit("a")
            await turns()
            client.free.set()
            with pytest.raises(RuntimeError, match="a bug in the framework"):
                await answering
            assert words.disposed.is_set()

    run_virtual(main())


def test_frames_that_arrive_during_a_write_go_out_in_one_write() -> None:
    async def main() -> None:
        async with no_leaks():
            client, words = Client(), Words()
            answering = asyncio.create_task(client.answer(sinks.ndjson, words.stream))
            await asyncio.sleep(1)
            client.free.clear()
            for word in "abc":
                words.emit(word)
                await asyncio.sleep(1)
                assert client.writing == 1
            client.free.set()
            await turns()
            assert [line.count(b"\n") for line in client.writes] == [1, 2]
            assert client.chunks == ["a", "b", "c"]
            words.end()
            await answering
            assert not client.end.left

    run_virtual(main())


def test_nothing_is_written_while_the_transport_is_paused() -> None:
    async def main() -> None:
        async with no_leaks():
            client, words = Client(), Words()
            answering = asyncio.create_task(client.answer(sinks.ndjson, words.stream))
            await asyncio.sleep(1)
            client.pause()
            for word in "abc":
                words.emit(word)
                await asyncio.sleep(1)
            words.end()
            await asyncio.sleep(1)
            assert client.writes == []
            assert not answering.done()
            client.resume()
            await answering
            assert len(client.writes) == 1
            assert client.chunks == ["a", "b", "c", ""]

    run_virtual(main())


def test_a_slow_client_with_little_waiting_is_not_disconnected(sink: Sink) -> None:
    async def main() -> None:
        async with no_leaks():
            client, words = Client(), Words()
            answering = asyncio.create_task(client.answer(sink, words.stream))
            await asyncio.sleep(1)
            client.pause()
            for _ in range(3):
                words.emit("x" * MIB)
            await asyncio.sleep(299)
            assert not answering.done()
            client.resume()
            await turns()
            client.pause()  # the time limit starts again
            await asyncio.sleep(299)
            client.resume()
            words.end()
            await answering
            assert (client.end.left, client.end.error, client.aborted) == (False, None, False)
            assert sum(map(len, client.writes)) > 3 * MIB

    run_virtual(main())


def test_by_default_a_stalled_client_is_disconnected_after_300_seconds(sink: Sink) -> None:
    async def main() -> None:
        async with no_leaks():
            client, words = Client(), Words()
            answering = asyncio.create_task(client.answer(sink, words.stream))
            await asyncio.sleep(1)
            client.pause()
            await answering
            assert asyncio.get_running_loop().time() == 301
            assert client.aborted
            assert words.disposed.is_set()
            assert "stalled for 300 s" in str(client.end.error)

    run_virtual(main())


def test_a_client_with_more_than_4_mib_waiting_is_disconnected(sink: Sink) -> None:
    async def main() -> None:
        async with no_leaks():
            client, words = Client(), Words()
            answering = asyncio.create_task(client.answer(sink, words.stream))
            await asyncio.sleep(1)
            client.pause()
            sizes: list[int] = []  # emitted before the client was disconnected
            for size in range(0, 8 * MIB, MIB // 4):
                if not words.disposed.is_set():
                    sizes.append(size)
                    words.emit("x" * (MIB // 4))
            await answering
            assert sizes[-1] == 4 * MIB - MIB // 4
            assert (client.end.left, client.aborted) == (True, True)
            assert isinstance(client.end.error, LaggedBehindError)

    run_virtual(main())


def test_a_client_that_reads_is_not_disconnected_however_much_arrives_at_once(sink: Sink) -> None:
    async def main() -> None:
        async with no_leaks():
            client = Client()
            tokens = [Token("x" * MIB) for _ in range(20)]
            await client.answer(sink, rx.of(*tokens, End("stop")))
            assert sum(map(len, client.writes)) > 20 * MIB
            assert (client.end.left, client.end.error) == (False, None)

    run_virtual(main())


@pytest.mark.parametrize("stage", ["a write waits", "the transport takes nothing"])
def test_a_client_that_disconnects_before_the_end_is_not_waited_for(sink: Sink, stage: str) -> None:
    async def main() -> None:
        async with no_leaks():
            client, words = Client(), Words()
            answering = asyncio.create_task(client.answer(sink, words.stream))
            await asyncio.sleep(1)
            if stage == "a write waits":
                client.free.clear()
            else:
                client.pause()
            words.emit("a")
            words.end()
            await turns()
            assert not answering.done()
            client.leave()
            await answering
            assert asyncio.get_running_loop().time() == 1
            assert (client.end.left, client.end.error) == (True, None)
            assert client.aborted is (stage != "a write waits")  # else its bytes are waited for

    run_virtual(main())


def test_an_operator_that_raises_on_disposal_is_reported(
    sink: Sink,
) -> None:
    async def main() -> None:
        reports: list[dict[str, Any]] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reports.append(context))
        mine = LookupError("mine")

        def fail() -> None:
            raise mine

        async with no_leaks():
            client, words = Client(), Words(on_dispose=fail)
            answering = asyncio.create_task(client.answer(sink, words.stream))
            await asyncio.sleep(1)
            client.leave()
            await answering
            assert client.end.left
        assert [report["exception"] for report in reports] == [mine]
        assert "disposed" in reports[0]["message"]

    run_virtual(main())


def pings(client: Client) -> int:
    """Return how many were written: comments in an event stream, otherwise spaces."""
    written = b"".join(client.writes)
    lines = written.split(b"\n")
    is_event_stream = any(line.startswith((b":", b"event:")) for line in lines)
    if is_event_stream:
        return lines.count(b": ping")
    return sum(len(line) - len(line.lstrip(b" ")) for line in lines)


def test_a_ping_is_sent_after_silence(sink: Sink) -> None:
    async def main() -> None:
        async with no_leaks():
            client, words = Client(), Words()
            answering = asyncio.create_task(client.answer(sink, words.stream, heartbeat=10))
            counts = []
            for wait in (9, 2, 8, 5, 4):  # 9, 11, 19, 24, 28 s
                await asyncio.sleep(wait)
                if wait == 8:
                    words.emit("a")  # at 19 s
                counts.append(pings(client))
            assert counts == [0, 1, 1, 1, 1]
            await asyncio.sleep(2)  # 30 s
            assert pings(client) == 2
            words.end()
            await answering

    run_virtual(main())


def test_by_default_a_ping_is_sent_every_15_seconds(sink: Sink) -> None:
    async def main() -> None:
        async with no_leaks():
            client, words = Client(), Words()
            answering = asyncio.create_task(client.answer(sink, words.stream))
            await asyncio.sleep(61)
            assert pings(client) == 4
            words.end()
            await answering

    run_virtual(main())


@pytest.mark.parametrize("stage", ["a write waits", "the transport takes nothing"])
def test_no_ping_follows_the_end_of_a_stream(sink: Sink, stage: str) -> None:
    async def main() -> None:
        async with no_leaks():
            client, words = Client(), Words()
            answering = asyncio.create_task(client.answer(sink, words.stream, heartbeat=10))
            await asyncio.sleep(1)
            words.emit("a")
            if stage == "a write waits":
                client.free.clear()
            else:
                client.pause()
            words.end()  # so soon after that it goes out in one write
            await asyncio.sleep(100)
            assert client.writing == (stage == "a write waits")
            client.free.set()
            client.resume()
            await answering
            assert pings(client) == 0
            assert len(client.writes) == 2

    run_virtual(main())


@pytest.mark.parametrize("stage", ["a write waits", "the transport takes nothing"])
@pytest.mark.parametrize("waiting", ["nothing", "text"])
def test_no_ping_is_queued_for_a_client_that_does_not_read(
    sink: Sink, stage: str, waiting: str
) -> None:
    async def main() -> None:
        async with no_leaks():
            client, words = Client(), Words()
            answering = asyncio.create_task(client.answer(sink, words.stream, heartbeat=10))
            await asyncio.sleep(1)
            if stage == "a write waits":
                client.free.clear()
                words.emit("a")
            else:
                client.pause()
            if waiting == "text":
                words.emit("b")
            await asyncio.sleep(99)
            client.free.set()
            client.resume()
            await turns()
            # If only a write is slow, exactly one ping may be queued after it.
            most = stage == "a write waits" and waiting == "nothing"
            assert pings(client) <= most
            words.end()
            await answering

    run_virtual(main())


def test_a_client_holds_a_stream_only_while_it_is_slow(sink: Sink) -> None:
    async def main() -> None:
        emitted: list[int] = []

        async def numbers() -> AsyncIterator[Chunk]:
            for number in range(5):
                emitted.append(number)
                yield Token(str(number))
                await asyncio.sleep(1)
            yield End("stop")

        async with no_leaks():
            client = Client()
            answering = asyncio.create_task(client.answer(sink, from_async(numbers)))
            await asyncio.sleep(1.5)
            client.pause()
            await asyncio.sleep(100)
            assert emitted == [0, 1, 2]  # the last is waiting in the pump
            client.resume()
            await answering
            assert emitted == [0, 1, 2, 3, 4]
            assert client.end.result.text == "01234"

    run_virtual(main())
