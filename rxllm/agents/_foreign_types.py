"""Types that msgspec doesn't know: pydantic models and fields, and paths.

Pydantic is recognized by its methods and never imported.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

import msgspec

__all__ = ["ForeignSchemas", "as_meta", "from_json", "to_json"]

_CONSTRAINTS = (
    *("ge", "gt", "le", "lt", "multiple_of"),
    *("min_length", "max_length", "pattern", "description"),
)


def as_meta(annotation: object) -> msgspec.Meta | None:
    """Translate what stands in `Annotated`: a description, or a field of pydantic.

    >>> as_meta("days ahead")
    msgspec.Meta(description='days ahead')
    """
    if isinstance(annotation, msgspec.Meta):
        return annotation
    if isinstance(annotation, str):
        return msgspec.Meta(description=annotation)
    found: dict[str, Any] = {}
    for each in (annotation, *getattr(annotation, "metadata", ())):
        for name in _CONSTRAINTS:
            if isinstance(value := getattr(each, name, None), int | float | str):
                found[name] = value
    return msgspec.Meta(**found) if found else None


class ForeignSchemas:
    """The JSON Schemas of foreign types, and the definitions that they refer to."""

    def __init__(self) -> None:
        self.definitions: dict[str, Any] = {}
        self._names: dict[type, str] = {}

    def schema_of(self, kind: type) -> dict[str, Any]:
        """Return the schema of a type.

        Raises:
            TypeError: the type can't be read from JSON.
        """
        if issubclass(kind, PurePath):
            return {"type": "string", "format": "path"}
        model: Any = kind
        if not hasattr(model, "model_json_schema"):
            raise TypeError(
                f"{kind!r} can't be read from JSON: use a builtin type, a dataclass, a TypedDict, "
                "a msgspec.Struct or a pydantic model"
            )
        name = self._name_of(kind)
        schema: dict[str, Any] = model.model_json_schema(ref_template=f"#/$defs/{name}.{{model}}")
        for key, value in schema.pop("$defs", {}).items():
            self.definitions[f"{name}.{key}"] = value
        return schema

    def _name_of(self, kind: type) -> str:
        name = kind.__name__
        while name in self._names.values() and self._names.get(kind) != name:
            name += "_"
        return self._names.setdefault(kind, name)


def from_json(kind: type, value: Any) -> Any:
    """Convert a JSON value to a foreign type.

    Raises:
        ValueError: the value doesn't fit.
    """
    if issubclass(kind, PurePath):
        return kind(value)
    model: Any = kind
    try:
        return model.model_validate_json(msgspec.json.encode(value))
    except ValueError as error:
        raise ValueError(_in_one_line(error)) from None


def _in_one_line(error: ValueError) -> str:
    problems = error.errors() if hasattr(error, "errors") else []
    return "; ".join(
        ": ".join((".".join(map(str, each["loc"])), each["msg"])).removeprefix(": ")
        for each in problems
    ) or str(error)


def to_json(value: Any) -> Any:
    """Convert a value of a foreign type to JSON.

    Raises:
        TypeError: its type is not one of these.
    """
    if isinstance(value, PurePath):
        return str(value)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    raise TypeError(f"{value!r} is not JSON")
