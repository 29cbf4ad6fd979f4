r"""`parse_json`: the value while it streams, and the check of the complete one."""

import json
import sys
from dataclasses import dataclass
from functools import partial
from json import JSONDecodeError
from typing import Any

import jiter
import msgspec
import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st

from rxllm import operators as ops
from rxllm.chunks import Batch, Chunk, End, Json, Notice, Progress, Reasoning, Token, Usage, encode
from rxllm.errors import MalformedStreamError, classify_error
from rxllm.iteration import to_async
from rxllm.models.scripted import ScriptedModel
from rxllm.testing import COMPLETED, Marbles, no_leaks, run_virtual
from rxllm.valve import with_valve
from tests.operators.texts import cut_texts, events_of

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.sampled_from('ab"\\{}[]`\n é👩\u2028'), max_size=6),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.sampled_from('ab"}'), max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)
JSON_TEXTS = st.builds(
    lambda value, ascii_only, indent: json.dumps(value, ensure_ascii=ascii_only, indent=indent),
    VALUES,
    st.booleans(),
    st.sampled_from([None, 1]),
)

PIECES = {
    "a": Token("[1"),
    "b": Token(", 2"),
    "c": Token(", 3"),
    "d": Token(", 4"),
    "q": Token(', "ab'),
    "z": Token("]"),
}
"""The pieces that diagram letters stand for, as diagrams can't contain commas."""


class Cat(msgspec.Struct):
    """A record type, as a user would write it."""

    name: str
    age: int = 0


def values(pieces: list[Any], *arguments: Any) -> list[Any]:
    """The output for `pieces`, without structure and usage."""
    events = events_of(pieces, ops.parse_json(*arguments))
    return [event for event in events[1:] if type(event) not in (Usage, End)]


def last_of(pieces: list[Any], *arguments: Any) -> Any:
    """The complete value, or the error."""
    got = events_of(pieces, ops.parse_json(*arguments))
    complete = [event.value for event in got if type(event) is Json and event.complete]
    if got[-1] is COMPLETED:
        assert len(complete) == 1
        return complete[0]
    assert not complete
    return got[-1]


def failure_of(pieces: list[Any], *arguments: Any) -> MalformedStreamError:
    """The error that ends the stream."""
    failure = last_of(pieces, *arguments)
    assert isinstance(failure, MalformedStreamError)
    return failure


def test_the_value_is_shown_while_it_grows() -> None:
    assert values(['{"name"', ': "Mi', 'a", "a', 'ge": 3', "}"]) == [
        Json({}),
        Json({"name": "Mi"}),
        Json({"name": "Mia"}),
        Json({"name": "Mia", "age": 3}),
        Json({"name": "Mia", "age": 3}, complete=True),
        COMPLETED,
    ]


def test_a_value_that_has_not_changed_is_not_sent_again() -> None:
    assert values(["{", " ", "\n", ' "', "a"])[:1] == [Json({})]
    assert len(values(["[", " ", "\n", "]"])) == 3


def test_the_complete_value_is_sent_as_soon_as_it_is_closed(marbles: Marbles) -> None:
    stream = marbles.cold("S-[1]-x-E|").pipe(ops.parse_json())
    assert marbles.run(stream) == [
        *marbles.expect("S"),
        (2.0, Json([1], complete=True)),
        (8.0, End("stop")),
        (9.0, COMPLETED),
    ]


def test_a_number_at_the_end_may_grow_and_half_a_literal_is_not_shown() -> None:
    assert values(["[1", "2, tr", "ue]"]) == [
        Json([1]),
        Json([12]),
        Json([12, True], complete=True),
        COMPLETED,
    ]


@pytest.mark.parametrize(
    "answer",
    [
        '```json\n{"a": [1]}\n```',
        '```\n{"a": [1]}```',
        'Here it is:\n```json\n{"a": [1]}\n```\nThat {was} [it].',
        'Sure: {"a": [1]} {"b": 2}',
        ' \n\ufeff{"a": [1]}\n',
    ],
)
def test_fences_and_sentences_around_the_value_are_ignored(answer: str) -> None:
    assert last_of([answer]) == last_of(list(answer)) == {"a": [1]}


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("12", 12),
        (" -1.5e3\n", -1500.0),
        ("null", None),
        ("```json\ntrue\n```", True),
        ('```\n"a"```', "a"),
        ('"say \\"{\\" [', "..."),
        ('"say \\"{\\"" or not', 'say "{"'),
    ],
)
def test_a_bare_value_comes_at_the_end_of_the_answer(answer: str, value: Any) -> None:
    if value == "...":
        assert "Unterminated string" in str(failure_of(list(answer)))
    else:
        assert last_of([answer]) == last_of(list(answer)) == value


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ('{"a": 1,\n "b" 2}', r"is not valid JSON: Expecting ':' .*: line 2 column 6 \(char 14\)"),
        ('Here: {"é" 2}', r"line 1 column 12 \(char 11\)"),
        ("{]", r"property name .* \(char 1\)"),
        ('["a\nb"]', r"control character .* \(char 3\)"),
        ("[1,]", r"\(char 3\)"),
        ("Hello!", r"Expecting value: line 1 column 1 \(char 0\)"),
        ("12 apples", r"text after the JSON value: .*\(char 2\)"),
        (" \n", r"no JSON value: line 2 column 1 \(char 2\)"),
        ("```json\n```", r"no JSON value"),
        ('{"a": [1, 2', r"ends before its JSON value does: .*\(char 11\)"),
        ('["x", NaN]', r"number out of range: .*\(char 6\)"),
        ('["NaN", -Infinity]', r"number out of range: .*\(char 8\)"),
        ("[0, 1e999]", r"number out of range: .*\(char 4\)"),
        (f"[1, {'9' * 5000}]", r"number out of range: .*\(char 4\)"),
        (r'["\ud83d\ude00", "\\ud83d", "\ud83d"]', r"lone surrogate: .*\(char 29\)"),
        ('["\ud83d"]', r"lone surrogate: .*\(char 2\)"),
        ("[" * 100_000 + "]" * 100_000, r"nested too deeply"),
    ],
)
def test_invalid_json_is_malformed_and_the_message_says_where(answer: str, message: str) -> None:
    failure = failure_of([answer])
    assert failure.partial == answer
    assert classify_error(failure) == "retry"
    cause = failure.__cause__
    assert isinstance(cause, JSONDecodeError)
    assert f"(char {cause.pos})" in str(failure)
    with pytest.raises(MalformedStreamError, match=message):
        raise failure


def test_the_value_so_far_is_sent_before_a_failure_at_the_end(marbles: Marbles) -> None:
    stream = marbles.cold("a-b-q-E|", lookup=PIECES).pipe(ops.parse_json(seconds=60))
    first, last, failure = marbles.run(stream)
    assert (first, last) == ((0.0, Json([1])), (6.0, Json([1, 2, "ab"])))
    assert "ends before" in str(failure[1])


def test_the_incomplete_value_is_sent_before_an_error(marbles: Marbles) -> None:
    error = ValueError("broken")
    stream = marbles.cold("a-b#", lookup=PIECES, error=error).pipe(ops.parse_json(seconds=60))
    assert marbles.run(stream) == [(0.0, Json([1])), (3.0, Json([1, 2])), (3.0, error)]


def test_an_error_after_the_complete_value_sends_nothing_again(marbles: Marbles) -> None:
    error = ValueError("broken")
    stream = marbles.cold("[1]x-#", error=error).pipe(ops.parse_json())
    assert marbles.run(stream) == [(0.0, Json([1], complete=True)), (5.0, error)]


def test_the_last_of_equal_keys_wins_and_integers_are_exact() -> None:
    assert last_of(['{"a": 1, "a": 123456789012345678901234567890}']) == {
        "a": 123456789012345678901234567890
    }


def test_the_complete_value_becomes_an_instance_of_the_type() -> None:
    assert values(['{"name": "Mia"', "}"], Cat) == [
        Json({"name": "Mia"}),
        Json(Cat("Mia"), complete=True),
        COMPLETED,
    ]
    assert last_of(["[1, 2]"], list[int]) == [1, 2]
    assert last_of(['{"1": 2}'], dict[int, int]) == {1: 2}
    assert encode(Json(Cat("Mia"), complete=True)) == (
        b'{"type":"json","value":{"name":"Mia","age":0},"complete":true}'
    )


def test_a_value_that_does_not_match_the_type_fails_and_says_where() -> None:
    failure = failure_of(['{"name": "Mia", "age": "3"} and more'], Cat)
    assert str(failure) == (
        "the JSON value doesn't match its schema: Expected `int`, got `str` - at `$.age`"
    )
    assert failure.partial == '{"name": "Mia", "age": "3"}'
    assert isinstance(failure.__cause__, ValueError)


def test_a_function_checks_the_value_and_may_replace_it() -> None:
    assert last_of(["[1, 2]"], sum) == 3
    failure = failure_of(["[1, 2]"], lambda value: int("x"))
    assert "doesn't match its schema: invalid literal" in str(failure)


def test_any_other_exception_from_a_function_is_the_error(marbles: Marbles) -> None:
    source = marbles.cold("[1-]-x|")
    stream = source.pipe(ops.parse_json(lambda value: value["name"]))
    events = marbles.run(stream)
    assert events[0] == (0.0, Json([1]))
    assert isinstance(events[1][1], TypeError)
    assert (source.subscriptions, marbles.timers) == ([(0.0, 3.0)], [])


def test_a_json_schema_is_checked_by_jsonschema() -> None:
    pytest.importorskip("jsonschema")
    schema = {
        "type": "object",
        "properties": {"age": {"type": "integer", "minimum": 0}},
        "required": ["name"],
    }
    assert last_of(['{"name": "Mia", "age": 3}'], schema) == {"name": "Mia", "age": 3}
    failure = failure_of(['{"name": "Mia", "age": -3}'], schema)
    assert "-3 is less than the minimum of 0 - at `$.age`" in str(failure)
    with pytest.raises(ValueError, match=r"invalid JSON Schema: .* at `\$.type`"):
        ops.parse_json({"type": "objekt"})


def test_a_json_schema_never_fetches_another_one() -> None:
    pytest.importorskip("jsonschema")
    failure = last_of(["[1]"], {"$ref": "http://127.0.0.1:9/schema.json"})
    assert type(failure).__mro__[2].__name__ == "Unresolvable"


def test_without_jsonschema_a_json_schema_is_rejected_at_the_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    with pytest.raises(ImportError, match="pip install jsonschema, or pass a type"):
        ops.parse_json({"type": "object"})


def test_never_and_empty_and_a_stream_without_text(marbles: Marbles) -> None:
    assert marbles.run(marbles.cold("").pipe(ops.parse_json()), until=1) == []
    assert marbles.run(marbles.cold("|").pipe(ops.parse_json())) == [(1.0, COMPLETED)]
    bench = Marbles()
    stream = bench.cold("S-t-r-E|", lookup={"t": Token(""), "r": Reasoning("{")})
    assert bench.run(stream.pipe(ops.parse_json())) == [
        *bench.expect("S"),
        (4.0, Reasoning("{")),
        (6.0, End("stop")),
        (7.0, COMPLETED),
    ]


def test_a_restart_starts_over_and_cancels_the_timer(marbles: Marbles) -> None:
    stream = marbles.cold("a-b-R-a-z-E|", lookup=PIECES).pipe(ops.parse_json(seconds=60))
    assert marbles.run(stream) == [
        (0.0, Json([1])),
        (4.0, Notice("restart")),
        (6.0, Json([1])),
        (8.0, Json([1], complete=True)),
        (10.0, End("stop")),
        (11.0, COMPLETED),
    ]


def test_a_complete_value_is_parsed_again_after_a_restart() -> None:
    assert last_of(["[1]", Notice("retry"), "x"]) == [1]
    got = values(["[1]", Notice("restart"), "[2]"])
    assert got == [Json([1], True), Notice("restart"), Json([2], True), COMPLETED]


def test_other_chunks_pass_at_once_in_order() -> None:
    other = [Progress(1, 0.5), Reasoning("]"), Notice("retry")]
    assert values(["[1", *other, "]"]) == [Json([1]), *other, Json([1], True), COMPLETED]


def test_text_in_a_batch_is_text() -> None:
    batch = Batch((Token("[1"), Reasoning("]"), Token(", 2]")), "[1, 2]")
    assert values([batch, Batch((Reasoning("so"),), "")]) == [
        Reasoning("]"),
        Json([1, 2], complete=True),
        Reasoning("so"),
        COMPLETED,
    ]


def test_the_value_of_a_failed_stream_of_a_merge_is_sent_first() -> None:
    failed = Notice("failed", source="left")
    stream: rx.Observable[Chunk] = rx.of(
        Token("[", source="left"), Token("1", source="left"), failed
    )
    assert [event for _, event in Marbles().run(stream.pipe(ops.parse_json()))] == [
        Json([], source="left"),
        Json([1], source="left"),
        failed,
        COMPLETED,
    ]


def test_each_source_has_its_own_value(marbles: Marbles) -> None:
    left = marbles.cold("[1--]-E|", source="left")
    right = marbles.cold('-{"a"--:1}--E|', source="right")
    assert marbles.run(rx.merge(left, right).pipe(ops.parse_json())) == [
        (0.0, Json([1], source="left")),
        (1.0, Json({}, source="right")),
        (4.0, Json([1], complete=True, source="left")),
        (6.0, End("stop", source="left")),
        (7.0, Json({"a": 1}, complete=True, source="right")),
        (12.0, End("stop", source="right")),
        (13.0, COMPLETED),
    ]


def test_subscriptions_are_independent(marbles: Marbles) -> None:
    stream = marbles.cold("[1--]|").pipe(ops.parse_json())
    first = marbles.subscribe(stream)
    marbles.advance_to(1)
    second = marbles.subscribe(stream)
    marbles.advance_to(9)
    assert first.chunks == second.chunks == [Json([1]), Json([1], complete=True)]


def test_early_disposal_disposes_the_source_and_the_timer(marbles: Marbles) -> None:
    source = marbles.cold("a-b----c|", lookup=PIECES)
    recording = marbles.subscribe(source.pipe(ops.parse_json(seconds=60)))
    marbles.advance_to(4)
    recording.dispose()
    assert (recording.chunks, source.subscriptions) == ([Json([1])], [(0.0, 4.0)])
    assert marbles.timers == []
    assert marbles.valve._callbacks == {}


def test_one_value_per_interval_and_the_timer_sends_the_last(
    marbles: Marbles,
) -> None:
    stream = marbles.cold("a-b-c------d", lookup=PIECES).pipe(ops.parse_json(seconds=8))
    assert marbles.run(stream) == [
        (0.0, Json([1])),
        (8.0, Json([1, 2, 3])),
        (16.0, Json([1, 2, 3, 4])),
    ]


def test_by_default_the_value_is_at_most_100_milliseconds_old() -> None:
    bench = Marbles()
    model = ScriptedModel(["[1"] + [f", {i}" for i in range(2, 60)], delay=0.01)
    events = bench.run(model.stream("Hi").pipe(ops.parse_json()))
    times = [time for time, event in events if type(event) is Json]
    assert [round(time, 3) for time in times] == [0.01, 0.11, 0.21, 0.31, 0.41, 0.51, 0.59]


def test_a_long_value_is_parsed_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    from_json = jiter.from_json

    def counted(data: bytes, **options: Any) -> Any:
        read.append(len(data))
        return from_json(data, **options)

    monkeypatch.setattr(jiter, "from_json", counted)
    piece = '"' + "a" * 1020 + '",'
    model = ScriptedModel(["[", *[piece] * 1000, "1]"], delay=0.01)
    Marbles().run(model.stream("Hi").pipe(ops.parse_json()))
    assert len(read) < 50
    assert sum(read) < 12 * 1_000_000  # parsing every 0.1 s would read 50 million


def test_no_incomplete_value_is_sent_through_a_closed_valve(marbles: Marbles) -> None:
    marbles.at(2, marbles.valve.close)
    marbles.at(20, marbles.valve.open)
    stream = marbles.hot("a---b---c------------------d-", lookup=PIECES).pipe(
        ops.parse_json(seconds=1)
    )
    assert marbles.run(stream) == [
        (0.0, Json([1])),
        (20.0, Json([1, 2, 3])),
        (27.0, Json([1, 2, 3, 4])),
    ]


def test_a_subscriber_error_is_not_a_stream_error(marbles: Marbles) -> None:
    errors: list[Exception] = []

    def on_next(_: Any) -> None:
        raise KeyError("mine")

    stream = marbles.cold("[1]").pipe(ops.parse_json())
    stream.subscribe(on_next, errors.append, scheduler=marbles.scheduler)
    with pytest.raises(KeyError, match="mine"):
        marbles.advance_to(1)
    assert errors == []


def test_demand_passes_through(marbles: Marbles) -> None:
    marbles.at(1, marbles.valve.close)
    recording = marbles.subscribe(
        marbles.cold("a-b-c-z|", lookup=PIECES, demand=True).pipe(ops.parse_json())
    )
    marbles.advance_to(9)
    assert recording.chunks == [Json([1])]


def test_nothing_leaks_on_an_event_loop() -> None:
    async def main() -> list[Any]:
        stream = ScriptedModel(["[1", ", 2", "]"], delay=0.03).stream("Hi")
        async with no_leaks():
            return [chunk async for chunk in to_async(stream.pipe(ops.parse_json()))]

    chunks = [chunk for chunk in run_virtual(main()) if type(chunk) is Json]
    assert chunks == [Json([1]), Json([1, 2], complete=True)]


@given(cut_texts(JSON_TEXTS))
def test_the_value_does_not_depend_on_the_cuts(
    cut: tuple[str, list[str]],
) -> None:
    text, pieces = cut
    assert last_of(list(pieces)) == json.loads(text)


@given(cut_texts(st.text(st.sampled_from('{}[]"\\:,1 eaun`\n'), max_size=12)))
def test_the_failure_does_not_depend_on_the_cuts(cut: tuple[str, list[str]]) -> None:
    text, pieces = cut

    def outcome(pieces: list[str]) -> tuple[object, str]:
        last = last_of(list(pieces)) if text else None
        return (str(last), last.partial) if isinstance(last, MalformedStreamError) else (last, "")

    assert outcome(pieces) == outcome([text])


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan")])
def test_an_invalid_time_is_rejected_at_the_call(seconds: float) -> None:
    with pytest.raises(ValueError, match="seconds must be a finite number above 0 "):
        ops.parse_json(seconds=seconds)


@pytest.mark.parametrize("seconds", [True, "1", None])
def test_a_time_that_is_not_a_number_is_rejected(seconds: Any) -> None:
    with pytest.raises(TypeError, match="seconds must be "):
        ops.parse_json(seconds=seconds)


async def _asynchronous(value: Any) -> Any:
    return value


@pytest.mark.parametrize("schema", [_asynchronous, partial(_asynchronous)])
def test_an_asynchronous_function_is_rejected_at_the_call(schema: Any) -> None:
    with pytest.raises(TypeError, match="is asynchronous"):
        ops.parse_json(schema)


def test_a_function_that_returns_an_awaitable_is_an_error() -> None:
    failure = last_of(["[1]"], lambda value: _asynchronous(value))
    assert isinstance(failure, TypeError)
    assert "awaitable" in str(failure)


def test_a_subscriber_that_raises_in_a_timer_or_valve_callback_closes_the_source() -> None:
    for wake in ("timer", "valve"):
        marbles = Marbles()
        source = marbles.cold(
            "a--b---c", lookup={"a": Token("["), "b": Token("1"), "c": Token("2")}
        )
        got: list[Any] = []

        def on_next(value: Any, got: list[Any] = got) -> None:
            got.append(value)
            if value == Json([1]):
                raise KeyError("mine")

        stream = source.pipe(ops.parse_json(seconds=5 if wake == "timer" else 1))
        if wake == "valve":
            marbles.at(1, marbles.valve.close)
            marbles.at(5, marbles.valve.open)
        scheduler = with_valve(marbles.scheduler, marbles.valve)
        stream.subscribe(on_next, got.append, scheduler=scheduler)
        with pytest.raises(KeyError, match="mine"):
            marbles.advance_to(9)
        assert (got, source.subscriptions) == ([Json([]), Json([1])], [(0.0, 5.0)])
        assert marbles.timers == []


@pytest.mark.parametrize("schema", [object, 3, "Cat", dict[int, int] | dict[str, int]])
def test_an_unsupported_schema_is_rejected_at_the_call(schema: Any) -> None:
    with pytest.raises(TypeError, match="parse_json: "):
        ops.parse_json(schema)


def test_a_dataclass_is_a_type() -> None:
    @dataclass
    class Point:
        x: int

    assert last_of(['{"x": 1}'], Point) == Point(1)


@pytest.mark.parametrize(
    ("pieces", "says"),
    [
        (['{"a": 1}\n{"b": 2}\n{"c": 3}'], True),
        (['{"a": 1} and {"', 'b": 2', "}"], True),
        (['{"a": 1} as in {the text} [above]'], False),
        (['{"a": 1} and {"b": '], False),
        (['{"a": 1}```'], False),
    ],
)
def test_a_notice_says_that_more_values_follow(pieces: list[str], says: bool) -> None:
    got = events_of(pieces, ops.parse_json())
    assert [event.value for event in got if type(event) is Json and event.complete] == [{"a": 1}]
    notices = [event for event in got if type(event) is Notice]
    assert [each.kind for each in notices] == (["unsupported"] if says else [])
    if says:
        assert notices[0].error is not None
        assert "use ops.json_items" in notices[0].error.message
