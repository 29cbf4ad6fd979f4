"""Demand through RxPY's own operators: which of them pass the subscriber's valve upstream.

At most `IN_FLIGHT` items are in flight through every operator that passes items on as they arrive:
one on its way to the subscriber that closes the valve, and one waiting in the pump. Operators that
lose the valve are listed too, so that a change in RxPY is noticed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeAlias

import pytest
import reactivex as rx
from reactivex import Observable
from reactivex import operators as ops
from reactivex.scheduler.eventloop import AsyncIOScheduler
from reactivex.subject import Subject

from rxllm.bridge import from_async
from rxllm.valve import StreamScheduler, Valve

IN_FLIGHT = 2

Build: TypeAlias = Callable[[Observable[int]], Observable[Any]]


class Source:
    """Yields numbers forever, and counts how many were pulled."""

    def __init__(self) -> None:
        self.pulled = 0

    async def numbers(self) -> AsyncIterator[int]:
        while True:
            self.pulled += 1
            yield self.pulled
            await asyncio.sleep(0)

    def stream(self) -> Observable[int]:
        return from_async(self.numbers)


def other_scheduler() -> AsyncIOScheduler:
    return AsyncIOScheduler(asyncio.get_running_loop())


PASSES_ON: dict[str, Build] = {
    "as_observable": lambda s: s.pipe(ops.as_observable()),
    "catch": lambda s: s.pipe(ops.catch(rx.never())),
    "combine_latest": lambda s: s.pipe(ops.combine_latest(rx.of(0))),
    "concat": lambda s: s.pipe(ops.concat(rx.never())),
    "concat after another": lambda s: rx.concat(rx.of(0), s),
    "concat_map": lambda s: rx.of(0).pipe(ops.concat_map(lambda _: s)),
    "default_if_empty": lambda s: s.pipe(ops.default_if_empty(0)),
    "defer": lambda s: rx.defer(lambda _: s),
    "delay_subscription": lambda s: s.pipe(ops.delay_subscription(0.0)),
    "dematerialize": lambda s: s.pipe(ops.materialize(), ops.dematerialize()),
    "distinct": lambda s: s.pipe(ops.distinct()),
    "distinct_until_changed": lambda s: s.pipe(ops.distinct_until_changed()),
    "do_action": lambda s: s.pipe(ops.do_action(lambda _: None)),
    "exclusive": lambda s: rx.of(0).pipe(ops.map(lambda _: s), ops.exclusive()),
    "expand": lambda s: s.pipe(ops.expand(lambda _: rx.empty())),
    "filter": lambda s: s.pipe(ops.filter(bool)),
    "filter_indexed": lambda s: s.pipe(ops.filter_indexed(lambda _, __: True)),
    "finally_action": lambda s: s.pipe(ops.finally_action(lambda: None)),
    "flat_map": lambda s: s.pipe(ops.flat_map(rx.just)),
    "flat_map to it": lambda s: rx.of(0).pipe(ops.flat_map(lambda _: s)),
    "flat_map_latest": lambda s: s.pipe(ops.flat_map_latest(rx.just)),
    "group_by": lambda s: s.pipe(ops.group_by(lambda _: 0), ops.merge_all()),
    "map": lambda s: s.pipe(ops.map(lambda item: item)),
    "map_indexed": lambda s: s.pipe(ops.map_indexed(lambda item, _: item)),
    "materialize": lambda s: s.pipe(ops.materialize()),
    "merge": lambda s: s.pipe(ops.merge(rx.never())),
    "merge_all": lambda s: rx.of(s).pipe(ops.merge_all()),
    "merge(max_concurrent)": lambda s: rx.of(s).pipe(ops.merge(max_concurrent=1)),
    "on_error_resume_next": lambda s: s.pipe(ops.on_error_resume_next(rx.never())),
    "pairwise": lambda s: s.pipe(ops.pairwise()),
    "pluck_attr": lambda s: s.pipe(ops.pluck_attr("real")),
    "publish().ref_count()": lambda s: s.pipe(ops.publish(), ops.ref_count()),
    "publish(mapper)": lambda s: s.pipe(ops.publish(lambda shared: shared)),
    "race (amb)": lambda s: s.pipe(ops.amb(rx.never())),
    "repeat": lambda s: s.pipe(ops.repeat(2)),
    "retry": lambda s: s.pipe(ops.retry(2)),
    "scan": lambda s: s.pipe(ops.scan(lambda total, item: total + item)),
    "share": lambda s: s.pipe(ops.share()),
    "skip": lambda s: s.pipe(ops.skip(1)),
    "skip_until": lambda s: s.pipe(ops.skip_until(rx.of(0))),
    "skip_while": lambda s: s.pipe(ops.skip_while(lambda _: False)),
    "starmap": lambda s: s.pipe(ops.map(lambda item: (item,)), ops.starmap(lambda item: item)),
    "start_with": lambda s: s.pipe(ops.start_with(0)),
    "switch_latest": lambda s: rx.of(s).pipe(ops.switch_latest()),
    "take": lambda s: s.pipe(ops.take(1000)),
    "take_until": lambda s: s.pipe(ops.take_until(rx.never())),
    "take_while": lambda s: s.pipe(ops.take_while(bool)),
    "tap": lambda s: s.pipe(ops.tap(lambda _: None)),
    "time_interval": lambda s: s.pipe(ops.time_interval()),
    "timeout": lambda s: s.pipe(ops.timeout(60.0)),
    "timestamp": lambda s: s.pipe(ops.timestamp()),
    "using": lambda s: rx.using(lambda: rx.disposable.Disposable(), lambda _: s),
    "with_latest_from": lambda s: s.pipe(ops.with_latest_from(rx.of(0))),
    "zip_with_iterable": lambda s: s.pipe(ops.zip_with_iterable(range(10**6))),
}
"""Operators that pass items on as they arrive: the items in flight stay within the bound."""

HOLDS: dict[str, Build] = {
    "buffer_with_count": lambda s: s.pipe(ops.buffer_with_count(2)),
    "delay": lambda s: s.pipe(ops.delay(0.001)),
    "observe_on": lambda s: s.pipe(ops.observe_on(other_scheduler())),
    "skip_last": lambda s: s.pipe(ops.skip_last(2)),
    "window_with_count": lambda s: s.pipe(ops.window_with_count(2), ops.merge_all()),
    "zip": lambda s: s.pipe(ops.zip(rx.from_iterable(range(10**4)))),
}
"""Operators that hold items themselves but pass the valve upstream: the source still stops."""

LOSES: dict[str, Build] = {
    "subscribe_on": lambda s: s.pipe(ops.subscribe_on(other_scheduler())),
    "delay(scheduler=other)": lambda s: s.pipe(ops.delay(0.001, scheduler=other_scheduler())),
    "auto_connect(0)": lambda s: s.pipe(ops.publish()).auto_connect(0),
    "a create that forgets it": lambda s: rx.create(lambda observer, _: s.subscribe(observer)),
}
"""Operators that lose or replace the scheduler: the source keeps running."""


async def turns(number: int = 60) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def pulled_after_closing(build: Build) -> tuple[int, int]:
    """Close the valve at the fourth item; return the items pulled by then, and much later."""
    source, valve = Source(), Valve()
    loop = asyncio.get_running_loop()
    scheduler = StreamScheduler(loop, valve)
    fourth = asyncio.Event()
    received = 0

    def on_next(_: object) -> None:
        nonlocal received
        received += 1
        if received == 4:
            valve.close()
            fourth.set()

    stream = build(source.stream())
    subscription = stream.subscribe(on_next, scheduler=scheduler)
    async with asyncio.timeout(10):
        await fourth.wait()
    at_closing = source.pulled
    await turns()
    long_after = source.pulled
    subscription.dispose()
    valve.dispose()
    await scheduler.settle()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()  # sources whose scheduler was lost don't settle with it
    await turns(5)
    return at_closing, long_after


@pytest.mark.parametrize("name", PASSES_ON)
async def test_operators_that_pass_items_on_stay_within_the_bound(name: str) -> None:
    at_closing, long_after = await pulled_after_closing(PASSES_ON[name])
    assert long_after - at_closing <= IN_FLIGHT


@pytest.mark.parametrize("name", HOLDS)
async def test_operators_that_hold_items_still_stop_the_source(name: str) -> None:
    at_closing, long_after = await pulled_after_closing(HOLDS[name])
    assert long_after - at_closing <= IN_FLIGHT


@pytest.mark.parametrize("name", LOSES)
async def test_operators_that_lose_the_scheduler_lose_the_valve(name: str) -> None:
    at_closing, long_after = await pulled_after_closing(LOSES[name])
    assert long_after - at_closing > IN_FLIGHT


async def test_a_bare_connect_loses_the_valve() -> None:
    source, valve = Source(), Valve()
    scheduler = StreamScheduler(asyncio.get_running_loop(), valve)
    valve.close()
    shared = source.stream().pipe(ops.publish())
    shared.subscribe(scheduler=scheduler)
    connection = shared.connect()
    await turns()
    assert source.pulled > IN_FLIGHT
    assert connection is not None
    connection.dispose()
    await turns(5)


async def test_await_and_to_future_without_a_scheduler_ignore_demand() -> None:
    source = Source()
    stopped: Subject[int] = Subject()
    taken: Observable[int] = source.stream().pipe(ops.take_until(stopped))
    future = taken.pipe(ops.to_future())
    await turns()
    assert source.pulled > IN_FLIGHT
    stopped.on_next(0)
    assert await future > IN_FLIGHT
    await turns(5)


@pytest.mark.parametrize("share", [ops.share(), ops.publish(), ops.replay()])
async def test_sharing_passes_only_the_first_subscribers_valve_upstream(share: Any) -> None:
    source, first, second = Source(), Valve(), Valve()
    loop = asyncio.get_running_loop()
    shared: Any = source.stream().pipe(share)
    if hasattr(shared, "connect"):
        shared = shared.pipe(ops.ref_count())
    subscriptions = [
        shared.subscribe(scheduler=StreamScheduler(loop, valve)) for valve in (first, second)
    ]
    await turns(10)
    second.close()
    before = source.pulled
    await turns()
    assert source.pulled > before + IN_FLIGHT, "the second subscriber's demand is ignored"
    first.close()
    before = source.pulled
    await turns()
    assert source.pulled <= before + IN_FLIGHT, "the first subscriber's demand is respected"
    for subscription in subscriptions:
        subscription.dispose()
    await turns(5)
