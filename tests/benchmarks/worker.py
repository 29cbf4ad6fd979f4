"""A model in a process of its own: what the pipe costs per token, on both of its ends.

The tokens come in batches of eight, as from eight streams at once.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator

from rxllm.models.local.job import Job, Outbox, Piece
from rxllm.models.local.worker_messages import encode, read_events
from rxllm.requests import as_request
from tests.benchmarks.side_by_side import Result, compare, cost_of

TOKENS = 40_000
BATCH = 8
BUDGET = 3.0  # us per token


def _send(output: int) -> None:
    with os.fdopen(output, "wb") as file:
        for number in range(TOKENS // BATCH):
            pieces = [(stream, Piece(f"word{number % 97} ", None)) for stream in range(BATCH)]
            file.write(encode(pieces))
            file.flush()


async def _receive() -> None:
    source, output = os.pipe()
    outbox = Outbox(asyncio.get_running_loop())
    jobs = [Job(as_request("Hi"), outbox, lambda: None, lambda _: False) for _ in range(BATCH)]

    def read() -> None:
        with os.fdopen(source, "rb") as file:
            while (events := read_events(file)) is not None:
                for number, event in events:
                    outbox.put(jobs[number], event)  # type: ignore[arg-type]

    threads = [threading.Thread(target=read), threading.Thread(target=_send, args=(output,))]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)


def over_the_pipe() -> float:
    return cost_of(lambda: asyncio.run(_receive()), TOKENS)


def benchmarks() -> Iterator[Result]:
    yield compare(
        "tokens from the process of a model, both ends of the pipe",
        over_the_pipe,
        lambda: BUDGET,
        unit="us per token",
        limit=1.0,
        kind="at most",
        rounds=5,
    )
