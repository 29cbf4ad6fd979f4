"""The bridge: the guarantees of the pump for sources, for subscribers, and about its clean-up."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
import reactivex as rx
from reactivex import operators as rx_ops
from reactivex.abc import ObserverBase

import rxllm
from rxllm.bridge import from_async, run
from rxllm.chunks import Token
from rxllm.errors import NoEventLoopError, StreamCancelledError
from rxllm.iteration import to_async
from rxllm.models.scripted import ScriptedModel
from rxllm.valve import StreamScheduler, Valve


class Source:
    """Counts up, and records how it is used."""

    def __init__(self, length: int = 10**9, fail_at: int | None = None) -> None:
        self.length = length
        self.fail_at = fail_at
        self.opened = self.pulled = self.closed = 0

    async def __call__(self) -> AsyncIterator[int]:
        self.opened += 1
        try:
            for number in range(self.length):
                if number == self.fail_at:
                    raise LookupError("the source failed")
                self.pulled += 1
                yield number
                await asyncio.sleep(0)
        finally:
            await asyncio.sleep(0)  # asynchronous clean-up
            self.closed += 1


class Subscriber(ObserverBase[Any]):
    """Records its notifications; raises in `on_next` at a given item."""

    def __init__(self, raise_at: int | None = None) -> None:
        self.raise_at = raise_at
        self.items: list[Any] = []
        self.error: Exception | None = None
        self.completed = False
        self.ended = asyncio.Event()

    def on_next(self, item: Any) -> None:
        self.items.append(item)
        if item == self.raise_at:
            raise ValueError("the subscriber failed")

    def on_error(self, error: Exception) -> None:
        self.error = error
        self.ended.set()

    def on_completed(self) -> None:
        self.completed = True
        self.ended.set()


@pytest.fixture
def reports() -> list[dict[str, Any]]:
    return []


@pytest.fixture
async def scheduler(reports: list[dict[str, Any]]) -> StreamScheduler:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: reports.append(context))
    return StreamScheduler(loop)


def pumps() -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if task.get_name() == "rxllm pump"]


class TestFromAsync:
    """An asynchronous iterator as an Observable."""

    async def test_values_then_completion(self, scheduler: StreamScheduler) -> None:
        source, subscriber = Source(3), Subscriber()
        from_async(source).subscribe(subscriber, scheduler=scheduler)
        await subscriber.ended.wait()
        assert (subscriber.items, subscriber.completed) == ([0, 1, 2], True)
        assert source.closed == 1

    async def test_it_is_cold_and_each_subscription_starts_fresh(
        self, scheduler: StreamScheduler
    ) -> None:
        source = Source(2)
        stream = from_async(source)
        assert source.opened == 0
        for times in (1, 2):
            subscriber = Subscriber()
            stream.subscribe(subscriber, scheduler=scheduler)
            await subscriber.ended.wait()
            assert (source.opened, subscriber.items) == (times, [0, 1])

    async def test_batched_items_are_passed_on_one_by_one(self, scheduler: StreamScheduler) -> None:
        async def reads() -> AsyncIterator[list[int]]:
            yield [1, 2]
            yield []
            yield [3]

        subscriber = Subscriber()
        stream = from_async(reads, batched=True)
        stream.subscribe(subscriber, scheduler=scheduler)
        await subscriber.ended.wait()
        assert subscriber.items == [1, 2, 3]

    async def test_a_source_failure_is_an_error_after_the_earlier_items(
        self, scheduler: StreamScheduler
    ) -> None:
        source, subscriber = Source(fail_at=2), Subscriber()
        from_async(source).subscribe(subscriber, scheduler=scheduler)
        await subscriber.ended.wait()
        assert subscriber.items == [0, 1]
        assert isinstance(subscriber.error, LookupError)
        assert source.closed == 1

    async def test_a_factory_that_fails_is_an_error_too(self, scheduler: StreamScheduler) -> None:
        def factory() -> AsyncIterator[int]:
            raise LookupError("no source")

        subscriber = Subscriber()
        from_async(factory).subscribe(subscriber, scheduler=scheduler)
        await subscriber.ended.wait()
        assert isinstance(subscriber.error, LookupError)

    @pytest.mark.parametrize("stop_inside_on_next", [False, True])
    async def test_disposal_is_silent_and_its_clean_up_can_be_awaited(
        self,
        stop_inside_on_next: bool,
        scheduler: StreamScheduler,
        reports: list[dict[str, Any]],
    ) -> None:
        source, subscriber = Source(), Subscriber()
        third = asyncio.Event()

        def look(number: int) -> None:
            if number == 2:
                third.set()
                if stop_inside_on_next:
                    subscription.dispose()

        stream = from_async(source).pipe(rx_ops.do_action(look))
        subscription = stream.subscribe(subscriber, scheduler=scheduler)
        await third.wait()
        subscription.dispose()
        seen = len(subscriber.items)
        await scheduler.settle()
        assert source.closed == 1
        assert len(subscriber.items) == seen
        assert not subscriber.completed
        assert subscriber.error is None
        assert not reports
        assert not pumps()

    async def test_disposal_before_the_task_runs_never_opens_the_source(
        self, scheduler: StreamScheduler
    ) -> None:
        source = Source()
        from_async(source).subscribe(scheduler=scheduler).dispose()
        await scheduler.settle()
        assert source.opened == 0

    async def test_the_rest_of_a_batch_is_dropped_after_disposal(
        self, scheduler: StreamScheduler
    ) -> None:
        async def read() -> AsyncIterator[list[int]]:
            yield [1, 2, 3, 4]

        items: list[int] = []

        def on_next(item: int) -> None:
            items.append(item)
            if item == 2:
                subscription.dispose()

        subscription = from_async(read, batched=True).subscribe(on_next, scheduler=scheduler)
        await scheduler.settle()
        assert items == [1, 2]

    async def test_a_clean_up_error_goes_to_the_loops_handler(
        self, scheduler: StreamScheduler, reports: list[dict[str, Any]]
    ) -> None:
        started = asyncio.Event()

        async def source() -> AsyncIterator[int]:
            try:
                started.set()
                await asyncio.Event().wait()
                yield 1
            finally:
                raise LookupError("while closing")

        subscriber = Subscriber()
        subscription = from_async(source).subscribe(subscriber, scheduler=scheduler)
        await started.wait()
        subscription.dispose()
        await scheduler.settle()
        assert subscriber.error is None
        assert [str(report["exception"]) for report in reports] == ["while closing"]

    async def test_a_raising_subscriber_closes_the_source_and_is_reported_to_the_loop(
        self, scheduler: StreamScheduler, reports: list[dict[str, Any]]
    ) -> None:
        source, subscriber = Source(), Subscriber(raise_at=1)
        from_async(source).subscribe(subscriber, scheduler=scheduler)
        await scheduler.settle()
        assert source.closed == 1
        assert subscriber.items == [0, 1]
        assert subscriber.error is None
        assert [type(report["exception"]) for report in reports] == [ValueError]

    async def test_a_raising_subscriber_does_not_trigger_a_retry(
        self, scheduler: StreamScheduler, reports: list[dict[str, Any]]
    ) -> None:
        source, subscriber = Source(5), Subscriber(raise_at=1)
        stream = from_async(source).pipe(rx_ops.retry(3))
        stream.subscribe(subscriber, scheduler=scheduler)
        while not source.closed:
            await asyncio.sleep(0)
        await scheduler.settle()
        assert source.opened == 1
        assert len(reports) == 1

    @pytest.mark.parametrize("length", [0, 3])
    async def test_a_subscriber_that_raises_at_the_end_is_reported_to_the_loop(
        self, length: int, scheduler: StreamScheduler, reports: list[dict[str, Any]]
    ) -> None:
        def fail(*_: object) -> None:
            raise ValueError("at the end")

        source = Source(length, fail_at=None if length else 0)
        stream = from_async(source)
        stream.subscribe(None, fail, fail, scheduler=scheduler)
        await scheduler.settle()
        assert [str(report["exception"]) for report in reports] == ["at the end"]

    async def test_a_subscriber_that_raises_cancelled_error_is_reported_to_the_loop(
        self, scheduler: StreamScheduler, reports: list[dict[str, Any]]
    ) -> None:
        def on_next(_: int) -> None:
            raise asyncio.CancelledError

        source, errors = Source(), list[Exception]()
        from_async(source).subscribe(on_next, errors.append, scheduler=scheduler)
        await scheduler.settle()
        assert (source.opened, source.closed, errors) == (1, 1, [])
        assert len(reports) == 1

    async def test_disposal_does_not_interrupt_an_iterator_that_is_closing(
        self, scheduler: StreamScheduler
    ) -> None:
        closing, may_close, closed = asyncio.Event(), asyncio.Event(), asyncio.Event()

        class Iterator:
            def __aiter__(self) -> Iterator:
                return self

            async def __anext__(self) -> int:
                raise LookupError("broken")

            async def aclose(self) -> None:
                closing.set()
                await may_close.wait()
                closed.set()

        subscriber = Subscriber()
        subscription = from_async(Iterator).subscribe(subscriber, scheduler=scheduler)
        await closing.wait()
        subscription.dispose()
        may_close.set()
        await scheduler.settle()
        assert closed.is_set()

    async def test_cancelling_the_task_from_outside_is_an_error(
        self, scheduler: StreamScheduler
    ) -> None:
        source, subscriber = Source(), Subscriber()
        from_async(source).subscribe(subscriber, scheduler=scheduler)
        await asyncio.sleep(0)
        for task in pumps():
            task.cancel()
        await subscriber.ended.wait()
        assert isinstance(subscriber.error, StreamCancelledError)
        await scheduler.settle()
        assert source.closed == 1

    def test_without_a_loop_the_error_says_what_to_do(self) -> None:
        errors: list[Exception] = []
        from_async(Source(1)).subscribe(on_error=errors.append)
        assert isinstance(errors[0], NoEventLoopError)

    def test_an_iterator_instead_of_a_function_is_rejected(self) -> None:
        with pytest.raises(ValueError, match="pass the function itself"):
            from_async(Source(1)())  # type: ignore[call-overload]


class TestDemand:
    """A closed valve holds the source."""

    async def test_nothing_is_pulled_or_passed_on_while_the_valve_is_closed(self) -> None:
        source, subscriber, valve = Source(6), Subscriber(), Valve()
        scheduler = StreamScheduler(asyncio.get_running_loop(), valve)
        valve.close()
        from_async(source).subscribe(subscriber, scheduler=scheduler)
        for _ in range(10):
            await asyncio.sleep(0)
        assert (source.pulled, subscriber.items) == (0, [])
        valve.open()
        await subscriber.ended.wait()
        assert subscriber.items == list(range(6))

    async def test_at_most_one_item_waits_in_the_pump(self) -> None:
        source, subscriber, valve = Source(6), Subscriber(), Valve()
        scheduler = StreamScheduler(asyncio.get_running_loop(), valve)

        def close_at_two(item: int) -> None:
            if item == 2:
                valve.close()

        stream = from_async(source).pipe(rx_ops.do_action(close_at_two))
        stream.subscribe(subscriber, scheduler=scheduler)
        for _ in range(20):
            await asyncio.sleep(0)
        assert subscriber.items == [0, 1, 2]
        assert source.pulled - len(subscriber.items) <= 1
        valve.open()
        await subscriber.ended.wait()
        assert subscriber.items == list(range(6))

    async def test_the_rest_of_a_batch_waits_for_the_valve(self) -> None:
        async def read() -> AsyncIterator[list[int]]:
            yield [1, 2, 3]

        valve = Valve()
        scheduler = StreamScheduler(asyncio.get_running_loop(), valve)
        items: list[int] = []

        def on_next(item: int) -> None:
            items.append(item)
            valve.close()

        from_async(read, batched=True).subscribe(on_next, scheduler=scheduler)
        for expected in ([1], [1, 2], [1, 2, 3]):
            for _ in range(5):
                await asyncio.sleep(0)
            assert items == expected
            valve.open()
        await scheduler.settle()

    @pytest.mark.parametrize("raises", [False, True])
    async def test_closing_the_valve_and_leaving_inside_on_next_ends_the_source(
        self, raises: bool
    ) -> None:
        closed = asyncio.Event()

        async def read() -> AsyncIterator[list[int]]:
            try:
                yield [1, 2, 3]
            finally:
                closed.set()

        valve = Valve()
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)
        scheduler = StreamScheduler(loop, valve)

        def on_next(_: int) -> None:
            valve.close()
            if raises:
                raise ValueError("mine")
            subscription.dispose()

        subscription = from_async(read, batched=True).subscribe(on_next, scheduler=scheduler)
        await closed.wait()
        await scheduler.settle()
        assert not scheduler.tasks

    async def test_disposal_with_a_closed_valve_ends_the_source(self) -> None:
        source, valve = Source(), Valve()
        scheduler = StreamScheduler(asyncio.get_running_loop(), valve)
        items: list[int] = []

        def on_next(item: int) -> None:
            items.append(item)
            valve.close()

        subscription = from_async(source).subscribe(on_next, scheduler=scheduler)
        while not items:
            await asyncio.sleep(0)
        subscription.dispose()
        await scheduler.settle()
        assert (source.closed, items) == (1, [0])
        assert not valve._callbacks


class TestToAsync:
    """An Observable as an asynchronous iterator."""

    async def test_values_and_then_the_loop_ends(self) -> None:
        assert [item async for item in to_async(rx.of(1, 2, 3))] == [1, 2, 3]

    async def test_an_error_is_raised_after_the_earlier_items(self) -> None:
        items = []
        with pytest.raises(LookupError):
            async for item in to_async(from_async(Source(fail_at=2))):
                items.append(item)
        assert items == [0, 1]

    async def test_it_is_lazy(self) -> None:
        source = Source()
        to_async(from_async(source))
        await asyncio.sleep(0)
        assert source.opened == 0

    async def test_leaving_early_stops_the_source_and_awaits_its_clean_up(self) -> None:
        source = Source()
        async with aclosing(to_async(from_async(source))) as items:
            async for item in items:
                if item == 3:
                    break
        assert source.closed == 1
        assert not pumps()

    @pytest.mark.parametrize("capacity", [1, 2, 16])
    async def test_a_slow_reader_holds_the_source(self, capacity: int) -> None:
        source = Source(100)
        taken = 0
        async for _ in to_async(from_async(source), capacity=capacity):
            for _ in range(5):
                await asyncio.sleep(0)
            taken += 1
            assert source.pulled - taken <= capacity + 1
        assert taken == 100

    def test_a_capacity_below_one_is_rejected_at_the_call(self) -> None:
        with pytest.raises(ValueError, match="1 or more"):
            to_async(rx.of(1), capacity=0)

    async def test_a_round_trip_loses_nothing(self) -> None:
        stream = from_async(lambda: to_async(from_async(Source(50))))
        assert [item async for item in to_async(stream)] == list(range(50))


class TestRun:
    """The entry point of a script."""

    def test_it_returns_what_the_awaitable_returns(self) -> None:
        async def main() -> str:
            return "done"

        assert run(main()) == "done"

    def test_streams_stopped_shortly_before_the_end_clean_up(self) -> None:
        source = Source()

        async def main() -> None:
            items: list[int] = []
            subscription = from_async(source).subscribe(items.append)
            while not items:
                await asyncio.sleep(0)
            subscription.dispose()

        run(main())
        assert source.closed == 1

    def test_streams_stopped_inside_their_own_on_next_clean_up_too(self) -> None:
        source = Source()

        async def main() -> None:
            done = asyncio.Event()
            stream = from_async(source).pipe(rx_ops.take(1))
            stream.subscribe(on_completed=done.set)
            await done.wait()

        run(main())
        assert source.closed == 1

    def test_something_that_cannot_be_awaited_is_rejected(self) -> None:
        with pytest.raises(TypeError, match=r"sinks\.console"):
            run(1)  # type: ignore[call-overload]

    def test_a_coroutine_function_must_be_called(self) -> None:
        async def main() -> None: ...

        with pytest.raises(TypeError, match=r"call it: run\(main\(\)\)"):
            run(main)  # type: ignore[call-overload]

    def test_a_stream_returns_its_result(self) -> None:
        assert run(ScriptedModel("Once").stream("Hi")).text == "Once"
        assert run(rx.of(Token("Once"))).text == "Once"

    def test_a_stream_of_other_items_is_rejected(self) -> None:
        with pytest.raises(TypeError, match="stream of chunks"):
            run(rx.of(1))

    async def test_inside_a_loop_the_error_says_what_to_do(self) -> None:
        async def main() -> None: ...

        with pytest.raises(RuntimeError, match="await"):
            run(main())

    def test_ctrl_c_stops_the_stream_and_is_raised(self) -> None:
        program = textwrap.dedent("""
            import asyncio, rxllm

            async def source():
                try:
                    while True:
                        yield 1
                        print("running", flush=True)
                        await asyncio.sleep(0.01)
                finally:
                    await asyncio.sleep(0)
                    print("cleaned up", flush=True)

            async def main():
                async for _ in rxllm.to_async(rxllm.from_async(source)):
                    pass

            try:
                rxllm.run(main())
            except KeyboardInterrupt:
                print("interrupted", flush=True)
        """)
        with subprocess.Popen(  # our own program
            [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "running\n"
            process.send_signal(signal.SIGINT)
            lines = process.stdout.read().splitlines()
        assert lines[-2:] == ["cleaned up", "interrupted"]
        assert process.returncode == 0


def test_importing_the_package_imports_no_engine_and_no_web_server() -> None:
    program = (
        "import sys, rxllm; "
        "print(sorted({'onnxruntime', 'llama_cpp', 'aiohttp', 'numpy', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run(  # our own program
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_every_name_in_all_exists() -> None:
    assert sorted(rxllm.__all__) == rxllm.__all__
    for name in rxllm.__all__:
        assert getattr(rxllm, name) is not None
