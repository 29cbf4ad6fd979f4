"""Draw the terminal output of some examples: `python -m tests.readme_pictures`.

The numbers in a picture are those of the run that drew it, so they aren't compared by a test.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tests.readme_examples import EXAMPLES

DRAWN = ("12_measure_and_progress", "31_side_by_side", "34_log_and_analyze")
"""Those that show numbers or several streams. The live dashboard was drawn while it ran."""

WIDTH = 110


def draw(example: Path) -> str:
    """Run an example, and return its output as an SVG picture."""
    ran = subprocess.run(
        [sys.executable, str(example)],
        capture_output=True,
        check=True,
        text=True,
        env=os.environ | {"COLUMNS": str(WIDTH), "FORCE_COLOR": "1"},
    )
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(ran.stdout), overflow="ellipsis", no_wrap=True)
    svg = console.export_svg(title=example.name, unique_id=f"example-{example.stem[:2]}")
    return re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)


if __name__ == "__main__":
    for name in DRAWN:
        file = EXAMPLES / f"{name}.py"
        file.with_suffix(".svg").write_text(draw(file), encoding="utf-8")
