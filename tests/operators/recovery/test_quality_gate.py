"""`quality_gate` and its ready-made conditions: a bad answer is an error."""

import dataclasses
import json
from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st

from rxllm import operators as ops
from rxllm.chunks import Batch, End, Notice, Reasoning, Token, text_of
from rxllm.errors import QualityError
from rxllm.models.scripted import ScriptedModel
from rxllm.operators import Quality, not_json, repeats, too_slow
from rxllm.testing import COMPLETED, Marbles


def quality(text: str, *, complete: bool = False) -> Quality:
    made = Quality()
    made.add(text)
    made.is_complete = complete
    return made


def bad(word: str) -> Any:
    return lambda quality: word in quality.text


def test_a_good_answer_is_unchanged(marbles: Marbles) -> None:
    stream = marbles.cold("S-a-b-(E,|)").pipe(ops.quality_gate(bad("x"), every=1))
    assert marbles.run(stream) == marbles.expect("S-a-b-(E,|)")


def test_a_bad_answer_is_an_error_in_place_of_the_token(marbles: Marbles) -> None:
    source = marbles.cold("S-a-x-b-(E,|)")
    *before, (time, error) = marbles.run(source.pipe(ops.quality_gate(bad("x"), every=1)))
    assert before == marbles.expect("S-a")
    assert (time, type(error), error.partial) == (4.0, QualityError, "a")
    assert (source.subscriptions, marbles.timers) == ([(0.0, 4.0)], [])


def test_conditions_are_checked_every_ten_tokens_and_at_the_end(marbles: Marbles) -> None:
    seen: list[tuple[int, bool]] = []
    stream = ScriptedModel("x" * 25, by="character").stream("Hi")
    condition = lambda q: seen.append((q.tokens, q.is_complete))  # noqa: E731
    marbles.run(stream.pipe(ops.quality_gate(condition)))
    assert seen == [(10, False), (20, False), (25, True)]


@pytest.mark.parametrize("diagram", ["S-x-(E,|)", "S-x-|"])
def test_at_the_end_the_error_replaces_the_end(marbles: Marbles, diagram: str) -> None:
    events = marbles.run(marbles.cold(diagram).pipe(ops.quality_gate(bad("x"))))
    assert (events[-1][0], type(events[-1][1])) == (4.0, QualityError)
    assert End("stop") not in [event for _, event in events]


def test_a_reason_in_words_is_in_the_message(marbles: Marbles) -> None:
    stream = marbles.cold("a-|").pipe(ops.quality_gate(lambda _: "", lambda _: "too short"))
    assert str(marbles.run(stream)[-1][1]) == "the answer failed a quality check: too short"


def test_a_fallback_handles_it(marbles: Marbles) -> None:
    model, backup = ScriptedModel("As an AI, I can't.", by="word"), ScriptedModel("Yes.")
    stream = model.stream("Hi").pipe(
        ops.quality_gate(bad("As an AI"), every=1),
        ops.retry_with_backoff(),
        ops.fallback_to(backup.stream("Hi"), after_output="restart"),
    )
    text = ""
    for _, event in marbles.run(stream):
        text = "" if event == Notice("restart") else text + text_of(event)
    assert (text, len(model.requests)) == ("Yes.", 1)


def test_an_exception_of_a_condition_is_the_error_of_the_stream(marbles: Marbles) -> None:
    source = marbles.cold("a-b|")
    events = marbles.run(source.pipe(ops.quality_gate(lambda _: bool(1 / 0), every=1)))
    assert (type(events[-1][1]), source.subscriptions) == (ZeroDivisionError, [(0.0, 0.0)])


def test_a_condition_may_raise_an_exception_that_rejects_attributes(marbles: Marbles) -> None:
    @dataclasses.dataclass(frozen=True)
    class Frozen(Exception):  # noqa: N818
        code: int = 1

    def condition(_: Quality) -> bool:
        raise Frozen

    events = marbles.run(marbles.cold("a-b|").pipe(ops.quality_gate(condition, every=1)))
    assert type(events[-1][1]) is Frozen


def test_after_a_restart_the_new_answer_is_checked(marbles: Marbles) -> None:
    both = lambda q: q.text == "ab"  # noqa: E731
    stream = marbles.cold("a-R-b|").pipe(ops.quality_gate(both, every=1))
    assert marbles.run(stream)[-1][1] is COMPLETED


def test_text_in_a_batch_counts_and_reasoning_does_not(marbles: Marbles) -> None:
    seen: list[tuple[int, str]] = []
    batch = Batch((Token("b"), Reasoning("hm"), Token("c")), "bc")
    stream = marbles.cold("a-r-B|", lookup={"B": batch, "r": Reasoning("so")})
    look = lambda q: seen.append((q.tokens, q.text))  # noqa: E731
    marbles.run(stream.pipe(ops.quality_gate(look, every=3)))
    assert seen == [(3, "abc"), (3, "abc")]


def test_after_a_merge_each_answer_is_checked_separately(marbles: Marbles) -> None:
    left = marbles.cold("a-b-E|", source="left")
    right = marbles.cold("-x-b|", source="right")
    seen: list[str] = []
    look = lambda q: seen.append(q.text)  # noqa: E731
    marbles.run(rx.merge(left, right).pipe(ops.quality_gate(look, every=2)))
    assert seen == ["ab", "xb", "ab", "xb"]


def test_the_partial_text_is_that_of_all_answers_without_withheld_text(
    marbles: Marbles,
) -> None:
    left = marbles.cold("a-b-E|", source="left")
    batch = Batch((Token("y"), Token("!")), "y!", source="right")
    right = marbles.cold("-x---B|", source="right", lookup={"B": batch})
    events = marbles.run(rx.merge(left, right).pipe(ops.quality_gate(bad("!"), every=2)))
    assert events[-1][1].partial == "abx"


def test_a_cancelled_answer_is_not_checked(marbles: Marbles) -> None:
    stream = marbles.cold("x-(C,|)", lookup={"C": End("cancelled")})
    assert marbles.run(stream.pipe(ops.quality_gate(bad("x"))))[-1][1] is COMPLETED


def test_never_empty_error_disposal_two_subscriptions_and_demand(marbles: Marbles) -> None:
    gate = ops.quality_gate(bad("x"))
    assert marbles.run(marbles.cold("").pipe(gate), until=1) == []
    assert marbles.run(marbles.cold("|").pipe(gate), until=2) == [(1.0, COMPLETED)]
    error = ValueError("mine")
    assert marbles.run(marbles.cold("a#", error=error).pipe(gate), until=4)[-1] == (3.0, error)
    source = marbles.cold("a-b-c", demand=True)
    first, second = marbles.subscribe(source.pipe(gate)), marbles.subscribe(source.pipe(gate))
    marbles.advance_to(5)
    marbles.valve.close()
    marbles.advance_to(9)
    first.dispose()
    assert first.chunks == second.chunks == [Token("a")]
    assert source.subscriptions == [(4.0, 9.0), (4.0, None)]


def test_a_slow_answer_fails(marbles: Marbles) -> None:
    model = ScriptedModel("a b c d e f", by="word", delay=0.5, first_delay=60)
    gate = ops.quality_gate(too_slow(5, after=1), every=1)
    events = marbles.run(model.stream("Hi").pipe(gate))
    assert (events[-1][0], str(events[-1][1])) == (
        61.5,
        "the answer failed a quality check: 2 tokens/s, the minimum is 5",
    )
    assert marbles.run(model.stream("Hi").pipe(ops.quality_gate(too_slow(2))))[-1][1] is COMPLETED


def test_a_complete_answer_is_not_rejected_for_its_speed(marbles: Marbles) -> None:
    stream = marbles.cold("a---b---c---(E,|)").pipe(ops.quality_gate(too_slow(5)))
    assert marbles.run(stream)[-1][1] is COMPLETED


@pytest.mark.parametrize("piece", ["No, no. ", "the same thing and ", "xyz", "字", "a" * 39 + "b"])
def test_a_loop_is_found_however_it_is_split(piece: str) -> None:
    said = "He said: " + piece * max(4, 40 // len(piece) + 1)
    for end in range(len(piece)):
        assert "was repeated" in str(repeats()(quality(said + piece[:end])))


@pytest.mark.parametrize("text", ["...", "-" * 30, " " * 200, "\n" * 99, "la la la", "no no no no"])
def test_this_is_not_a_loop(text: str) -> None:
    assert repeats()(quality("Well, " + text)) is None


def test_the_cost_of_repeats_does_not_grow_with_the_text() -> None:
    made = Quality()
    for number in range(20_000):
        made.add(f"{number} ")
        if number % 10 == 0:
            assert repeats()(made) is None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab"), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@given(VALUES, st.booleans())
def test_every_prefix_of_a_json_value_is_accepted(value: Any, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    for end in range(len(text)):
        assert not_json()(quality(text[:end])) is None, text[:end]
    assert not_json()(quality(text, complete=True)) is None


@pytest.mark.parametrize(
    "text", ["Sure! Here", "```json", "{name: 1", '{"a" 1', "[x", '{"a": NaN', "tru!"]
)
def test_this_is_not_a_prefix_of_a_json_value(text: str) -> None:
    assert "invalid JSON" in str(not_json()(quality(text)))


@pytest.mark.parametrize("text", ["", "{", '{"a": 1} and so on', "tru", "[1,"])
def test_at_its_end_the_json_value_must_be_complete(text: str) -> None:
    assert "invalid JSON" in str(not_json()(quality(text, complete=True)))


def test_invalid_json_is_found_within_the_first_tokens(marbles: Marbles) -> None:
    model = ScriptedModel("Sure! Here is your JSON: {}", by="word")
    events = marbles.run(model.stream("Hi").pipe(ops.quality_gate(not_json(), every=1)))
    assert type(events[1][1]) is QualityError


def test_bad_arguments_are_refused_at_the_call() -> None:
    with pytest.raises(ValueError, match="at least one condition"):
        ops.quality_gate()
    with pytest.raises(ValueError, match="every"):
        ops.quality_gate(not_json(), every=0)
    with pytest.raises(TypeError, match="a condition"):
        ops.quality_gate("x")  # type: ignore[arg-type]
    no_counts: list[Any] = [float("nan"), 2.5, True]
    for number in no_counts:
        with pytest.raises(TypeError, match="every"):
            ops.quality_gate(not_json(), every=number)
        with pytest.raises(TypeError, match="characters"):
            repeats(characters=number)
        with pytest.raises(TypeError, match="times"):
            repeats(times=number)
    with pytest.raises(ValueError, match="tokens_per_second"):
        too_slow(0)
    with pytest.raises(ValueError, match="after"):
        too_slow(1, after=-1)
    with pytest.raises(ValueError, match="characters"):
        repeats(characters=0)
    with pytest.raises(ValueError, match="times"):
        repeats(times=1)
