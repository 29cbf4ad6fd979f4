"""The cost of `import rxllm`, compared with importing its base packages."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

from tests.benchmarks.side_by_side import Result, compare


def import_seconds(*modules: str) -> float:
    """Return the wall time of a new interpreter that imports `modules`."""
    started = time.perf_counter()
    program = "".join(f"import {module};" for module in modules)
    subprocess.run([sys.executable, "-c", program], check=True)
    return time.perf_counter() - started


def benchmarks() -> Iterator[Result]:
    yield compare(
        "import rxllm, vs asyncio, reactivex and msgspec",
        lambda: import_seconds("rxllm"),
        lambda: import_seconds("asyncio", "reactivex", "reactivex.testing", "msgspec"),
        unit="s",
        limit=1.5,
        kind="at most",
    )
