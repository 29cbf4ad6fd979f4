"""`Pool` and `limit_concurrency`: at most N streams at once, first come, first served."""

import asyncio
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Any

import pytest
import reactivex as rx
from reactivex.abc import DisposableBase
from reactivex.disposable import Disposable

from rxllm import operators as ops
from rxllm.bridge import from_async
from rxllm.chunks import Chunk, End, Notice, Token, text_of
from rxllm.errors import PoolFullError, classify_error
from rxllm.iteration import to_async
from rxllm.models.scripted import ScriptedModel
from rxllm.operators import Control, Pool
from rxllm.testing import COMPLETED, Marbles, no_leaks, run_virtual
from rxllm.valve import StreamScheduler


def test_with_a_free_slot_the_stream_passes_unchanged(marbles: Marbles) -> None:
    diagram = "S-a-R-b--(E,|)"
    assert marbles.run(
        marbles.cold(diagram).pipe(ops.limit_concurrency(Pool(1)))
    ) == marbles.expect(diagram)


def test_the_next_stream_starts_when_a_slot_becomes_free(marbles: Marbles) -> None:
    pool = Pool(1)
    first, second = marbles.cold("a---|"), marbles.cold("b-|")
    marbles.subscribe(first.pipe(ops.limit_concurrency(pool)))
    assert marbles.run(second.pipe(ops.limit_concurrency(pool))) == [
        (4.0, Token("b")),
        (6.0, COMPLETED),
    ]
    assert (first.subscriptions, second.subscriptions) == ([(0.0, 4.0)], [(4.0, 6.0)])
    assert (pool.active, pool.waiting) == (0, 0)


def test_four_streams_on_three_slots_all_finish(marbles: Marbles) -> None:
    """The fourth must not wait forever."""
    pool, source = Pool(3), marbles.cold("a---|")
    recordings = [marbles.subscribe(source.pipe(ops.limit_concurrency(pool))) for _ in range(4)]
    assert (pool.active, pool.waiting) == (3, 1)
    marbles.advance_to(20)
    assert [recording.events[-1] for recording in recordings] == [(4.0, COMPLETED)] * 3 + [
        (8.0, COMPLETED)
    ]
    assert (pool.active, pool.waiting, marbles.timers) == (0, 0, [])


def test_a_stream_that_is_never_subscribed_to_takes_no_slot(marbles: Marbles) -> None:
    pool = Pool(1)
    _ = [marbles.cold("a").pipe(ops.limit_concurrency(pool)) for _ in range(5)]
    assert pool.active == 0
    assert marbles.run(marbles.cold("a|").pipe(ops.limit_concurrency(pool)))[-1] == (1.0, COMPLETED)


@pytest.mark.parametrize("end", ["|", "#"])
def test_completion_and_error_release_the_slot(marbles: Marbles, end: str) -> None:
    pool, error = Pool(1), ValueError("broken")
    marbles.subscribe(marbles.cold(f"a-{end}", error=error).pipe(ops.limit_concurrency(pool)))
    events = marbles.run(marbles.cold("b|").pipe(ops.limit_concurrency(pool)))
    assert events == [(2.0, Token("b")), (3.0, COMPLETED)]


def test_the_slot_is_free_when_the_subscriber_is_notified_of_the_end(marbles: Marbles) -> None:
    pool, seen = Pool(1), []
    marbles.cold("a|").pipe(ops.limit_concurrency(pool)).subscribe(
        on_completed=lambda: seen.append(pool.active), scheduler=marbles.scheduler
    )
    marbles.advance_to(5)
    assert seen == [0]


def test_disposal_releases_the_slot_and_disposes_the_source(marbles: Marbles) -> None:
    pool, source = Pool(1), marbles.cold("a----|")
    first = marbles.subscribe(source.pipe(ops.limit_concurrency(pool)))
    marbles.at(2, first.dispose)
    assert marbles.run(marbles.cold("b|").pipe(ops.limit_concurrency(pool)))[0] == (2.0, Token("b"))
    assert source.subscriptions == [(0.0, 2.0)]


def test_leaving_the_queue_releases_the_place(marbles: Marbles) -> None:
    pool, source = Pool(1, queue=1), marbles.cold("a----|")
    first = marbles.subscribe(source.pipe(ops.limit_concurrency(pool)))
    second = marbles.subscribe(source.pipe(ops.limit_concurrency(pool)))
    second.dispose()
    assert (pool.active, pool.waiting) == (1, 0)
    third = marbles.subscribe(source.pipe(ops.limit_concurrency(pool)))
    marbles.advance_to(20)
    assert (first.events[-1][0], second.events, third.events[-1][0]) == (5.0, [], 10.0)
    assert marbles.timers == []


def test_leaving_between_admission_and_start_passes_the_slot_on(marbles: Marbles) -> None:
    pool, source = Pool(1), marbles.cold("a-|")
    running = marbles.subscribe(source.pipe(ops.limit_concurrency(pool)))
    second = marbles.subscribe(source.pipe(ops.limit_concurrency(pool)))
    third = marbles.subscribe(source.pipe(ops.limit_concurrency(pool)))
    running.dispose()  # the second one has the slot now, and starts in the next turn
    second.dispose()
    marbles.advance_to(9)
    assert (second.events, third.events[-1]) == ([], (2.0, COMPLETED))
    assert pool.active == 0


def test_first_come_first_served(marbles: Marbles) -> None:
    pool, order = Pool(2), []

    def stream(name: str) -> rx.Observable[Chunk]:
        def begin(_: object) -> rx.Observable[Chunk]:
            order.append(name)
            return marbles.cold("--|")

        return rx.defer(begin).pipe(ops.limit_concurrency(pool))

    for name in "abcdef":
        marbles.subscribe(stream(name))
    marbles.advance_to(20)
    assert "".join(order) == "abcdef"


def test_a_stream_that_waited_starts_in_the_context_of_its_own_subscription(
    marbles: Marbles,
) -> None:
    caller: ContextVar[str] = ContextVar("caller")
    pool, callers = Pool(1), list[str]()

    def begin(_: object) -> rx.Observable[Chunk]:
        callers.append(caller.get())
        return marbles.cold("-|")

    def subscribe(name: str) -> None:
        caller.set(name)
        marbles.subscribe(rx.defer(begin).pipe(ops.limit_concurrency(pool)))

    for name in "abc":
        copy_context().run(subscribe, name)
    caller.set("the loop")
    marbles.advance_to(9)
    assert callers == ["a", "b", "c"]


def test_a_full_queue_refuses_at_once(marbles: Marbles) -> None:
    pool, source = Pool(1, queue=1), marbles.cold("a----|")
    for _ in range(2):
        marbles.subscribe(source.pipe(ops.limit_concurrency(pool)))
    refused = marbles.subscribe(source.pipe(ops.limit_concurrency(pool)))
    [(time, error)] = refused.events
    assert (time, type(error), classify_error(error)) == (0.0, PoolFullError, "fallback")
    assert str(error) == "all 1 slots are taken and 1 streams are waiting"


def test_by_default_the_wait_is_limited_to_30_s(marbles: Marbles) -> None:
    pool = Pool(3)
    for _ in range(3):
        marbles.subscribe(marbles.cold("").pipe(ops.limit_concurrency(pool)))
    source = marbles.cold("a|")
    [(time, error)] = marbles.run(source.pipe(ops.limit_concurrency(pool)))
    assert (time, str(error)) == (30.0, "none of 3 slots became free within 30 s")
    assert (source.subscriptions, pool.waiting, marbles.timers) == ([], 0, [])


@pytest.mark.parametrize(("first", "end"), [("-" * 30 + "|", (61.0, COMPLETED)), ("", None)])
def test_after_a_stop_of_the_process_the_slot_may_become_free_first(
    marbles: Marbles, first: str, end: object
) -> None:
    pool = Pool(1, wait=5)
    marbles.subscribe(marbles.cold(first).pipe(ops.limit_concurrency(pool)))
    marbles.at(1, lambda: marbles.scheduler.sleep(60))
    [(time, event)] = marbles.run(marbles.cold("|").pipe(ops.limit_concurrency(pool)))
    assert (time, event) == end if end else (time, type(event)) == (61.1, PoolFullError)


def test_the_wait_continues_while_the_valve_is_closed(marbles: Marbles) -> None:
    pool = Pool(1, wait=5)
    marbles.subscribe(marbles.cold("").pipe(ops.limit_concurrency(pool)))
    marbles.at(1, marbles.valve.close)
    assert marbles.run(marbles.cold("a|").pipe(ops.limit_concurrency(pool)))[0][0] == 5.0


def test_demand_passes_through_even_after_a_wait(marbles: Marbles) -> None:
    pool = Pool(1)
    marbles.subscribe(marbles.cold("--|").pipe(ops.limit_concurrency(pool)))
    marbles.at(3, marbles.valve.close)
    marbles.at(9, marbles.valve.open)
    events = marbles.run(
        marbles.cold("a-b-c", demand=True).pipe(ops.limit_concurrency(pool)), until=20
    )
    assert events == [(2.0, Token("a")), (9.0, Token("b")), (9.0, Token("c"))]


def test_two_subscriptions_of_one_stream_take_two_slots(marbles: Marbles) -> None:
    pool = Pool(2)
    stream = marbles.cold("a--|").pipe(ops.limit_concurrency(pool))
    first, second = marbles.subscribe(stream), marbles.subscribe(stream)
    assert pool.active == 2
    marbles.advance_to(9)
    assert first.events == second.events == [(0.0, Token("a")), (3.0, COMPLETED)]


def test_chunks_of_a_merge_pass_unchanged(marbles: Marbles) -> None:
    left, right = marbles.cold("a-E|", source="left"), marbles.cold("-x--E|", source="right")
    events = marbles.run(rx.merge(left, right).pipe(ops.limit_concurrency(Pool(1))))
    assert [event.source for _, event in events[:-1]] == ["left", "right", "left", "right"]


def test_a_subscriber_that_raises_releases_the_slot(marbles: Marbles) -> None:
    pool, source = Pool(1), marbles.cold("a-b|")

    def on_next(_: Chunk) -> None:
        raise ZeroDivisionError

    errors: list[Exception] = []
    source.pipe(ops.limit_concurrency(pool)).subscribe(
        on_next, errors.append, scheduler=marbles.scheduler
    )
    with pytest.raises(ZeroDivisionError):
        marbles.advance_to(1)
    assert (pool.active, source.subscriptions, errors) == (0, [(0.0, 0.0)], [])


def test_a_source_that_fails_on_subscription_releases_the_slot(marbles: Marbles) -> None:
    pool, error = Pool(1), ValueError("broken")
    source: rx.Observable[Chunk] = rx.throw(error)
    assert marbles.run(source.pipe(ops.limit_concurrency(pool)))[0][1] is error
    assert pool.active == 0


@pytest.mark.slow
def test_ten_thousand_streams_that_end_at_once_do_not_recurse(marbles: Marbles) -> None:
    pool, ended = Pool(1, queue=10_000), list[int]()
    first = marbles.subscribe(marbles.cold("").pipe(ops.limit_concurrency(pool)))

    def at_once(observer: Any, _: Any) -> Disposable:
        observer.on_completed()
        return Disposable()

    source: rx.Observable[Chunk] = rx.create(at_once)
    for number in range(10_000):
        source.pipe(ops.limit_concurrency(pool)).subscribe(
            on_completed=partial(ended.append, number), scheduler=marbles.scheduler
        )
    first.dispose()
    marbles.advance_to(1)
    assert ended == list(range(10_000))


def test_a_stream_may_be_subscribed_to_again_from_its_own_end(marbles: Marbles) -> None:
    pool, model = Pool(1), ScriptedModel("a", "b", "c")

    def again() -> rx.Observable[Chunk]:
        return model.stream("Hi").pipe(ops.limit_concurrency(pool))

    events = marbles.run(rx.concat(again(), again(), again()))
    assert "".join(text_of(event) for _, event in events) == "abc"


def test_paused_streams_cannot_starve_a_pool(marbles: Marbles) -> None:
    """A pause is limited to 300 s, after which its slot goes to the next stream."""
    pool, controls = Pool(3, wait=400), [Control() for _ in range(3)]
    source = marbles.cold("a-b-|", demand=True)
    paused = [
        marbles.subscribe(source.pipe(ops.limit_concurrency(pool), ops.pausable(control)))
        for control in controls
    ]
    for control in controls:
        marbles.at(1, control.pause)
    fourth = marbles.subscribe(marbles.cold("x|").pipe(ops.limit_concurrency(pool)))
    marbles.advance_to(500)
    assert fourth.events[0] == (301.0, Token("x"))
    assert paused[0].events[1:] == [(301.0, End("cancelled")), (301.0, COMPLETED)]
    assert pool.active == 0


class TestLending:
    """Slots of paused streams, lent to others."""

    def test_three_pauses_of_one_client_do_not_stop_another(self, marbles: Marbles) -> None:
        pool, controls = Pool(3, lend_after=1), [Control() for _ in range(3)]
        source = marbles.cold("a-b-c|", demand=True)
        paused = [
            marbles.subscribe(source.pipe(ops.limit_concurrency(pool), ops.pausable(control)))
            for control in controls
        ]
        for control in controls:
            marbles.at(1, control.pause)
            marbles.at(20, control.resume)
        other = marbles.subscribe(marbles.cold("x-y|").pipe(ops.limit_concurrency(pool)))
        marbles.advance_to(500)
        assert other.events == [(2.0, Token("x")), (4.0, Token("y")), (5.0, COMPLETED)]
        for each in paused:
            assert "".join(text_of(event) for _, event in each.events) == "abc"
            assert each.events[-1][1] == COMPLETED
        assert (pool.active, pool.waiting, marbles.timers) == (0, 0, [])

    def test_a_slot_that_nobody_waits_for_is_kept(self, marbles: Marbles, control: Control) -> None:
        pool = Pool(1, lend_after=1)
        marbles.at(1, control.pause)
        marbles.at(9, control.resume)
        stream = marbles.cold("a-b|", demand=True)
        events = marbles.run(stream.pipe(ops.limit_concurrency(pool), ops.pausable(control)))
        assert [time for time, _ in events][:2] == [0.0, 9.0]

    def test_a_newcomer_has_it_at_once(self, marbles: Marbles, control: Control) -> None:
        pool = Pool(1, lend_after=1)
        marbles.at(1, control.pause)
        source = marbles.cold("a-b|", demand=True)
        marbles.subscribe(source.pipe(ops.limit_concurrency(pool), ops.pausable(control)))
        marbles.advance_to(7)
        other = marbles.subscribe(marbles.cold("x|").pipe(ops.limit_concurrency(pool)))
        marbles.advance_to(9)
        assert other.events[0] == (7.0, Token("x"))

    def test_a_resumed_stream_waits_for_its_slot_behind_others(
        self, marbles: Marbles, control: Control
    ) -> None:
        pool = Pool(1, lend_after=1)
        source = marbles.cold("a-b|", demand=True)
        paused = marbles.subscribe(source.pipe(ops.limit_concurrency(pool), ops.pausable(control)))
        marbles.at(1, control.pause)
        others = [
            marbles.subscribe(marbles.cold("x---|").pipe(ops.limit_concurrency(pool)))
            for _ in range(2)
        ]
        marbles.at(3, control.resume)
        marbles.advance_to(50)
        assert [each.events[0] for each in others] == [(2.0, Token("x")), (6.0, Token("x"))]
        assert paused.events[1] == (10.0, Token("b"))

    def test_it_may_be_paused_again_while_it_waits(
        self, marbles: Marbles, control: Control
    ) -> None:
        pool = Pool(1, lend_after=1)
        source = marbles.cold("a-b|", demand=True)
        paused = marbles.subscribe(source.pipe(ops.limit_concurrency(pool), ops.pausable(control)))
        marbles.at(1, control.pause)
        marbles.subscribe(marbles.cold("x-----|").pipe(ops.limit_concurrency(pool)))
        for time, change in ((3, control.resume), (4, control.pause), (20, control.resume)):
            marbles.at(time, change)
        marbles.advance_to(10)
        last = marbles.subscribe(marbles.cold("y|").pipe(ops.limit_concurrency(pool)))
        marbles.advance_to(60)
        assert last.events[0][1] == Token("y")
        assert paused.events[1] == (20.0, Token("b"))
        assert (pool.active, pool.waiting, marbles.timers) == (0, 0, [])

    def test_disposal_of_a_stream_without_its_slot(
        self, marbles: Marbles, control: Control
    ) -> None:
        pool = Pool(1, lend_after=1)
        source = marbles.cold("a-b|", demand=True)
        paused = marbles.subscribe(source.pipe(ops.limit_concurrency(pool), ops.pausable(control)))
        marbles.at(1, control.pause)
        marbles.subscribe(marbles.cold("x").pipe(ops.limit_concurrency(pool)))
        marbles.at(3, control.resume)
        marbles.at(4, paused.dispose)
        marbles.advance_to(9)
        assert (pool.active, pool.waiting) == (1, 0)


def test_a_stream_waiting_for_its_slot_can_be_stopped(marbles: Marbles, control: Control) -> None:
    pool = Pool(1)
    marbles.subscribe(marbles.cold("").pipe(ops.limit_concurrency(pool)))
    marbles.at(2, control.stop)
    events = marbles.run(
        marbles.cold("x|").pipe(ops.limit_concurrency(pool), ops.pausable(control))
    )
    assert events == [(2.0, End("cancelled")), (2.0, COMPLETED)]
    assert (pool.active, pool.waiting, marbles.timers) == (1, 0, [])


def test_streams_of_several_loops_and_clocks_may_share_a_pool(marbles: Marbles) -> None:
    pool, other = Pool(1), Marbles()
    first = marbles.subscribe(marbles.cold("a-|").pipe(ops.limit_concurrency(pool)))
    second = other.subscribe(other.cold("b|").pipe(ops.limit_concurrency(pool)))
    marbles.advance_to(5)
    other.advance_to(7)
    assert (first.events[-1], second.events[0]) == ((2.0, COMPLETED), (0.0, Token("b")))


def test_coroutines_run_in_slots_and_leave_nothing_behind() -> None:
    pool, most = Pool(3), []

    async def answer() -> Any:
        most.append(pool.active)
        for text in "abc":
            await asyncio.sleep(1)
            yield Token(text)

    async def read() -> str:
        stream = from_async(answer).pipe(ops.limit_concurrency(pool))
        return "".join([text_of(chunk) async for chunk in to_async(stream)])

    async def main() -> tuple[list[str], float]:
        async with no_leaks():
            texts = await asyncio.gather(*(read() for _ in range(10)))
        return texts, asyncio.get_running_loop().time()

    assert run_virtual(main()) == (["abc"] * 10, 12.0)
    assert (max(most), pool.active, pool.waiting) == (3, 0, 0)


def test_a_notice_is_passed_on_by_a_stream_that_waited(marbles: Marbles) -> None:
    pool = Pool(1)
    marbles.subscribe(marbles.cold("-|").pipe(ops.limit_concurrency(pool)))
    events = marbles.run(marbles.cold("a-R-b|").pipe(ops.limit_concurrency(pool)))
    assert events[1] == (3.0, Notice("restart"))


def test_never_and_empty(marbles: Marbles) -> None:
    pool = Pool(1)
    assert marbles.run(marbles.cold("|").pipe(ops.limit_concurrency(pool))) == [(0.0, COMPLETED)]
    assert marbles.run(marbles.cold("").pipe(ops.limit_concurrency(pool)), until=2000) == []
    assert pool.active == 1


def test_the_repr_shows_limits_and_usage() -> None:
    assert repr(Pool(3, queue=5, wait=2)) == "Pool(limit=3, queue=5, wait=2.0): 0 active, 0 waiting"


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 1, "queue": -1}, "queue"),
        ({"limit": 1, "wait": 0}, "wait"),
        ({"limit": 1, "wait": float("inf")}, "wait"),
        ({"limit": 1, "wait": float("nan")}, "wait"),
    ],
)
def test_numbers_out_of_range_raise_at_the_call(arguments: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} "):
        Pool(**arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"limit": float("nan")},
        {"limit": 1.5},
        {"limit": True},
        {"limit": "3"},
        {"queue": float("nan"), "limit": 1},
        {"wait": True, "limit": 1},
    ],
)
def test_values_that_are_not_numbers_raise_at_the_call(arguments: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=f"^{next(iter(arguments))} "):
        Pool(**arguments)


def test_a_stream_whose_event_loop_is_closed_is_skipped() -> None:
    pool, holding, after = Pool(1), list[DisposableBase](), list[Any]()

    async def hold_and_wait() -> None:
        scheduler = StreamScheduler(asyncio.get_running_loop())
        for _ in range(3):
            holding.append(
                rx.never().pipe(ops.limit_concurrency(pool)).subscribe(scheduler=scheduler)
            )

    async def release() -> None:
        scheduler = StreamScheduler(asyncio.get_running_loop())
        rx.of(Token("a")).pipe(ops.limit_concurrency(pool)).subscribe(
            after.append, scheduler=scheduler
        )
        holding[0].dispose()
        await asyncio.sleep(1)

    run_virtual(hold_and_wait())
    assert (pool.active, pool.waiting) == (1, 2)
    run_virtual(release())
    assert after == [Token("a")]
    assert (pool.active, pool.waiting) == (0, 0)


def test_anything_but_a_pool_raises_at_the_call() -> None:
    with pytest.raises(TypeError, match="must be a Pool"):
        ops.limit_concurrency(3)  # type: ignore[arg-type]
