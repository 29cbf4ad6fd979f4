"""`Consumer`: the subscription of a sink, which has one outcome."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import reactivex as rx
from reactivex.disposable import Disposable

from rxllm.chunks import Chunk, Token
from rxllm.consumer import Consumer, check_function
from rxllm.errors import StreamError
from rxllm.models.scripted import ScriptedModel
from rxllm.valve import Valve


def at_once(*events: Chunk | Exception | None) -> rx.Observable[Chunk]:
    """Return a source that emits everything while it is subscribed to; `None` completes it."""

    def subscribe(observer: Any, scheduler: Any = None) -> Any:
        for event in events:
            if event is None:
                observer.on_completed()
            elif isinstance(event, Exception):
                observer.on_error(event)
            else:
                observer.on_next(event)
        return Disposable()

    return rx.create(subscribe)


@pytest.fixture
async def reported() -> list[dict[str, Any]]:
    """What the loop's exception handler receives."""
    contexts: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: contexts.append(context))
    return contexts


async def test_stopped_before_it_runs_it_never_subscribes() -> None:
    model = ScriptedModel("Hi")
    consumer = Consumer(model.stream("Hi"))
    consumer.stop()
    assert (await consumer.run()).finish_reason == "cancelled"
    assert not model.requests


async def test_its_valve_is_disposed_at_the_end() -> None:
    sink = Valve()
    valve = Valve(downstream=sink)
    await Consumer(at_once(Token("a"), None), valve=valve).run()
    sink.close()
    assert valve.is_open


@pytest.mark.parametrize("last", [None, StreamError("late")])
async def test_nothing_that_a_source_does_after_the_end_counts(last: Exception | None) -> None:
    bug = ZeroDivisionError()

    def fail(_: Chunk) -> None:
        raise bug

    consumer = Consumer(at_once(Token("a"), Token("b"), last), fail)
    with pytest.raises(ZeroDivisionError) as caught:
        await consumer.run()
    assert caught.value is bug
    assert (consumer.record.text, consumer.error) == ("a", None)


async def test_a_failure_is_raised_as_it_is_and_a_later_stop_does_nothing() -> None:
    bug = ZeroDivisionError()

    def fail_and_stop(_: Chunk) -> None:
        consumer.fail(bug)
        consumer.stop()

    consumer = Consumer(at_once(Token("a")), fail_and_stop)
    with pytest.raises(ZeroDivisionError):
        await consumer.run()
    assert consumer.error is None


async def test_a_failure_after_the_end_is_reported(reported: list[dict[str, Any]]) -> None:
    bug = ZeroDivisionError()

    def stop_and_fail(_: Chunk) -> None:
        consumer.stop()
        consumer.fail(bug)

    consumer = Consumer(at_once(Token("a")), stop_and_fail)
    assert (await consumer.run()).finish_reason == "cancelled"
    assert [context["exception"] for context in reported] == [bug]


async def test_an_exception_on_disposal_is_reported(reported: list[dict[str, Any]]) -> None:
    bug = ZeroDivisionError()

    def fail() -> None:
        raise bug

    consumer = Consumer(rx.create(lambda observer, scheduler: Disposable(fail)))
    asyncio.get_running_loop().call_soon(consumer.stop)
    assert (await consumer.run()).finish_reason == "cancelled"
    message = "an operator raised while its stream was disposed"
    assert reported == [{"message": message, "exception": bug}]


def test_a_callable_object_with_an_asynchronous_call_is_rejected() -> None:
    class Callback:
        async def __call__(self, chunk: Chunk) -> None: ...

    with pytest.raises(TypeError, match=r"^on_token must be a plain function, since a coroutine"):
        check_function(Callback(), "on_token")
    check_function(print, "on_token")
