"""Chunk marbles: diagrams, virtual time, demand, and recorded subscriptions."""

from typing import Any

import pytest
import reactivex as rx
from reactivex import operators as rx_ops

from rxllm.chunks import End, Notice, Reasoning, Start, Token
from rxllm.errors import RxLLMError
from rxllm.testing import COMPLETED, Marbles
from rxllm.valve import with_valve


def test_elements_are_tokens_and_capitals_are_the_other_chunks() -> None:
    marbles = Marbles()
    assert marbles.run(marbles.cold("S-ab--R(E,|)")) == [
        (0.0, Start("request-1", "model")),
        (2.0, Token("ab")),
        (6.0, Notice("restart")),
        (7.0, End("stop")),
        (7.0, COMPLETED),
    ]


def test_a_failure_is_the_error_given() -> None:
    marbles, error = Marbles(), ValueError("broken")
    assert marbles.run(marbles.cold("a#", error=error)) == [(0.0, Token("a")), (1.0, error)]
    assert isinstance(marbles.expect("#")[0][1], RxLLMError)


def test_names_can_be_added_and_replaced() -> None:
    marbles = Marbles()
    events = marbles.expect("rE", lookup={"rE": Reasoning("hm")}) + marbles.expect(
        "E", lookup={"E": End("length")}
    )
    assert events == [(0.0, Reasoning("hm")), (0.0, End("length"))]


def test_chunks_can_be_marked_with_their_source() -> None:
    marbles = Marbles()
    assert marbles.expect("a|", source="left") == [
        (0.0, Token("a", source="left")),
        (1.0, COMPLETED),
    ]


def test_the_duration_of_a_character_is_configurable() -> None:
    marbles = Marbles(seconds=0.1)
    assert marbles.run(marbles.cold("---a|")) == [(0.3, Token("a")), (0.4, COMPLETED)]


def test_a_diagram_that_continues_after_its_end_raises() -> None:
    with pytest.raises(ValueError, match="after"):
        Marbles().cold("a|b")


def test_a_cold_source_plays_to_each_subscriber_and_records_them() -> None:
    marbles = Marbles()
    source = marbles.cold("a-b|")
    first = marbles.subscribe(source)
    marbles.advance_to(1)
    second = marbles.subscribe(source)
    marbles.at(2, second.dispose)
    marbles.advance_to(10)
    assert first.chunks == [Token("a"), Token("b")]
    assert second.events == [(1.0, Token("a"))]
    assert source.subscriptions == [(0.0, 3.0), (1.0, 2.0)]


def test_a_hot_source_plays_once_regardless_of_subscribers() -> None:
    marbles = Marbles()
    source = marbles.hot("a-b-c|")
    marbles.advance_to(1)
    listener = marbles.subscribe(source)
    marbles.advance_to(3)
    listener.dispose()
    marbles.advance_to(10)
    assert listener.events == [(2.0, Token("b"))]
    assert source.subscriptions == [(1.0, 3.0)]


def test_a_source_with_demand_waits_for_the_valve() -> None:
    marbles = Marbles()
    marbles.at(1, marbles.valve.close)
    marbles.at(5, marbles.valve.open)
    stream = marbles.cold("a-b-c--d|", demand=True).pipe(rx_ops.map(lambda chunk: chunk))
    assert marbles.run(stream) == [
        (0.0, Token("a")),
        (5.0, Token("b")),
        (5.0, Token("c")),
        (7.0, Token("d")),
        (8.0, COMPLETED),
    ]


def test_waiting_events_are_sent_only_while_the_valve_stays_open() -> None:
    marbles = Marbles()
    marbles.valve.close()
    marbles.at(5, marbles.valve.open)
    marbles.at(9, marbles.valve.open)

    def close_again(_: object) -> None:
        marbles.valve.close()

    stream = marbles.cold("(a,b,|)", demand=True).pipe(rx_ops.do_action(close_again))
    assert marbles.run(stream, until=6) == [(5.0, Token("a"))]


def test_a_valve_that_opens_inside_on_next_keeps_the_order() -> None:
    marbles, got = Marbles(), []
    depth = 0

    def on_next(chunk: Any) -> None:
        nonlocal depth
        depth += 1
        assert depth == 1, "called recursively"
        marbles.valve.close()
        marbles.valve.open()
        got.append(chunk.text)
        depth -= 1

    stream = marbles.cold("(a,b,c)|", demand=True)
    marbles.valve.close()
    stream.subscribe(on_next, scheduler=with_valve(marbles.scheduler, marbles.valve))
    marbles.advance_to(20)
    marbles.valve.open()
    assert got == ["a", "b", "c"]


def test_a_source_without_demand_ignores_the_valve() -> None:
    marbles = Marbles()
    marbles.valve.close()
    assert marbles.run(marbles.cold("ab|"))[0] == (0.0, Token("ab"))


def test_pending_timers_are_listed() -> None:
    marbles = Marbles()
    subscription = marbles.subscribe(rx.timer(7.0))
    assert marbles.timers == [7.0]
    subscription.dispose()
    assert marbles.timers == []


def test_one_bench_runs_one_stream_after_another() -> None:
    marbles = Marbles()
    assert marbles.run(marbles.cold("a"), until=5) == [(0.0, Token("a"))]
    assert marbles.run(marbles.cold("-b")) == [(6.0, Token("b"))]


def test_time_does_not_go_back() -> None:
    marbles = Marbles()
    marbles.advance_to(5)
    with pytest.raises(ValueError, match="virtual time is already 5 s"):
        marbles.advance_to(5)
