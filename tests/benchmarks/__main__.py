"""`make bench`: every benchmark, as ratios measured in turns in one run.

`python -m tests.benchmarks remote relay` runs those two; `--json FILE` writes the results down as
well, for `tests.benchmarks.two_commits`. Absolute times depend on the machine and on what else it
does; the ratios much less.
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
    "startup": "import rxllm, beside its base packages",
    "bridge": "bridge and batches, beside a bare loop",
    "operators": "operators, beside RxPY's `map`",
    "sse": "server-sent events, beside split-and-slice",
    "remote": "OpenAI-style stream of 2,000 tokens, beside a client by hand",
    "relay": "relay of OpenAI-style streams, beside a server by hand",
    "fan_out": "one stream to many clients, beside one loop over all",
    "llama": "llama.cpp, beside `Llama.generate()` and a bare decode loop",
}
"""Of the modules of benchmarks. Each is imported when it is run, so that the others still run on a
commit that one of them does not know."""


def results(name: str) -> list[Result]:
    """The results of one module, each printed as it comes."""
    if name == "llama" and importlib.util.find_spec("llama_cpp") is None:
        print("llama-cpp-python is not installed: its benchmarks are left out", file=sys.stderr)
        return []
    found = []
    for result in importlib.import_module(f"tests.benchmarks.{name}").benchmarks():
        mark = "ok" if result.is_within else "MISSED"
        print(f"{mark:6} {result.ratio:6.2f} ({result.budget})  {result.work}", file=sys.stderr)
        found.append(result)
    return found


def table_of(found: dict[str, list[Result]]) -> Table:
    """One section for each module."""
    table = Table(title="rxllm benchmarks: medians, measured in turns")
    table.add_column("work", overflow="fold")
    for name in ("rxllm", "beside", "ratio", "budget"):
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
    """Print a row for each; exit code 1 if a budget was missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(TITLES))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
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
