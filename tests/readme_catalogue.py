"""What of the README is made from the program: `make readme`.

The catalogue of operators, from their docstrings, and the table of messages. A test compares them
with what stands there.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rxllm import operators as ops
from tests.readme_messages import messages

README = Path(__file__).parents[1] / "README.md"


def catalogue() -> str:
    """The section: for each family its operators, each with a line and a marble diagram."""
    return "".join(_family(name) for name in _families())


def split(text: str, name: str) -> tuple[str, str, str]:
    """The README before a section, the section between its two marks, and what follows."""
    begin, end = f"<!-- {name}: made by `make readme` -->\n", f"<!-- end of the {name} -->\n"
    before, mark, rest = text.partition(begin)
    section, end_mark, after = rest.partition(end)
    assert end_mark, f"the README has no section {name!r}"
    return before + mark, section, end_mark + after


def _families() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(ops.__path__) if module.ispkg)


def _family(name: str) -> str:
    module = importlib.import_module(f"rxllm.operators.{name}")
    docstring = inspect.getdoc(module) or ""
    entries = "\n".join(_entry(operator) for operator in _operators(module))
    return (
        f"<details><summary><b>{name}</b>: {docstring.splitlines()[0]}</summary>\n\n"
        f"{entries}\n</details>\n\n"
    )


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
    return f"`{operator.__name__}{_arguments(operator)}`: {sentence}\n\n```text\n{diagram}\n```\n"


def _arguments(operator: Any) -> str:
    """The signature without types, and with functions by their names."""
    signature = inspect.signature(operator)
    shown = []
    for parameter in signature.parameters.values():
        default = parameter.default
        if inspect.isfunction(default):
            default = _Named(default.__name__)
        shown.append(parameter.replace(annotation=parameter.empty, default=default))
    return str(inspect.Signature(shown))


class _Named(str):
    """A text that is shown without quotes."""

    __slots__ = ()
    __repr__ = str.__str__


SECTIONS = {"catalogue": catalogue, "messages": messages}


def main() -> None:
    """Write the sections into the README."""
    text = README.read_text(encoding="utf-8")
    for name, section in SECTIONS.items():
        before, _, after = split(text, name)
        text = before + section() + after
    README.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
