"""`Reader`: the end of a log, stalls, and exceptions of the subscriber."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from reactivex import abc

from rxllm.chunks import Start, Token
from rxllm.errors import LaggedBehindError
from rxllm.testing import VirtualTimeLoop, no_leaks, run_virtual
from rxllm.valve import StreamScheduler, Valve
from rxllm.web.event_log import EventLog
from rxllm.web.stream_messages import Complete
from rxllm.web.stream_store import Frame


class Subscriber:
    """Records what one reader of a log receives."""

    def __init__(self, log: EventLog, after: int = 0) -> None:
        self.valve = Valve()
        self.positions: list[int] = []
        self.ends: list[Exception | None] = []
        self.react: Callable[[], object] = lambda: None
        self._log = log
        self._after = after

    def start(self) -> abc.DisposableBase:
        scheduler = StreamScheduler(asyncio.get_running_loop(), self.valve)
        return self._log.read(self._after).subscribe(
            self._on_next, self.ends.append, lambda: self.ends.append(None), scheduler=scheduler
        )

    def _on_next(self, frame: Frame) -> None:
        self.positions.append(frame.position)
        self.react()


def empty_log(counts: list[int] | None = None) -> EventLog:
    return EventLog("s", 4, 30.0, (counts if counts is not None else []).append)


def end(log: EventLog) -> None:
    log.end(Complete(id="s", tokens=0, seconds=0.0))


def test_every_reader_completes_once_after_the_last_event() -> None:
    async def main() -> None:
        counts: list[int] = []
        log = empty_log(counts)
        early = Subscriber(log)
        reading = early.start()
        log.append(Token("a"))
        end(log)
        reading.dispose()
        late, finished = Subscriber(log), Subscriber(log, after=2)
        for each in (late, finished):
            each.start()
        assert early.positions == late.positions == [1, 2]
        assert finished.positions == []
        assert early.ends == late.ends == finished.ends == [None]
        assert counts == [1, 0] * 3

    run_virtual(main())


def test_a_reader_that_recovers_is_not_evicted_and_may_stall_again() -> None:
    async def main() -> None:
        async with no_leaks():
            log = empty_log()
            reader = Subscriber(log)
            reader.start()
            for _ in range(2):
                reader.valve.close()
                for _ in range(3):
                    log.append(Token("a"))
                await asyncio.sleep(29)
                reader.valve.open()
                await asyncio.sleep(100)
                assert not reader.ends
            reader.valve.close()
            for _ in range(3):
                log.append(Token("a"))
            await asyncio.sleep(31)
            assert isinstance(reader.ends[0], LaggedBehindError)
            assert str(reader.ends[0]) == (
                "the reader stalled for 30 s while 3 events were waiting"
            )

    run_virtual(main())


def test_a_stopped_process_does_not_evict_a_reader_that_reads_on_when_it_runs_again() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        log = empty_log()
        reader = Subscriber(log)
        reader.start()
        reader.valve.close()
        log.append(Token("a"))
        await asyncio.sleep(1)
        loop.block(60)
        await asyncio.sleep(0)  # the timer is first
        await asyncio.sleep(0)
        reader.valve.open()
        await asyncio.sleep(100)
        assert (reader.positions, reader.ends) == ([1], [])

    run_virtual(main())


def test_a_reader_that_closes_its_valve_before_the_last_event_is_evicted() -> None:
    async def main() -> None:
        log = empty_log()
        log.append(Start("r", "m"))
        log.append(Token("a"))
        reader = Subscriber(log)
        reader.react = reader.valve.close
        reader.start()
        await asyncio.sleep(31)
        assert reader.positions == [1]
        assert [type(error) for error in reader.ends] == [LaggedBehindError]

    run_virtual(main())


def test_events_appended_inside_on_next_are_not_a_stall() -> None:
    async def main() -> None:
        log = empty_log()
        reader = Subscriber(log)

        def append() -> None:
            if log.position == 1:
                log.append(Token("b"))
                log.append(Start("r", "m"))

        reader.react = append
        reader.start()
        log.append(Token("a"))
        await asyncio.sleep(100)
        assert (reader.positions, reader.ends) == ([1, 2, 3], [])

    run_virtual(main())


def test_a_reader_disposed_by_another_one_leaves_no_timer() -> None:
    async def main() -> None:
        async with no_leaks():
            log = empty_log()
            first, second = Subscriber(log), Subscriber(log)
            reading = first.start()
            other = second.start()
            second.valve.close()
            first.react = other.dispose
            log.append(Token("a"))
            assert log.readers == 1
            reading.dispose()

    run_virtual(main())


@pytest.mark.parametrize("has_sink", [True, False])
def test_an_exception_of_on_completed_reaches_the_sink_or_is_reported(has_sink: bool) -> None:
    async def main() -> None:
        failures: list[Exception] = []
        reported: list[dict[str, Any]] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reported.append(context))
        error = ValueError("a bug")

        def fail() -> None:
            raise error

        log = empty_log()
        scheduler = StreamScheduler(loop, Valve(), failures.append if has_sink else None)
        log.read(0).subscribe(on_completed=fail, scheduler=scheduler)
        end(log)
        assert log.readers == 0
        if has_sink:
            assert (failures, reported) == ([error], [])
        else:
            message = "a reader of a stream raised, and was removed"
            assert reported == [{"message": message, "exception": error}]

    run_virtual(main())


def test_a_stream_that_has_begun_waits_for_its_first_reader() -> None:
    async def main() -> None:
        log = empty_log()
        assert log.valve.is_open
        log.append(Token("a"))
        assert not log.valve.is_open
        Subscriber(log).start()
        assert log.valve.is_open
        log.append(Token("b"))
        assert log.valve.is_open

    run_virtual(main())


def test_readers_that_lag_share_the_joined_frame() -> None:
    log = empty_log()
    for text in "abc":
        log.append(Token(text))
    frame = log.next_frame(0)
    assert frame is not None
    assert log.next_frame(0) is frame
    assert frame.position == 3
    log.append(Token("d"))
    joined = log.next_frame(0)
    assert joined is not None
    assert joined.position == 4
