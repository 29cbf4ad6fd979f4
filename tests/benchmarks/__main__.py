"""`make bench`: all benchmarks, as ratios measured alternately in one run.

`python -m tests.benchmarks remote relay` runs those two; `--json FILE` also writes the results to a
file, for `tests.benchmarks.two_commits`. Absolute times depend on the machine and its load; ratios
much less.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from tests.benchmarks.side_by_side import Result

TITLES = {
    "startup": "import rxllm, vs its base packages",
    "bridge": "bridge and batches, vs a bare loop and RxPY",
    "operators": "operators, vs RxPY's `map`",
    "sse": "server-sent events, vs split-and-slice",
    "remote": "OpenAI-style stream of 2,000 tokens, vs a hand-written client",
    "relay": "relay of OpenAI-style streams, vs a hand-written server",
    "fan_out": "one stream to many clients, vs one loop over all",
    "llama": "llama.cpp, vs `Llama.generate()`",
    "agents": "a run of an agent, vs its budget",
    "nodes": "streams of another server through Redis, vs the store in memory",
    "worker": "a model in a process of its own, vs its budget",
}
"""Titles by module. Each module is imported only when it runs, so that the others still work on a
commit that doesn't support it."""


def results(name: str) -> list[Result]:
    """Run the benchmarks of one module, printing each result at once."""
    if name == "llama" and importlib.util.find_spec("llama_cpp") is None:
        print("llama-cpp-python is not installed: skipping its benchmarks", file=sys.stderr)
        return []
    found = []
    for result in importlib.import_module(f"tests.benchmarks.{name}").benchmarks():
        mark = "ok" if result.is_within else "MISSED"
        print(f"{mark:6} {result.ratio:6.2f} ({result.budget})  {result.work}", file=sys.stderr)
        found.append(result)
    return found


def table_of(found: dict[str, list[Result]]) -> Table:
    """Return a table with a section for each module."""
    table = Table(title="rxllm benchmarks: medians, measured alternately")
    table.add_column("work", overflow="fold")
    for name in ("rxllm", "baseline", "ratio", "budget"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for name, rows in found.items():
        table.add_section()
        table.add_row(f"[bold]{TITLES[name]}")
        for row in rows:
            mark = "ok" if row.is_within else "MISSED"
            ratio = f"{row.ratio:.2f}"
            table.add_row(f"  {row.work}", row.ours, row.baseline, ratio, row.budget, mark)
    return table


def main() -> None:
    """Print a row for each benchmark; exit with 1 if a budget was missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(TITLES))
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results to FILE")
    given = parser.parse_args()
    if unknown := set(given.names) - set(TITLES):
        parser.error(f"unknown benchmarks: {', '.join(sorted(unknown))}")
    found = {name: results(name) for name in given.names or TITLES}
    if given.json is not None:
        given.json.write_bytes(msgspec.json.encode(found))
    Console(width=150).print(table_of(found))
    sys.exit(not all(row.is_within for rows in found.values() for row in rows))


if __name__ == "__main__":
    main()
