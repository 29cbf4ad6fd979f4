"""`Signature`: a function's parameters as a JSON Schema, and the arguments that it reads."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import enum
import functools
import json
import math
import uuid
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired, TypedDict

import jsonschema
import msgspec
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta

from rxllm.agents._foreign_types import to_json
from rxllm.agents.signature import Signature, name_of, read_docstring
from tests.profiles import draws

if TYPE_CHECKING:
    from fractions import Fraction


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Point:
    """A point on a map."""

    x: int
    y: int = 0


class Filter(TypedDict):
    field: str
    values: NotRequired[list[int]]


class Box(msgspec.Struct):
    corner: Point
    label: str | None = None
    inner: list[Box] = []


class Item(pydantic.BaseModel):
    name: str
    price: Annotated[float, pydantic.Field(ge=0)]


class Order(pydantic.BaseModel):
    """An order of a customer."""

    items: list[Item]
    note: str | None = None


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    when: dt.date
    sizes: tuple[int, int]


def with_parameter(kind: Any, *default: Any) -> Signature:
    """Return the signature of a function of one parameter, `value`."""

    def function(value: Any) -> None: ...

    function.__annotations__ = {"value": kind}
    function.__defaults__ = default
    return Signature(function)


INT = st.integers()
TEXT = st.text(max_size=9)
POINTS = st.builds(Point, INT, INT)
ITEMS = st.builds(Item, name=TEXT, price=st.floats(0, 1e9))
ORDERS = st.builds(Order, items=st.lists(ITEMS, max_size=2), note=st.none() | TEXT)
BOXES = st.recursive(
    st.builds(Box, POINTS, st.none() | TEXT),
    lambda inner: st.builds(Box, POINTS, inner=st.lists(inner, max_size=2)),
    max_leaves=3,
)
DAYS = st.dates()
TYPES: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "int": (int, INT),
    "bounded int": (Annotated[int, Meta(ge=1, le=9)], st.integers(1, 9)),
    "float": (float, st.floats(allow_nan=False, allow_infinity=False)),
    "bool": (bool, st.booleans()),
    "str": (str, TEXT),
    "text that looks like another type": (str, st.sampled_from(["2", "null", "true", "1.5"])),
    "bytes": (bytes, st.binary(max_size=9)),
    "optional int": (int | None, st.none() | INT),
    "optional str": (str | None, st.none() | st.sampled_from(["null", "None", ""]) | TEXT),
    "int or str": (int | str, INT | st.sampled_from(["2"]) | TEXT),
    "literal": (Literal["a", "b", 3], st.sampled_from(["a", "b", 3])),
    "enum": (Color, st.sampled_from(Color)),
    "datetime": (dt.datetime, st.datetimes(timezones=st.just(dt.UTC))),
    "date": (dt.date, DAYS),
    "time": (dt.time, st.times()),
    "UUID": (uuid.UUID, st.uuids()),
    "Decimal": (Decimal, st.decimals(allow_nan=False, allow_infinity=False, places=3)),
    "path": (PurePosixPath, st.sampled_from(["/a/b", "c"]).map(PurePosixPath)),
    "list": (list[int], st.lists(INT, max_size=3)),
    "dict": (dict[str, float], st.dictionaries(TEXT, st.floats(0, 1), max_size=3)),
    "dict of int keys": (dict[int, str], st.dictionaries(st.integers(0, 99), TEXT, max_size=3)),
    "tuple": (tuple[int, str], st.tuples(INT, TEXT)),
    "long tuple": (tuple[int, ...], st.lists(INT, max_size=3).map(tuple)),
    "set": (set[str], st.sets(TEXT, max_size=3)),
    "frozenset": (frozenset[int], st.frozensets(INT, max_size=3)),
    "TypedDict": (
        Filter,
        st.fixed_dictionaries({"field": TEXT}, optional={"values": st.lists(INT, max_size=2)}),
    ),
    "dataclass": (Point, POINTS),
    "dataclasses": (dict[str, list[Point]], st.dictionaries(TEXT, st.lists(POINTS, max_size=2))),
    "Struct": (Box, BOXES),
    "pydantic": (Order, ORDERS),
    "strict pydantic": (Strict, st.builds(Strict, when=DAYS, sizes=st.tuples(INT, INT))),
    "optional pydantic": (Item | None, st.none() | ITEMS),
    "pydantic in a list": (list[Order], st.lists(ORDERS, max_size=2)),
    "pydantic in a dict": (dict[str, Item], st.dictionaries(TEXT, ITEMS, max_size=2)),
    "any": (Any, st.none() | INT | TEXT | st.lists(st.booleans(), max_size=2)),
}


@pytest.mark.parametrize(("kind", "values"), TYPES.values(), ids=TYPES)
@settings(max_examples=draws(40))
@given(data=st.data())
def test_a_value_is_read_from_its_json_and_fits_the_schema(
    kind: Any, values: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    value = data.draw(values)
    signature = with_parameter(kind)
    text = msgspec.json.encode({"value": value}, enc_hook=to_json).decode()
    read = signature.read(text)["value"]
    assert read == value
    assert type(read) is type(value)
    jsonschema.Draft202012Validator.check_schema(signature.schema)
    jsonschema.Draft202012Validator(signature.schema).validate(json.loads(text))


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.floats() | INT | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize("kind", [kind for kind, _ in TYPES.values()], ids=TYPES)
@settings(max_examples=draws(20))
@given(
    text=st.builds(json.dumps, JSON)
    | JSON.map(lambda value: json.dumps({"value": value}))
    | st.text(st.characters(categories=["Ll", "Cs", "Po"]), max_size=9)
)
def test_whatever_a_model_sends_is_read_or_a_decode_error(kind: Any, text: str) -> None:
    with contextlib.suppress(msgspec.DecodeError):
        assert set(with_parameter(kind).read(text)) == {"value"}


class TestSchema:
    def test_the_object_is_on_top_and_takes_nothing_else(self) -> None:
        schema = with_parameter(Box).schema
        assert schema["type"] == "object"
        assert schema["additionalProperties"] is False
        assert schema["properties"] == {"value": {"$ref": "#/$defs/Box"}}
        assert set(schema["$defs"]) == {"Box", "Point"}

    def test_a_function_without_parameters_takes_an_empty_object(self) -> None:
        def now() -> str:
            return "now"

        signature = Signature(now)
        assert signature.schema == {
            "type": "object",
            "properties": {},
            "required": [],
            "additionalProperties": False,
        }
        assert signature.read("") == signature.read(" {} ") == {}

    def test_a_parameter_without_a_type_is_anything(self) -> None:
        def echo(value, times=1):  # type: ignore[no-untyped-def]
            return [value] * times

        signature = Signature(echo)
        assert signature.schema["properties"] == {"value": {}, "times": {"default": 1}}
        assert signature.read('{"value": [null]}') == {"value": [None], "times": 1}

    def test_definitions_of_pydantic_are_on_top_and_don_t_clash(self) -> None:
        def another() -> type[pydantic.BaseModel]:
            class Item(pydantic.BaseModel):
                size: int

            class Order(pydantic.BaseModel):
                items: list[Item]

            return Order

        def order(first: Order, second: Any, third: list[Item]) -> None: ...

        order.__annotations__["second"] = another()
        schema = Signature(order).schema
        validator = jsonschema.Draft202012Validator(schema)
        first, second = {"items": [{"name": "pen", "price": 1}]}, {"items": [{"size": 3}]}
        assert validator.is_valid({"first": first, "second": second, "third": first["items"]})
        assert not validator.is_valid({"first": second, "second": second, "third": []})
        assert not validator.is_valid({"first": first, "second": first, "third": []})

    def test_a_class_of_the_same_name_as_another_keeps_its_own_definition(self) -> None:
        arguments = dataclasses.make_dataclass("Arguments", [("size", int)])
        schema = with_parameter(arguments).schema
        assert not jsonschema.Draft202012Validator(schema).is_valid({"value": {"size": "?"}})

    def test_constraints_and_descriptions_stand_in_annotations(self) -> None:
        def forecast(
            place: Annotated[str, "a town"],
            days: Annotated[int, Meta(ge=1, description="days ahead")] = 1,
            hours: Annotated[int, pydantic.Field(gt=0, le=24, description="per day")] = 24,
            unit: Annotated[str | None, Meta(description="C or F")] = None,
        ) -> None:
            """Forecast.

            Args:
                place: this is overridden
                unit: and this
            """

        signature = Signature(forecast)
        assert signature.schema["properties"] == {
            "place": {"type": "string", "description": "a town"},
            "days": {"type": "integer", "minimum": 1, "description": "days ahead", "default": 1},
            "hours": {
                "type": "integer",
                "exclusiveMinimum": 0,
                "maximum": 24,
                "description": "per day",
                "default": 24,
            },
            "unit": {
                "anyOf": [{"type": "string"}, {"type": "null"}],
                "description": "C or F",
                "default": None,
            },
        }
        with pytest.raises(msgspec.ValidationError, match=r"parameter hours: Expected `int` <= 24"):
            signature.read('{"place": "Oslo", "hours": 25}')


class TestDefaults:
    def test_they_are_in_the_schema_and_in_what_is_read(self) -> None:
        def search(
            words: list[str],
            *,
            color: Color = Color.RED,
            at: Point = Point(1, 2),  # noqa: B008 - a default, as a user may write it
            item: Item = Item(name="pen", price=1),  # noqa: B008
            folder: Path = Path("/tmp"),  # noqa: S108
            tags: frozenset[str] = frozenset(),
            limit: float = math.pi,
        ) -> None: ...

        signature = Signature(search)
        assert signature.schema["required"] == ["words"]
        told = {
            name: each["default"]
            for name, each in signature.schema["properties"].items()
            if name != "words"
        }
        assert told == {
            "color": "red",
            "at": {"x": 1, "y": 2},
            "item": {"name": "pen", "price": 1},
            "folder": "/tmp",  # noqa: S108
            "tags": [],
            "limit": math.pi,
        }
        assert signature.read('{"words": []}') == {
            "words": [],
            **(search.__kwdefaults__ or {}),
        }

    def test_a_mutable_default_is_fresh_for_each_call(self) -> None:
        def collect(into: list[int] = [1], by: dict[str, list[int]] = {"a": []}) -> None:  # noqa: B006
            ...

        signature = Signature(collect)
        first = signature.read("{}")
        first["into"].append(2)
        first["by"]["a"].append(3)
        assert signature.read("{}") == {"into": [1], "by": {"a": []}}
        assert signature.schema["properties"]["into"]["default"] == [1]

    def test_a_default_that_is_no_json_is_not_in_the_schema(self) -> None:
        nothing = object()
        signature = with_parameter(Any, nothing)
        assert signature.schema["properties"] == {"value": {}}
        assert signature.read("{}") == {"value": nothing}

    def test_none_is_taken_where_it_is_the_default(self) -> None:
        signature = with_parameter(int, None)
        assert signature.read('{"value": null}') == signature.read("{}") == {"value": None}


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ("{}", "the arguments: Object missing required field `order`"),
            (
                '{"order": {"items": []}, "colour": 1}',
                "the arguments: Object contains unknown field `colour`; "
                "the parameters are: order, boxes, sizes",
            ),
            ("[]", "the arguments: Expected `object`, got `array`"),
            (
                '{"order": {"items": [{"name": "pen", "price": -1}, {}]}}',
                "parameter order: items.0.price: Input should be greater than or equal to 0; "
                "items.1.name: Field required; items.1.price: Field required",
            ),
            (
                '{"order": {"items": []}, "boxes": [{"corner": {"x": "?"}}]}',
                "parameter boxes[0].corner.x: Expected `int`, got `str`",
            ),
            (
                '{"order": {"items": []}, "sizes": {"big": 1}}',
                "a key of parameter sizes: Expected `int`, got `str`",
            ),
        ],
    )
    def test_a_validation_error_names_the_parameter(self, arguments: str, message: str) -> None:
        def make(order: Order, boxes: list[Box] = [], sizes: dict[int, int] = {}) -> None: ...  # noqa: B006

        with pytest.raises(msgspec.ValidationError) as caught:
            Signature(make).read(arguments)
        assert str(caught.value) == message

    @pytest.mark.parametrize("text", ['{"value": ', "value", '{"value": "\ud800"}', "[" * 100_000])
    def test_what_is_not_json_is_a_decode_error(self, text: str) -> None:
        with pytest.raises(msgspec.DecodeError):
            with_parameter(Any).read(text)

    def test_numbers_in_strings_are_taken(self) -> None:
        assert with_parameter(int).read('{"value": "2"}') == {"value": 2}
        assert with_parameter(bool).read('{"value": "true"}') == {"value": True}


class Shop:
    """A shop."""

    def find(self, name: str, limit: int = 3) -> list[str]:
        """Find goods."""
        return [name] * limit

    def __call__(self, name: str) -> str:
        return name

    @staticmethod
    def hours(day: int) -> str:
        """Say when it is open.

        :param day: of the week
        """
        return str(day)

    @classmethod
    def open(cls, at: Point) -> None:
        """Open a shop."""


class TestFunctionsThatAModelCannotCall:
    def test_parameters_without_a_name_of_their_own_are_refused(self) -> None:
        def any_number(*values: int) -> None: ...
        def any_name(**values: int) -> None: ...
        def by_position(value: int, /) -> None: ...

        functions: list[tuple[Callable[..., Any], str]] = [
            (any_number, r"\*values"),
            (any_name, r"\*\*values"),
            (by_position, "value"),
        ]
        for function, parameter in functions:
            message = f"by name, which {parameter}.* of {function.__name__} doesn't take"
            with pytest.raises(TypeError, match=message):
                Signature(function)

    @pytest.mark.parametrize("method", [Shop.find, vars(Shop)["open"].__func__])
    def test_a_method_that_is_not_bound_is_refused(self, method: Callable[..., Any]) -> None:
        with pytest.raises(TypeError, match=rf"as in tool\(shop.{method.__name__}\)"):
            Signature(method)

    def test_a_type_that_json_can_t_have_is_refused(self) -> None:
        with pytest.raises(TypeError, match=r"complex.* can't be read from JSON: use a builtin"):
            with_parameter(complex)
        with pytest.raises(TypeError, match="unions may not contain more than one array-like"):
            with_parameter(list[int] | set[int])

    def test_a_type_that_is_not_known_at_run_time_is_refused(self) -> None:
        def half(value: Fraction) -> None: ...

        with pytest.raises(TypeError, match=r"half.*'Fraction' is not defined.*TYPE_CHECKING"):
            Signature(half)

    def test_a_builtin_without_a_signature_is_refused(self) -> None:
        with pytest.raises(TypeError, match="has no signature: wrap it in a function"):
            Signature(iter)

    def test_the_type_of_the_result_may_be_unknown(self) -> None:
        def half(value: int) -> Fraction:
            raise NotImplementedError

        assert Signature(half).read('{"value": 1}') == {"value": 1}


class TestKindsOfFunctions:
    def test_a_bound_method(self) -> None:
        signature = Signature(Shop().find)
        assert signature.description == "Find goods."
        assert signature.read('{"name": "pen"}') == {"name": "pen", "limit": 3}
        assert Signature(Shop.open).read('{"at": {"x": 1}}') == {"at": Point(1)}

    def test_a_static_method(self) -> None:
        schema = Signature(Shop.hours).schema
        assert schema["properties"]["day"] == {"type": "integer", "description": "of the week"}

    def test_a_callable_object_is_described_by_its_class(self) -> None:
        signature = Signature(Shop())
        assert (name_of(Shop()), signature.description) == ("Shop", "A shop.")
        assert signature.read('{"name": "pen"}') == {"name": "pen"}

    def test_what_a_partial_binds_is_not_the_model_s(self) -> None:
        bound = functools.partial(functools.partial(Shop().find, limit=9))
        signature = Signature(bound)
        assert (name_of(bound), signature.description) == ("find", "Find goods.")
        assert list(signature.schema["properties"]) == ["name"]
        with pytest.raises(msgspec.ValidationError, match="unknown field `limit`"):
            signature.read('{"name": "pen", "limit": 1}')

    def test_a_decorated_function_is_read_through_its_wrapper(self) -> None:
        @functools.wraps(Shop.hours)
        def logged(*arguments: Any, **named: Any) -> Any:
            return Shop.hours(*arguments, **named)

        cached = functools.lru_cache(logged)
        assert Signature(cached).read('{"day": 1}') == {"day": 1}
        assert Signature(cached).description == "Say when it is open."

    def test_injected_parameters_are_not_the_model_s(self) -> None:
        def look(place: str, shop: Shop, other: Shop | None = None, n: list[int] = []) -> None: ...  # noqa: B006

        signature = Signature(look, Shop)
        assert signature.injected == ("shop", "other")
        assert list(signature.schema["properties"]) == ["place", "n"]


def google(place: str, days: int = 1) -> None:
    """Forecast the weather.

    In two lines,
    with code:

        weather("Oslo")

    Args:
        place: the name of a town,
            or of a village
        days (int): days ahead

    Returns:
        nothing
    """


def numpy(place: str, days: int = 1) -> None:
    """Forecast the weather.

    Parameters
    ----------
    place : str
        the name of a town,
        or of a village
    days : int, optional
        days ahead
    """


def rest(place: str, days: int = 1) -> None:
    """Forecast the weather.

    :param place: the name of a town,
        or of a village
    :param int days: days ahead
    """


class TestDocstrings:
    @pytest.mark.parametrize("function", [google, numpy, rest])
    def test_each_style_describes_the_parameters(self, function: Callable[..., Any]) -> None:
        signature = Signature(function)
        assert signature.description.startswith("Forecast the weather.")
        assert {
            name: each["description"] for name, each in signature.schema["properties"].items()
        } == {"place": "the name of a town,\nor of a village", "days": "days ahead"}

    def test_text_without_parameters_is_the_description_as_it_is(self) -> None:
        def run(code: str) -> None:
            """Run code: any.

                x = 1

            Then stop.
            """

        assert read_docstring(run) == ("Run code: any.\n\n    x = 1\n\nThen stop.", {})

    def test_without_a_docstring_there_is_no_description(self) -> None:
        def run(code: str) -> None: ...

        assert read_docstring(run) == ("", {})
        assert read_docstring(functools.partial(run, "x")) == ("", {})

    @given(st.text(max_size=60) | st.from_regex(r"(:param|Args:|@param|a: b|\n    |[-]+\n){1,6}"))
    def test_any_docstring_can_be_read(self, text: str) -> None:
        def run(code: str) -> None: ...

        run.__doc__ = text
        description, described = read_docstring(run)
        assert isinstance(description, str)
        assert all(described.values())
