"""`make bench`: every benchmark, as ratios measured side by side in this run.

Absolute times depend on the machine and on what else it does; the ratios much less.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from tests.benchmarks import bridge, fan_out, operators, relay, remote, sse, startup
from tests.benchmarks.side_by_side import Result


def results() -> Iterator[Result]:
    """All results, as they come."""
    yield from startup.benchmarks()
    yield from bridge.benchmarks()
    yield from operators.benchmarks()
    yield from sse.benchmarks()
    yield from remote.benchmarks()
    yield from relay.benchmarks()
    yield from fan_out.benchmarks()
    if importlib.util.find_spec("llama_cpp") is None:
        print("llama-cpp-python is not installed: its benchmarks are left out", file=sys.stderr)
        return
    from tests.benchmarks import llama

    yield from llama.benchmarks()


def main() -> None:
    """Print a row for each; exit code 1 if a budget was missed."""
    table = Table(title="rxllm benchmarks: medians, measured side by side")
    for name in ("work", "ours", "beside", "ratio", "budget", ""):
        table.add_column(name)
    missed = 0
    for result in results():
        missed += not result.is_within
        mark = "ok" if result.is_within else "MISSED"
        table.add_row(
            result.work, result.ours, result.baseline, f"{result.ratio:.2f}", result.budget, mark
        )
        print(f"{mark:6} {result.ratio:6.2f} ({result.budget})  {result.work}", file=sys.stderr)
    Console(width=150).print(table)
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
