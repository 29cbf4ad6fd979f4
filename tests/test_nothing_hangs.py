"""An operator's exception reaches the sink at once, bypassing every `on_error`, without a retry.

This holds for any sink, any kind of source and any position in the pipe. The tests guard against
sinks that wait forever.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import reactivex as rx
from reactivex import Observable, Subject, abc
from reactivex import operators as rxo
from reactivex.disposable import Disposable

import rxllm
from rxllm import operators as ops
from rxllm import sinks
from rxllm.chunks import Chunk, End, Start, Token
from rxllm.models.scripted import ScriptedModel
from rxllm.pump import pump
from rxllm.stream import Stream, as_stream
from rxllm.testing import Marbles, no_leaks
from rxllm.valve import StreamScheduler, Valve

CHUNKS: list[Chunk] = [Start("1", "m"), Token("a"), Token("b"), Token("c"), End("stop")]


class BugError(ConnectionResetError):
    """A bug in an operator, of a class that would be retried if the model raised it."""


def buggy(when: str = "next") -> Callable[[Observable[Any]], Observable[Any]]:
    """A user's hand-written operator that raises in one of its three functions."""

    def operator(source: Observable[Any]) -> Observable[Any]:
        def subscribe(
            observer: abc.ObserverBase[Any], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            def on_next(chunk: Any) -> None:
                if when == "next" and getattr(chunk, "text", chunk) == "b":
                    raise BugError
                observer.on_next(chunk)

            def on_completed() -> None:
                if when == "completed":
                    raise BugError
                observer.on_completed()

            def on_error(error: Exception) -> None:
                if when == "error":
                    raise BugError
                observer.on_error(error)

            return source.subscribe(on_next, on_error, on_completed, scheduler=scheduler)

        return Observable(subscribe)

    return operator


class Counter:
    """Counts how often a source was subscribed to."""

    def __init__(self) -> None:
        self.calls = 0


def deferred(counter: Counter, stream: Observable[Any]) -> Stream[Chunk]:
    """Return `stream`, with its subscriptions counted."""

    def count(_: abc.SchedulerBase) -> Observable[Any]:
        counter.calls += 1
        return stream

    return as_stream(rx.defer(count), "deferred")


def scripted(counter: Counter) -> Stream[Chunk]:
    return deferred(counter, ScriptedModel(["a", "b", "c"]).stream("Hi"))


def slow(counter: Counter) -> Stream[Chunk]:
    return deferred(counter, ScriptedModel(["a", "b", "c"], delay=0.001).stream("Hi"))


def asynchronous(counter: Counter) -> Stream[Chunk]:
    async def chunks() -> AsyncIterator[Chunk]:
        counter.calls += 1
        for chunk in CHUNKS:
            await asyncio.sleep(0)
            yield chunk

    return rxllm.from_async(chunks)


def batched(counter: Counter) -> Stream[Chunk]:
    async def reads() -> AsyncIterator[list[Chunk]]:
        counter.calls += 1
        yield CHUNKS

    def subscribe(
        observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        return pump(observer, scheduler, lambda _: reads(), batched=True)

    return Stream(subscribe, "batched")


def iterable(counter: Counter) -> Stream[Chunk]:
    return deferred(counter, rx.from_iterable(CHUNKS))


def at_once(counter: Counter) -> Stream[Chunk]:
    """Return a stream that pushes everything during the subscription."""

    def subscribe(
        observer: abc.ObserverBase[Chunk], _: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        counter.calls += 1
        for chunk in CHUNKS:
            observer.on_next(chunk)
        observer.on_completed()
        return Disposable()

    return as_stream(Observable(subscribe), "at_once")


def timer(counter: Counter) -> Stream[Chunk]:
    def chunk_of(tick: int) -> Chunk:
        return CHUNKS[tick]

    return deferred(counter, rx.interval(0.001).pipe(rxo.take(len(CHUNKS)), rxo.map(chunk_of)))


def shared(counter: Counter) -> Stream[Chunk]:
    return slow(counter).pipe(ops.multiplex())


SOURCES = [scripted, slow, asynchronous, batched, iterable, at_once, timer, shared]


async def by_async_for(stream: Stream[Chunk]) -> None:
    async for _ in stream:
        pass


async def by_await(stream: Stream[Chunk]) -> None:
    await stream


async def by_a_background_loop(stream: Stream[Chunk]) -> None:
    await asyncio.to_thread(lambda: list(stream))


async def by_callbacks(stream: Stream[Chunk]) -> None:
    await sinks.callbacks(stream, on_token=lambda _: None)


async def by_a_shared_stream(stream: Stream[Chunk]) -> None:
    await stream.pipe(ops.multiplex())


async def by_a_cache(stream: Stream[Chunk]) -> None:
    await stream.pipe(ops.cache(ops.MemoryStore(), "key"))


SINKS: list[Callable[[Stream[Chunk]], Awaitable[Any]]] = [
    by_async_for,
    by_await,
    by_a_background_loop,
    by_callbacks,
    by_a_shared_stream,
    by_a_cache,
    sinks.collect,
    partial(sinks.dispatch, handlers={Token: lambda *_: None}),
    partial(sinks.console, figures=False),
]


def name_of(value: Any) -> str:
    return str(getattr(getattr(value, "func", value), "__name__", value))


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("source", SOURCES, ids=name_of)
@pytest.mark.parametrize("sink", SINKS, ids=name_of)
async def test_every_sink_raises_an_operators_exception(
    sink: Callable[[Stream[Chunk]], Awaitable[Any]],
    source: Callable[[Counter], Stream[Chunk]],
    place: int,
) -> None:
    counter = Counter()
    operators: list[Any] = [ops.retry_with_backoff(3, initial=0.001), ops.drop_blank()]
    operators.insert(place, buggy())
    async with no_leaks():
        with pytest.raises(BugError):
            await asyncio.wait_for(_awaited(sink(source(counter).pipe(*operators))), 10)
    assert counter.calls == 1


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


@pytest.mark.parametrize("sink", SINKS, ids=name_of)
@pytest.mark.parametrize("source", [slow, asynchronous, at_once, timer], ids=name_of)
async def test_every_sink_raises_an_exception_of_on_completed(
    sink: Callable[[Stream[Chunk]], Awaitable[Any]], source: Callable[[Counter], Stream[Chunk]]
) -> None:
    with pytest.raises(BugError):
        await asyncio.wait_for(_awaited(sink(source(Counter()).pipe(buggy("completed")))), 10)


@pytest.mark.parametrize("sink", SINKS, ids=name_of)
async def test_every_sink_raises_an_exception_of_on_error(
    sink: Callable[[Stream[Chunk]], Awaitable[Any]],
) -> None:
    failing = ScriptedModel(["a", rxllm.errors.StreamError("cut")]).stream("Hi")
    with pytest.raises(BugError):
        await asyncio.wait_for(_awaited(sink(failing.pipe(buggy("error")))), 10)


@pytest.mark.parametrize(
    "operator",
    [
        pytest.param(ops.batch(100, 0.001), id="a timer of batch"),
        pytest.param(ops.smooth(), id="a timer of smooth"),
        pytest.param(rxo.delay(0.001), id="a timer of RxPY"),
    ],
)
async def test_an_exception_in_a_timer_reaches_the_sink(operator: Any) -> None:
    with pytest.raises(BugError):
        await slow(Counter()).pipe(operator, unguarded(_raise_at_text))


async def test_an_exception_while_a_valve_opens_reaches_the_sink() -> None:
    """A slow reader opens its valve, which releases the chunks waiting upstream."""
    stream = ScriptedModel(["a"] * 40 + ["b"]).stream("Hi").pipe(ops.buffered(8), buggy())
    with pytest.raises(BugError):
        async for _ in stream:
            await asyncio.sleep(0)


def unguarded(look: Callable[[Any], object]) -> Callable[[Observable[Any]], Observable[Any]]:
    """An operator that raises what `look` raises."""

    def operator(source: Observable[Any]) -> Observable[Any]:
        def subscribe(
            observer: abc.ObserverBase[Any], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            def on_next(chunk: Any) -> None:
                look(chunk)
                observer.on_next(chunk)

            return source.subscribe(
                on_next, observer.on_error, observer.on_completed, scheduler=scheduler
            )

        return Observable(subscribe)

    return operator


async def test_an_exception_at_the_end_of_a_task_reaches_the_sink() -> None:
    async def same(chunk: Chunk) -> Chunk:
        await asyncio.sleep(0)
        return chunk

    stream = ScriptedModel(["a", "b"]).stream("Hi").pipe(ops.map_async(same), buggy())
    with pytest.raises(BugError):
        await asyncio.wait_for(_awaited(stream), 10)


async def test_an_exception_at_the_end_of_a_check_reaches_the_sink() -> None:
    async def fine(_: str) -> bool:
        await asyncio.sleep(0)
        return True

    stream = ScriptedModel(["ab", "b"]).stream("Hi").pipe(ops.guard(fine, every=1), buggy())
    with pytest.raises(BugError):
        await asyncio.wait_for(_awaited(stream), 10)


async def test_an_exception_while_resuming_is_raised_by_the_sink_not_by_resume() -> None:
    control = ops.Control()

    async def source() -> AsyncIterator[Chunk]:
        yield Token("a")
        control.pause()
        yield Token("b")

    stream = rxllm.from_async(source).pipe(ops.pausable(control), buggy())
    reading = asyncio.ensure_future(_awaited(stream))
    while control.status != "paused":
        await asyncio.sleep(0)
    control.resume()
    with pytest.raises(BugError):
        await asyncio.wait_for(reading, 10)


async def test_an_exception_while_stopping_is_raised_by_the_sink_not_by_stop() -> None:
    control = ops.Control()

    def fail_at_end(chunk: Any) -> None:
        if isinstance(chunk, End):
            raise BugError

    model = ScriptedModel(["a", "b"], delay=60, first_delay=0)
    stream = model.stream("Hi").pipe(ops.pausable(control), unguarded(fail_at_end))
    reading = asyncio.ensure_future(_awaited(stream))
    while not model.active:
        await asyncio.sleep(0)
    control.stop()
    with pytest.raises(BugError):
        await asyncio.wait_for(reading, 10)


async def test_a_subject_raises_in_the_code_that_feeds_it_as_in_rxpy() -> None:
    subject: Subject[Any] = Subject()
    as_stream(subject, "subject").pipe(buggy()).subscribe()
    subject.on_next(Token("a"))
    with pytest.raises(BugError):
        subject.on_next(Token("b"))


async def test_a_cancelled_error_of_an_operator_does_not_look_like_a_cancelled_sink() -> None:
    def cancel(_: Any) -> None:
        raise asyncio.CancelledError

    for source in (slow, asynchronous):
        with pytest.raises(rxllm.errors.StreamCancelledError):
            await source(Counter()).pipe(unguarded(cancel))


async def test_timeouts_end_when_a_subscriber_raises() -> None:
    backup = ScriptedModel("backup")
    failures: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    model = ScriptedModel(["a", "b"], delay=60, first_delay=0)
    async with no_leaks():
        model.stream("Hi").pipe(
            ops.timeouts(between=0.01), ops.fallback_to(backup.stream("Hi")), unguarded(_raise)
        ).subscribe()
        while not failures:
            await asyncio.sleep(0)
    assert not backup.requests


def _raise(_: Any) -> None:
    raise BugError


def _raise_at_text(chunk: Any) -> None:
    if getattr(chunk, "text", ""):
        raise BugError


async def test_without_a_sink_the_exception_goes_to_the_loops_handler() -> None:
    failures: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    asynchronous(Counter()).pipe(buggy()).subscribe()
    while not failures:
        await asyncio.sleep(0)
    assert isinstance(failures[0]["exception"], BugError)


async def test_a_failure_after_the_end_goes_to_the_loops_handler() -> None:
    failures: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: failures.append(context))

    def subscribe(
        observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        assert isinstance(scheduler, StreamScheduler)
        for chunk in CHUNKS:
            observer.on_next(chunk)
        observer.on_completed()
        scheduler.fail(BugError())
        return Disposable()

    stream = Stream(subscribe, "late")
    assert (await stream).text == "abc"
    assert [chunk async for chunk in stream] == CHUNKS
    assert [type(each["exception"]) for each in failures] == [BugError] * 2


def test_a_virtual_scheduler_raises_the_exception() -> None:
    with pytest.raises(BugError):
        Marbles().run(ScriptedModel(["a", "b"]).stream("Hi").pipe(buggy()))


def test_a_failure_of_a_valve_goes_to_the_nearest_sink_downstream() -> None:
    failures: list[Exception] = []
    outer = Valve()
    outer.on_failure = failures.append
    inner = Valve(downstream=Valve(downstream=outer))
    inner.on_change(_raise)
    inner.close()
    assert [type(each) for each in failures] == [BugError]
    alone = Valve()
    alone.on_change(_raise)
    with pytest.raises(BugError):
        alone.close()


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (ops.text(), ops.stop_on("you"), r"stop_on takes chunks, but text emits"),
        (ops.text(), ops.measure(print), "measure takes chunks"),
        (ops.accumulate(), ops.words(), "words takes chunks"),
    ],
)
def test_operators_in_the_wrong_order_are_rejected_before_anything_starts(
    first: Any, second: Any, words: str
) -> None:
    model = ScriptedModel("Hi")
    with pytest.raises(TypeError, match=words):
        model.stream("Hi").pipe(first, second)
    assert not model.requests


@pytest.mark.parametrize(
    "operator", [ops.stop_on("you"), ops.batch(2), ops.pausable(ops.Control())]
)
async def test_an_item_that_is_not_a_chunk_is_reported_in_one_line(operator: Any) -> None:
    letters = ScriptedModel("Hi").stream("Hi").pipe(rxo.map(str), operator)
    with pytest.raises(TypeError, match=r"takes chunks, but got .* from map"):
        await asyncio.wait_for(_awaited(letters), 10)


async def messy(name: str) -> AsyncIterator[Chunk]:
    """Yield one chunk, wait, and fail during the clean-up."""
    try:
        yield Start("1", name)
        await asyncio.sleep(60)
    finally:
        raise OSError(f"clean-up of {name}")


@pytest.mark.parametrize(
    "combine",
    [
        pytest.param(lambda slow, fast: ops.race(slow, fast), id="race"),
        pytest.param(lambda slow, fast: ops.hedge(slow, fast, 0.001), id="hedge"),
        pytest.param(
            lambda slow, fast: slow.pipe(ops.timeouts(first=0.001), ops.fallback_to(fast)),
            id="timeouts",
        ),
    ],
)
async def test_a_losers_clean_up_error_does_not_affect_the_winner(combine: Any) -> None:
    failures: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    slow = rxllm.from_async(partial(messy, "slow"))
    fast = ScriptedModel(["fast"], delay=0.01).stream("Hi")
    assert (await combine(slow, fast)).text == "fast"
    assert [repr(each["exception"]) for each in failures] == [repr(OSError("clean-up of slow"))]


@pytest.mark.parametrize("shares", [False, True])
async def test_a_clean_up_error_is_reported_when_the_sink_leaves(shares: bool) -> None:
    failures: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    stream = rxllm.from_async(partial(messy, "left"))
    shown = stream.pipe(ops.multiplex()) if shares else stream
    async with contextlib.aclosing(aiter(shown)) as chunks:
        async for _ in chunks:
            break
    assert [repr(each["exception"]) for each in failures] == [repr(OSError("clean-up of left"))]


@pytest.mark.parametrize("is_ours", [False, True])
async def test_an_exception_caused_by_a_future_reaches_the_sink(is_ours: bool) -> None:
    async def doubled(chunk: Any) -> Any:
        await asyncio.sleep(0)
        return chunk if is_ours else str(chunk)

    def mapped(chunk: Any) -> Observable[Any]:
        return rx.from_future(asyncio.ensure_future(doubled(chunk)))

    behind = unguarded(_raise_at_text) if is_ours else ops.stop_on("x")
    stream = ScriptedModel(["a"]).stream("Hi").pipe(rxo.flat_map(mapped), behind)
    with pytest.raises(BugError if is_ours else TypeError):
        await asyncio.wait_for(_awaited(stream), 10)
