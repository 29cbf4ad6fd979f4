"""Checks of a JSON value against a type, a JSON Schema or a function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import Any

import msgspec

from rxllm.answer_schema import decode_model, is_model
from rxllm.arguments import is_asynchronous

__all__ = ["Check", "SchemaViolation", "check_of"]

Check = Callable[[Any], Any]
"""Returns the value to send, or raises a `SchemaViolation` that says what is wrong, and where."""


class SchemaViolation(ValueError):  # noqa: N818 - private to this package
    """A value doesn't match its schema."""


def check_of(schema: Any, name: str = "parse_json") -> Check:
    """The check for `schema`, of the operator with this name.

    Raises:
        TypeError: `schema` is not a supported kind of schema, or is asynchronous.
        ValueError: `schema` is a dictionary, but not a valid JSON Schema.
        ImportError: `schema` is a JSON Schema, and the package jsonschema isn't installed.
    """
    if schema is None:
        return lambda value: value
    if isinstance(schema, Mapping):
        return _check_json_schema(dict(schema), name)
    if is_asynchronous(schema):
        raise TypeError(
            f"{name}: the schema {schema!r} is asynchronous: pass a plain function, and put "
            f"map_async after {name} for asynchronous work"
        )
    if inspect.isroutine(schema) or isinstance(schema, partial):
        return _check_function(schema, name)
    return _check_type(schema, name)


def _check_type(schema: Any, name: str) -> Check:
    try:
        known = not isinstance(msgspec.inspect.type_info(schema), msgspec.inspect.CustomType)
    except TypeError as error:
        raise TypeError(f"{name}: msgspec can't read the schema: {error}") from error
    if not known and not is_model(schema):
        raise TypeError(
            f"{name}: msgspec can't read values of {schema!r}. Pass a msgspec.Struct, a "
            "dataclass, a TypedDict, a built-in type, a pydantic model, a JSON Schema, or a "
            "function that checks the value"
        )

    def check(value: Any) -> Any:
        try:
            return msgspec.convert(value, schema, str_keys=True, dec_hook=decode_model)
        except msgspec.ValidationError as error:
            raise SchemaViolation(str(error)) from error

    return check


def _check_function(function: Callable[[Any], Any], name: str) -> Check:
    def check(value: Any) -> Any:
        try:
            checked = function(value)
        except ValueError as error:
            raise SchemaViolation(str(error)) from error
        if inspect.isawaitable(checked):
            if inspect.iscoroutine(checked):
                checked.close()
            raise TypeError(f"{name}: {function!r} must return a value, got an awaitable")
        return checked

    return check


def _check_json_schema(schema: dict[str, Any], name: str) -> Check:
    try:
        jsonschema: Any = import_module("jsonschema")
        referencing: Any = import_module("referencing")
    except ImportError as error:
        raise ImportError(
            f"{name}: a JSON Schema needs the package jsonschema, which isn't installed: "
            "pip install jsonschema, or pass a type as schema"
        ) from error
    kind = jsonschema.validators.validator_for(
        schema, default=jsonschema.validators.Draft202012Validator
    )
    try:
        kind.check_schema(schema)
    except jsonschema.exceptions.SchemaError as error:
        raise ValueError(
            f"{name}: invalid JSON Schema: {error.message} - at `{error.json_path}`"
        ) from error
    # With the default registry, jsonschema would fetch the targets of `$ref` from the network.
    validator = kind(schema, registry=referencing.Registry())

    def check(value: Any) -> Any:
        error = jsonschema.exceptions.best_match(validator.iter_errors(value))
        if error is not None:
            raise SchemaViolation(f"{error.message} - at `{error.json_path}`") from error
        return value

    return check
