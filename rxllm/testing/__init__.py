"""Tools for testing streams: chunk marbles, a virtual-time event loop, a leak check.

- `Marbles`: streams written as marble diagrams, run on a `TestScheduler` with a valve.
- `VirtualTimeLoop`, `run_virtual`: an asyncio loop that jumps to its next timer.
- `no_leaks`: fails if a stream leaks a task, a timer, a thread or a watcher of a valve.

See `rxllm.models.scripted` for a model that plays a script under either clock, and
`rxllm.testing.fault_server` for a provider that fails on demand, with answers from
`rxllm.testing.provider_streams`.
"""

from rxllm.testing.leaks import no_leaks
from rxllm.testing.marbles import Marbles, Recording
from rxllm.testing.sources import COMPLETED, ColdChunks, HotChunks
from rxllm.testing.virtual_time import VirtualTimeLoop, run_virtual

__all__ = [
    "COMPLETED",
    "ColdChunks",
    "HotChunks",
    "Marbles",
    "Recording",
    "VirtualTimeLoop",
    "no_leaks",
    "run_virtual",
]
