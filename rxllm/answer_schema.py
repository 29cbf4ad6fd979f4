"""`AnswerSchema`: the JSON Schema of a type that an answer is asked for, and the way back."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, TypeAlias

import msgspec

from rxllm.errors import BadRequestError, InvalidAnswerError

__all__ = [
    "AnswerSchema",
    "AnyAnswerSchema",
    "GivenSchema",
    "decode_model",
    "is_model",
    "map_schema",
    "schema_of",
]

_Schema: TypeAlias = dict[str, Any]

_encode: Final = msgspec.json.encode
_PATH: Final = re.compile(r" - at `(\$.*)`$")
_DECIMAL: Final = r"^-?[0-9]+(\.[0-9]+)?$"


class AnswerSchema(_Schema):
    """The JSON Schema of a type. It reads an answer as an instance of the type.

    It is written so that every provider takes it: an object has exactly the fields of its type,
    also those with a default, and nothing is said by keywords that only some of them know. A copy
    in another process is a plain dictionary.

    Args:
        answer_type: any type that msgspec can decode (a `Struct`, a dataclass, a `TypedDict`,
            `list[int]`, a union, ...), a model class of pydantic, or a type that has some inside.

    Attributes:
        answer_type: as given.

    Raises:
        BadRequestError: it isn't such a type.

    >>> schema = AnswerSchema(list[int])
    >>> schema
    AnswerSchema(list[int])
    >>> dict(schema), schema.read("[1, 2]")
    ({'type': 'array', 'items': {'type': 'integer'}}, [1, 2])
    """

    __slots__ = ("_decode", "answer_type")

    def __init__(self, answer_type: Any) -> None:
        self.answer_type: Final = answer_type
        try:
            super().__init__(_schema_of_type(answer_type))
            self._decode = msgspec.json.Decoder(answer_type, dec_hook=decode_model).decode
        except Exception as error:  # a type that isn't fully defined can raise anything
            raise BadRequestError(
                'response_format must be "json", a JSON Schema, a type that msgspec can decode or '
                f"a pydantic model, got {answer_type!r}: {error}",
                "response_format",
            ) from error

    def __repr__(self) -> str:
        return f"AnswerSchema({_name_of(self.answer_type)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)

    @property
    def is_object(self) -> bool:
        """Whether an answer is an object, whichever it is."""
        return self.get("type") == "object"

    def read(self, text: str, finish_reason: str | None = None) -> Any:
        """Return the text of an answer as an instance of the type.

        Args:
            text: the JSON.
            finish_reason: why the answer ended, which an error names.

        Raises:
            InvalidAnswerError: it isn't JSON of the type.
        """
        try:
            return self._decode(text)
        except msgspec.ValidationError as error:
            raise self._mismatch(error, text, finish_reason) from error
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
            raise _invalid_json(error, text, finish_reason) from error

    def convert(self, value: Any) -> Any:
        """Return a JSON value, or an instance of the type, as an instance.

        Raises:
            InvalidAnswerError: it isn't a value of the type.
        """
        try:
            return msgspec.convert(value, self.answer_type, str_keys=True, dec_hook=decode_model)
        except msgspec.ValidationError as error:
            raise self._mismatch(error, "", None) from error

    def _mismatch(
        self, error: msgspec.ValidationError, text: str, finish_reason: str | None
    ) -> InvalidAnswerError:
        place = _PATH.search(str(error))
        what = f"doesn't match {_name_of(self.answer_type)}: {error}"
        return _invalid(what, "$" if place is None else place[1], text, finish_reason)


class GivenSchema:
    """A JSON Schema that was given as such, or `"json"`. It reads an answer as a JSON value.

    The value is checked if the package jsonschema is installed.

    Args:
        schema: the schema, or `"json"` for any JSON.

    Attributes:
        answer_type: as given.

    >>> GivenSchema("json").read("[1, 2]")
    [1, 2]
    """

    __slots__ = ("answer_type",)

    def __init__(self, schema: _Schema | str) -> None:
        self.answer_type: Final = schema

    def read(self, text: str, finish_reason: str | None = None) -> Any:
        """Return the text of an answer as a JSON value.

        Args:
            text: the JSON.
            finish_reason: why the answer ended, which an error names.

        Raises:
            InvalidAnswerError: it isn't JSON that follows the schema.
            BadRequestError: the schema is invalid.
        """
        try:
            value = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
            raise _invalid_json(error, text, finish_reason) from error
        return self._checked(value, text, finish_reason)

    def convert(self, value: Any) -> Any:
        """Return a JSON value that follows the schema.

        Raises:
            InvalidAnswerError: it doesn't.
        """
        return self._checked(value, "", None)

    def _checked(self, value: Any, text: str, finish_reason: str | None) -> Any:
        if isinstance(self.answer_type, str) or find_spec("jsonschema") is None:
            return value
        jsonschema: Any = import_module("jsonschema")
        registry: Any = import_module("referencing").Registry()  # fetches nothing
        kind = jsonschema.validators.validator_for(
            self.answer_type, default=jsonschema.validators.Draft202012Validator
        )
        validator = kind(self.answer_type, registry=registry)
        try:
            error = jsonschema.exceptions.best_match(validator.iter_errors(value))
        except Exception as failure:  # of an invalid schema: anything, by its keywords
            words = f"the response_format isn't a valid JSON Schema: {failure}"
            raise BadRequestError(words, "response_format") from failure
        if error is not None:
            what = f"doesn't match the schema: {error.message} - at `{error.json_path}`"
            raise _invalid(what, error.json_path, text, finish_reason) from error
        return value


AnyAnswerSchema: TypeAlias = AnswerSchema | GivenSchema


def schema_of(*streams: object) -> AnyAnswerSchema | None:
    """Return the schema of the answer that all of the streams, one or more, were asked for."""
    schemas: list[AnyAnswerSchema | None]
    schemas = [getattr(stream, "answer_schema", None) for stream in streams]
    types = [None if each is None else each.answer_type for each in schemas]
    return schemas[0] if types.count(types[0]) == len(types) else None


_MAPS: Final = ("properties", "patternProperties", "$defs")
_LISTS: Final = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLES: Final = ("items", "additionalProperties", "not")


def map_schema(schema: _Schema, change: Callable[[_Schema], _Schema]) -> _Schema:
    """Return a copy of a JSON Schema with each schema in it changed, the inner ones first.

    >>> map_schema({"items": {"title": "Cat"}}, lambda each: {**each, "title": "?"})
    {'items': {'title': '?'}, 'title': '?'}
    """

    def inside(value: Any) -> Any:
        return map_schema(value, change) if isinstance(value, dict) else value

    copied: _Schema = {}
    for name, value in schema.items():
        if name in _MAPS:
            copied[name] = {key: inside(each) for key, each in value.items()}
        elif name in _LISTS:
            copied[name] = [inside(each) for each in value]
        else:
            copied[name] = inside(value) if name in _SINGLES else value
    return change(copied)


def _schema_of_type(answer_type: Any) -> _Schema:
    (schema,), parts = msgspec.json.schema_components(
        [answer_type], schema_hook=_schema_of_model, ref_template="#/$defs/{name}"
    )
    found: _Schema = {}

    def change(each: _Schema) -> _Schema:
        for name, part in each.pop("$defs", {}).items():  # pydantic's are inside
            if found.setdefault(name, part) != part:
                raise TypeError(f"two types have the name {name}")
        return _plain(each)

    schema = map_schema({"allOf": [schema], "$defs": parts}, change)["allOf"][0]
    while "$ref" in schema:  # the APIs want the object itself on top
        schema = found[_target(schema)] | {name: schema[name] for name in schema if name != "$ref"}
    if used := _used(schema, found):
        schema = schema | {"$defs": {name: found[name] for name in found if name in used}}
    return map_schema(schema, _lone_reference)


def _plain(schema: _Schema) -> _Schema:
    """Return a schema in the words that all providers know, with no field left out.

    Sources: https://platform.openai.com/docs/guides/structured-outputs (strict mode),
    https://docs.claude.com/en/docs/build-with-claude/structured-outputs.
    """
    for name in ("default", "discriminator", "contentEncoding"):
        schema.pop(name, None)
    if "oneOf" in schema and "anyOf" not in schema:
        schema["anyOf"] = schema.pop("oneOf")
    if schema.get("format") == "decimal":
        schema["pattern"] = _DECIMAL
        del schema["format"]
    if "properties" in schema:
        schema["required"] = [*schema["properties"]]
        schema.setdefault("additionalProperties", False)
    if "enum" in schema and all(isinstance(value, str) for value in schema["enum"]):
        schema["type"] = "string"
    return schema


def _lone_reference(schema: _Schema) -> _Schema:
    """Return a schema with nothing beside a `$ref`, which OpenAI doesn't take."""
    if "$ref" in schema and len(schema) > 1:
        schema["anyOf"] = [{"$ref": schema.pop("$ref")}]
    return schema


def _used(schema: _Schema, parts: _Schema) -> set[str]:
    """Return the names of the parts that a schema refers to, also by other parts."""
    used: set[str] = set()
    waiting = [schema]

    def note(each: _Schema) -> _Schema:
        if "$ref" in each and (name := _target(each)) not in used:
            used.add(name)
            waiting.append(parts[name])
        return each

    while waiting:
        map_schema(waiting.pop(), note)
    return used


def _target(schema: _Schema) -> str:
    reference: str = schema["$ref"]
    return reference.removeprefix("#/$defs/")


def _schema_of_model(kind: Any) -> _Schema:
    """Return the schema of a model class of pydantic; a `schema_hook`."""
    if not is_model(kind):
        raise TypeError(f"{kind!r} is none of them")
    schema: _Schema = kind.model_json_schema()
    return schema


def decode_model(kind: Any, value: Any) -> Any:
    """Return a JSON value as an instance of a class with pydantic's methods; a `dec_hook`."""
    if isinstance(value, kind):
        return value  # `parse_json` has made it
    if not is_model(kind):
        raise NotImplementedError
    return kind.model_validate_json(_encode(value))


def is_model(kind: Any) -> bool:
    """Return whether this is a model class of pydantic, or one like it."""
    return isinstance(kind, type) and hasattr(kind, "model_validate_json")


def _name_of(kind: Any) -> str:
    name: str = getattr(kind, "__name__", repr(kind))
    return repr(kind) if hasattr(kind, "__args__") else name


def _invalid_json(error: Exception, text: str, finish_reason: str | None) -> InvalidAnswerError:
    what = f"isn't valid JSON: {error}" if text.strip() else "is empty"
    return _invalid(what, None, text, finish_reason)


def _invalid(
    what: str, path: str | None, text: str, finish_reason: str | None
) -> InvalidAnswerError:
    why = "the answer"
    if finish_reason == "length":
        why += " was cut off at its maximum length (raise max_tokens), and"
    elif finish_reason not in (None, "stop"):
        why += f" ended with {finish_reason!r}, and"
    error = InvalidAnswerError(f"{why} {what}", path)
    error.partial = text
    return error
