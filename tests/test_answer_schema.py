"""`AnswerSchema`: which schema a type has, and how an answer is read."""

from __future__ import annotations

import copy
import datetime as dt
import enum
import pickle
from decimal import Decimal
from typing import Annotated, Any, Literal

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from rxllm.answer_schema import AnswerSchema, GivenSchema, map_schema, schema_of
from rxllm.errors import BadRequestError, InvalidAnswerError, classify_error
from rxllm.models.local.json_schema import check_schema
from rxllm.requests import Request, as_request
from tests.answer_types import Bird, Cat, Circle, Dog, Fish, Owner, Square, Tree

CAT = {
    "title": "Cat",
    "description": "A cat of the house.",
    "type": "object",
    "properties": {
        "name": {"description": "as it is called", "type": "string"},
        "age": {"type": "integer", "minimum": 0, "maximum": 30},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
TIT = Bird(name="Tit", chicks=[Bird(name="Tot")])


class Color(enum.Enum):
    """A color."""

    RED = "red"
    BLUE = "blue"


class Plain:
    """A class that nothing is known about."""

    name: str


class HasPlain(msgspec.Struct):
    """A record with one of those."""

    inner: Plain


class Unfinished(msgspec.Struct):
    """A record with a type that is nowhere defined."""

    inner: Nowhere  # type: ignore[name-defined]  # noqa: F821


def schemas_in(schema: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []

    def note(each: dict[str, Any]) -> dict[str, Any]:
        found.append(each)
        return each

    map_schema(schema, note)
    return found


# What schema a type has


def test_a_record_is_an_object_on_top_with_the_words_of_its_author() -> None:
    assert AnswerSchema(Cat) == CAT


def test_fields_with_a_default_are_required_too_and_no_other_field_is_allowed() -> None:
    fish = AnswerSchema(Fish)
    assert (fish["required"], fish["additionalProperties"]) == (["color"], False)
    assert AnswerSchema(dict[str, int])["additionalProperties"] == {"type": "integer"}
    assert "additionalProperties" not in AnswerSchema(dict)


def test_a_nested_record_is_a_part_with_nothing_beside_its_reference() -> None:
    schema = AnswerSchema(Dog)
    assert schema["properties"]["owner"]["anyOf"] == [
        {"description": "who feeds it", "anyOf": [{"$ref": "#/$defs/Owner"}]},
        {"type": "null"},
    ]
    assert list(schema["$defs"]) == ["Owner"]
    assert "default" not in schema["properties"]["owner"]


def test_a_record_of_its_own_kind_refers_to_a_part() -> None:
    schema = AnswerSchema(Tree)
    assert schema["type"] == "object"
    assert schema["properties"]["children"]["items"] == {"$ref": "#/$defs/Tree"}
    assert schema["$defs"]["Tree"] == {name: schema[name] for name in schema if name != "$defs"}


def test_a_union_has_no_keyword_that_json_schema_does_not_have() -> None:
    schema = AnswerSchema(Circle | Square)
    assert set(schema) == {"anyOf", "$defs"}
    kind = schema["$defs"]["Circle"]["properties"]["type"]
    assert kind == {"enum": ["Circle"], "type": "string"}


def test_a_model_of_pydantic_has_its_parts_on_top() -> None:
    schema = AnswerSchema(list[Bird])
    assert schema["items"] == {"$ref": "#/$defs/Bird"}
    bird = schema["$defs"]["Bird"]
    assert bird["properties"]["name"]["description"] == "as it is called"
    assert (bird["required"], bird["additionalProperties"]) == (["name", "chicks"], False)
    assert all("$defs" not in each for each in schemas_in(schema["$defs"]["Bird"]))
    assert AnswerSchema(Bird)["type"] == "object"


def test_the_description_of_the_type_as_it_is_given_counts() -> None:
    schema = AnswerSchema(Annotated[Owner, Meta(description="the owner of the house")])
    assert (schema["type"], schema["description"]) == ("object", "the owner of the house")


def test_a_decimal_number_and_bytes_are_strings_of_a_form_that_all_know() -> None:
    price = AnswerSchema(Decimal)
    assert (price["type"], price.read('"2.50"')) == ("string", Decimal("2.50"))
    jsonschema.validate("-2.50", price)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate("2.", price)
    assert AnswerSchema(bytes) == {"type": "string"}


def test_a_field_may_have_the_name_of_a_keyword() -> None:
    class Odd(msgspec.Struct):
        default: int
        properties: Owner
        ref: str = msgspec.field(name="$ref")

    schema = AnswerSchema(Odd)
    assert schema["required"] == ["default", "properties", "$ref"]
    assert schema["properties"]["properties"] == {"$ref": "#/$defs/Owner"}


@pytest.mark.parametrize(
    ("answer_type", "text", "value"),
    [
        (Cat, '{"name":"Mia","age":3}', Cat("Mia", 3)),
        (Cat, ' {"name":"Mia"}\n', Cat("Mia", 1)),
        (Dog, '{"name":"Rex","owner":{"name":"Ann"}}', Dog("Rex", Owner("Ann"))),
        (Fish, '{"color":"red"}', {"color": "red"}),
        (Circle | Square, '{"type":"Square","side":2}', Square(2)),
        (Circle | int, "3", 3),
        (Tree, '{"value":1,"children":[{"value":2}]}', Tree(1, [Tree(2)])),
        (list[Cat], '[{"name":"Mia"}]', [Cat("Mia")]),
        (list[Dog | None], '[null,{"name":"Rex"}]', [None, Dog("Rex")]),
        (dict[str, Owner], '{"a":{"name":"Ann"}}', {"a": Owner("Ann")}),
        (Bird, '{"name":"Tit","chicks":[{"name":"Tot"}]}', TIT),
        (list[Bird], '[{"name":"Tit"}]', [Bird(name="Tit")]),
        (Bird | None, "null", None),
        (Color, '"red"', Color.RED),
        (Literal["a", "b"], '"b"', "b"),
        (dt.date, '"2026-01-31"', dt.date(2026, 1, 31)),
        (tuple[int, str], '[1,"a"]', (1, "a")),
        (str, '"a"', "a"),
        (bool, "true", True),
        (Any, '{"a":[1]}', {"a": [1]}),
    ],
)  # fmt: skip
def test_an_answer_is_an_instance(answer_type: Any, text: str, value: Any) -> None:
    schema = AnswerSchema(answer_type)
    assert schema.read(text) == value
    assert schema.convert(value) == value  # `parse_json` has made it
    assert schema.convert(msgspec.json.decode(text)) == value
    jsonschema.Draft202012Validator.check_schema(schema)
    check_schema(schema)  # local models can hold an answer to it


@pytest.mark.parametrize("answer_type", [Cat, Dog, Fish, Tree, Bird, dict[str, int], dict])
def test_some_types_are_objects(answer_type: Any) -> None:
    assert AnswerSchema(answer_type).is_object


@pytest.mark.parametrize("answer_type", [list[Cat], Circle | Square, Bird | None, int, Any, Color])
def test_others_are_not_or_not_always(answer_type: Any) -> None:
    assert not AnswerSchema(answer_type).is_object


RECORDS = st.builds(Cat, st.text(max_size=5), st.integers(0, 30))


@given(st.lists(RECORDS, max_size=3))
def test_what_is_read_is_what_was_written(cats: list[Cat]) -> None:
    schema = AnswerSchema(list[Cat])
    text = msgspec.json.encode(cats).decode()
    assert schema.read(text) == cats
    jsonschema.validate(msgspec.json.decode(text), schema)


# What isn't a type


@pytest.mark.parametrize(
    ("answer_type", "reason"),
    [
        (Plain, "Plain'> is none of them"),
        (HasPlain, "Plain'> is none of them"),
        (list[Plain], "Plain'> is none of them"),
        (3, "got 3: Type '3' is not supported"),
        ([Cat], r"got \[<class 'tests.answer_types.Cat'>\]"),
        (Cat("Mia"), r"got Cat\(name='Mia', age=1\)"),
        (Cat | Owner, "not supported"),
        (Bird | Plain, "not supported"),
        (Unfinished, "Nowhere"),
        (complex, "complex'> is none of them"),
    ],
)
def test_a_type_that_cannot_be_read_is_an_error_at_the_call(answer_type: Any, reason: str) -> None:
    with pytest.raises(BadRequestError, match=reason) as raised:
        as_request("Hi", response_format=answer_type)
    assert raised.value.field == "response_format"
    assert str(raised.value).startswith('response_format must be "json", a JSON Schema, a type')


def test_two_types_of_one_name_are_an_error_if_their_schemas_differ() -> None:
    namesake = msgspec.defstruct("Bird", [("wings", int)])
    both = msgspec.defstruct("Both", [("a", Bird), ("b", namesake)])
    with pytest.raises(BadRequestError, match="two types have the name Bird"):
        AnswerSchema(both)


# What isn't an answer


@pytest.mark.parametrize(
    ("answer_type", "text", "reason", "path"),
    [
        (Cat, '{"name":"Mia","age":"x"}', "doesn't match Cat: Expected `int`, got `str`", "$.age"),
        (Cat, '{"name":"Mia","age":31}', "Expected `int` <= 30", "$.age"),
        (Cat, "[]", "Expected `object`, got `array`", "$"),
        (list[Cat], '[{"name":"a"},{}]', r"list\[.*Cat\].*missing required field `name`", "$[1]"),
        (Circle | Square, '{"type":"Line"}', "Invalid value 'Line'", "$.type"),
        (Bird, '{"name":""}', "at least 1 character", "$"),
        (list[Bird], '[{"name":3}]', "valid string", "$[0]"),
        (Cat, '{"name":"Mia","age":', "isn't valid JSON: Input data was truncated", None),
        (Cat, "```json\n{}\n```", "isn't valid JSON: JSON is malformed", None),
        (Cat, '{"name":"Mia"} and more', "isn't valid JSON", None),
        (Cat, " \n", "^the answer is empty$", None),
        (str, '"\ud83d"', "isn't valid JSON", None),
        (Any, "[" * 100_000, "isn't valid JSON", None),
    ],
)  # fmt: skip
def test_an_answer_that_does_not_match_is_an_error_that_says_where(
    answer_type: Any, text: str, reason: str, path: str | None
) -> None:
    with pytest.raises(InvalidAnswerError, match=reason) as raised:
        AnswerSchema(answer_type).read(text, "stop")
    assert (raised.value.path, raised.value.partial) == (path, text)
    assert classify_error(raised.value) == "raise"


@pytest.mark.parametrize(
    ("finish_reason", "reason"),
    [
        (
            "length",
            r"^the answer was cut off at its maximum length \(raise max_tokens\), and isn't",
        ),
        ("content_filter", "^the answer ended with 'content_filter', and isn't"),
        ("cancelled", "^the answer ended with 'cancelled', and isn't"),
        ("stop", "^the answer isn't"),
        (None, "^the answer isn't"),
    ],
)
def test_the_reason_why_the_answer_ended_is_named(finish_reason: str | None, reason: str) -> None:
    with pytest.raises(InvalidAnswerError, match=reason):
        AnswerSchema(Cat).read('{"name":', finish_reason)


def test_a_value_that_does_not_match_is_an_error_too() -> None:
    with pytest.raises(InvalidAnswerError, match=r"doesn't match Cat: .*missing") as raised:
        AnswerSchema(Cat).convert({"age": 3})
    assert raised.value.path == "$"


# On its way


def test_it_stays_with_a_request_and_a_changed_one() -> None:
    request = as_request("Hi", response_format=Cat)
    assert request.answer_schema is not None
    assert request.answer_schema.answer_type is Cat
    changed = as_request(request, temperature=0).continuing("{")
    assert changed.response_format is request.response_format
    assert as_request(request, response_format=None).answer_schema is None
    assert isinstance(as_request("Hi", response_format=CAT).answer_schema, GivenSchema)
    assert isinstance(as_request("Hi", response_format="json").answer_schema, GivenSchema)


def test_a_request_made_by_hand_is_read_as_one_by_options() -> None:
    by_hand = msgspec.structs.replace(as_request("Hi"), response_format=Cat)
    assert as_request(by_hand) == as_request("Hi", response_format=Cat)


def test_a_copy_of_another_process_and_json_are_the_plain_schema() -> None:
    schema = AnswerSchema(Cat)
    for each in (pickle.loads(pickle.dumps(schema)), copy.deepcopy(schema)):  # noqa: S301
        assert (type(each), each) == (dict, CAT)
    assert msgspec.json.decode(msgspec.json.encode(schema)) == CAT
    request = as_request("Hi", response_format=Cat)
    sent = msgspec.msgpack.encode(request)  # as to the process of an isolated model
    assert msgspec.msgpack.decode(sent, type=Request) == request
    assert repr(as_request("Hi", response_format=list[Cat])).count("AnswerSchema(list[") == 1


def test_several_streams_have_a_schema_if_it_is_of_one_type() -> None:
    class Asked:
        def __init__(self, answer_type: Any) -> None:
            self.answer_schema = None if answer_type is None else AnswerSchema(answer_type)

    schema = schema_of(Asked(Cat), Asked(Cat))
    assert schema is not None
    assert schema.answer_type is Cat
    assert schema_of(Asked(Cat), Asked(Dog)) is None
    assert schema_of(Asked(Cat), Asked(None)) is None
    assert schema_of(Asked(None), Asked(Cat)) is None
    assert schema_of(object()) is None
