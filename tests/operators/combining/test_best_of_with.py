"""`best_of_with`: `best_of` in a pipe."""

from typing import Any

import pytest
import reactivex as rx

from rxllm import Stream
from rxllm import operators as ops
from rxllm.chunks import Token
from rxllm.operators import Choice
from rxllm.testing import COMPLETED, Marbles
from tests.operators.combining.sources import PAIRS, played


@pytest.mark.parametrize("pair", PAIRS)
def test_it_is_best_of_with_the_piped_stream_first(pair: tuple[str, str]) -> None:
    assert played(pair, lambda a, b: ops.best_of_with(b)(a)) == played(
        pair, lambda a, b: ops.best_of({"0": a, "1": b})
    )
    assert played(
        pair, lambda a, b: ops.best_of_with({"b": b}, name="a", weights={"b": 9})(a)
    ) == played(pair, lambda a, b: ops.best_of({"a": a, "b": b}, weights={"b": 9}))


def test_weights_are_by_the_number_of_a_stream(marbles: Marbles) -> None:
    others = [marbles.cold("b|"), marbles.cold("c|")]
    stream = marbles.cold("a|").pipe(ops.best_of_with(*others, weights={"0": 2, "2": 3}))
    assert marbles.run(stream) == [(0.0, Token("c", source="2")), (1.0, COMPLETED)]


def test_score_and_on_choice_are_used(marbles: Marbles) -> None:
    choices: list[Choice] = []
    best = ops.best_of_with(
        {"b": marbles.cold("bb|")},
        name="a",
        score=lambda piece: -len(piece.text),
        on_choice=choices.append,
    )
    marbles.run(marbles.cold("a|").pipe(best))
    assert [(choice.source, choice.scores) for choice in choices] == [("a", {"a": -1, "b": -2})]


def test_a_plain_observable_can_be_piped_and_a_stream_comes_out(marbles: Marbles) -> None:
    stream = rx.of(Token("a")).pipe(ops.best_of_with(marbles.cold("xx|")))
    assert isinstance(stream, Stream)
    assert repr(stream) == "<Stream best_of_with>"
    assert marbles.run(stream)[0] == (0.0, Token("xx", source="1"))


def test_a_stream_whose_piece_waits_is_paused(marbles: Marbles) -> None:
    fast = marbles.cold("abc|", lookup={}, demand=True)
    recording = marbles.subscribe(fast.pipe(ops.best_of_with(marbles.cold("-----x|"))))
    marbles.advance_to(4)
    assert recording.events == []
    marbles.advance_to(9)
    assert recording.events[0][0] == 5.0


def test_without_another_stream_it_is_refused() -> None:
    with pytest.raises(ValueError, match="best_of_with takes at least one other stream"):
        ops.best_of_with()


def test_two_streams_with_the_same_name_are_refused() -> None:
    with pytest.raises(ValueError, match="best_of_with has two streams named 'a'"):
        ops.best_of_with({"a": rx.empty()}, name="a")


@pytest.mark.parametrize("other", [None, "text", ops.words])
def test_what_is_not_a_stream_is_refused_at_the_call(other: Any) -> None:
    with pytest.raises(TypeError, match=r"best_of_with takes streams, got .* for '1'"):
        ops.best_of_with(other)


def test_a_weight_for_an_unknown_stream_is_refused_at_the_call() -> None:
    with pytest.raises(ValueError, match="a weight for 'c'"):
        ops.best_of_with(rx.empty(), weights={"c": 1})


@pytest.mark.parametrize("callback", ["score", "on_choice"])
def test_callbacks_must_be_callable(callback: str) -> None:
    arguments: dict[str, Any] = {callback: 3}
    with pytest.raises(TypeError, match=callback):
        ops.best_of_with(rx.empty(), **arguments)
