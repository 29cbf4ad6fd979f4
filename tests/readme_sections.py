"""The generated sections of the READMEs and of `operators/__init__.py`: `make readme` writes them.

A test compares each section with the generated text.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.operator_names import operator_names
from tests.readme_examples import index
from tests.readme_faults import fault_matrix
from tests.readme_messages import error_codes, messages
from tests.readme_operators import catalogue

ROOT = Path(__file__).parents[1]


class Section(NamedTuple):
    """A part of a file, between two comments with its name."""

    path: str
    name: str
    make: Callable[[], str]

    @property
    def file(self) -> Path:
        return ROOT / self.path

    def split(self) -> tuple[str, str, str]:
        """Return the file before the section, the section, and the rest."""
        comment = "# {}\n" if self.path.endswith(".py") else "<!-- {} -->\n"
        begin = comment.format(f"{self.name}: made by `make readme`")
        end = comment.format(f"end of the {self.name}")
        before, mark, rest = self.file.read_text(encoding="utf-8").partition(begin)
        section, end_mark, after = rest.partition(end)
        assert end_mark, f"{self.path} has no section {self.name!r}"
        return before + mark, section, end_mark + after


SECTIONS = (
    Section("operators/__init__.py", "names", operator_names),
    Section("operators/README.md", "catalogue", catalogue),
    Section("rxllm/server/README.md", "messages", messages),
    Section("rxllm/server/README.md", "error codes", error_codes),
    Section("rxllm/models/README.md", "fault matrix", fault_matrix),
    Section("examples/README.md", "index", index),
)


def main() -> None:
    """Write all sections."""
    for section in SECTIONS:
        before, _, after = section.split()
        section.file.write_text(before + section.make() + after, encoding="utf-8")


if __name__ == "__main__":
    main()
