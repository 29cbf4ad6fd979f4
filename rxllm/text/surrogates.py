"""Half surrogates, which a Python string may have and UTF-8 can't express."""

from __future__ import annotations

from typing import Any

__all__ = ["without_surrogates"]


def without_surrogates(value: Any) -> Any:
    r"""Return a string, or the builtins of a JSON value, with each half surrogate replaced by `?`.

    >>> without_surrogates({"a": ["\ud83d", 1]})
    {'a': ['?', 1]}
    """
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {without_surrogates(key): without_surrogates(each) for key, each in value.items()}
    return (
        [without_surrogates(each) for each in value] if isinstance(value, list | tuple) else value
    )
