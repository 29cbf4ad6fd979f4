"""`keep_partial`: on failure the partial text is kept."""

import asyncio
import dataclasses

import pytest
import reactivex as rx

from rxllm import operators as ops
from rxllm.chunks import Batch, Notice, Reasoning, Token
from rxllm.errors import ConnectionFailedError
from rxllm.testing import Marbles


def partial_of(marbles: Marbles, diagram: str, **lookup: object) -> str:
    error = ConnectionFailedError("cut")
    stream = marbles.cold(diagram, lookup=lookup, error=error).pipe(ops.keep_partial())
    assert marbles.run(stream)[-1][1] is error
    return str(error.partial)


def test_everything_passes_unchanged(marbles: Marbles) -> None:
    stream = marbles.cold("S-a-b-(E,|)").pipe(ops.keep_partial())
    assert marbles.run(stream) == marbles.expect("S-a-b-(E,|)")


def test_the_error_has_the_text(marbles: Marbles) -> None:
    batch = Batch((Token("b"), Reasoning("so"), Token("c")), "bc")
    assert partial_of(marbles, "a-r-B-#", r=Reasoning("hm"), B=batch) == "abc"
    assert partial_of(Marbles(), "#") == ""


def test_text_before_a_restart_is_not_included(marbles: Marbles) -> None:
    assert partial_of(marbles, "a-R-b#") == "b"
    assert partial_of(Marbles(), "a-n-b#", n=Notice("retry")) == "ab"


@pytest.mark.parametrize("error", [ConnectionResetError(), ValueError(), KeyError("x")])
def test_a_foreign_exception_gets_it_too(marbles: Marbles, error: Exception) -> None:
    marbles.run(marbles.cold("a#", error=error).pipe(ops.keep_partial()))
    assert vars(error)["partial"] == "a"


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):  # noqa: N818
    code: int = 1


class ReadOnly(Exception):  # noqa: N818
    @property
    def partial(self) -> str:
        raise LookupError("not known")


@pytest.mark.parametrize("error", [Frozen(), ReadOnly(), asyncio.IncompleteReadError(b"half", 9)])
def test_an_exception_that_rejects_it_is_unchanged(marbles: Marbles, error: Exception) -> None:
    operators = [ops.keep_partial(), ops.retry_with_backoff(), ops.fallback_to(rx.never())]
    for operator in operators:
        assert marbles.run(marbles.cold("a#", error=error).pipe(operator))[-1][1] is error
    if isinstance(error, asyncio.IncompleteReadError):
        assert error.partial == b"half"


def test_after_a_merge_it_is_the_text_of_each_source_in_turn(marbles: Marbles) -> None:
    error = ConnectionFailedError("cut")
    left = marbles.cold("a--b", source="left")
    right = marbles.cold("-x--y#", source="right", error=error)
    marbles.run(rx.merge(left, right).pipe(ops.keep_partial()))
    assert error.partial == "abxy"


def test_never_empty_disposal_and_demand(marbles: Marbles) -> None:
    source = marbles.cold("a-b-|", demand=True)
    recording = marbles.subscribe(source.pipe(ops.keep_partial()))
    marbles.at(1, marbles.valve.close)
    marbles.advance_to(3)
    recording.dispose()
    assert (recording.chunks, source.subscriptions) == ([Token("a")], [(0.0, 3.0)])
    assert Marbles().run(Marbles().cold("").pipe(ops.keep_partial())) == []
    fresh = Marbles()
    assert len(fresh.run(fresh.cold("|").pipe(ops.keep_partial()))) == 1


def test_two_subscriptions_are_independent(marbles: Marbles) -> None:
    stream = marbles.cold("a-#").pipe(ops.keep_partial())
    first = marbles.run(stream)
    second = marbles.run(stream)
    assert first[-1][1].partial == second[-1][1].partial == "a"
