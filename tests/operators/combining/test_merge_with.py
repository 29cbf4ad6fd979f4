"""`merge_with`: `merge_streams` in a pipe."""

from typing import Any

import pytest
import reactivex as rx

from rxllm import Stream
from rxllm import operators as ops
from rxllm.chunks import Token, text_of
from rxllm.testing import COMPLETED, Marbles
from tests.operators.combining.sources import PAIRS, played


@pytest.mark.parametrize("pair", PAIRS)
def test_it_is_merge_streams_with_the_piped_stream_first(pair: tuple[str, str]) -> None:
    assert played(pair, lambda a, b: ops.merge_with(b)(a)) == played(pair, ops.merge_streams)
    assert played(pair, lambda a, b: ops.merge_with({"b": b}, name="a")(a)) == played(
        pair, lambda a, b: ops.merge_streams({"a": a, "b": b})
    )


def test_the_piped_stream_is_0_and_the_others_are_numbered_from_1(marbles: Marbles) -> None:
    stream = marbles.cold("a|").pipe(ops.merge_with(marbles.cold("-b|"), marbles.cold("--c|")))
    assert marbles.run(stream) == [
        (0.0, Token("a", source="0")),
        (1.0, Token("b", source="1")),
        (2.0, Token("c", source="2")),
        (3.0, COMPLETED),
    ]


def test_the_number_of_active_streams_is_reported(marbles: Marbles) -> None:
    counts: list[int] = []
    marbles.run(marbles.cold("|").pipe(ops.merge_with(marbles.cold("-|"), on_active=counts.append)))
    assert counts == [2, 1, 0]


def test_a_plain_observable_can_be_piped_and_a_stream_comes_out(marbles: Marbles) -> None:
    plain = rx.of(Token("a"), Token("b"))
    stream = plain.pipe(ops.merge_with(marbles.cold("x|")), ops.words())
    assert isinstance(stream, Stream)
    assert repr(ops.merge_with(plain)(plain)) == "<Stream merge_with>"
    assert "".join(sorted(text_of(event) for _, event in marbles.run(stream)[:-1])) == "abx"


def test_both_wait_for_the_valve_of_the_subscriber(marbles: Marbles) -> None:
    marbles.at(1, marbles.valve.close)
    left, right = marbles.cold("a-b", demand=True), marbles.cold("x-y", demand=True)
    recording = marbles.subscribe(left.pipe(ops.merge_with(right)))
    marbles.advance_to(9)
    assert [text_of(chunk) for chunk in recording.chunks] == ["a", "x"]
    recording.dispose()
    assert (left.subscriptions, right.subscriptions) == ([(0.0, 9.0)], [(0.0, 9.0)])


def test_one_operator_serves_several_streams(marbles: Marbles) -> None:
    operator = ops.merge_with(marbles.cold("|"))
    streams = [marbles.cold("a|").pipe(operator), marbles.cold("b|").pipe(operator)]
    assert "".join(text_of(event) for _, event in marbles.run(rx.concat(*streams))) == "ab"


def test_streams_added_to_the_mapping_later_are_not_merged(marbles: Marbles) -> None:
    streams: dict[str, rx.Observable[Any]] = {"b": marbles.cold("b|")}
    operator = ops.merge_with(streams, name="a")
    streams["c"] = marbles.cold("c|")
    events = marbles.run(operator(marbles.cold("|")))
    assert events == [(0.0, Token("b", source="b")), (1.0, COMPLETED)]


@pytest.mark.parametrize("streams", [(), ({},)])
def test_without_another_stream_it_is_refused(streams: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match="merge_with takes at least one other stream"):
        ops.merge_with(*streams)


@pytest.mark.parametrize(
    ("other", "name"), [({"a": rx.empty()}, "a"), (rx.empty(), "1"), ({"0": rx.empty()}, "0")]
)
def test_two_streams_with_the_same_name_are_refused(other: Any, name: str) -> None:
    with pytest.raises(ValueError, match=f"merge_with has two streams named '{name}'"):
        ops.merge_with(other, name=name)


@pytest.mark.parametrize("other", [None, "text", [rx.empty()], ops.words])
def test_what_is_not_a_stream_is_refused_at_the_call(other: Any) -> None:
    with pytest.raises(TypeError, match=r"merge_with takes streams, got .* for '1'"):
        ops.merge_with(other)


def test_what_is_not_a_stream_can_not_be_piped() -> None:
    with pytest.raises(TypeError, match="merge_with takes streams, got str for '0'"):
        ops.merge_with(rx.empty())("text")  # type: ignore[arg-type]


def test_a_name_must_be_a_string() -> None:
    with pytest.raises(TypeError, match="the name of a stream"):
        ops.merge_with(rx.empty(), name=3)  # type: ignore[arg-type]


def test_on_active_must_be_callable() -> None:
    with pytest.raises(TypeError, match="on_active"):
        ops.merge_with(rx.empty(), on_active=3)  # type: ignore[arg-type]
