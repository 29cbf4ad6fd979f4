"""`map_async`: applies an async function to each chunk, in order."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st
from reactivex import Observable, Subject
from reactivex import operators as rx_ops

from rxllm import operators as ops
from rxllm.bridge import from_async
from rxllm.chunks import Batch, Chunk, End, Notice, Progress, Reasoning, Token, ToolCall, text_of
from rxllm.errors import NoEventLoopError, StreamCancelledError
from rxllm.iteration import to_async
from rxllm.models.scripted import ScriptedModel, Step
from rxllm.testing import COMPLETED, Marbles, no_leaks, run_virtual
from tests.operators.transforming.asynchronous import Subscriber, run

Function = Callable[[Chunk], Awaitable[Chunk]]


class Calls:
    """A slow async function that converts to upper case and records its calls."""

    def __init__(self, *seconds: float) -> None:
        self.seconds = seconds
        self.started: list[tuple[float, str]] = []
        self.cancelled: list[str] = []
        self.running = self.most = 0

    async def __call__(self, chunk: Chunk) -> Chunk:
        text = text_of(chunk)
        self.started.append((asyncio.get_running_loop().time(), text))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(self.seconds[(len(self.started) - 1) % len(self.seconds)])
        except asyncio.CancelledError:
            self.cancelled.append(text)
            await asyncio.sleep(1)  # a slow clean-up
            raise
        finally:
            self.running -= 1
        return Token(text.upper())


def source_of(*script: Step, delay: float = 1.0) -> Observable[Chunk]:
    """A stream of `script`, without `Start`, `Usage` and `End`."""
    return (
        ScriptedModel([*script], delay=delay, finish_reason=None).stream("Hi").pipe(rx_ops.skip(1))
    )


def outcome(events: list[tuple[float, Any]]) -> list[Any]:
    """The events without times, and tokens as their text."""
    return [event.text if type(event) is Token else event for _, event in events]


def test_chunks_are_replaced_one_at_a_time_by_default() -> None:
    calls = Calls(3)
    assert run(source_of("a", "b").pipe(ops.map_async(calls))) == [
        (4.0, Token("A")),
        (8.0, Token("B")),  # the source waited until the first had been sent
        (8.0, COMPLETED),
    ]
    assert calls.most == 1


def test_the_times_of_the_diagram() -> None:
    source: Subject[Chunk] = Subject()
    script = [(2, Token("a")), (4, Token("b")), (6, Token("c")), (8, End("stop"))]
    pushes = [(time, lambda _, chunk=chunk: source.on_next(chunk)) for time, chunk in script]
    stream = source.pipe(ops.map_async(Calls(3), concurrency=2))
    assert run(stream, *pushes, (9, lambda _: source.on_completed())) == [
        (5.0, Token("A")),
        (7.0, Token("B")),
        (9.0, Token("C")),
        (9.0, End("stop")),
        (9.0, COMPLETED),
    ]


def test_a_fast_call_waits_for_the_slow_one_before_it() -> None:
    stream = source_of("a", "b", "c", delay=0).pipe(ops.map_async(Calls(5, 1, 3), concurrency=3))
    assert run(stream) == [
        (5.0, Token("A")),
        (5.0, Token("B")),
        (5.0, Token("C")),
        (5.0, COMPLETED),
    ]


def test_other_chunks_pass_in_order_without_a_call() -> None:
    seen: list[Chunk] = []

    async def see(chunk: Chunk) -> Chunk:
        seen.append(chunk)
        await asyncio.sleep(5)
        return chunk

    call = ToolCall("1", "weather", complete=True)
    batch = Batch((Token("b"), Reasoning("so")), "b")
    content: list[Chunk] = [Token("a"), Reasoning("hm"), call, batch]
    others: list[Chunk] = [Progress(1, 0.5), Notice("retry"), End("stop")]
    chunks = [content[0], others[0], content[1], others[1], *content[2:], others[2]]
    events = run(source_of(*chunks).pipe(ops.map_async(see, 2)))
    assert [event for _, event in events] == [*chunks, COMPLETED]
    assert seen == content


def test_a_chunk_without_a_source_gets_that_of_the_one_it_replaces() -> None:
    async def plain(chunk: Chunk) -> Chunk:
        text = text_of(chunk)
        return Batch((Token(text),), text) if text == "b" else Token(text)

    left = source_of(Token("a", source="left"), Token("b", source="left"))
    assert [event for _, event in run(left.pipe(ops.map_async(plain)))] == [
        Token("a", source="left"),
        Batch((Token("b", source="left"),), "b", source="left"),
        COMPLETED,
    ]


def test_never_and_empty() -> None:
    async def main() -> list[Any]:
        async with no_leaks():
            subscriber = Subscriber(rx.never().pipe(ops.map_async(Calls(1))))
            await asyncio.sleep(9)
            await subscriber.leave()
        return subscriber.events

    assert run_virtual(main()) == []
    assert run(rx.empty().pipe(ops.map_async(Calls(1)))) == [(0.0, COMPLETED)]


def test_an_error_of_the_source_waits_for_the_calls_before_it() -> None:
    error = ValueError("broken")
    stream = source_of("a", "b", error).pipe(ops.map_async(Calls(9, 1), 3))
    assert run(stream) == [(10.0, Token("A")), (10.0, Token("B")), (10.0, error)]


def test_an_exception_comes_after_the_results_before_it() -> None:
    calls, error = Calls(5), ValueError("no")

    async def fail_at_b(chunk: Chunk) -> Chunk:
        if text_of(chunk) == "b":
            raise error
        return await calls(chunk)

    model = ScriptedModel(["a", "b", "c", "d"], finish_reason=None)
    events = run(model.stream("Hi").pipe(ops.map_async(fail_at_b, 3)))
    assert events[1:] == [(5.0, Token("A")), (5.0, error)]
    assert (calls.cancelled, calls.running) == ([], 0)
    assert (model.cancelled, model.active) == (1, 0)


def test_a_failure_cancels_the_other_calls() -> None:
    calls = Calls(5)

    async def fail_at_a(chunk: Chunk) -> Chunk:
        if text_of(chunk) == "a":
            await asyncio.sleep(1)
            raise ValueError("no")
        return await calls(chunk)

    events = run(source_of("a", "b", "c", delay=0).pipe(ops.map_async(fail_at_a, 3)))
    assert [type(event) for _, event in events] == [ValueError]
    assert (calls.cancelled, calls.running) == (["b", "c"], 0)


def test_a_result_that_is_not_a_chunk_is_an_error() -> None:
    async def give(_: Chunk) -> Any:
        return "A"

    ((_, error),) = run(source_of("a").pipe(ops.map_async(give)))
    assert isinstance(error, TypeError)
    assert "must return a chunk, or None to drop it, got str" in str(error)


@pytest.mark.parametrize("concurrency", [1, 3])
def test_none_drops_the_chunk(concurrency: int) -> None:
    async def no_b(chunk: Chunk) -> Chunk | None:
        return None if text_of(chunk) == "b" else chunk

    events = run(source_of("a", "b", "c").pipe(ops.map_async(no_b, concurrency)))
    assert [text_of(event) for _, event in events[:-1]] == ["a", "c"]


def test_a_plain_function_is_a_clear_error() -> None:
    ((_, error),) = run(source_of("a").pipe(ops.map_async(lambda chunk: chunk)))  # type: ignore[arg-type, return-value]
    assert isinstance(error, TypeError)
    assert "async function" in str(error)


def test_a_call_cancelled_from_outside_is_an_error_not_a_hang() -> None:
    async def be_cancelled(_: Chunk) -> Chunk:
        raise asyncio.CancelledError

    ((_, error),) = run(source_of("a").pipe(ops.map_async(be_cancelled)))
    assert isinstance(error, StreamCancelledError)


def test_a_restart_cancels_the_calls_and_drops_their_results() -> None:
    calls = Calls(9, 0.5, 1)
    stream = source_of("a", "b", Notice("restart"), "c").pipe(ops.map_async(calls, 3))
    assert run(stream) == [(3.0, Notice("restart")), (5.0, Token("C")), (5.0, COMPLETED)]
    assert calls.cancelled == ["a"]  # b was done and waiting


def test_a_restart_discards_a_waiting_failure() -> None:
    async def fail_at_b(chunk: Chunk) -> Chunk:
        if text_of(chunk) == "b":
            raise ValueError("no")
        await asyncio.sleep(9)
        return chunk

    stream = source_of("a", "b", Notice("restart"), "c").pipe(ops.map_async(fail_at_b, 3))
    assert outcome(run(stream)) == [Notice("restart"), "c", COMPLETED]


def test_a_restart_of_one_source_waits_for_the_calls_of_the_others() -> None:
    left: list[Chunk] = [Token("a", source="left"), Notice("restart", source="left")]
    right = Token("x", source="right")
    calls = Calls(5)
    events = run(source_of(right, *left, Token("b", source="left")).pipe(ops.map_async(calls, 4)))
    assert events == [
        (6.0, Token("X", source="right")),
        (6.0, Notice("restart", source="left")),
        (9.0, Token("B", source="left")),
        (9.0, COMPLETED),
    ]
    assert calls.cancelled == ["a"]


def test_a_restart_keeps_other_chunks() -> None:
    progress = Progress(1, 0.5)
    stream = source_of("a", progress, Notice("restart")).pipe(ops.map_async(Calls(9), 3))
    assert [event for _, event in run(stream)] == [progress, Notice("restart"), COMPLETED]


def test_a_restart_drops_chunks_not_started_yet() -> None:
    calls = Calls(3)
    stream: Observable[Chunk] = rx.of(Token("a"), Token("b"), Notice("restart"), Token("c"))
    assert outcome(run(stream.pipe(ops.map_async(calls)))) == [Notice("restart"), "C", COMPLETED]
    assert [text for _, text in calls.started] == ["c"]  # a was cancelled before its first step


def test_disposal_cancels_the_calls_and_the_sink_waits_for_their_clean_up() -> None:
    calls, model = Calls(60), ScriptedModel("a b c", by="word", delay=1)

    async def main() -> float:
        async with no_leaks():
            subscriber = Subscriber(model.stream("Hi").pipe(ops.map_async(calls, 2)))
            await asyncio.sleep(2.5)
            assert calls.running == 2
            await subscriber.leave()
            assert len(subscriber.events) == 1
            assert subscriber.valve._callbacks == {}
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == 3.5
    assert (calls.cancelled, calls.running) == (["a", " b"], 0)
    assert (model.cancelled, model.active) == (1, 0)


def test_leaving_a_loop_over_the_stream_stops_everything() -> None:
    calls, model = Calls(2), ScriptedModel("a b c", by="word", delay=1)

    async def main() -> None:
        async with no_leaks():
            chunks = to_async(model.stream("Hi").pipe(ops.map_async(calls, 2)))
            async for chunk in chunks:
                if text_of(chunk):
                    break
            await chunks.aclose()

    run_virtual(main())
    assert (calls.running, model.active) == (0, 0)


def test_a_function_may_dispose_its_own_stream() -> None:
    async def main() -> list[tuple[float, Any]]:
        async def leave(chunk: Chunk) -> Chunk:
            subscriber.subscription.dispose()
            await asyncio.sleep(1)
            return chunk

        async with no_leaks():
            subscriber = Subscriber(source_of("a", "b").pipe(ops.map_async(leave)))
            await asyncio.sleep(9)
        return subscriber.events

    assert run_virtual(main()) == []


def test_a_call_that_fails_in_its_clean_up_is_reported_to_the_loop() -> None:
    async def fail_late(chunk: Chunk) -> Chunk:
        try:
            await asyncio.sleep(60)
        finally:
            raise ValueError("late")

    async def main() -> list[str]:
        reported: list[str] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reported.append(str(context["exception"])))
        async with no_leaks():
            subscriber = Subscriber(source_of("a").pipe(ops.map_async(fail_late)))
            await asyncio.sleep(2)
            await subscriber.leave()
            assert subscriber.events == []
        return reported

    assert run_virtual(main()) == ["late"]


@pytest.mark.parametrize("concurrency", [1, 4])
def test_at_most_concurrency_chunks_wait_even_if_the_first_call_is_slow(
    concurrency: int,
) -> None:
    calls, pulled = Calls(1000, 1, 1, 1), 0

    async def source() -> Any:
        nonlocal pulled
        for _ in range(100):
            pulled += 1
            yield Token("a")

    async def main() -> None:
        async with no_leaks():
            subscriber = Subscriber(from_async(source).pipe(ops.map_async(calls, concurrency)))
            await asyncio.sleep(500)
            assert subscriber.events == []
            assert len(calls.started) == concurrency
            assert pulled <= concurrency + 1  # one item at most waits in the pump
            await subscriber.leave()

    run_virtual(main())


@pytest.mark.parametrize("concurrency", [1, 4])
def test_results_wait_for_the_valve_and_pause_the_source(concurrency: int) -> None:
    calls, model = Calls(1), ScriptedModel(["a"] * 100)

    async def main() -> list[Any]:
        async with no_leaks():
            subscriber = Subscriber(model.stream("Hi").pipe(ops.map_async(calls, concurrency)))
            await asyncio.sleep(0.5)
            subscriber.valve.close()
            await asyncio.sleep(500)
            assert len(subscriber.events) == 1  # the start
            assert len(calls.started) == concurrency
            subscriber.valve.open()
            await subscriber.ended.wait()
        return subscriber.events

    events = run_virtual(main())
    assert [text for _, event in events if (text := text_of(event))] == ["A"] * 100
    assert calls.most == concurrency
    assert events[-1][0] == pytest.approx(500.5 + (100 - concurrency) / concurrency)


def test_chunks_from_a_source_without_demand_wait_and_are_not_started() -> None:
    calls = Calls(1)
    events = run(rx.of(*map(Token, "abcde")).pipe(ops.map_async(calls, 2)))
    assert outcome(events) == [*"ABCDE", COMPLETED]
    assert calls.most == 2


def test_a_subscriber_that_closes_its_valve_at_each_chunk_gets_one_at_a_time() -> None:
    async def main() -> list[Any]:
        async with no_leaks():
            got: list[Any] = []
            subscriber = Subscriber(
                rx.of(*map(Token, "abc")).pipe(
                    ops.map_async(Calls(1), 3), rx_ops.do_action(lambda _: hold.close())
                )
            )
            hold = subscriber.valve
            for _ in range(3):
                await asyncio.sleep(5)
                got.append(outcome(subscriber.events))
                hold.open()
            await subscriber.ended.wait()
        return got

    assert run_virtual(main()) == [["A"], ["A", "B"], ["A", "B", "C", COMPLETED]]


def test_a_subscriber_that_raises_closes_the_source_and_cancels_the_calls() -> None:
    calls, model, reported = Calls(1, 60), ScriptedModel(["a", "b", "c"]), []

    def on_next(chunk: Chunk) -> None:
        if text_of(chunk):
            raise ValueError("the subscriber's own")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reported.append(str(context["exception"])))
        errors: list[Exception] = []
        async with no_leaks():
            model.stream("Hi").pipe(ops.map_async(calls, 2)).subscribe(on_next, errors.append)
            await asyncio.sleep(9)
        assert errors == []

    run_virtual(main())
    assert reported == ["the subscriber's own"]
    assert (calls.cancelled, model.cancelled) == (["b"], 1)


def test_subscriptions_are_independent() -> None:
    calls = Calls(3)

    async def main() -> list[list[Any]]:
        stream = source_of("a", "b").pipe(ops.map_async(calls))
        async with no_leaks():
            subscribers = [Subscriber(stream), Subscriber(stream)]
            for subscriber in subscribers:
                await subscriber.ended.wait()
        return [outcome(subscriber.events) for subscriber in subscribers]

    assert run_virtual(main()) == [["A", "B", COMPLETED]] * 2
    assert calls.most == 2


def test_two_sources_share_one_order() -> None:
    left, right = source_of(Token("a", source="left")), source_of(Token("x", source="right"))
    events = run(rx.merge(left, right).pipe(ops.map_async(Calls(3, 1), 2)))
    assert events[:2] == [(4.0, Token("A", source="left")), (4.0, Token("X", source="right"))]


def test_a_late_chunk_of_a_disposed_source_starts_nothing() -> None:
    calls: Calls = Calls(1)

    async def main() -> None:
        subject: Subject[Chunk] = Subject()
        async with no_leaks():
            subscriber = Subscriber(subject.pipe(ops.map_async(calls)))
            subscriber.subscription.dispose()
            subject.on_next(Token("a"))
            await asyncio.sleep(1)

    run_virtual(main())
    assert calls.started == []


def test_without_an_event_loop_the_error_says_what_to_do(marbles: Marbles) -> None:
    ((_, error),) = marbles.run(marbles.cold("a|").pipe(ops.map_async(Calls(1))))
    assert isinstance(error, NoEventLoopError)
    assert "rxllm.run" in str(error)


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=8),
    st.lists(st.integers(0, 5), min_size=1, max_size=8),
    st.integers(1, 4),
)
def test_the_order_does_not_depend_on_call_durations(
    waits: list[int], seconds: list[int], concurrency: int
) -> None:
    steps: list[Step] = []
    for place, wait in enumerate(waits):
        steps += [float(wait), f"a{place}", Progress(place, 0.0)]
    calls = Calls(*seconds)
    events = run(source_of(*steps, delay=0).pipe(ops.map_async(calls, concurrency)))
    expected: list[Any] = []
    for place in range(len(waits)):
        expected += [f"A{place}", Progress(place, 0.0)]
    assert outcome(events) == [*expected, COMPLETED]
    assert calls.most <= concurrency


@pytest.mark.parametrize("concurrency", [0, -1])
def test_a_bad_concurrency_is_rejected_at_the_call(concurrency: int) -> None:
    with pytest.raises(ValueError, match="concurrency must be"):
        ops.map_async(Calls(1), concurrency)


@pytest.mark.parametrize("concurrency", [True, 1.5, float("nan"), "2", None])
def test_a_concurrency_that_is_not_an_integer_is_rejected_too(concurrency: Any) -> None:
    operators: list[Any] = [ops.map_async, ops.filter_async]
    for operator in operators:
        with pytest.raises(TypeError, match="concurrency must be an integer "):
            operator(Calls(1), concurrency)


def test_anything_but_a_function_is_rejected_at_the_call() -> None:
    with pytest.raises(TypeError, match="map_async takes an async function"):
        ops.map_async("upper")  # type: ignore[arg-type]
