"""The benchmarks of this checkout, run alternately on this commit and an older one.

`python -m tests.benchmarks.two_commits OLD [NAME ...]` takes the path of a checkout of the older
commit. Each row shows the ratio to its baseline on both commits (medians of three runs; inverted
where more is better) and the change.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from rich.console import Console
from rich.table import Table

from tests.benchmarks.side_by_side import Result

HERE = Path(__file__).resolve().parents[2]
RUNS = 3
SLOWER = 1.1


def mixed_checkout(commit: Path, folder: Path) -> Path:
    """Fill a folder with the code of `commit` and the benchmarks of this checkout."""
    (folder / "tests").mkdir(parents=True)
    for name in ("rxllm", "operators"):
        (folder / name).symlink_to(commit / name)
    (folder / "tests" / "benchmarks").symlink_to(HERE / "tests" / "benchmarks")
    return folder


def ratios(checkout: Path, names: list[str]) -> dict[str, float]:
    """Run the benchmarks once, and return the ratio of each row; lower is better."""
    file = checkout / "results.json"
    file.unlink(missing_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    command = [sys.executable, "-m", "tests.benchmarks", "--json", str(file), *names]
    subprocess.run(command, cwd=checkout, env=environment, check=False)
    found = msgspec.json.decode(file.read_bytes(), type=dict[str, list[Result]])
    return {
        row.work: 1 / row.ratio if row.budget.startswith("at least") else row.ratio
        for rows in found.values()
        for row in rows
    }


def main(old: str, *names: str) -> None:
    """Print a row for each benchmark; exit with 1 if any has become more than 10 % slower."""
    seen: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    with TemporaryDirectory() as folder:
        commits = (Path(old).resolve(), HERE)
        checkouts = [mixed_checkout(c, Path(folder) / str(n)) for n, c in enumerate(commits)]
        for _ in range(RUNS):
            for side, checkout in enumerate(checkouts):
                for work, ratio in ratios(checkout, list(names)).items():
                    seen[work][side].append(ratio)
    table = Table("work", "before", "now", "change", "", title=f"medians of {RUNS} runs")
    slower = 0
    for work, (before, now) in seen.items():
        if not before or not now:
            continue  # only one of the commits supports it
        change = statistics.median(now) / statistics.median(before)
        slower += change > SLOWER
        mark = "SLOWER" if change > SLOWER else ""
        figures = (f"{statistics.median(side):.2f}" for side in (before, now))
        table.add_row(work, *figures, f"{change - 1:+.0%}", mark)
    Console(width=150).print(table)
    sys.exit(bool(slower))


if __name__ == "__main__":
    main(*sys.argv[1:])
