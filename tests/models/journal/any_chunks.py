"""Hypothesis strategies of chunks of every class, with any value in any field."""

from __future__ import annotations

import types
import typing
from functools import cache
from typing import Any

import msgspec
from hypothesis import strategies as st

from rxllm.chunks import Chunk

__all__ = ["ANY_CHUNK", "exact"]

TEXTS = st.text(st.characters() | st.sampled_from('\ud83d\n\r\u2028\0"\\é'), max_size=6)
FLOATS = st.floats(allow_nan=False)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | FLOATS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
PLAIN: dict[object, st.SearchStrategy[Any]] = {
    Any: VALUES,
    type(None): st.none(),
    bool: st.booleans(),
    int: st.integers(-(2**60), 2**60),
    float: FLOATS,
    str: TEXTS,
}


@cache  # a class may contain itself
def any_of(hint: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for the values of a type."""
    if hint in PLAIN:
        return PLAIN[hint]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if origin in {typing.Union, types.UnionType}:
        return st.one_of(*map(any_of, arguments))
    if origin is tuple:
        return st.lists(st.deferred(lambda: any_of(arguments[0])), max_size=2).map(tuple)
    if origin is dict:
        return st.dictionaries(TEXTS, any_of(arguments[1]), max_size=3)
    assert issubclass(hint, msgspec.Struct), f"no strategy for {hint}"
    return st.builds(hint, **{name: any_of(each) for name, each in hints_of(hint).items()})


def hints_of(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {name: hints[name] for name in kind.__struct_fields__}  # type: ignore[attr-defined]


ANY_CHUNK: st.SearchStrategy[Chunk] = st.one_of(*map(any_of, typing.get_args(Chunk)))


def exact(value: object) -> object:
    """Return `value` in a form that is equal only if every field is: a `Token` compares fewer."""
    if isinstance(value, msgspec.Struct):
        fields = [exact(getattr(value, name)) for name in value.__struct_fields__]
        return (type(value).__name__, *fields)
    return [exact(each) for each in value] if isinstance(value, tuple) else value
