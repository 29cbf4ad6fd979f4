"""`side_by_side_with`: `side_by_side` in a pipe."""

from collections.abc import Mapping
from typing import Any

import pytest
import reactivex as rx

from rxllm import Stream
from rxllm import operators as ops
from rxllm.chunks import Token
from rxllm.models.scripted import ScriptedModel
from rxllm.operators import StreamSummary
from rxllm.testing import COMPLETED, Marbles, run_virtual
from tests.operators.combining.sources import PAIRS, played


@pytest.mark.parametrize("pair", PAIRS)
def test_it_is_side_by_side_with_the_piped_stream_first(pair: tuple[str, str]) -> None:
    assert played(pair, lambda a, b: ops.side_by_side_with(b)(a)) == played(
        pair, lambda a, b: ops.side_by_side({"0": a, "1": b})
    )
    assert played(pair, lambda a, b: ops.side_by_side_with({"b": b}, name="a")(a)) == played(
        pair, lambda a, b: ops.side_by_side({"a": a, "b": b})
    )


def test_the_summaries_start_with_the_piped_stream(marbles: Marbles) -> None:
    reports: list[Mapping[str, StreamSummary]] = []
    beside = ops.side_by_side_with({"b": marbles.cold("xy|")}, name="a", on_result=reports.append)
    assert marbles.run(marbles.cold("-c|").pipe(beside)) == [
        (0.0, Token("xy", source="b")),
        (1.0, Token("c", source="a")),
        (2.0, COMPLETED),
    ]
    assert [list(report.items()) for report in reports] == [
        [
            ("a", StreamSummary("completed", 1, 2.0, tokens=1)),
            ("b", StreamSummary("completed", 2, 2.0, tokens=1)),
        ]
    ]


def test_each_model_has_its_own_text() -> None:
    left, right = ScriptedModel("one", by="word"), ScriptedModel(["two", ConnectionResetError()])
    beside = ops.side_by_side_with({"right": right.stream("Hi")}, name="left")

    async def main() -> Mapping[str, str]:
        return (await left.stream("Hi").pipe(beside)).texts

    assert run_virtual(main()) == {"left": "one", "right": "two"}


def test_a_plain_observable_can_be_piped_and_a_stream_comes_out(marbles: Marbles) -> None:
    stream = rx.of(Token("a")).pipe(ops.side_by_side_with(marbles.cold("|")))
    assert isinstance(stream, Stream)
    assert repr(stream) == "<Stream side_by_side_with>"
    assert marbles.run(stream)[0] == (0.0, Token("a", source="0"))


def test_both_wait_for_the_valve_of_the_subscriber(marbles: Marbles) -> None:
    marbles.at(1, marbles.valve.close)
    left, right = marbles.cold("a-b", demand=True), marbles.cold("x-y", demand=True)
    recording = marbles.subscribe(left.pipe(ops.side_by_side_with(right)))
    marbles.advance_to(9)
    assert [chunk.source for chunk in recording.chunks] == ["0", "1"]


def test_without_another_stream_it_is_refused() -> None:
    with pytest.raises(ValueError, match="side_by_side_with takes at least one other stream"):
        ops.side_by_side_with()


@pytest.mark.parametrize(("other", "name"), [("a", "a"), ("a/b", "a")])
def test_ambiguous_names_are_refused(other: str, name: str) -> None:
    with pytest.raises(ValueError, match="another name"):
        ops.side_by_side_with({other: rx.empty()}, name=name)


@pytest.mark.parametrize("other", [None, "text", ops.words])
def test_what_is_not_a_stream_is_refused_at_the_call(other: Any) -> None:
    with pytest.raises(TypeError, match=r"side_by_side_with takes streams, got .* for '1'"):
        ops.side_by_side_with(other)


def test_on_result_must_be_callable() -> None:
    with pytest.raises(TypeError, match="on_result"):
        ops.side_by_side_with(rx.empty(), on_result=3)  # type: ignore[arg-type]
