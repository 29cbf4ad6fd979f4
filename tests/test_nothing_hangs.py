"""An operator that raises reaches the sink: at once, past every `on_error`, and nobody asks again.

Any sink, any kind of source, any place in the pipe. Before this was so, every sink waited for ever.
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
    """A mistake in an operator, of a class that a retry would answer if it were the model's."""


def buggy(when: str = "next") -> Callable[[Observable[Any]], Observable[Any]]:
    """An operator that a user wrote by hand, and that raises in one of its three functions."""

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


class Asked:
    """Counts how often a source was asked."""

    def __init__(self) -> None:
        self.times = 0


def deferred(asked: Asked, stream: Observable[Any]) -> Stream[Chunk]:
    """`stream`, with its subscriptions counted."""

    def count(_: abc.SchedulerBase) -> Observable[Any]:
        asked.times += 1
        return stream

    return as_stream(rx.defer(count), "deferred")


def scripted(asked: Asked) -> Stream[Chunk]:
    return deferred(asked, ScriptedModel(["a", "b", "c"]).stream("Hi"))


def slow(asked: Asked) -> Stream[Chunk]:
    return deferred(asked, ScriptedModel(["a", "b", "c"], delay=0.001).stream("Hi"))


def asynchronous(asked: Asked) -> Stream[Chunk]:
    async def chunks() -> AsyncIterator[Chunk]:
        asked.times += 1
        for chunk in CHUNKS:
            await asyncio.sleep(0)
            yield chunk

    return rxllm.from_async(chunks)


def batched(asked: Asked) -> Stream[Chunk]:
    async def reads() -> AsyncIterator[list[Chunk]]:
        asked.times += 1
        yield CHUNKS

    def subscribe(
        observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        return pump(observer, scheduler, lambda _: reads(), batched=True)

    return Stream(subscribe, "batched")


def iterable(asked: Asked) -> Stream[Chunk]:
    return deferred(asked, rx.from_iterable(CHUNKS))


def at_once(asked: Asked) -> Stream[Chunk]:
    """It pushes all while it is subscribed to."""

    def subscribe(
        observer: abc.ObserverBase[Chunk], _: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        asked.times += 1
        for chunk in CHUNKS:
            observer.on_next(chunk)
        observer.on_completed()
        return Disposable()

    return as_stream(Observable(subscribe), "at_once")


def timer(asked: Asked) -> Stream[Chunk]:
    def chunk_of(tick: int) -> Chunk:
        return CHUNKS[tick]

    return deferred(asked, rx.interval(0.001).pipe(rxo.take(len(CHUNKS)), rxo.map(chunk_of)))


def shared(asked: Asked) -> Stream[Chunk]:
    return slow(asked).pipe(ops.multiplex())


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
async def test_every_sink_raises_what_an_operator_raises(
    sink: Callable[[Stream[Chunk]], Awaitable[Any]],
    source: Callable[[Asked], Stream[Chunk]],
    place: int,
) -> None:
    asked = Asked()
    operators: list[Any] = [ops.retry_with_backoff(3, initial=0.001), ops.drop_blank()]
    operators.insert(place, buggy())
    async with no_leaks():
        with pytest.raises(BugError):
            await asyncio.wait_for(_awaited(sink(source(asked).pipe(*operators))), 10)
    assert asked.times == 1


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


@pytest.mark.parametrize("sink", SINKS, ids=name_of)
@pytest.mark.parametrize("source", [slow, asynchronous, at_once, timer], ids=name_of)
async def test_what_raises_at_the_end_too(
    sink: Callable[[Stream[Chunk]], Awaitable[Any]], source: Callable[[Asked], Stream[Chunk]]
) -> None:
    with pytest.raises(BugError):
        await asyncio.wait_for(_awaited(sink(source(Asked()).pipe(buggy("completed")))), 10)


@pytest.mark.parametrize("sink", SINKS, ids=name_of)
async def test_and_what_raises_at_an_error(
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
async def test_what_a_timer_lets_go_is_no_exception(operator: Any) -> None:
    with pytest.raises(BugError):
        await slow(Asked()).pipe(operator, unguarded(_raise_at_text))


async def test_nor_is_what_a_valve_lets_go() -> None:
    """The reader is slow: what waits upstream leaves when it opens its valve."""
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


async def test_what_comes_at_the_end_of_a_task() -> None:
    async def same(chunk: Chunk) -> Chunk:
        await asyncio.sleep(0)
        return chunk

    stream = ScriptedModel(["a", "b"]).stream("Hi").pipe(ops.map_async(same), buggy())
    with pytest.raises(BugError):
        await asyncio.wait_for(_awaited(stream), 10)


async def test_what_comes_at_the_end_of_a_check() -> None:
    async def fine(_: str) -> bool:
        await asyncio.sleep(0)
        return True

    stream = ScriptedModel(["ab", "b"]).stream("Hi").pipe(ops.guard(fine, every=1), buggy())
    with pytest.raises(BugError):
        await asyncio.wait_for(_awaited(stream), 10)


async def test_what_a_control_lets_go_is_raised_by_the_sink_and_not_by_who_resumes() -> None:
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


async def test_what_stopping_sends_is_raised_by_the_sink_and_not_by_who_stops() -> None:
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


async def test_a_subject_raises_into_the_code_that_feeds_it_as_in_rxpy() -> None:
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
            await source(Asked()).pipe(unguarded(cancel))


async def test_time_limits_end_with_a_subscriber_that_raised() -> None:
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


async def test_a_bare_subscriber_has_the_handler_of_the_loop() -> None:
    failures: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    asynchronous(Asked()).pipe(buggy()).subscribe()
    while not failures:
        await asyncio.sleep(0)
    assert isinstance(failures[0]["exception"], BugError)


async def test_a_failure_behind_the_end_goes_to_the_handler_of_the_loop() -> None:
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


def test_a_virtual_scheduler_raises_it() -> None:
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
        (ops.text(), ops.stop_on("you"), r"stop_on takes chunks, and text gives"),
        (ops.text(), ops.measure(print), "measure takes chunks"),
        (ops.accumulate(), ops.words(), "words takes chunks"),
    ],
)
def test_operators_in_the_wrong_order_are_refused_before_anything_starts(
    first: Any, second: Any, words: str
) -> None:
    model = ScriptedModel("Hi")
    with pytest.raises(TypeError, match=words):
        model.stream("Hi").pipe(first, second)
    assert not model.requests


@pytest.mark.parametrize(
    "operator", [ops.stop_on("you"), ops.batch(2), ops.pausable(ops.Control())]
)
async def test_what_others_send_instead_of_chunks_is_told_in_one_line(operator: Any) -> None:
    letters = ScriptedModel("Hi").stream("Hi").pipe(rxo.map(str), operator)
    with pytest.raises(TypeError, match=r"takes chunks, and got .* from map"):
        await asyncio.wait_for(_awaited(letters), 10)


async def messy(name: str) -> AsyncIterator[Chunk]:
    """It says one thing and no more, and fails while it cleans up."""
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
async def test_what_a_loser_raises_at_its_clean_up_harms_no_winner(combine: Any) -> None:
    failures: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    slow = rxllm.from_async(partial(messy, "slow"))
    fast = ScriptedModel(["fast"], delay=0.01).stream("Hi")
    assert (await combine(slow, fast)).text == "fast"
    assert [repr(each["exception"]) for each in failures] == [repr(OSError("clean-up of slow"))]


@pytest.mark.parametrize("shares", [False, True])
async def test_nor_is_it_lost_when_the_sink_leaves(shares: bool) -> None:
    failures: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    stream = rxllm.from_async(partial(messy, "left"))
    shown = stream.pipe(ops.multiplex()) if shares else stream
    async with contextlib.aclosing(aiter(shown)) as chunks:
        async for _ in chunks:
            break
    assert [repr(each["exception"]) for each in failures] == [repr(OSError("clean-up of left"))]


@pytest.mark.parametrize("is_ours", [False, True])
async def test_what_a_future_or_a_task_pushes_reaches_the_sink_too(is_ours: bool) -> None:
    async def doubled(chunk: Any) -> Any:
        await asyncio.sleep(0)
        return chunk if is_ours else str(chunk)

    def mapped(chunk: Any) -> Observable[Any]:
        return rx.from_future(asyncio.ensure_future(doubled(chunk)))

    behind = unguarded(_raise_at_text) if is_ours else ops.stop_on("x")
    stream = ScriptedModel(["a"]).stream("Hi").pipe(rxo.flat_map(mapped), behind)
    with pytest.raises(BugError if is_ours else TypeError):
        await asyncio.wait_for(_awaited(stream), 10)
