"""What streams share after a fork: no stream of the parent runs in the child."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import pytest

from rxllm import operators as ops
from rxllm.operators import Budget, Limiter, Pool
from rxllm.testing import Marbles

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system that forks"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def in_child(report: Callable[[], object]) -> str:
    """Return what `report` returns in a forked child."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, str(report()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as pipe:
        return pipe.read()


def started(marbles: Marbles, operator: Any) -> list[float]:
    """Return when a stream starts within 5 s."""
    source = marbles.cold("S|")
    marbles.subscribe(source.pipe(operator))
    marbles.advance_to(5)
    return [time for time, _ in source.subscriptions]


def test_in_a_child_all_slots_are_free(marbles: Marbles) -> None:
    pool = Pool(1, wait=900)
    for _ in range(2):
        marbles.subscribe(marbles.cold("").pipe(ops.limit_concurrency(pool)))
    assert in_child(lambda: (pool.active, pool.waiting)) == "(0, 0)"
    assert in_child(lambda: started(marbles, ops.limit_concurrency(pool))) == "[0.0]"
    assert (pool.active, pool.waiting) == (1, 1)
    assert started(marbles, ops.limit_concurrency(pool)) == []


def test_in_a_child_no_request_is_under_way(marbles: Marbles) -> None:
    limiter = Limiter(wait=900)
    for _ in range(9):
        marbles.subscribe(marbles.cold("").pipe(ops.limit(limiter)))
    assert in_child(lambda: limiter.waiting) == "0"
    assert in_child(lambda: started(marbles, ops.limit(limiter))) == "[0.0]"
    assert limiter.waiting == 8


def test_in_a_child_what_was_spent_before_counts() -> None:
    budget = Budget(tokens=5)
    budget.spend(2, 0)
    assert in_child(lambda: (budget.spend(3, 0), budget.spent_tokens)) == "(True, 5)"
    assert budget.spent_tokens == 2


@pytest.mark.parametrize(
    ("shared", "lock"),
    [(Pool(1), "_lock"), (Limiter(), "_lock"), (Budget(tokens=1), "_spent.lock")],
)
def test_a_lock_that_another_thread_holds_is_free_in_the_child(shared: Any, lock: str) -> None:
    held, done, lock_of = threading.Event(), threading.Event(), attrgetter(lock)

    def hold() -> None:
        with lock_of(shared):
            held.set()
            done.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    try:
        assert in_child(lambda: lock_of(shared).acquire(timeout=1)) == "True"
    finally:
        done.set()
        holder.join()


def test_a_pool_that_is_no_longer_used_is_not_kept() -> None:
    pool = weakref.ref(Pool(1))
    gc.collect()
    assert pool() is None
