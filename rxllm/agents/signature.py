"""The signature of a function, as a JSON Schema and as the type that reads its arguments.

>>> def weather(place: str, days: int = 1) -> str:
...     \"\"\"Forecast the weather.
...
...     Args:
...         place: the name of a town.
...     \"\"\"
>>> signature = Signature(weather)
>>> signature.description, signature.schema["required"]
('Forecast the weather.', ['place'])
>>> signature.schema["properties"]["place"]
{'description': 'the name of a town.', 'type': 'string'}
>>> signature.read('{"place": "Oslo", "days": "2"}')
{'place': 'Oslo', 'days': 2}
"""

from __future__ import annotations

import copy
import functools
import inspect
import re
from collections.abc import Callable
from contextlib import suppress
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec

from rxllm.agents._foreign_types import ForeignSchemas, as_meta, from_json, to_json

__all__ = ["Signature", "name_of", "read_docstring", "read_json"]


class Signature:
    """What a model has to know about a function, and what reads the arguments that it sends.

    Args:
        function: a function, a bound method, a `functools.partial` or a callable object. Arguments
            that a partial binds are not the model's to set.
        injected: parameters of this type are given by the caller, not by the model.

    Attributes:
        schema: a JSON Schema of the arguments, an object.
        description: that of the docstring.
        injected: the names of the parameters that the caller gives.

    Raises:
        TypeError: a parameter can't be given by name, or a type can't be read from JSON.
    """

    def __init__(self, function: Callable[..., Any], injected: type | None = None) -> None:
        self.description, described = read_docstring(function)
        parameters = {each.name: each for each in _parameters(function)}
        try:
            hints = _hints(_definition_of(function))
            self.injected: tuple[str, ...] = tuple(
                [name for name in parameters if _is_injected(hints.get(name), injected)]
            )
            given = [each for name, each in parameters.items() if name not in self.injected]
            arguments = msgspec.defstruct(
                "Arguments",
                [_field(each, hints, described.get(each.name)) for each in given],
                kw_only=True,
                forbid_unknown_fields=True,
            )
            self.schema: dict[str, Any] = _schema_of(arguments, given)
            self._decoder = msgspec.json.Decoder(arguments, strict=False, dec_hook=from_json)
        except NameError as error:
            raise TypeError(
                f"a type of {name_of(function)} isn't known at run time: {error}; define or import "
                "it at the top of the module, and not under TYPE_CHECKING"
            ) from error

    def read(self, arguments: str) -> dict[str, Any]:
        """Return the arguments by name: checked, converted, and with the defaults.

        Args:
            arguments: a JSON object; an empty string stands for none.

        Raises:
            msgspec.ValidationError: an argument is missing, unknown or of another type.
            msgspec.DecodeError: this isn't JSON.
        """
        value = read_json(self._decoder, arguments)
        return {name: getattr(value, name) for name in value.__struct_fields__}


def name_of(function: Callable[..., Any]) -> str:
    """Return the name of a function, or of the class of a callable object."""
    while isinstance(function, functools.partial):
        function = function.func
    name: str = getattr(function, "__name__", type(function).__name__)
    return name


def _definition_of(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that was written: behind decorators, partials and callable objects."""
    function = inspect.unwrap(function)
    if isinstance(function, functools.partial):
        return _definition_of(function.func)
    return function if inspect.isroutine(function) else type(function).__call__


def read_docstring(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """Return the description in a docstring, and those of the parameters by name."""
    definition = _definition_of(function)
    text = definition.__doc__
    if definition is type(function).__call__:  # of a callable object
        text = text or type(function).__doc__
    if not text:
        return "", {}
    import docstring_parser

    text = inspect.cleandoc(text)
    parsed = docstring_parser.parse(text)
    if not parsed.meta:
        return text, {}
    return (parsed.description or "").strip(), {
        each.arg_name: each.description for each in parsed.params if each.description
    }


def _hints(definition: Callable[..., Any]) -> dict[str, Any]:
    """Return the types of the parameters; the type of the result may be anything."""

    def parameters() -> None: ...

    annotations = getattr(definition, "__annotations__", {})
    parameters.__annotations__ = {
        name: hint for name, hint in annotations.items() if name != "return"
    }
    return get_type_hints(
        parameters, globalns=getattr(definition, "__globals__", {}), include_extras=True
    )


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return the parameters that may be given by name."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError as error:
        raise TypeError(f"{function!r} has no signature: wrap it in a function") from error
    bound = function.keywords if isinstance(function, functools.partial) else {}
    for parameter in parameters:
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise TypeError(
                f"a model gives arguments by name, which {parameter} of {name_of(function)} "
                "doesn't take: give each parameter a name of its own"
            )
        if parameter.name in ("self", "cls") and parameter.annotation is parameter.empty:
            raise TypeError(
                f"{name_of(function)} is a method, and a model can't give {parameter.name}: make "
                f"the tool of a bound method, as in tool(shop.{name_of(function)})"
            )
    return [each for each in parameters if each.name not in bound]


def _is_injected(kind: Any, injected: type | None) -> bool:
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    choices = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    return injected is not None and injected in choices


def _field(
    parameter: inspect.Parameter, hints: dict[str, Any], description: str | None
) -> tuple[str, Any] | tuple[str, Any, Any]:
    """Return the field of a struct for a parameter."""
    kind = _with_constraints(hints.get(parameter.name, Any))
    default = parameter.default
    if default is None and not _takes_none(kind):
        kind = kind | None
    if description and not _is_described(kind):
        kind = Annotated[kind, msgspec.Meta(description=description)]
    if default is parameter.empty:
        return parameter.name, kind
    factory = functools.partial(_fresh, default)
    return parameter.name, kind, msgspec.field(default_factory=factory)


def _takes_none(kind: Any) -> bool:
    base = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    return base is Any or type(None) in get_args(base)


def _with_constraints(kind: Any) -> Any:
    """Return a type with the annotations that msgspec knows, or that can be translated."""
    if get_origin(kind) is not Annotated:
        return kind
    base, *annotations = get_args(kind)
    for meta in filter(None, map(as_meta, annotations)):
        base = Annotated[base, meta]
    return base


def _is_described(kind: Any) -> bool:
    return get_origin(kind) is Annotated and any(
        each.description is not None for each in get_args(kind)[1:]
    )


def _fresh(default: Any) -> Any:
    """Return a default that no call shares with another."""
    return copy.deepcopy(default) if isinstance(default, list | dict | set) else default


def _schema_of(
    arguments: type[msgspec.Struct], parameters: list[inspect.Parameter]
) -> dict[str, Any]:
    """Return the schema with the object on top, since some providers refuse a reference there."""
    foreign = ForeignSchemas()
    (top,), definitions = msgspec.json.schema_components(
        [arguments], schema_hook=foreign.schema_of, ref_template="#/$defs/{name}"
    )
    schema = definitions.pop(top["$ref"].removeprefix("#/$defs/"))
    del schema["title"]
    for each in parameters:
        if each.default is not each.empty:
            with suppress(TypeError):  # if it is no JSON, the model isn't told the default
                value = msgspec.to_builtins(each.default, str_keys=True, enc_hook=to_json)
                schema["properties"][each.name]["default"] = value
    definitions |= foreign.definitions
    return {**schema, "$defs": definitions} if definitions else schema


def read_json(decoder: msgspec.json.Decoder[Any], text: str) -> Any:
    """Decode JSON from a model; an error names the parameter.

    Raises:
        msgspec.ValidationError: it has the wrong types.
        msgspec.DecodeError: it isn't JSON.
    """
    try:
        return decoder.decode(text.strip() or "{}")
    except msgspec.ValidationError as error:
        raise msgspec.ValidationError(_explained(str(error), decoder.type)) from None
    except (UnicodeEncodeError, RecursionError) as error:
        raise msgspec.DecodeError(f"JSON can't be read: {error}") from None


def _explained(message: str, kind: Any) -> str:
    found = re.fullmatch(r"(.*) - at (`key` in )?`\$\.?(.*)`", message, re.DOTALL)
    if found is not None:
        return f"{'a key of ' if found[2] else ''}parameter {found[3]}: {found[1]}"
    if "unknown field" in message:
        message += f"; the parameters are: {', '.join(kind.__struct_fields__) or 'none'}"
    return f"the arguments: {message}"
