"""`hedge_with`: `hedge` in a pipe."""

from typing import Any

import pytest
import reactivex as rx

from rxllm import Stream
from rxllm import operators as ops
from rxllm.chunks import Token
from rxllm.models.scripted import ScriptedModel
from rxllm.operators import RaceResult, StreamSummary
from rxllm.testing import Marbles, run_virtual
from tests.operators.combining.sources import PAIRS, played


@pytest.mark.parametrize("after", [0.5, 2, 10])
@pytest.mark.parametrize("pair", PAIRS)
def test_it_is_hedge_with_the_piped_stream_first(pair: tuple[str, str], after: float) -> None:
    assert played(pair, lambda a, b: ops.hedge_with(b, after=after)(a)) == played(
        pair, lambda a, b: ops.hedge(a, b, after=after)
    )


def test_the_streams_are_first_and_second_and_the_result_is_reported(marbles: Marbles) -> None:
    results: list[RaceResult] = []
    hedged = ops.hedge_with(marbles.cold("-x|"), after=4, on_result=results.append)
    events = marbles.run(marbles.cold("-------a|").pipe(hedged))
    assert events[0] == (5.0, Token("x", source="second"))
    assert results == [RaceResult("second", 5.0, {"first": StreamSummary("cancelled", 0, 5.0)})]


def test_a_plain_observable_can_be_piped_and_a_stream_comes_out(marbles: Marbles) -> None:
    stream = rx.of(Token("a")).pipe(ops.hedge_with(marbles.cold("x|"), after=1))
    assert isinstance(stream, Stream)
    assert repr(stream) == "<Stream hedge_with>"
    assert marbles.run(stream)[0] == (0.0, Token("a", source="first"))


def test_time_with_a_closed_valve_does_not_count(marbles: Marbles) -> None:
    marbles.at(1, marbles.valve.close)
    marbles.at(11, marbles.valve.open)
    second = marbles.cold("x|", demand=True)
    marbles.run(marbles.cold("").pipe(ops.hedge_with(second, after=4)), until=30)
    assert second.subscriptions == [(14.0, 15.0)]


def test_a_model_that_is_fast_enough_is_the_only_one_asked() -> None:
    first, second = ScriptedModel("Hello", first_delay=1), ScriptedModel("Hi")
    stream = first.stream("Hi").pipe(ops.hedge_with(second.stream("Hi"), after=2))

    async def main() -> str:
        return (await stream).text

    assert run_virtual(main()) == "Hello"
    assert (first.completed, second.requests) == (1, [])


@pytest.mark.parametrize("after", [0, -1, float("inf"), float("nan")])
def test_a_bad_time_is_refused_at_the_call(after: float) -> None:
    with pytest.raises(ValueError, match=r"after must be .* \(the seconds"):
        ops.hedge_with(rx.never(), after=after)


@pytest.mark.parametrize("other", [None, "text", ops.words])
def test_what_is_not_a_stream_is_refused_at_the_call(other: Any) -> None:
    with pytest.raises(TypeError, match=r"hedge_with takes streams, got .* for 'second'"):
        ops.hedge_with(other, after=1)


def test_on_result_must_be_callable() -> None:
    with pytest.raises(TypeError, match="on_result"):
        ops.hedge_with(rx.empty(), after=1, on_result=3)  # type: ignore[arg-type]
