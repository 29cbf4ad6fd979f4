"""`race_with`: `race` in a pipe."""

from typing import Any

import pytest
import reactivex as rx

from rxllm import Stream
from rxllm import operators as ops
from rxllm.chunks import Token
from rxllm.operators import RaceResult, StreamSummary
from rxllm.testing import COMPLETED, Marbles
from tests.operators.combining.sources import PAIRS, played


@pytest.mark.parametrize("pair", PAIRS)
def test_it_is_race_with_the_piped_stream_first(pair: tuple[str, str]) -> None:
    assert played(pair, lambda a, b: ops.race_with(b)(a)) == played(pair, ops.race)
    assert played(pair, lambda a, b: ops.race_with({"b": b}, name="a")(a)) == played(
        pair, lambda a, b: ops.race({"a": a, "b": b})
    )


def test_the_winner_keeps_its_number_and_the_result_is_reported(marbles: Marbles) -> None:
    results: list[RaceResult] = []
    others = [marbles.cold("---b|"), marbles.cold("-c|")]
    stream = marbles.cold("--a|").pipe(ops.race_with(*others, on_result=results.append))
    assert marbles.run(stream) == [(1.0, Token("c", source="2")), (2.0, COMPLETED)]
    lost = StreamSummary("cancelled", 0, 1.0)
    assert results == [RaceResult("2", 1.0, {"0": lost, "1": lost})]


def test_a_plain_observable_can_be_piped_and_a_stream_comes_out(marbles: Marbles) -> None:
    stream = rx.of(Token("a"), Token("b")).pipe(ops.race_with(marbles.cold("-x|")))
    assert isinstance(stream, Stream)
    assert repr(stream) == "<Stream race_with>"
    assert [getattr(event, "text", "|") for _, event in marbles.run(stream)] == ["a", "b", "|"]


def test_both_wait_for_the_valve_of_the_subscriber(marbles: Marbles) -> None:
    marbles.valve.close()
    marbles.at(3, marbles.valve.open)
    left, right = marbles.cold("-a|", demand=True), marbles.cold("--x|", demand=True)
    events = marbles.run(left.pipe(ops.race_with(right)))
    assert events[0] == (3.0, Token("a", source="0"))


def test_without_another_stream_it_is_refused() -> None:
    with pytest.raises(ValueError, match="race_with takes at least one other stream"):
        ops.race_with()


def test_two_streams_with_the_same_name_are_refused() -> None:
    with pytest.raises(ValueError, match="race_with has two streams named 'a'"):
        ops.race_with({"a": rx.empty()}, name="a")


@pytest.mark.parametrize("other", [None, "text", ops.words])
def test_what_is_not_a_stream_is_refused_at_the_call(other: Any) -> None:
    with pytest.raises(TypeError, match=r"race_with takes streams, got .* for '1'"):
        ops.race_with(other)


def test_on_result_must_be_callable() -> None:
    with pytest.raises(TypeError, match="on_result"):
        ops.race_with(rx.empty(), on_result=3)  # type: ignore[arg-type]
