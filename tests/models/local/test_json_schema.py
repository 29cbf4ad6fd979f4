"""What can be promised of an answer, and that it is kept."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rxllm
from rxllm.errors import BadRequestError, UnsupportedError
from rxllm.models.local.json_schema import FORMATS, KEYWORDS, check_schema
from tests.models.local.byte_vocabulary import accepts, compiled, random_answer

WORDS = st.text(st.sampled_from('ab"\\é😀\u2028\x00\x7f/~ <|end|>'), max_size=4)
NUMBERS = st.integers(-30, 30) | st.sampled_from([0.5, -2.25, 1e3])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | WORDS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner, max_size=2),
    max_leaves=4,
)


def bounded(kind: str, low: str, high: str, most: int) -> st.SearchStrategy[dict[str, Any]]:
    """Schemas of a type with any of two bounds."""
    bounds = st.tuples(st.integers(0, most), st.integers(0, most)).map(sorted)
    chosen = st.sets(st.sampled_from([low, high]))
    return st.builds(
        lambda pair, names: {"type": kind} | {name: pair[name == high] for name in sorted(names)},
        bounds,
        chosen,
    )


SCALARS = st.one_of(
    st.builds(lambda value: {"const": value}, VALUES),
    st.builds(lambda values: {"enum": values}, st.lists(VALUES, min_size=1, max_size=4)),
    st.sampled_from(["null", "boolean", "integer", "number", "string"]).map(
        lambda kind: {"type": kind}
    ),
    bounded("string", "minLength", "maxLength", 6),
    bounded("integer", "minimum", "maximum", 40),
    bounded("number", "minimum", "maximum", 40),
    bounded("integer", "exclusiveMinimum", "maximum", 40).filter(
        lambda schema: schema.get("exclusiveMinimum", -1) < schema.get("maximum", 99)
    ),
    st.builds(lambda by: {"type": "integer", "multipleOf": by}, st.integers(1, 12)),
    st.sampled_from(["^[a-c]{2,4}$", "^x", "\\d+", "^(ja|nein)$"]).map(
        lambda pattern: {"type": "string", "pattern": pattern}
    ),
    st.sampled_from(["date", "ipv4", "uuid"]).map(lambda name: {"type": "string", "format": name}),
)


def compound(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    properties = st.dictionaries(WORDS, inner, max_size=3)
    return st.one_of(
        st.builds(
            lambda each, some, more: {
                "type": "object",
                "properties": each,
                "required": sorted(each)[:some],
                "additionalProperties": more,
            },
            properties,
            st.integers(0, 3),
            st.just(False) | inner,
        ),
        st.builds(
            lambda items, bounds: {**bounds, "items": items},
            inner,
            bounded("array", "minItems", "maxItems", 3),
        ),
        st.builds(
            lambda first: {"type": "array", "prefixItems": first, "items": False},
            st.lists(inner, min_size=1, max_size=2),
        ),
        st.builds(lambda some: {"anyOf": some}, st.lists(inner, min_size=1, max_size=3)),
    )


PLAIN = st.recursive(SCALARS, compound, max_leaves=5)
SCHEMAS = PLAIN | PLAIN.map(
    lambda one: {"$defs": {"a": one}, "type": "array", "items": {"$ref": "#/$defs/a"}}
)


@given(SCHEMAS, st.integers(0, 1000))
def test_each_finished_answer_validates(schema: dict[str, Any], seed: int) -> None:
    answer = random_answer(compiled(schema), seed)
    if answer is not None:
        jsonschema.validate(
            json.loads(answer), schema, format_checker=jsonschema.FormatChecker(["date", "ipv4"])
        )


@given(VALUES)
def test_a_constant_is_written_as_it_is(value: Any) -> None:
    answer = random_answer(compiled({"const": value}), 0)
    assert answer is not None
    assert json.loads(answer) == value


RECURSIVE = {
    "$ref": "#/$defs/tree",
    "$defs": {
        "tree": {
            "type": "object",
            "properties": {"next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/tree"}]}},
            "required": ["next"],
            "additionalProperties": False,
        }
    },
}


def test_a_schema_may_refer_to_itself() -> None:
    matcher = compiled(RECURSIVE)
    assert accepts(matcher, '{"next": {"next": null}}')
    assert not accepts(matcher, '{"next": {}}')


def test_json_means_an_object() -> None:
    matcher = compiled("json")
    assert accepts(matcher, '{"a": [1, {"b": null}]}')
    assert not accepts(matcher, "[]")
    assert not accepts(matcher, '{"a":  1}'), "no runs of white space"


def refused(schema: dict[str, Any], kind: type[Exception] = UnsupportedError) -> str:
    with pytest.raises(kind) as caught:
        compiled(schema)
    assert type(caught.value) is kind
    assert getattr(caught.value, "field", None) == "response_format"
    return str(caught.value)


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"not": {}}, "the keyword 'not' (at #)"),
        ({"items": {"nullable": True}}, "the keyword 'nullable' (at #/items)"),
        ({"$defs": {"a/b~": {"contains": {}}}}, "'contains' (at #/$defs/a~1b~0)"),
        ({"anyOf": [{}, {"if": {}}]}, "'if' (at #/anyOf/1)"),
        ({"uniqueItems": False}, "'uniqueItems'"),
        ({"contentEncoding": "base64"}, "'contentEncoding'"),
        ({"x-guidance": {"lenient": True}}, "'x-guidance'"),
        ({"type": "string", "format": "iri"}, "the format 'iri' (at #/format)"),
        ({"$ref": "https://a.example/b"}, "a $ref to another document (at #)"),
        ({"properties": {"a": {"oneOf": [{"const": 1}, {"const": 2}]}}}, "#/properties/a/oneOf)"),
        ({"items": {"pattern": "^(?=a)"}}, "look-ahead and look-behind, is not supported (at "
         "#/items/pattern)"),
        ({"$ref": "#/$defs/a"}, "does not exist (at #/$ref)"),
        ({"$ref": "#"}, "refers to itself alone"),
        ({"type": "string", "minLength": 3, "maxLength": 2}, "Unsatisfiable"),
        ({"properties": {str(each): {} for each in range(401)}}, "more than 400 properties"),
        ({"patternProperties": {f"^{each}$": {} for each in range(51)}}, "more than 50 pattern"),
        ({"anyOf": [{"multipleOf": each} for each in (7, 11, 13, 17)]}, "a product above 10000"),
        ({"anyOf": [{"multipleOf": 0.01}, {"multipleOf": 200}]}, "a product above 10000"),
        ({"exclusiveMinimum": 2, "maximum": 2.5}, "another bound less than 1 away"),
        ({"allOf": [{"exclusiveMaximum": -2}, {"minimum": -2.5}]}, "another bound less than 1"),
        ({"const": "x" * 65_536}, "at most 65536 are supported"),
    ],
)  # fmt: skip
def test_what_cannot_be_promised_is_named_with_its_place(schema: Any, words: str) -> None:
    assert words in refused(schema)


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "text"}, "#/type must be one or several of array, boolean"),
        ({"properties": {"a": {"minLength": "3"}}}, "#/properties/a/minLength must be a whole"),
        ({"items": {"enum": []}}, "#/items/enum must be a list of values, got []"),
        ({"anyOf": []}, "#/anyOf must be a list of schemas"),
        ({"anyOf": [1]}, "#/anyOf must be a list of schemas"),
        ({"properties": {"a": None}}, "#/properties must be an object of schemas"),
        ({"multipleOf": 0}, "#/multipleOf must be a number above 0"),
        ({"exclusiveMinimum": True}, "#/exclusiveMinimum must be a number"),
        ({"required": "a"}, "#/required must be a list of strings"),
        ({"minimum": float("inf")}, "isn't JSON"),
        ({"const": 10**5000}, "isn't JSON"),
        ({"const": {1, 2}}, "isn't JSON"),
    ],
)
def test_only_a_malformed_schema_is_a_bad_request(schema: Any, words: str) -> None:
    assert words in refused(schema, BadRequestError)


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize("depth", [130, 900, 3000])
def test_a_schema_that_is_nested_too_deeply_is_refused(depth: int) -> None:
    refused(nested(depth))


EXAMPLES = {
    "date": "2026-11-29", "date-time": "2026-11-29T10:20:30Z", "duration": "P1DT2H",
    "email": "a.b@example.org", "hostname": "www.example.org", "ipv4": "192.168.0.1",
    "ipv6": "2001:db8::1", "time": "10:20:30Z", "uri": "https://example.org/a?b=c#d",
    "uuid": "123e4567-e89b-12d3-a456-426614174000",
}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_is_kept_to(name: str) -> None:
    matcher = compiled({"type": "string", "format": name})
    assert accepts(matcher, f'"{EXAMPLES[name]}"')
    assert not accepts(matcher, '"nothing of it, really"')


def test_the_readme_lists_the_keywords_and_formats() -> None:
    readme = Path(rxllm.models.__file__).with_name("README.md").read_text(encoding="utf-8")
    listed = readme.partition("The keywords: ")[2].partition("\n\n")[0]
    described = [*KEYWORDS][[*KEYWORDS].index("$id") :]
    expected = {*KEYWORDS, *FORMATS} - {*described, "$schema", "definitions"}
    assert expected <= set(re.findall(r"`([^`]+)`", listed))


@pytest.mark.parametrize("keyword", sorted(KEYWORDS))
def test_each_keyword_of_the_list_is_checked(keyword: str) -> None:
    what, _ = KEYWORDS[keyword]
    if what != "anything":
        with pytest.raises(BadRequestError, match="must be"):
            check_schema({keyword: None})
