"""What is written to Redis and read from it is what was said, whatever is lost on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import event as note
from hypothesis import strategies as st

from rxllm.chunks import Chunk, Json, Notice, Progress, Reasoning, Token, ToolCall
from rxllm.redis.journal import Journal
from rxllm.redis.replica import Replica
from rxllm.redis.scripts import Script
from rxllm.redis.stream_entries import (
    EPOCH,
    CallReader,
    decode_events,
    encode_events,
)
from rxllm.redis.stream_scripts import APPEND, RESTORE, StreamKeys
from rxllm.web.call_offsets import CallOffsets
from rxllm.web.encoding import to_json
from rxllm.web.event_log import EventLog
from rxllm.web.running_stream import StreamDetails
from rxllm.web.stream_messages import Complete, StreamChunk, StreamFailed
from tests.redis.fleet import Reader
from tests.redis.server import RedisServer

KEYS = StreamKeys("property").of_stream("s")

LOSSES = ("lose the tail", "lose the log", "empty")

words = st.text(max_size=3)
tokens = st.builds(Token, words, tokens=st.integers(0, 2)) | words.map(Token)
calls = st.builds(
    lambda key, length: ToolCall(key, "f", "abcdefgh"[:length], complete=length == 8),
    st.sampled_from("xy"),
    st.integers(0, 8),
)
others: st.SearchStrategy[Any] = st.sampled_from(
    [
        Progress(tokens=1, elapsed=0.5),
        Json([1, {"a": None}]),
        Notice("restart"),
        Notice("retry"),
        Reasoning("why"),
        Token("from x", source="x"),
        Notice("restart", source="x"),
    ]
)
chunks: st.SearchStrategy[Any] = tokens | calls | others
steps: st.SearchStrategy[list[Any]] = st.lists(
    st.tuples(st.just("say"), st.lists(chunks, min_size=1, max_size=4))
    | st.tuples(
        st.sampled_from(["write", "lost reply", "twice", "read", "new reader", *LOSSES]),
        st.just([]),
    ),
    max_size=30,
)


class Bench:
    """A stream, its journal, and replicas of it, one step after the other."""

    def __init__(self, server: RedisServer) -> None:
        server.client.flushall()
        self.redis: Any = server.client
        self.log = EventLog("s", 10_000, 30.0, _ignore)
        self.log.mark_read()
        kept: Any = SimpleNamespace(log=self.log, details=StreamDetails(id="s", grace=1.0))
        self.journal = Journal(kept, "1.a", KEYS, 0, "", ("node", "n", "key", ""))
        self.replica = self.new_replica()
        self.readers = [Reader().subscribe(self.replica.log.read(0))]
        self.calls: dict[str, ToolCall] = {}
        self.run(RESTORE, "1.a", 60_000, "", *self.journal.fields)

    def say(self, chunk: Chunk) -> None:
        """Say a chunk. The arguments of a call only grow, until it is complete, or a restart."""
        if isinstance(chunk, ToolCall):
            before = self.calls.get(chunk.id)
            if before is not None and before.complete:
                return
            if before is not None and len(before.arguments) > len(chunk.arguments):
                chunk = msgspec.structs.replace(chunk, arguments=before.arguments)
            self.calls[chunk.id] = chunk
        elif isinstance(chunk, Notice) and chunk.kind == "restart" and chunk.source is None:
            self.calls.clear()
        self.log.append(chunk, 1)

    def run(self, script: Script, *arguments: Any) -> Any:
        return self.redis.eval(script.source, 2, *KEYS, *arguments)

    def new_replica(self) -> Replica:
        callbacks: dict[str, Callable[..., object]] = dict.fromkeys(
            ("on_readers", "on_idle", "on_hold", "on_abandon", "on_stranger"), _ignore
        )
        return Replica(
            "s", b"", "n", "1.a", "", 0, EventLog("s", 10_000, 30.0, _ignore), **callbacks
        )

    def step(self, what: str, said: list[Chunk]) -> None:
        ids = self.redis.xrange(KEYS[1])
        if what == "say":
            for chunk in said:
                self.say(chunk)
        elif what == "write":
            self.write()
        elif what == "lost reply":
            self.append()
        elif what == "twice":
            self.append()
            self.write()
        elif what == "read":
            self.read(self.replica)
        elif what == "new reader":
            known = [0, *self.replica.log._positions]
            after = known[len(known) // 2]
            reader = Reader().subscribe(self.replica.log.read(after))
            self.readers.append(reader)
        elif what == "empty":
            self.redis.flushall()
        elif what == "lose the log":
            self.redis.delete(KEYS[1])
        elif what == "lose the tail" and ids:
            self.redis.xdel(KEYS[1], ids[-1][0])
            before = ids[-2][0].split(b"-")[0] if len(ids) > 1 else 0
            self.redis.hset(KEYS[0], "last", before)
            if len(ids) == 1:
                self.redis.delete(KEYS[1])
            else:
                self.redis.xtrim(KEYS[1], minid=0)
                self.redis.execute_command("XSETID", KEYS[1], ids[-2][0])

    def append(self) -> Any:
        entry = self.journal.next_entry()
        if entry is None:
            return None
        last, events, field, data, status = entry
        what = [("1.a", self.journal.written, last, events, field, status, 60_000)]
        arguments = KEYS[0], msgspec.msgpack.encode(what), data
        (reply,) = self.redis.eval(APPEND.source, 1, *arguments)
        return [1, entry.last, b""] if reply == 1 else reply

    def write(self) -> None:
        """As `Journals` does with the reply."""
        reply = self.append()
        if reply is None:
            return
        code, last, _ = reply
        if code == -1:
            if self.run(RESTORE, "1.a", 60_000, "", *self.journal.fields)[0] == 1:
                self.journal.rewind(0)
        elif code == 1:
            self.journal.written = last
        elif last != self.journal.written:
            self.journal.rewind(last)

    def read(self, replica: Replica) -> None:
        is_done = False
        while not is_done:
            is_done = True
            entries = self.redis.xrange(KEYS[1], f"({replica.position}-18446744073709551615")
            for entry_id, fields in entries:
                ((field, data),) = fields.items()
                if not replica.take(entry_id, field.decode(), data):
                    is_done = False
                    break

    def finish(self) -> None:
        self.log.end(Complete(id="s", tokens=1, seconds=1.0, text="all"))
        self.write()  # Redis may have lost what was written before
        while not self.journal.is_complete:
            self.write()
        self.read(self.replica)


def _ignore(*_: object) -> None:
    pass


def exactly(log: EventLog) -> list[bytes]:
    """Return all events as they were."""
    reader = Reader().subscribe(log.read(0, exact=True))
    return [to_json(each.message) for each in reader.frames]


@given(steps=steps)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # each example empties it
def test_every_reader_gets_what_was_said(server: RedisServer, steps: list[Any]) -> None:
    async def main() -> None:
        bench = Bench(server)
        for what, said in steps:
            bench.step(what, said)
        bench.finish()
        note(f"{len(steps)} steps")
        late = bench.new_replica()
        bench.read(late)
        whole = Reader().subscribe(bench.log.read(0))
        for log in (bench.replica.log, late.log):
            assert _without_times(exactly(log)) == _without_times(exactly(bench.log))
            assert Reader().subscribe(log.read(0)).text == whole.text
        for position in bench.log._positions:
            for log in (bench.replica.log, late.log):
                mine, theirs = Reader().subscribe(log.read(position)), Reader()
                theirs.subscribe(bench.log.read(position))
                assert (mine.text, mine.restarts) == (theirs.text, theirs.restarts)
        first = bench.readers[0]
        assert first.text == whole.text
        for each in (bench.replica, late):
            each.close()

    asyncio.run(main())


def _without_times(messages: list[bytes]) -> list[bytes]:
    return [each.split(b'"timestamp"')[0] + each.rpartition(b'"chunk"')[2] for each in messages]


@given(said=st.lists(chunks, min_size=1, max_size=20), cuts=st.lists(st.integers(0, 20)))
def test_an_entry_is_read_as_it_was_written(said: list[Chunk], cuts: list[int]) -> None:
    offsets, reader = CallOffsets(), CallReader()
    bounds = sorted({0, *[each for each in cuts if each < len(said)], len(said)})
    got: list[Chunk] = []
    for first, end in pairwise(bounds):
        positions = range(first + 1, end + 1)
        times = [1e9 + each / 1000 for each in positions]
        data = encode_events(first, positions, times, said[first:end], offsets)
        before, entry = decode_events(f"{end}-{end - first}".encode(), data)
        assert (before, entry.previous) == (first, -1)
        found = [entry.at + each / 1000 for each in entry.offsets]
        assert found == pytest.approx(times, abs=0.002)
        for event in entry.events:
            assert event is not None
            got.append(Token(event) if isinstance(event, str) else reader.read(event))
    assert [to_json(each) for each in got] == [to_json(each) for each in said]


def test_a_call_is_written_once_however_often_it_is_told() -> None:
    """Each chunk of a call repeats its arguments so far."""
    log, offsets = EventLog("s", 10, 1.0, _ignore), CallOffsets()
    for length in range(1, 2001):
        log.append(ToolCall("c", "f", "x" * length), length)
    positions, times, chunks = log.events_after(0, 5000)
    data = encode_events(0, positions, times, chunks, offsets)
    assert len(data) < 2000 * 80


async def test_an_entry_of_another_version_is_refused() -> None:
    bench = _replica()
    assert bench.take(b"1-1", "d3", b"")
    failed = bench.log.ending
    assert failed is not None
    assert isinstance(failed.message, StreamFailed)
    assert (failed.message.code, failed.message.retryable) == ("store_unavailable", True)
    assert failed.position == EPOCH
    bench.close()


async def test_the_version_before_is_read() -> None:
    """So that the nodes of a fleet can be replaced one by one."""
    bench = _replica()
    data = encode_events(0, [1], [1.0], [Token("a")], CallOffsets())
    assert bench.take(b"1-1", "d0", data)
    frame = bench.log.next_frame(0)
    assert frame is not None
    assert isinstance(frame.message, StreamChunk)
    assert frame.message.chunk == Token("a")
    bench.close()


@pytest.mark.parametrize("data", [b"", b"\xff", b"\x94\x01", b'{"a": 1}'])
async def test_an_entry_that_cant_be_read_is_an_error(data: bytes) -> None:
    for field in ("d1", "e1"):
        bench = _replica()
        assert bench.take(b"1-1", field, data)
        assert bench.log.ending is not None
        bench.close()


def _replica() -> Replica:
    callbacks: dict[str, Callable[..., object]] = dict.fromkeys(
        ("on_readers", "on_idle", "on_hold", "on_abandon", "on_stranger"), _ignore
    )
    return Replica("s", b"", "n", "1.a", "", 0, EventLog("s", 10, 30.0, _ignore), **callbacks)
