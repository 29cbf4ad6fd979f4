"""`ClientStreams` without a server: stalls, take-overs and outcomes, in virtual time."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from rxllm import operators as ops
from rxllm.chunks import Chunk
from rxllm.models.scripted import ScriptedModel
from rxllm.operators import StreamRegistry
from rxllm.server import Limits
from rxllm.server.websocket.outbox import Outbox
from rxllm.server.websocket.streams import ClientStreams
from rxllm.stream import Stream
from rxllm.testing import run_virtual
from rxllm.valve import StreamScheduler, Valve
from rxllm.web.failures import StreamNotFoundError
from rxllm.web.memory_store import MemoryStreams
from rxllm.web.stream_store import StreamHandle
from tests.server.serving import turns


class Store(MemoryStreams):
    """A store that begins and reads streams only while its gates are open."""

    def __init__(self) -> None:
        self.registry = StreamRegistry()
        super().__init__(self.registry, Limits(reader_stall=2.0))
        self.beginning, self.reading = asyncio.Event(), asyncio.Event()
        self.beginning.set()
        self.reading.set()

    async def begin(self, *arguments: Any, **options: Any) -> StreamHandle:
        await self.beginning.wait()
        return await super().begin(*arguments, **options)

    async def read(self, stream_id: str, after: int = 0, *, exact: bool = False) -> Any:
        await self.reading.wait()
        return await super().read(stream_id, after)

    def ask(self, listed: str) -> Stream[Chunk]:
        """Return a stream of four tokens, one per second."""
        model = ScriptedModel(["a", "b", "c", "d"], delay=1.0)
        return model.stream("Hi").pipe(ops.track(self.registry, listed))


class Connection:
    """An open outbox, and what it sent."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.valve = Valve()
        self.outbox = Outbox(lambda: None)
        self.outbox.frames.subscribe(
            lambda frame: self.got.append(json.loads(frame)),
            scheduler=StreamScheduler(asyncio.get_running_loop(), self.valve),
        )

    def kinds(self, stream_id: str) -> list[str]:
        return [message["type"] for message in self.got if message["id"] == stream_id]


def test_a_stall_closes_the_connection_and_keeps_the_stream() -> None:
    async def main() -> None:
        store, first = Store(), Connection()
        streams = ClientStreams(store, first.outbox, 10)
        await streams.begin("s", store.ask, None)
        first.valve.close()
        await asyncio.sleep(3.5)
        assert not first.outbox.is_open
        assert "s" in streams
        second = Connection()
        await streams.attach(second.outbox, {})
        await asyncio.sleep(60)
        assert first.kinds("s") == []
        assert second.kinds("s")[-1] == "complete"
        assert "s" not in streams

    run_virtual(main())


def test_a_stream_that_starts_during_a_take_over_is_sent_by_one_reading() -> None:
    async def main() -> None:
        store, first, second = Store(), Connection(), Connection()
        streams = ClientStreams(store, first.outbox, 10)
        await streams.begin("s", store.ask, None)
        store.beginning.clear()
        store.reading.clear()
        async with asyncio.TaskGroup() as group:
            group.create_task(streams.begin("t", store.ask, None))
            await turns()
            group.create_task(streams.attach(second.outbox, {}))
            await turns()
            store.beginning.set()
            await asyncio.sleep(1.5)
            store.reading.set()
        await asyncio.sleep(60)
        assert second.kinds("t").count("complete") == 1
        assert second.kinds("s").count("complete") == 1

    run_virtual(main())


def test_a_take_over_during_a_take_over_leaves_nothing_to_the_first() -> None:
    async def main() -> None:
        store, first, second, third = Store(), Connection(), Connection(), Connection()
        streams = ClientStreams(store, first.outbox, 10)
        await streams.begin("s", store.ask, None)
        streams.cancel_waiting("c")
        store.reading.clear()
        async with asyncio.TaskGroup() as group:
            group.create_task(streams.attach(second.outbox, {"s": 0, "c": 0}))
            await turns()
            group.create_task(streams.attach(third.outbox, {"s": 0, "c": 0}))
            await turns()
            store.reading.set()
        await asyncio.sleep(60)
        assert second.got == []
        state, complete = [message for message in third.got if message["id"] == "c"]
        assert state["status"] == complete["finishReason"] == "cancelled"
        assert (complete["tokens"], complete["seconds"], complete["position"]) == (0, 0.0, 1)
        assert third.kinds("s").count("complete") == 1

    run_virtual(main())


def test_a_stream_that_cannot_be_read_fails_and_a_foreign_exception_is_reported() -> None:
    async def main() -> None:
        reported: list[dict[str, Any]] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reported.append(context))
        ends: list[str | None] = []
        error = ConnectionError("the store is away")

        class Broken(Store):
            async def read(self, stream_id: str, after: int = 0, *, exact: bool = False) -> Any:
                raise error

        store, first, second = Broken(), Connection(), Connection()
        streams = ClientStreams(store, first.outbox, 10)
        await streams.begin("s", store.ask, None, lambda message: ends.append(message.id))
        await streams.attach(second.outbox, {"never": 0})
        assert [(each["id"], each["code"]) for each in second.got] == [
            ("s", "internal"),
            ("never", "stream_not_found"),
        ]
        assert second.got[1]["message"] == "this connection has no stream 'never', or no longer"
        message = "the stream 's' of a WebSocket failed"
        assert reported == [{"message": message, "exception": error}]
        assert ends == ["s"]
        await streams.pause("s")
        assert second.got[-1] == {"type": "state", "id": "s", "status": "failed"}
        await asyncio.sleep(60)

    run_virtual(main())


def test_outcomes_are_remembered_after_the_store_has_forgotten_the_streams() -> None:
    async def main() -> None:
        store, connection = Store(), Connection()
        streams = ClientStreams(store, connection.outbox, 10)
        await streams.begin("s", store.ask, None)
        streams.cancel_waiting("c")
        await asyncio.sleep(600)
        assert await store.list() == []
        connection.got.clear()
        for stream_id in ("s", "c"):
            await streams.pause(stream_id)
        assert connection.got == [
            {"type": "state", "id": "s", "status": "completed"},
            {"type": "state", "id": "c", "status": "cancelled"},
        ]

    run_virtual(main())


def test_a_stream_that_is_starting_cannot_be_controlled_yet() -> None:
    async def main() -> None:
        store, connection = Store(), Connection()
        streams = ClientStreams(store, connection.outbox, 10)
        store.beginning.clear()
        async with asyncio.TaskGroup() as group:
            group.create_task(streams.begin("s", store.ask, None))
            await turns()
            with pytest.raises(StreamNotFoundError, match=r"^this connection has no stream 's'"):
                await streams.stop("s")
            store.beginning.set()
        await streams.stop("s")
        await asyncio.sleep(60)
        assert connection.got[-1]["finishReason"] == "cancelled"

    run_virtual(main())


def test_in_one_process_there_is_nothing_to_find_on_other_servers() -> None:
    async def main() -> None:
        store, connection = Store(), Connection()
        streams = ClientStreams(store, connection.outbox, 10, "the secret")
        await streams.begin("s", store.ask, None)
        assert not await streams.find()
        (listed,) = await store.list()
        assert listed.id.startswith("ws-368a693d784c7d1957ec7481-")
        assert len(streams) == 1
        await store.close()

    run_virtual(main())


def test_another_server_finds_live_and_ended_streams_by_the_secret() -> None:
    async def main() -> None:
        store, first, second = Store(), Connection(), Connection()
        streams = ClientStreams(store, first.outbox, 10, "the secret")
        await streams.begin("ended", store.ask, None)
        await asyncio.sleep(10)
        await streams.begin("live", store.ask, None)
        streams.detach()
        strangers = ClientStreams(store, second.outbox, 10, "another")
        assert not await strangers.find()
        found = ClientStreams(store, second.outbox, 10, "the secret")
        assert await found.find()
        assert not await found.find()  # nothing else
        assert ("live" in found, "ended" in found, len(found)) == (True, False, 2)
        await found.attach(second.outbox, {"ended": 5})
        await asyncio.sleep(10)
        for stream_id in ("ended", "live"):
            assert second.kinds(stream_id)[-1] == "complete"

    run_virtual(main())


def test_of_streams_with_one_id_the_live_one_is_found() -> None:
    async def main() -> None:
        store, connection = Store(), Connection()
        streams = ClientStreams(store, connection.outbox, 10, "the secret")
        await streams.begin("s", store.ask, None)
        await streams.stop("s")
        await asyncio.sleep(1)
        await streams.begin("s", store.ask, None)
        found = ClientStreams(store, connection.outbox, 10, "the secret")
        await found.find()
        assert "s" in found
        await store.close()

    run_virtual(main())


def test_a_stream_that_expires_while_it_is_looked_for_is_not_found() -> None:
    class Forgetful(Store):
        async def asked(self, stream_id: str) -> bytes | None:
            raise StreamNotFoundError("it has expired")

    async def main() -> None:
        store, connection = Forgetful(), Connection()
        await ClientStreams(store, connection.outbox, 10, "the secret").begin("s", store.ask, None)
        assert not await ClientStreams(store, connection.outbox, 10, "the secret").find()
        await store.close()

    run_virtual(main())
