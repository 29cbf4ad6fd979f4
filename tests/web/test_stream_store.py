"""The stream store: no gaps, no repeats, and slow readers that cost nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st
from reactivex.subject import Subject

from rxllm import operators as ops
from rxllm.chunks import (
    Batch,
    Chunk,
    End,
    Json,
    Notice,
    Progress,
    Reasoning,
    Start,
    Token,
    ToolCall,
    Usage,
    is_restart,
    text_of,
)
from rxllm.errors import LaggedBehindError, PoolFullError, RateLimitError, StreamStateError
from rxllm.models.scripted import ScriptedModel
from rxllm.server.limits import Limits
from rxllm.server.messages import Complete, StreamChunk, StreamFailed
from rxllm.testing import no_leaks, run_virtual
from rxllm.valve import StreamScheduler, Valve
from rxllm.web.encoding import encode_each
from rxllm.web.event_log import EventLog
from rxllm.web.failures import DrainingError, StreamNotFoundError
from rxllm.web.memory_store import MemoryStreams
from rxllm.web.stream_store import Frame

CHUNKS = st.one_of(
    st.text(max_size=3).map(Token),
    st.text(max_size=3).map(Reasoning),
    st.text(max_size=3).map(lambda text: Batch((Token(text),), text)),
    st.just(Progress(1, 0.5)),
    st.just(Notice("retry")),
    st.just(Notice("restart")),
    st.integers(0, 2).map(lambda n: ToolCall("c", "f", "x" * n, complete=n == 2)),
    st.booleans().map(lambda whole: Json([1], complete=whole)),
)


def log_of(*chunks: Chunk, ended: bool = True) -> EventLog:
    log = EventLog("s", 4, 30.0, lambda count: None)
    for chunk in chunks:
        log.append(chunk)
    if ended:
        log.end(Complete(id="s", tokens=0, seconds=0.0))
    return log


def frames_of(log: EventLog, after: int = 0) -> list[Frame]:
    """Return the frames for a reader that has everything up to `after`."""
    frames: list[Frame] = []
    while (frame := log.next_frame(after)) is not None:
        frames.append(frame)
        after = frame.position
    return frames


def chunks_of(frames: list[Frame]) -> list[Chunk]:
    return [each.message.chunk for each in frames if isinstance(each.message, StreamChunk)]


def joined_output(chunks: list[Chunk]) -> list[tuple[type[Chunk], str]]:
    """Return the text and the reasoning since the last restart, adjacent pieces joined."""
    runs: list[tuple[type[Chunk], str]] = []
    for chunk in chunks:
        if is_restart(chunk):
            runs.clear()
        for piece in chunk.chunks if isinstance(chunk, Batch) else (chunk,):
            if not isinstance(piece, Token | Reasoning):
                continue
            if runs and runs[-1][0] is type(piece):
                runs[-1] = type(piece), runs[-1][1] + piece.text
            elif piece.text:
                runs.append((type(piece), piece.text))
    return runs


@given(st.lists(CHUNKS, max_size=30), st.data())
def test_a_reader_gets_the_same_however_often_it_reconnects(
    chunks: list[Chunk], data: st.DataObject
) -> None:
    log = log_of(*chunks)
    position, got = 0, list[Frame]()
    while position < log.position:
        frames = frames_of(log, position)
        assert frames[-1].position == log.position
        taken = frames[: data.draw(st.integers(1, len(frames)))]
        got += taken
        position = taken[-1].position
    positions = [frame.position for frame in got]
    assert positions == sorted(set(positions))
    assert got[-1].outcome is not None
    assert joined_output(chunks_of(got)) == joined_output(chunks)
    kept = [chunk for chunk in chunks_of(got) if isinstance(chunk, Notice)]
    assert kept == [chunk for chunk in chunks if isinstance(chunk, Notice)]


def test_an_unknown_position_gives_a_restart_and_then_everything() -> None:
    """The reader may have read another stream with the same id."""

    async def main() -> None:
        log = EventLog("s", 4, 30.0, lambda count: None)
        log.append(Token("a"), position=3)
        log.append(Token("b"), position=8)

        def read(after: int) -> list[Frame]:
            got: list[Frame] = []
            log.read(after).subscribe(got.append, scheduler=scheduler()).dispose()
            return got

        for after in (1, 5, 9, -2):
            assert [frame.position for frame in read(after)] == [0, 8]
            assert chunks_of(read(after)) == [Notice("restart"), Token("ab")]
        assert chunks_of(read(0)) == [Token("ab")]
        assert chunks_of(read(3)) == [Token("b")]
        assert chunks_of(read(8)) == []

    run_virtual(main())


def test_a_restart_waits_for_the_demand_of_the_reader() -> None:
    async def main() -> None:
        log = log_of(Token("a"), ended=False)
        valve = Valve()
        valve.close()
        got: list[Frame] = []
        log.read(7).subscribe(
            got.append, scheduler=StreamScheduler(asyncio.get_running_loop(), valve)
        )
        assert not got
        valve.open()
        assert chunks_of(got) == [Notice("restart"), Token("a")]

    run_virtual(main())


def test_readers_follow_a_log_whose_positions_have_gaps() -> None:
    """Otherwise an empty position would block a reader for ever."""

    async def main() -> None:
        log = EventLog("s", 4, 30.0, lambda count: None)
        got: list[Frame] = []
        log.read(0).subscribe(got.append, scheduler=scheduler())
        for position in (2, 3, 1_000_001, 1_000_007):
            log.append(Token("x"), position=position)
        log.end(Complete(id="s", tokens=4, seconds=0.0), position=2_000_000)
        assert [frame.position for frame in got] == [2, 3, 1_000_001, 1_000_007, 2_000_000]
        assert log.events == 4

    run_virtual(main())


def test_a_snapshot_is_short_however_long_the_text() -> None:
    repeated: list[Chunk] = [Token("x"), Progress(1, 0.1)]
    log = log_of(Start("r", "m"), *repeated * 1000, ended=False)
    start, text, progress = frames_of(log)
    assert (start.position, text.position, progress.position) == (1, 2000, 2001)
    assert chunks_of([text]) == [Token("x" * 1000)]


def test_joining_keeps_tokens_with_a_confidence_or_number() -> None:
    sure, word = Token("c", 0.9), Token("d", number=1)
    log = log_of(
        Token("a"), Token("b"), sure, word, Reasoning("e"), Reasoning("f"), Token("g"), ended=False
    )
    assert chunks_of(frames_of(log)) == [
        Batch((Token("ab"), sure, word, Reasoning("ef"), Token("g")), "abcdg")
    ]


def test_a_snapshot_of_a_long_text_comes_in_pieces() -> None:
    """Otherwise a client that never reads would be sent all of it in one loop iteration."""
    log = log_of(ended=False)
    for _ in range(1000):
        log.append(Token("x" * 100), 100)
    frames = frames_of(log)
    assert max(len(frame.data) for frame in frames) < 20_000
    assert "".join(text_of(chunk) for chunk in chunks_of(frames)) == "x" * 100_000


def test_chunks_invalidated_by_a_restart_are_not_kept() -> None:
    log = log_of(Start("r", "m"), ended=False)
    for text in ("old ", "text"):
        log.append(Token(text), 4)
    log.append(Notice("restart"))
    log.append(Token("new"), 3)
    assert log.size == 3
    assert chunks_of(frames_of(log)) == [Start("r", "m"), Notice("restart"), Token("new")]
    assert chunks_of(frames_of(log, 2)) == [Notice("restart"), Token("new")]


def test_a_restart_of_all_sources_drops_each_state_once() -> None:
    log = log_of(ended=False)
    for source in ("left", "right"):
        log.append(ToolCall("c", "f", "xxx", source=source), 3)
    log.append(Notice("restart"))
    for source in ("left", "right"):
        log.append(ToolCall("c", "f", "y", source=source), 1)
    assert log.size == 2
    assert [each.source for each in chunks_of(frames_of(log))] == [None, "left", "right"]


def test_a_restart_of_one_source_keeps_the_states_of_the_others() -> None:
    log = log_of(ended=False)
    for source in ("left", "right"):
        log.append(ToolCall("c", "f", "xxx", source=source), 3)
    log.append(Notice("restart", source="left"))
    log.append(ToolCall("c", "f", "y", source="left"), 1)
    assert log.size == 4
    log.append(ToolCall("c", "f", "yy", source="right"), 2)
    assert log.size == 3


@pytest.mark.parametrize(
    ("first", "has_begun"),
    [
        (Start("r", "m"), True),
        (Usage(1, 2), True),
        (Progress(1, 0.5), True),
        (Notice("retry"), False),
        (Token("a"), False),
        (ToolCall("c", "f", "x"), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_stream_has_begun_if_something_survives_its_restarts(
    first: Chunk, has_begun: bool
) -> None:
    log = log_of(first, Token("b"), ended=False)
    assert log.begun.is_set()
    log.append(Notice("restart"))
    assert log.begun.is_set() is has_begun
    log.append(Token("c"))
    assert log.begun.is_set()


def test_an_event_is_encoded_once_for_all_readers() -> None:
    async def main() -> None:
        log = log_of(ended=False)
        got: list[list[Frame]] = [[], []]
        for each in got:
            log.read(0).subscribe(each.append, scheduler=scheduler())
        log.append(Token("a"))
        log.end(Complete(id="s", tokens=1, seconds=0.0))
        first, second = got
        assert [frame.position for frame in first] == [1, 2]
        assert all(one is other for one, other in zip(first, second, strict=True))

    run_virtual(main())


def test_a_reader_that_raises_is_removed_and_the_others_continue() -> None:

    async def main() -> None:
        reported: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: reported.append(context)
        )
        log = log_of(ended=False)
        good: list[Frame] = []

        def bad(_: Frame) -> None:
            raise ValueError

        log.read(0).subscribe(bad, scheduler=scheduler())
        log.read(0).subscribe(good.append, scheduler=scheduler())
        log.append(Token("a"))
        log.append(Token("b"))
        assert len(good) == 2
        assert log.readers == 1
        assert isinstance(reported[0]["exception"], ValueError)

    run_virtual(main())


def test_a_reader_that_lags_gets_what_it_missed_joined() -> None:
    async def main() -> None:
        log, valve = log_of(ended=False), Valve()
        got: list[Frame] = []
        log.read(0).subscribe(got.append, scheduler=scheduler(valve))
        log.append(Token("a"))
        valve.close()
        for letter in "bcd":
            log.append(Token(letter))
        assert len(got) == 1
        valve.open()
        assert [(each.position, text_of(chunks_of([each])[0])) for each in got] == [
            (1, "a"),
            (4, "bcd"),
        ]

    run_virtual(main())


def test_a_valve_opened_inside_on_next_does_not_nest_calls() -> None:
    async def main() -> list[str]:
        valve, heard = Valve(), list[str]()

        def toggle(frame: Frame) -> None:
            heard.append(f"begins {frame.position}")
            valve.close()
            valve.open()
            heard.append(f"has {frame.position}")

        log_of(Token("a")).read(0).subscribe(toggle, scheduler=scheduler(valve))
        return heard

    assert run_virtual(main()) == ["begins 1", "has 1", "begins 2", "has 2"]


def test_a_stalled_reader_is_evicted_and_blocks_nobody() -> None:
    async def main() -> None:
        async with no_leaks():
            log, valve = log_of(ended=False), Valve()
            errors: list[Exception] = []
            fast: list[Frame] = []
            log.read(0).subscribe(on_error=errors.append, scheduler=scheduler(valve))
            reading = log.read(0).subscribe(fast.append, scheduler=scheduler())
            valve.close()
            await asyncio.sleep(100)
            assert not errors  # no event is waiting for it
            for _ in range(50):
                log.append(Token("a"))
            assert log.valve.is_open
            assert len(fast) == 50
            await asyncio.sleep(29)
            assert log.readers == 2
            await asyncio.sleep(2)
            assert log.readers == 1
            assert isinstance(errors[0], LaggedBehindError)
            reading.dispose()

    run_virtual(main())


def test_the_model_waits_while_all_readers_are_far_behind() -> None:
    async def main() -> None:
        log, valve = log_of(ended=False), Valve()
        reading = log.read(0).subscribe(scheduler=scheduler(valve))
        valve.close()
        for _ in range(3):
            log.append(Token("a"))
        assert log.valve.is_open
        log.append(Token("a"))
        assert not log.valve.is_open
        valve.open()
        assert log.valve.is_open
        reading.dispose()

    run_virtual(main())


def one_at_a_time(log: EventLog) -> Valve:
    """Return the valve of a new reader that takes one event each time it is opened."""
    valve = Valve()
    valve.close()
    log.read(0).subscribe(lambda _: valve.close(), scheduler=scheduler(valve))
    return valve


def append_separate(log: EventLog, count: int) -> None:
    """Append chunks that aren't joined for a reader."""
    for number in range(count):
        log.append(Token("a", source=f"source {number}"))


def test_the_stream_continues_once_one_reader_is_within_half_of_the_lag() -> None:
    async def main() -> None:
        log = log_of(ended=False)
        slow, slower = one_at_a_time(log), one_at_a_time(log)
        append_separate(log, 4)
        assert not log.valve.is_open
        slow.open()
        slower.open()
        assert not log.valve.is_open
        slow.open()
        assert log.valve.is_open

    run_virtual(main())


def test_the_stream_does_not_wait_while_one_of_two_readers_keeps_up() -> None:
    async def main() -> None:
        log = log_of(ended=False)
        one_at_a_time(log)
        valve = Valve()
        log.read(0).subscribe(scheduler=scheduler(valve))
        append_separate(log, 50)
        assert log.valve.is_open
        valve.close()  # it is stalled now, but not far behind
        append_separate(log, 3)
        assert log.valve.is_open
        append_separate(log, 1)
        assert not log.valve.is_open

    run_virtual(main())


def test_the_stream_continues_after_the_last_reader_leaves() -> None:
    async def main() -> None:
        for count in (4, 0):
            log, valve = log_of(ended=False), Valve()
            first = log.read(0).subscribe(scheduler=scheduler(valve))
            second = log.read(0).subscribe(scheduler=scheduler(valve))
            valve.close()
            append_separate(log, count)
            assert log.valve.is_open is (count == 0)
            first.dispose()
            assert log.valve.is_open is (count == 0)
            second.dispose()
            assert log.valve.is_open
            append_separate(log, 50)
            assert log.valve.is_open

    run_virtual(main())


def test_a_reader_keeps_up_with_events_appended_inside_its_on_next() -> None:
    async def main() -> None:
        log, states = log_of(ended=False), list[bool]()
        got: list[Frame] = []

        def on_next(frame: Frame) -> None:
            got.append(frame)
            if len(got) == 1:
                append_separate(log, 20)
            states.append(log.valve.is_open)

        log.read(0).subscribe(on_next, scheduler=scheduler())
        log.append(Token("first"))
        assert len(got) == 21
        assert states == [True] * 21
        assert log.valve.is_open

    run_virtual(main())


def scheduler(valve: Valve | None = None) -> StreamScheduler:
    return StreamScheduler(asyncio.get_running_loop(), valve)


def store_of(**limits: Any) -> tuple[MemoryStreams, ops.StreamRegistry]:
    registry = ops.StreamRegistry(max_idle=None)
    return MemoryStreams(registry, Limits(**limits)), registry


def story(registry: ops.StreamRegistry, stream_id: str = "s", delay: float = 1.0) -> Any:
    model = ScriptedModel("a b c d", by="word", delay=delay)
    return model.stream("Hi").pipe(ops.track(registry, stream_id))


def test_a_stream_without_a_reader_is_cancelled_after_the_grace_time() -> None:
    async def main() -> None:
        async with no_leaks():
            store, registry = store_of(grace=3)
            await store.begin(lambda: story(registry, delay=100.0), "s")
            reading = (await store.read("s")).subscribe(scheduler=scheduler())
            await asyncio.sleep(50)
            assert (await store.describe("s")).status == "running"
            reading.dispose()
            await asyncio.sleep(2)
            assert (await store.describe("s")).status == "running"
            await asyncio.sleep(2)
            assert (await store.describe("s")).status == "cancelled"
            await asyncio.sleep(4)
            with pytest.raises(StreamNotFoundError, match="'s'"):
                await store.describe("s")

    run_virtual(main())


def test_an_id_is_free_once_its_stream_is_no_longer_kept() -> None:
    async def main() -> None:
        async with no_leaks():
            store, registry = store_of(grace=3)
            await store.begin(lambda: story(registry), "s")
            with pytest.raises(StreamStateError):
                await store.begin(lambda: story(registry), "s")
            await store.close()
            await store.begin(lambda: story(registry), "s")
            await store.close()

    run_virtual(main())


def test_a_repeated_request_joins_its_stream_without_asking_the_model() -> None:
    """Otherwise a full server would refuse it, or the model would be asked needlessly."""

    def full() -> Any:
        raise PoolFullError("too many streams")

    async def main() -> None:
        async with no_leaks():
            store, registry = store_of()
            await store.start()
            handle = await store.begin(lambda: story(registry), "s", key="question")
            assert await store.begin(full, "s", key="question") is handle
            with pytest.raises(PoolFullError):
                await store.begin(full, "t", key="question")
            with pytest.raises(StreamNotFoundError):
                await store.describe("t")
            await store.close()

    run_virtual(main())


def test_a_store_accepts_no_new_streams_during_shutdown() -> None:
    async def main() -> None:
        async with no_leaks():
            store, registry = store_of()
            await store.begin(lambda: story(registry), "s")
            got: list[Frame] = []
            (await store.read("s")).subscribe(got.append, scheduler=scheduler())
            await asyncio.gather(registry.shutdown(30.0), registry.shutdown(0.0))
            assert got[-1].event == "complete"
            with pytest.raises(DrainingError):
                await store.begin(lambda: story(registry), "t")
            await store.close()

    run_virtual(main())


def test_only_the_newest_chunk_of_a_state_is_kept() -> None:
    """Each chunk of a tool call repeats its arguments so far: keeping all takes quadratic space."""
    log = log_of(Start("r", "m"), ended=False)
    for length in range(1, 1001):
        log.append(ToolCall("c", "f", "x" * length), length)
    assert log.size == 1000
    assert sum(isinstance(chunk, ToolCall) for chunk in log._chunks) == 1
    start, call = frames_of(log)
    assert (start.position, call.position) == (1, 1001)
    assert chunks_of([call]) == [ToolCall("c", "f", "x" * 1000)]
    log.append(ToolCall("c", "f", "x", complete=True), 1)
    log.append(ToolCall("c", "f", "y"), 1)
    assert log.size == 2  # a complete one is never superseded
    assert [each.position for each in frames_of(log)] == [1, 1002, 1003]


@pytest.mark.parametrize(
    ("limit", "message"),
    [({"stream_characters": 5}, "5 characters"), ({"stream_events": 4}, "4 events")],
)
def test_a_stream_that_exceeds_a_limit_fails(limit: Any, message: str) -> None:
    async def main() -> None:
        async with no_leaks():
            store, registry = store_of(**limit)
            handle = await store.begin(lambda: story(registry), "s")
            got: list[Frame] = []
            (await handle.read()).subscribe(got.append, scheduler=scheduler())
            await asyncio.sleep(20)
            assert isinstance(got[-1].message, StreamFailed)
            assert message in got[-1].message.message
            assert got[-1].position == got[-2].position + 1
            await store.close()

    run_virtual(main())


def test_an_answer_that_restarts_before_it_is_read_has_not_begun() -> None:
    async def main() -> None:
        async with no_leaks():
            store, registry = store_of()
            source = Subject[Chunk]()
            handle = await store.begin(lambda: source.pipe(ops.track(registry, "s")), "s")
            first = asyncio.create_task(handle.first())
            await asyncio.sleep(0)
            for chunk in (Notice("retry"), Token("wrong"), Notice("restart")):
                source.on_next(chunk)
            await asyncio.sleep(1)
            assert not first.done()
            source.on_next(Token("right"))
            message = (await first).message
            assert isinstance(message, StreamChunk)
            assert message.chunk == Token("right")
            await store.close()

    run_virtual(main())


def at_once(last: Chunk | Exception) -> Any:
    """Return a stream that ends while it is being subscribed to."""

    def subscribe(observer: Any, scheduler: Any = None) -> Any:
        if isinstance(last, Exception):
            return observer.on_error(last)
        observer.on_next(Start("r", "m"))
        observer.on_next(last)
        return observer.on_completed()

    return rx.create(subscribe)


@pytest.mark.parametrize("failure", [None, RateLimitError("slow down")])
def test_the_creator_can_read_a_forgotten_stream(failure: Exception | None) -> None:
    async def main() -> None:
        async with no_leaks():
            registry = ops.StreamRegistry(keep=1)
            store = MemoryStreams(registry, Limits(ended_streams=0))
            chunks = at_once(failure or End("stop"))
            handle = await store.begin(lambda: chunks.pipe(ops.track(registry, "s")), "s")
            with pytest.raises(StreamNotFoundError):
                await store.describe("s")
            got: list[Frame] = []
            (await handle.read()).subscribe(got.append, scheduler=scheduler())
            assert got[0].message == (await handle.first()).message
            assert got[-1].event == ("complete" if failure is None else "error")

    run_virtual(main())


async def test_an_encoding_failure_reaches_the_sink_of_the_reader() -> None:
    """Otherwise the response would wait for ever, sending heartbeats."""

    def broken(frame: Frame) -> bytes:
        raise ZeroDivisionError(frame.position)

    failures: list[Exception] = []
    scheduler = StreamScheduler(asyncio.get_running_loop(), Valve(), failures.append)
    log = log_of(Token("a"))
    encode_each(log.read(0), broken).subscribe(scheduler=scheduler)
    assert [type(failure) for failure in failures] == [ZeroDivisionError]
    assert not log.readers


async def test_a_reader_of_events_that_are_not_in_the_log_starts_over() -> None:
    """Another process went on from an earlier position; each position names one event."""
    log = EventLog("s", 100, 30.0, lambda _: None)
    for letter in "abc":
        log.append(Token(letter))
    got: list[Frame] = []
    log.read(0).subscribe(got.append, scheduler=scheduler())
    log.clear(3)
    log.append(Token("a"), 1, 1)
    log.append(Token("X"), 1, 1001)
    log.append(Token("Y"), 1, 1002)
    assert [frame.position for frame in got] == [3, 0, 1001, 1002]
    texts = [each.text for each in chunks_of(got[2:]) if isinstance(each, Token | Batch)]
    assert "".join(texts) == "aXY"
