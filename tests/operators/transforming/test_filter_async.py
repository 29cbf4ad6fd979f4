"""`filter_async`: filters chunks with an async predicate, in order."""

import asyncio
from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st
from reactivex import Observable
from reactivex import operators as rx_ops

from rxllm import operators as ops
from rxllm.chunks import Chunk, End, Notice, Progress, Start, Token, Usage, text_of
from rxllm.errors import NoEventLoopError
from rxllm.models.scripted import ScriptedModel
from rxllm.testing import COMPLETED, Marbles, no_leaks, run_virtual
from tests.operators.transforming.asynchronous import Subscriber, run


async def is_lower(chunk: Chunk) -> bool:
    """Takes 3 s for "slow", 1 s for others."""
    await asyncio.sleep(3 if text_of(chunk) == "slow" else 1)
    return text_of(chunk).islower()


def source_of(*script: Any) -> Observable[Chunk]:
    """A stream of `script`, all at once, without `Start`, `Usage` and `End`."""
    model = ScriptedModel([*script], finish_reason=None)
    return model.stream("Hi").pipe(rx_ops.skip(1))


def test_rejected_chunks_are_dropped() -> None:
    assert run(source_of("a", "B", "c").pipe(ops.filter_async(is_lower))) == [
        (1.0, Token("a")),
        (3.0, Token("c")),
        (3.0, COMPLETED),
    ]


def test_concurrent_calls_keep_the_order() -> None:
    assert run(source_of("slow", "B", "c").pipe(ops.filter_async(is_lower, 3))) == [
        (3.0, Token("slow")),
        (3.0, Token("c")),
        (3.0, COMPLETED),
    ]


def test_chunks_pass_unchanged() -> None:
    token = Token("a", confidence=0.5, number=7, source="left")
    assert run(source_of(token).pipe(ops.filter_async(is_lower)))[0][1] is token


def test_other_chunks_always_pass_in_order() -> None:
    async def refuse(_: Chunk) -> bool:
        return False

    events = run(
        ScriptedModel(["a", Progress(1, 0.5), "b"]).stream("Hi").pipe(ops.filter_async(refuse, 2))
    )
    assert [type(event) for _, event in events[:-1]] == [Start, Progress, Usage, End]


def test_any_value_is_judged_by_its_truth() -> None:
    async def texts(chunk: Chunk) -> Any:
        return text_of(chunk)

    events = run(source_of("", "a").pipe(ops.filter_async(texts)))
    assert [event for _, event in events] == [Token("a"), COMPLETED]


def test_never_and_empty() -> None:
    async def main() -> list[Any]:
        async with no_leaks():
            subscriber = Subscriber(rx.never().pipe(ops.filter_async(is_lower)))
            await asyncio.sleep(9)
            await subscriber.leave()
        return subscriber.events

    assert run_virtual(main()) == []
    assert run(rx.empty().pipe(ops.filter_async(is_lower))) == [(0.0, COMPLETED)]


def test_source_errors_and_predicate_errors_come_in_order() -> None:
    error = ValueError("broken")

    async def fail_at_b(chunk: Chunk) -> bool:
        if text_of(chunk) == "B":
            raise error
        return await is_lower(chunk)

    assert run(source_of("a", error).pipe(ops.filter_async(is_lower, 9)))[1:] == [(1.0, error)]
    events = run(source_of("slow", "B", "c").pipe(ops.filter_async(fail_at_b, 3)))
    assert events == [(3.0, Token("slow")), (3.0, error)]


def test_a_plain_function_is_a_clear_error() -> None:
    ((_, error),) = run(source_of("a").pipe(ops.filter_async(lambda _: True)))  # type: ignore[arg-type, return-value]
    assert isinstance(error, TypeError)
    assert "filter_async takes an async function" in str(error)


def test_a_restart_drops_pending_chunks() -> None:
    stream = source_of("slow", "b", Notice("restart"), "c").pipe(ops.filter_async(is_lower, 4))
    assert run(stream) == [
        (0.0, Notice("restart")),
        (1.0, Token("c")),
        (1.0, COMPLETED),
    ]


def test_disposal_cancels_the_calls() -> None:
    model = ScriptedModel(["slow", "b", "c"])

    async def main() -> list[Any]:
        async with no_leaks():
            subscriber = Subscriber(model.stream("Hi").pipe(ops.filter_async(is_lower, 2)))
            await asyncio.sleep(2)
            await subscriber.leave()
        return subscriber.events

    assert len(run_virtual(main())) == 1  # the start
    assert (model.cancelled, model.active) == (1, 0)


def test_at_most_concurrency_chunks_wait_while_the_valve_is_closed() -> None:
    seen: list[Chunk] = []

    async def see(chunk: Chunk) -> bool:
        seen.append(chunk)
        return True

    async def main() -> list[Any]:
        async with no_leaks():
            stream = source_of(*"abcdefgh").pipe(ops.filter_async(see, 3))
            subscriber = Subscriber(stream)
            await asyncio.sleep(0)
            subscriber.valve.close()
            await asyncio.sleep(60)
            held = len(seen) - len(subscriber.events)
            assert held <= 3
            assert len(seen) < 8
            subscriber.valve.open()
            await subscriber.ended.wait()
        return [text_of(event) for _, event in subscriber.events[:-1]]

    assert run_virtual(main()) == [*"abcdefgh"]


def test_subscriptions_and_sources_are_independent() -> None:
    left, right = source_of(Token("a", source="left")), source_of(Token("b", source="right"))
    stream = rx.merge(left, right).pipe(ops.filter_async(is_lower, 2))
    events = [Token("a", source="left"), Token("b", source="right"), COMPLETED]
    for _ in range(2):
        assert [event for _, event in run(stream)] == events


def test_without_an_event_loop_the_error_says_what_to_do(marbles: Marbles) -> None:
    ((_, error),) = marbles.run(marbles.cold("a|").pipe(ops.filter_async(is_lower)))
    assert isinstance(error, NoEventLoopError)


@given(st.lists(st.sampled_from(["a", "B", "slow"]), max_size=8), st.integers(1, 4))
def test_the_result_does_not_depend_on_call_durations(pieces: list[str], concurrency: int) -> None:
    events = run(source_of(*pieces).pipe(ops.filter_async(is_lower, concurrency)))
    assert [text_of(event) for _, event in events[:-1]] == [*filter(str.islower, pieces)]


def test_bad_arguments_are_rejected_at_the_call() -> None:
    with pytest.raises(ValueError, match="concurrency must be"):
        ops.filter_async(is_lower, 0)
    with pytest.raises(TypeError, match="filter_async takes an async function"):
        ops.filter_async(None)  # type: ignore[arg-type]
