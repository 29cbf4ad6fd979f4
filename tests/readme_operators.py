"""The catalogue of `operators/README.md`, generated from docstrings: `make readme`."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

from rxllm import operators as ops


def catalogue() -> str:
    """Return the section: the operators of each family, with a summary and a marble diagram."""
    return "".join(_family(name) for name in _families()) + "\n"


def _families() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(ops.__path__) if module.ispkg)


def _family(name: str) -> str:
    module = importlib.import_module(f"rxllm.operators.{name}")
    docstring = inspect.getdoc(module) or ""
    entries = "\n".join(_entry(operator) for operator in _operators(module))
    return f"\n### {name}\n\n{docstring.splitlines()[0]}\n\n{entries}"


def _operators(module: Any) -> Iterator[Any]:
    for name in module.__all__:
        operator = getattr(module, name)
        if inspect.isfunction(operator) and "::" in (operator.__doc__ or ""):
            yield operator


def _entry(operator: Any) -> str:
    docstring = inspect.getdoc(operator) or ""
    sentence = docstring.split("\n\n")[0].replace("\n", " ")
    marble = re.search(r"::\n\n((?: {4}.*\n|\n(?= {4}))+)", docstring)
    assert marble is not None, f"the docstring of {operator.__name__} has no marble diagram"
    diagram = inspect.cleandoc(marble[1])
    name = operator.__name__
    return (
        f"#### {name}\n\n`{name}{_arguments(operator)}`\n\n{sentence}\n\n```text\n{diagram}\n```\n"
    )


def _arguments(operator: Any) -> str:
    """Return the signature without types, with functions shown by name."""
    signature = inspect.signature(operator)
    shown = []
    for parameter in signature.parameters.values():
        default = parameter.default
        if inspect.isfunction(default):
            default = _Named(default.__name__)
        shown.append(parameter.replace(annotation=parameter.empty, default=default))
    return str(inspect.Signature(shown))


class _Named(str):
    """A string whose `repr` has no quotes."""

    __slots__ = ()
    __repr__ = str.__str__
