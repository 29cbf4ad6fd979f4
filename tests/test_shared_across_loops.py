"""Objects shared by streams work across event loops, or raise a clear error."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

import rxllm
from rxllm import operators as ops
from rxllm.errors import StreamStateError
from rxllm.models.scripted import ScriptedModel
from rxllm.stream import Stream


def held(stream: Stream[Any]) -> Generator[Any, None, None]:
    """Return an iterator over a stream that has started on the background loop and waits."""
    chunks: Generator[Any, None, None] = iter(stream)
    next(chunks)
    return chunks


def started(stream: Any) -> Future[Any]:
    """Call `rxllm.run(stream)` on a separate loop in another thread."""
    executor = ThreadPoolExecutor(1)
    running = executor.submit(rxllm.run, stream)
    executor.shutdown(wait=False)
    return running


def wait_until(condition: Any) -> None:
    """Wait until another thread makes `condition` true."""
    waiting = threading.Event()
    for _ in range(5000):
        if condition():
            return
        waiting.wait(0.001)
    raise AssertionError("it did not become true")


def test_a_pool_slot_passes_from_one_loop_to_another() -> None:
    pool = ops.Pool(1)
    slow = ScriptedModel(["a", "b"], delay=60).stream("Hi").pipe(ops.limit_concurrency(pool))
    quick = ScriptedModel("Hello").stream("Hi").pipe(ops.limit_concurrency(pool))
    chunks = held(slow)
    running = started(quick)
    wait_until(lambda: pool.waiting == 1)
    chunks.close()
    assert running.result(60).text == "Hello"
    assert (pool.active, pool.waiting) == (0, 0)


def test_a_pool_serves_many_loops_without_exceeding_its_slots() -> None:
    pool, most = ops.Pool(3, queue=100), 0

    def look(_: object) -> None:
        nonlocal most
        most = max(most, pool.active)

    def ask(_: int) -> str:
        model = ScriptedModel(["a", "b", "c"], delay=0.001)
        return rxllm.run(
            model.stream("Hi").pipe(ops.limit_concurrency(pool), ops.measure(look))
        ).text

    with ThreadPoolExecutor(8) as executor:
        assert list(executor.map(ask, range(40))) == ["abc"] * 40
    assert (pool.active, pool.waiting) == (0, 0)
    assert most <= 3


def test_a_control_stops_a_stream_from_any_thread() -> None:
    control = ops.Control()
    model = ScriptedModel(["a", "b"], delay=60, first_delay=0)
    chunks = iter(model.stream("Hi").pipe(ops.pausable(control)))
    next(chunks)
    control.stop()
    assert list(chunks)[-1] == rxllm.End("cancelled")
    assert (control.status, model.cancelled) == ("cancelled", 1)


def test_a_control_pauses_and_resumes_from_any_thread() -> None:
    control = ops.Control()
    model = ScriptedModel(["a", "b"], delay=0.01)
    chunks = iter(model.stream("Hi").pipe(ops.pausable(control)))
    next(chunks)
    control.pause()
    wait_until(lambda: control.status == "paused")
    control.resume()
    assert list(chunks)[-1] == rxllm.End("stop")


def test_a_control_does_nothing_to_a_stream_that_has_just_ended() -> None:
    """The stream is live at the call, and has ended when its loop handles the call."""
    control = ops.Control()

    def ask(text: str) -> str:
        for act in (control.pause, control.resume, control.stop):
            thread = threading.Thread(target=act)
            thread.start()
            thread.join()
        return text

    stream = ScriptedModel(["a"]).stream("Hi").pipe(ops.pausable(control), ops.map_text(ask))
    assert rxllm.run(stream).finish_reason == "stop"
    assert control.status == "completed"


def test_a_registry_lists_and_cancels_streams_of_any_loop() -> None:
    registry = ops.StreamRegistry()
    model = ScriptedModel(["a", "b"], delay=60, first_delay=0)
    chunks = held(model.stream("Hi").pipe(ops.track(registry, "story")))
    assert [stream.id for stream in registry.active] == ["story"]
    rxllm.run(ScriptedModel("Hello").stream("Hi").pipe(ops.track(registry)))
    registry.cancel("story")
    assert list(chunks)[-1] == rxllm.End("cancelled")


def test_a_registrys_shutdown_waits_for_streams_of_other_loops() -> None:
    registry = ops.StreamRegistry()
    model = ScriptedModel(["a", "b"], delay=60, first_delay=0)
    chunks = held(model.stream("Hi").pipe(ops.track(registry)))
    rxllm.run(registry.shutdown(0.01))
    assert list(chunks)[-1] == rxllm.End("cancelled")
    assert not registry.active


def test_equal_requests_of_two_loops_make_two_calls_and_cache_one_answer() -> None:
    store = ops.MemoryStore()
    model = ScriptedModel(["a", "b"], delay=60, first_delay=0)
    other = ScriptedModel("Hello")
    chunks = held(model.stream("Hi").pipe(ops.cache(store, "Hi")))
    assert rxllm.run(other.stream("Hi").pipe(ops.cache(store, "Hi"))).text == "Hello"
    assert rxllm.run(other.stream("Hi").pipe(ops.cache(store, "Hi"))).text == "Hello"
    assert len(other.requests) == 1
    chunks.close()


def test_calls_of_closed_loops_are_dropped() -> None:
    store = ops.MemoryStore()

    async def leave() -> None:
        stream = ScriptedModel(["a"], delay=60).stream("Hi").pipe(ops.cache(store, "Hi"))
        stream.subscribe(scheduler=rxllm.StreamScheduler(asyncio.get_running_loop()))

    asyncio.run(leave())
    assert len(store.under_way) == 1
    assert rxllm.run(ScriptedModel("b").stream("Hi").pipe(ops.cache(store, "Hi"))).text == "b"
    assert not store.under_way


def test_a_live_shared_stream_is_bound_to_one_loop_and_then_to_none() -> None:
    model = ScriptedModel(["a", "b"], delay=60, first_delay=0)
    control = ops.Control()
    shared = model.stream("Hi").pipe(ops.pausable(control), ops.multiplex(grace=60))
    chunks = held(shared)
    with pytest.raises(StreamStateError, match="another event loop"):
        rxllm.run(shared)
    control.stop()
    list(chunks)
    assert rxllm.run(shared).finish_reason == "cancelled"
    assert len(model.requests) == 1


def test_a_breaker_counts_the_failures_of_all_loops() -> None:
    breaker = ops.CircuitBreaker(failures=4)
    model = ScriptedModel([rxllm.errors.ServerError("down")])

    def ask(_: int) -> None:
        with pytest.raises(rxllm.errors.ServerError):
            rxllm.run(model.stream("Hi").pipe(ops.circuit_breaker(breaker)))

    with ThreadPoolExecutor(4) as executor:
        list(executor.map(ask, range(4)))
    assert breaker.state == "open"


def test_streams_of_a_closed_loop_hold_neither_slot_nor_control() -> None:
    pool, control = ops.Pool(1, wait=0.1), ops.Control()

    async def leave() -> None:
        stream = ScriptedModel(["a"], delay=60).stream("Hi")
        stream.pipe(ops.limit_concurrency(pool), ops.pausable(control)).subscribe()

    asyncio.run(leave())
    assert control.status == "cancelled"
    with pytest.raises(StreamStateError, match="cancelled"):
        control.pause()
    quick = ScriptedModel("Hello").stream("Hi").pipe(ops.limit_concurrency(pool))
    assert rxllm.run(quick).text == "Hello"


def test_many_loops_can_start_and_end_concurrently() -> None:
    def ask(_: int) -> str:
        return rxllm.run(rxllm.from_async(_hello)).text

    with ThreadPoolExecutor(8) as executor:
        assert list(executor.map(ask, range(200))) == ["Hello"] * 200


async def _hello() -> Any:
    yield rxllm.Token("Hello")
    yield rxllm.End("stop")
