"""The index of `examples/README.md`, generated from the examples' docstrings: `make readme`."""

from __future__ import annotations

import ast
import re
from itertools import chain
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"

GROUPS: dict[str, tuple[int, ...]] = {
    "First steps": (1, 2, 4, 13, 39, 14, 15),
    "Models and providers": (16, 17, 18, 19, 20),
    "Reading and displaying a stream": (3, 5, 6, 25, 33),
    "Text": (11, 22, 23, 24),
    "Pace and size": (10, 21),
    "Failures": (7, 26, 27),
    "Control and many streams": (8, 9, 28, 29, 30),
    "Several models at once": (31, 32),
    "Measuring and logging": (12, 34),
    "Web": (35, 36, 37, 38),
}
"""The numbers of the examples under each heading."""


def index() -> str:
    """Return the section: for each group a table of tasks and files."""
    files = {int(file.name[:2]): file for file in EXAMPLES.glob("*.py")}
    listed = sorted(chain.from_iterable(GROUPS.values()))
    assert listed == sorted(files), "each example must be in exactly one group of `GROUPS`"
    folders = {"Web": _folders()}
    return "\n".join(
        f"## {group}\n\n| task | example |\n|---|---|\n"
        + "".join(_row(files[number]) for number in numbers)
        + folders.get(group, "")
        + "".join(_picture(files[number]) for number in numbers)
        for group, numbers in GROUPS.items()
    )


def _row(file: Path) -> str:
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    sentence = docstring.partition("\n")[0]
    assert sentence.endswith("."), f"the first line of {file.name} must be one sentence"
    return f"| {sentence.removesuffix('.')} | [{file.name}]({file.name}) |\n"


def _picture(file: Path) -> str:
    """Return the picture of what an example shows, if there is one."""
    picture = file.with_suffix(".svg")
    return f"\n![The output of {file.name}]({picture.name})\n" if picture.exists() else ""


def _folders() -> str:
    """Return the rows of examples in other languages: one folder each, titled by its README."""
    rows = []
    for readme in sorted(EXAMPLES.glob("*/README.md")):
        title = re.match(r"# (.*)\n", readme.read_text(encoding="utf-8"))
        assert title is not None, f"{readme} has no title"
        name = readme.parent.name
        rows.append(f"| {title[1]} | [{name}/]({name}/README.md) |\n")
    return "".join(rows)
