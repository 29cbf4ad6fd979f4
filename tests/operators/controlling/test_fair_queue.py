"""The queue of a pool: fair among clients, and it says who is where."""

from __future__ import annotations

from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st
from reactivex.subject import Subject

from rxllm import operators as ops
from rxllm.chunks import Progress, Token
from rxllm.operators import Pool
from rxllm.testing import Marbles


class Streams:
    """Streams of clients, which end when told to."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.marbles = Marbles()
        self.running: dict[str, Subject[Any]] = {}
        self.order: list[str] = []

    def begin(self, name: str, client: str) -> None:
        def start(_: object) -> Any:
            self.order.append(name)
            self.running[name] = Subject()
            return self.running[name]

        operator = ops.limit_concurrency(self.pool, client=client)
        self.marbles.subscribe(rx.defer(start).pipe(operator))

    def end(self, name: str) -> None:
        self.running.pop(name).on_completed()
        self.marbles.scheduler.advance_by(0.001)


def test_a_free_slot_goes_to_the_client_with_the_fewest() -> None:
    streams = Streams(Pool(2))
    for name in ("a1", "a2", "a3", "a4", "b1", "c1", "b2"):
        streams.begin(name, name[0])
    assert streams.order == ["a1", "a2"]
    for ended in ("a1", "a2", "b1", "c1", "a3"):
        streams.end(ended)
    assert streams.order == ["a1", "a2", "b1", "a3", "c1", "b2", "a4"]


def test_the_streams_of_one_client_are_first_come_first_served() -> None:
    streams = Streams(Pool(1))
    for number in range(4):
        streams.begin(f"a{number}", "a")
    for number in range(3):
        streams.end(f"a{number}")
    assert streams.order == ["a0", "a1", "a2", "a3"]


def test_a_stream_is_not_overtaken_for_ever() -> None:
    """Not even by streams of clients that have no slot at all."""
    streams = Streams(Pool(2))
    for name in ("a1", "b0", "a2"):
        streams.begin(name, name[0])
    for number in range(1, 40):
        streams.begin(f"n{number}", f"n{number}")
        streams.end(streams.order[-1])
    assert streams.order.index("a2") <= 18


class Waiting:
    """Waits for a slot."""

    is_stranded = False

    def __init__(self, client: str, order: list[Any]) -> None:
        self.client = client
        self.order = order

    def admit(self) -> None:
        self.order.append(self)

    def refuse(self, error: Exception) -> None:
        raise error


@given(st.lists(st.sampled_from("abc"), max_size=12), st.integers(1, 3))
def test_the_place_is_the_order_in_which_slots_are_given_if_none_is_freed(
    clients: list[str], limit: int
) -> None:
    pool, order = Pool(limit), list[Any]()
    for client in ("a", "b", "b")[:limit]:
        pool.enter(Waiting(client, order))
    waiting = [Waiting(client, order) for client in clients]
    for each in waiting:
        assert not pool.enter(each)
    places = {each: pool.place(each) for each in waiting}
    assert sorted(places.values()) == list(range(1, len(waiting) + 1))  # type: ignore[type-var]
    pool.limit += len(waiting)
    stranger = Waiting("z", [])
    pool.leave(stranger)  # passes the new slots on
    assert order == sorted(waiting, key=lambda each: places[each] or 0)
    assert [pool.place(each) for each in waiting] == [None] * len(waiting)


def test_a_waiting_stream_says_its_place_and_then_when_it_changes() -> None:
    marbles, pool = Marbles(), Pool(1)
    marbles.subscribe(marbles.cold("a---|").pipe(ops.limit_concurrency(pool)))
    marbles.subscribe(marbles.cold("b-|").pipe(ops.limit_concurrency(pool)))
    waits: list[float] = []
    operator = ops.limit_concurrency(pool, progress=True, on_admit=waits.append)
    events = [
        (time, event.place if isinstance(event, Progress) else event)
        for time, event in marbles.run(marbles.cold("c|").pipe(operator))
    ]
    assert [(round(time, 1), event) for time, event in events[:4]] == [
        (0.5, 2),
        (4.5, 1),
        (6, 0),
        (6, Token("c")),
    ]
    assert [round(each) for each in waits] == [6]


def test_a_stream_that_need_not_wait_says_nothing() -> None:
    marbles, waits = Marbles(), list[float]()
    operator = ops.limit_concurrency(Pool(1), progress=True, on_admit=waits.append)
    assert marbles.run(marbles.cold("a|").pipe(operator))[0][1] == Token("a")
    assert waits == [0.0]


def test_on_admit_that_raises_fails_the_stream_and_frees_its_slot() -> None:
    def on_admit(_: float) -> None:
        raise RuntimeError("no")

    marbles, pool = Marbles(), Pool(1)
    events = marbles.run(marbles.cold("a|").pipe(ops.limit_concurrency(pool, on_admit=on_admit)))
    assert [str(event) for _, event in events] == ["no"]
    assert pool.active == 0


@pytest.mark.parametrize("wrong", [{"client": []}, {"client": ([],)}, {"on_admit": 1}])
def test_arguments_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        ops.limit_concurrency(Pool(1), **wrong)
