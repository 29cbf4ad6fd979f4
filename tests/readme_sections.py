"""The generated sections of the READMEs: `make readme` writes them.

A test compares each section with the generated text.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.readme_examples import index
from tests.readme_faults import fault_matrix
from tests.readme_messages import error_codes, messages
from tests.readme_operators import catalogue

ROOT = Path(__file__).parents[1]


class Section(NamedTuple):
    """A part of a folder's README, between two comments with its name."""

    folder: str
    name: str
    make: Callable[[], str]

    @property
    def readme(self) -> Path:
        return ROOT / self.folder / "README.md"

    def split(self) -> tuple[str, str, str]:
        """Return the README before the section, the section, and the rest."""
        begin = f"<!-- {self.name}: made by `make readme` -->\n"
        end = f"<!-- end of the {self.name} -->\n"
        before, mark, rest = self.readme.read_text(encoding="utf-8").partition(begin)
        section, end_mark, after = rest.partition(end)
        assert end_mark, f"{self.readme} has no section {self.name!r}"
        return before + mark, section, end_mark + after


SECTIONS = (
    Section("operators", "catalogue", catalogue),
    Section("rxllm/server", "messages", messages),
    Section("rxllm/server", "error codes", error_codes),
    Section("rxllm/models", "fault matrix", fault_matrix),
    Section("examples", "index", index),
)


def main() -> None:
    """Write all sections."""
    for section in SECTIONS:
        before, _, after = section.split()
        section.readme.write_text(before + section.make() + after, encoding="utf-8")


if __name__ == "__main__":
    main()
