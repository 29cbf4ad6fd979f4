"""`rate_limit`: by default 100 tokens per second, 200 at once."""

from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st
from reactivex import operators as rx_ops

from rxllm import operators as ops
from rxllm.chunks import Batch, End, Notice, Reasoning, Start, Token, text_of
from rxllm.iteration import to_async
from rxllm.models.scripted import ScriptedModel
from rxllm.testing import COMPLETED, Marbles, no_leaks, run_virtual
from tests.operators.texts import cut_texts, text_after


def batch(size: int) -> Batch:
    """A batch of `size` tokens."""
    return Batch((Token("x"),) * size, "x" * size)


def test_a_burst_passes_and_the_rest_waits_its_turn(marbles: Marbles) -> None:
    stream = marbles.cold("S(a,b,c,d)--(E,|)").pipe(ops.rate_limit(per_second=0.5, burst=2))
    assert marbles.run(stream) == [
        (0.0, Start("request-1", "model")),
        (1.0, Token("a")),
        (1.0, Token("b")),
        (3.0, Token("c")),
        (5.0, Token("d")),
        (12.0, End("stop")),
        (12.0, COMPLETED),
    ]


def test_200_at_once_then_100_per_second() -> None:
    marbles = Marbles()
    model = ScriptedModel([Token("x")] * 500)
    events = marbles.run(model.stream("Hi").pipe(ops.rate_limit()))
    times = [time for time, event in events if type(event) is Token]
    assert len(times) == 500
    assert [sum(time <= until for time in times) for until in (0.001, 1.0, 2.0, 3.001)] == [
        200,
        300,
        400,
        500,
    ]


def test_a_chunk_larger_than_the_burst_waits_but_never_hangs(
    marbles: Marbles,
) -> None:
    lookup = {"B": batch(500), "c": Token("c")}
    events = marbles.run(marbles.cold("(B,c)|", lookup=lookup).pipe(ops.rate_limit(100, 200)))
    assert [time for time, _ in events] == [3.0, 3.01, 5.0]


def test_a_large_chunk_does_not_hang_when_the_valve_toggles() -> None:
    marbles = Marbles(seconds=0.1)
    for second in range(10):
        marbles.at(second + 0.25, marbles.valve.close)
        marbles.at(second + 0.75, marbles.valve.open)
    stream = marbles.cold("B|", lookup={"B": batch(500)}).pipe(ops.rate_limit(100, 200))
    assert [time for time, _ in marbles.run(stream)] == [3.0, 3.0]


def test_never_and_empty(marbles: Marbles) -> None:
    assert marbles.run(marbles.cold("").pipe(ops.rate_limit()), until=1) == []
    assert marbles.run(marbles.cold("|").pipe(ops.rate_limit()), until=3) == [(1.0, COMPLETED)]


def test_the_bucket_fills_up_to_the_burst_and_no_further(marbles: Marbles) -> None:
    stream = marbles.cold("(a,b,c)--------------(d,e,f)|").pipe(ops.rate_limit(0.5, burst=2))
    assert [time for time, _ in marbles.run(stream)] == [0.0, 0.0, 2.0, 21.0, 21.0, 23.0, 28.0]


def test_the_bucket_fills_while_the_valve_is_closed_up_to_the_burst(marbles: Marbles) -> None:
    marbles.at(1, marbles.valve.close)
    marbles.at(50, marbles.valve.open)
    stream = marbles.cold("(a,b,c,d,e,f)").pipe(ops.rate_limit(0.5, burst=2))
    assert [time for time, _ in marbles.run(stream)] == [0.0, 0.0, 50.0, 50.0, 52.0, 54.0]


def test_everything_is_sent_at_once_before_an_error(marbles: Marbles) -> None:
    error = ValueError("broken")
    stream = marbles.cold("(a,b)#", error=error).pipe(ops.rate_limit(0.01, 1))
    assert marbles.run(stream) == [(0.0, Token("a")), (5.0, Token("b")), (5.0, error)]


def test_a_restart_drops_held_chunks_without_a_refund(marbles: Marbles) -> None:
    events = marbles.run(marbles.cold("(a,b,c)R-d|").pipe(ops.rate_limit(0.1, 1)))
    assert events == [
        (0.0, Token("a")),
        (7.0, Notice("restart")),
        (10.0, Token("d")),
        (10.0, COMPLETED),
    ]


def test_a_restart_of_one_source_leaves_the_other_alone(marbles: Marbles) -> None:
    left = marbles.cold("(a,b)R|", source="left")
    right = marbles.cold("-x|", source="right")
    events = marbles.run(rx.merge(left, right).pipe(ops.rate_limit(0.1, 1)))
    assert [(time, event.source, text_of(event)) for time, event in events[:-1]] == [
        (0.0, "left", "a"),
        (10.0, "right", "x"),
        (10.0, "left", ""),
    ]


def test_reasoning_costs_one_and_other_chunks_nothing(marbles: Marbles) -> None:
    lookup = {"r": Reasoning("hm"), "n": Notice("retry")}
    stream = marbles.cold("(r,n,a,n)|", lookup=lookup).pipe(ops.rate_limit(0.1, 1))
    assert [time for time, _ in marbles.run(stream)] == [0.0, 0.0, 10.0, 10.0, 10.0]


def test_a_custom_cost(marbles: Marbles) -> None:
    limit = ops.rate_limit(1, burst=3, cost=lambda chunk: len(text_of(chunk)))
    lookup = {"a": Token("abc"), "b": Token("de"), "c": Token("")}
    stream = marbles.cold("(a,b,c,a)", lookup=lookup).pipe(limit)
    assert [time for time, _ in marbles.run(stream)] == [0.0, 2.0, 2.0, 5.0]


@pytest.mark.parametrize("cost", [-1, float("inf"), float("nan"), None, "1", KeyError("mine")])
def test_an_invalid_cost_is_an_error(marbles: Marbles, cost: Any) -> None:
    def price(chunk: Any) -> float:
        if chunk.text == "b":
            if isinstance(cost, Exception):
                raise cost
            return cost  # type: ignore[no-any-return]
        return 1

    source = marbles.cold("(a,b,c)|")
    events = marbles.run(source.pipe(ops.rate_limit(1, 1, price)))
    assert events[0] == (0.0, Token("a"))
    assert [type(event) for _, event in events[1:]] == [
        KeyError if isinstance(cost, Exception) else ValueError
    ]
    assert (source.subscriptions, marbles.timers) == ([(0.0, 0.0)], [])


def test_cost_is_called_once_whatever_is_dropped_after_it(marbles: Marbles) -> None:
    asked: list[str] = []

    def price(chunk: Any) -> float:
        asked.append(chunk.text)
        return 1

    left = marbles.cold("(a,b)", source="left")
    right = marbles.cold("-R-R-R", source="right")
    marbles.run(rx.merge(left, right).pipe(ops.rate_limit(0.1, 1, price)))
    assert asked == ["a", "b"]


def test_empty_text_costs_nothing(marbles: Marbles) -> None:
    lookup = {"n": Token(""), "r": Reasoning(""), "B": Batch((Token(""), Token("b")), "b")}
    stream = marbles.cold("(n,r,a,n,B)", lookup=lookup).pipe(ops.rate_limit(0.1, 1))
    assert [time for time, _ in marbles.run(stream)] == [0.0, 0.0, 0.0, 0.0, 10.0]


def test_each_subscription_has_its_own_bucket(marbles: Marbles) -> None:
    stream = marbles.cold("(a,b)|").pipe(ops.rate_limit(1, 1))
    first, second = marbles.subscribe(stream), marbles.subscribe(stream)
    marbles.advance_to(9)
    assert first.events == second.events
    assert first.chunks == [Token("a"), Token("b")]


def test_early_disposal_leaves_nothing(marbles: Marbles) -> None:
    source = marbles.cold("(a,b)---|")
    recording = marbles.subscribe(source.pipe(ops.rate_limit(0.1, 1)))
    marbles.advance_to(1)
    recording.dispose()
    assert (recording.chunks, source.subscriptions) == ([Token("a")], [(0.0, 1.0)])
    assert (marbles.timers, marbles.valve._callbacks) == ([], {})


def test_a_fast_model_is_paused_at_1024_chunks_and_resumed_at_half(marbles: Marbles) -> None:
    pulled: list[Any] = []
    model = ScriptedModel([Token("x")] * 5000)
    stream = model.stream("Hi").pipe(rx_ops.do_action(pulled.append), ops.rate_limit())
    marbles.subscribe(stream)
    marbles.advance_to(0.001)
    assert len(pulled) == 1 + 200 + 1024
    marbles.advance_to(5.1)
    assert len(pulled) == 1 + 200 + 1024
    marbles.advance_to(5.13)
    assert len(pulled) == 1 + 200 + 1024 + 512


def test_nothing_leaks_on_an_event_loop() -> None:
    async def main() -> list[Any]:
        stream = ScriptedModel("a b c", by="word").stream("Hi").pipe(ops.rate_limit(10, 1))
        async with no_leaks():
            return [chunk async for chunk in to_async(stream)]

    assert "".join(map(text_of, run_virtual(main()))) == "a b c"


@given(cut_texts(), st.floats(0.1, 5), st.floats(0.1, 5))
def test_the_joined_text_is_the_same(
    texts: tuple[str, list[str]], per_second: float, burst: float
) -> None:
    text, pieces = texts
    assert text_after(pieces, ops.rate_limit(per_second, burst)) == text


def bursts(script: list[tuple[int, int]]) -> list[tuple[float, int]]:
    """The time and size of each sent batch, for the waits and sizes of `script`."""
    steps = [step for wait, size in script for step in (float(wait), batch(size))]
    stream = ScriptedModel(steps).stream("Hi").pipe(ops.rate_limit(2, burst=5))
    return [(t, len(e.chunks)) for t, e in Marbles().run(stream) if type(e) is Batch]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5)), max_size=20))
def test_the_limit_holds_in_every_interval(script: list[tuple[int, int]]) -> None:
    rows = bursts(script)
    assert len(rows) == len(script)
    for place, (begin, _) in enumerate(rows):
        for last in range(place, len(rows)):
            total = sum(size for _, size in rows[place : last + 1])
            assert total <= 5 + 2 * (rows[last][0] - begin) + 1e-3


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 20)), max_size=20))
def test_the_limit_holds_from_the_start(
    script: list[tuple[int, int]],
) -> None:
    rows = bursts(script)
    assert len(rows) == len(script)
    for last, (time, _) in enumerate(rows):
        assert sum(size for _, size in rows[: last + 1]) <= 5 + 2 * time + 1e-3


@pytest.mark.parametrize("bad", [{"per_second": 0}, {"burst": 0}, {"burst": float("inf")}])
def test_bad_arguments_are_rejected_at_the_call(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        ops.rate_limit(**bad)


def test_a_cost_that_cannot_be_called_is_rejected_at_the_call() -> None:
    with pytest.raises(TypeError, match="cost"):
        ops.rate_limit(cost=3)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [{"per_second": "5"}, {"burst": True}])
def test_a_value_that_is_not_a_number_is_rejected_at_the_call(bad: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=next(iter(bad))):
        ops.rate_limit(**bad)
