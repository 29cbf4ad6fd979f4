"""`to_async` and `to_sync`: demand, failures and the end of the subscription."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
import reactivex as rx
from reactivex import abc
from reactivex.disposable import Disposable

from rxllm.iteration import to_async, to_sync
from rxllm.valve import StreamScheduler, Valve, valve_of


class Source:
    """Emits what a test pushes.

    Attributes:
        observer, scheduler: those of the last subscription.
        disposed: how often a subscription was disposed.
        on_dispose: called at a disposal.
    """

    def __init__(self) -> None:
        self.disposed = 0
        self.observer: abc.ObserverBase[int]
        self.scheduler: StreamScheduler
        self.on_dispose: Callable[[], object] = lambda: None

    @property
    def valve(self) -> Valve:
        return valve_of(self.scheduler)

    def stream(self) -> rx.Observable[int]:
        def subscribe(observer: Any, scheduler: Any = None) -> abc.DisposableBase:
            self.observer, self.scheduler = observer, scheduler
            return Disposable(dispose)

        def dispose() -> None:
            self.disposed += 1
            self.on_dispose()

        return rx.create(subscribe)

    async def read(self, **options: int) -> AsyncGenerator[int, None]:
        """Return an iterator that has yielded 0."""
        items = to_async(self.stream(), **options)
        first = asyncio.ensure_future(anext(items))
        await asyncio.sleep(0)
        self.observer.on_next(0)
        assert await first == 0
        return items


async def test_the_arguments_are_checked_at_the_call() -> None:
    with pytest.raises(
        TypeError, match=r"^to_async takes a stream, such as model\.stream\(prompt\); got str$"
    ):
        to_async("Hi")  # type: ignore[arg-type]
    message = "capacity must be 1 or more (items that may wait), got 0"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        to_async(rx.of(1), capacity=0)
    assert [item async for item in to_async(rx.of(1, 2), capacity=1)] == [1, 2]


@pytest.mark.parametrize(("options", "capacity"), [({"capacity": 6}, 6), ({}, 16)])
async def test_the_valve_is_closed_at_the_capacity_and_opened_at_half_of_it(
    options: dict[str, int], capacity: int
) -> None:
    source = Source()
    items = await source.read(**options)
    for number in range(1, capacity):
        source.observer.on_next(number)
        assert source.valve.is_open
    source.observer.on_next(capacity)
    assert not source.valve.is_open
    for number in range(1, capacity // 2 + 1):
        assert await anext(items) == number
        assert not source.valve.is_open
    assert await anext(items) == capacity // 2 + 1  # asked for it with half of them left
    assert source.valve.is_open
    await items.aclose()
    assert source.disposed == 1


async def test_a_failure_of_an_operator_ends_the_loop_after_the_items_that_wait() -> None:
    source = Source()
    items = await source.read()
    source.observer.on_next(1)
    source.scheduler.fail(ZeroDivisionError("a bug"))
    assert source.disposed == 1
    assert await anext(items) == 1
    with pytest.raises(ZeroDivisionError, match="a bug"):
        await anext(items)


async def test_failures_after_the_end_are_reported() -> None:
    reported: list[BaseException] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))
    source, first, late, broken = Source(), ValueError(), KeyError(), ZeroDivisionError()

    def fail() -> None:
        raise broken

    source.on_dispose = fail
    items = await source.read()
    source.scheduler.fail(first)
    source.scheduler.fail(late)
    with pytest.raises(ValueError):  # noqa: PT011 - compared below
        await anext(items)
    assert reported == [broken, late]


async def test_the_first_end_counts() -> None:
    source = Source()
    items = await source.read()
    source.scheduler.fail(ValueError("first"))
    source.observer.on_error(KeyError("second"))
    with pytest.raises(ValueError, match="first"):
        await anext(items)


def test_for_raises_what_a_subscription_raises() -> None:
    class Broken(rx.Observable[int]):
        def subscribe(self, *args: Any, **options: Any) -> abc.DisposableBase:
            raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError, match="a bug"):
        list(to_sync(Broken()))
