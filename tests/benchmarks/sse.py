"""The decoder of server-sent events, compared with a split-and-slice loop for a single form."""

from __future__ import annotations

import json
from collections.abc import Iterator

from rxllm.models.remote.sse import EventStreamDecoder
from tests.benchmarks.side_by_side import Result, compare, cost_of

EVENTS = 20_000


def _event(text: str) -> bytes:
    chunk = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "gpt",
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}],
    }
    return f"data: {json.dumps(chunk)}\n\n".encode()


def _reads(size: int) -> list[bytes]:
    stream = b"".join(_event(f"word{number % 97} ") for number in range(EVENTS))
    return [stream[start : start + size] for start in range(0, len(stream), size)]


def decoded(reads: list[bytes]) -> int:
    decoder = EventStreamDecoder()
    return sum(len(event.data) for read in reads for event in decoder.feed(read))


def split_and_sliced(reads: list[bytes]) -> int:
    total, rest = 0, b""
    for read in reads:
        *blocks, rest = (rest + read).split(b"\n\n")
        for block in blocks:
            for line in block.split(b"\n"):
                if line.startswith(b"data: "):
                    total += len(line[6:].decode())
    return total


def benchmarks() -> Iterator[Result]:
    for name, size in {"one event": 180, "sixteen events": 2880}.items():
        reads = _reads(size)
        assert decoded(reads) == split_and_sliced(reads)
        yield compare(
            f"SSE decoder vs split-and-slice, {name} per read",
            lambda reads=reads: cost_of(lambda: decoded(reads), EVENTS),  # type: ignore[misc]
            lambda reads=reads: cost_of(lambda: split_and_sliced(reads), EVENTS),  # type: ignore[misc]
            unit="us per event",
            limit=2,
            kind="at most",
        )
