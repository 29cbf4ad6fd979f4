"""Tools for tests of streams: chunk marbles, a loop with virtual time, a leak check.

- `Marbles`: streams written as marble diagrams, run on a `TestScheduler` with a valve.
- `VirtualTimeLoop`, `run_virtual`: an asyncio loop that jumps to its next timer.
- `no_leaks`: fails if a stream leaves a task, a timer, a thread or a watcher of a valve behind.

For a model that plays a script under either clock see `rxllm.models.scripted`; for a provider that
fails as told `rxllm.testing.fault_server`, with answers from `rxllm.testing.provider_streams`.
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
