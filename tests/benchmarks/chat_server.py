"""A server of chat completions in a process of its own, so that its CPU time is not measured.

`python -m tests.benchmarks.chat_server` prints its address, and serves until its input ends.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rxllm.testing.fault_server import FaultServer, Reply
from rxllm.testing.provider_streams import openai_events

TOKENS = 5_000
TEXTS = [f"word{number % 97} " for number in range(TOKENS)]


@contextmanager
def chat_server() -> Iterator[str]:
    """The address of a server that says `TEXTS`, an event each."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.chat_server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.stdin.close()


async def main() -> None:
    async with FaultServer(Reply(openai_events(*TEXTS))) as server:
        print(server.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
