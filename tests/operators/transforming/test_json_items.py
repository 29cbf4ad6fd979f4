"""`json_items`: each value as it is complete, however the text is cut."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxllm import operators as ops
from rxllm.chunks import Batch, End, Json, Reasoning, Token, Usage
from rxllm.errors import MalformedStreamError
from rxllm.testing import COMPLETED, Marbles
from tests.operators.texts import cut_texts, events_of


def items_of(*pieces: str, **options: Any) -> list[Any]:
    """The values, and the error if there is one."""
    return [
        event.value if isinstance(event, Json) else event
        for event in events_of(list(pieces), ops.json_items(**options))
        if isinstance(event, Json | Exception)
    ]


@pytest.mark.parametrize(
    ("text", "path", "items"),
    [
        ('{"a": 1}\n{"a": 2}\n', None, [{"a": 1}, {"a": 2}]),
        ('Here: {"a": "}"} and [1, [2]], "done".', None, [{"a": "}"}, [1, [2]]]),
        ("```json\n[1]\n```\n```json\n{}\n```", None, [[1], {}]),
        ("no value", None, []),
        ('[1, [2, 3], {"a": [4]}, "x,]", null]', "", [1, [2, 3], {"a": [4]}, "x,]", None]),
        ("[]", "", []),
        ("[ ]", "", []),
        ('{"n": 2, "items": [{"items": [0]}, 5]}', "items", [{"items": [0]}, 5]),
        ('{"data": {"items": [1, 2], "x": [3]}, "items": [4]}', "data.items", [1, 2]),
        ('{"x": {"items": [1]}, "items": 5}', "items", []),
        ('{"items": [1]}{"items": [2]}', "items", [1, 2]),
        ('{"a\\u0062": [1]}', "ab", [1]),
        ('[{"items": [1]}]', "items", []),
        ('{"items": {"items": [1]}}', "items", []),
    ],
)
@given(data=st.data())
def test_the_values_are_the_same_however_the_text_is_cut(
    text: str, path: str | None, items: list[Any], data: st.DataObject
) -> None:
    _, pieces = data.draw(cut_texts(st.just(text)))
    assert items_of(*pieces, path=path) == items


@given(
    st.lists(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=5,
        ),
        max_size=5,
    ),
    st.booleans(),
    st.data(),
)
def test_random_elements_of_an_array(
    values: list[Any], is_ascii: bool, data: st.DataObject
) -> None:
    text = json.dumps({"before": {"items": [1]}, "items": values}, ensure_ascii=is_ascii)
    _, pieces = data.draw(cut_texts(st.just(text)))
    assert items_of(*pieces, path="items") == values


def test_each_value_comes_as_soon_as_it_is_complete(marbles: Marbles) -> None:
    lookup = {"1": Token('[{"a": 1'), "2": Token("}"), "3": Token(", 2"), "4": Token(", 3]")}
    events = marbles.run(marbles.cold("1-2-3-4|", lookup=lookup).pipe(ops.json_items(path="")))
    assert events == [
        (2.0, Json({"a": 1}, complete=True)),
        (6.0, Json(2, complete=True, index=1)),
        (6.0, Json(3, complete=True, index=2)),
        (7.0, COMPLETED),
    ]


class Cat(msgspec.Struct):
    name: str


def test_values_are_typed_if_a_type_is_given() -> None:
    assert items_of('[{"name": "Mia"}]', schema=Cat, path="") == [Cat("Mia")]


def test_a_value_that_does_not_match_is_an_error_after_those_before_it() -> None:
    first, error = items_of('{"name": "Mia"}{"name": 5}{"name": "Leo"}', schema=Cat)
    assert first == Cat("Mia")
    assert isinstance(error, MalformedStreamError)
    assert "value 1 doesn't match its schema: Expected `str`, got `int`" in str(error)


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ('{"a": 1}{"a": nope}', None, "value 1 is not valid JSON"),
        ("[1, 2 3]", "", "value 1 is not valid JSON: text after"),
        ("[{} 2, 3]", "", "value 1 is not valid JSON: text after"),
        ('{"a": NaN}', None, "NaN or number out of range"),
        ('{"items": [1, {"a": ', "items", "ends before its JSON value does"),
        ('{"a"', None, "ends before its JSON value does"),
    ],
)
def test_broken_values_are_errors(text: str, path: str | None, words: str) -> None:
    *_, error = items_of(text, path=path)
    assert isinstance(error, MalformedStreamError)
    assert words in str(error)


def test_an_error_of_the_source_is_passed_on(marbles: Marbles) -> None:
    error = ValueError("broken")
    source = marbles.cold("1-#", lookup={"1": Token("{}{")}, error=error)
    events = marbles.run(source.pipe(ops.json_items()))
    assert events == [(0.0, Json({}, complete=True)), (2.0, error)]


def test_other_chunks_pass_at_once_and_text_is_dropped(marbles: Marbles) -> None:
    batch = Batch((Reasoning("hm"), Token("]")), "]")
    lookup = {"1": Token("[1"), "B": batch, "r": Reasoning("so"), "U": Usage(1)}
    events = marbles.run(marbles.cold("S-1-U-r-B-E|", lookup=lookup).pipe(ops.json_items(path="")))
    kinds = [type(event) for _, event in events[1:-1]]
    assert kinds == [Usage, Reasoning, Reasoning, Json, End]


def test_a_restart_drops_the_open_value_and_counts_again(marbles: Marbles) -> None:
    lookup = {"1": Token("{}{"), "2": Token("[]")}
    events = marbles.run(marbles.cold("1-R-2|", lookup=lookup).pipe(ops.json_items()))
    assert [event for _, event in events if isinstance(event, Json)] == [
        Json({}, complete=True),
        Json([], complete=True),
    ]


def test_sources_are_read_separately(marbles: Marbles) -> None:
    lookup = {"1": Token("[1"), "2": Token("]")}
    streams = {
        "left": marbles.cold("1---2|", lookup=lookup),
        "right": marbles.cold("-1-2|", lookup=lookup),
    }
    events = marbles.run(ops.merge_streams(streams).pipe(ops.json_items(path="")))
    assert [(event.source, event.value) for _, event in events[:-1]] == [("right", 1), ("left", 1)]


def test_the_cost_is_linear_in_the_text() -> None:
    """Neither a long value, nor many keys before the path, is joined again for each piece."""
    import rxllm.operators.transforming._json_items_text as module

    copied = 0

    class Counted(module.JsonItemsText):
        def _slice(self, start: int, end: int) -> str:
            nonlocal copied
            copied += sum(map(len, self._pieces)) if len(self._pieces) > 1 else 0
            return super()._slice(start, end)

    keys = ", ".join(f'"key{number}": "{"x" * 50}"' for number in range(1000))
    for text, path in (
        ("{" + keys + ', "items": [1]}', ("items",)),
        ("{" + keys + "}", None),
        ('["' + "x" * 50_000 + '"]', ()),
    ):
        copied, reading = 0, Counted(path)
        found = [
            value for at in range(0, len(text), 7) for value in reading.feed(text[at : at + 7])
        ]
        assert len(found) == 1
        assert copied < 4 * len(text)


@pytest.mark.parametrize("path", [1, ["items"]])
def test_a_path_must_be_a_string(path: Any) -> None:
    with pytest.raises(TypeError, match="path must be a string"):
        ops.json_items(path=path)


def test_errors_of_the_schema_name_this_operator() -> None:
    with pytest.raises(TypeError, match=r"^json_items: msgspec can't read"):
        ops.json_items(object)
