"""Many concurrent clients: `python -m tests.benchmarks.load [clients] [seconds]`.

The server runs in a separate process, and each client has a stream of 20 tokens/s. The report shows
the tokens received by clients, the longest silence of any client, the CPU time of the server per
delivered token, and its memory per stream.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

RATE = 20
SERVER = """
import asyncio, sys
from rxllm import Settings
from rxllm.models.scripted import ScriptedModel
from rxllm.server import Limits, create_app, serve

clients, seconds = int(sys.argv[1]), float(sys.argv[2])
words = [" word"] * int(20 * seconds)
app = create_app(
    {"tiny": ScriptedModel(words, delay=1 / 20)},
    limits=Limits(streams=2 * clients, ended_streams=2 * clients),
    settings=Settings(remote_streams=2 * clients, shutdown=0.0),
)
asyncio.run(serve(app, port=0, say=lambda line: print(line, flush=True)))
"""


class Load(NamedTuple):
    """The results. Times are in seconds; `tokens` are the counts of all clients, `seconds` their
    times from connecting to the end."""

    tokens: list[int]
    completed: int
    seconds: list[float]
    longest_silence: float
    cpu_per_token: float
    bytes_per_stream: float


class Client:
    """A client that counts the tokens of its stream."""

    def __init__(self) -> None:
        self.tokens = 0
        self.has_completed = False
        self.longest_silence = 0.0
        self.seconds = 0.0

    async def run(self, port: int) -> None:
        started = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /stream?prompt=Hi HTTP/1.1\r\nHost: localhost\r\n\r\n")
        last, tail = 0.0, b""
        while not self.has_completed:
            data = await reader.read(65536)
            if not data:
                break
            now = time.monotonic()
            if last:
                self.longest_silence = max(self.longest_silence, now - last)
            last = now
            self._count(tail, data)
            tail = data[-30:]
        self.seconds = time.monotonic() - started
        writer.close()

    def _count(self, tail: bytes, data: bytes) -> None:
        both = tail + data
        for what in (b'"type":"token"', b"event: complete"):
            found = both.count(what) - tail.count(what)
            if what == b"event: complete":
                self.has_completed = self.has_completed or found > 0
            else:
                self.tokens += found


def load(clients: int, seconds: float) -> Load:
    """Run the load and measure the server."""
    with _server(clients, seconds) as (pid, port):
        memory, cpu = _memory(pid), _cpu(pid)
        all_clients = [Client() for _ in range(clients)]

        async def main() -> float:
            runs = [asyncio.ensure_future(each.run(port)) for each in all_clients]
            await asyncio.sleep(seconds * 0.8)
            used = _memory(pid) - memory
            await asyncio.wait_for(asyncio.gather(*runs), seconds * 4 + 30)
            return used

        used = asyncio.run(main())
        tokens = [each.tokens for each in all_clients]
        return Load(
            tokens,
            sum(each.has_completed for each in all_clients),
            [each.seconds for each in all_clients],
            max(each.longest_silence for each in all_clients),
            (_cpu(pid) - cpu) / max(1, sum(tokens)),
            used / clients,
        )


@contextmanager
def _server(clients: int, seconds: float) -> Iterator[tuple[int, int]]:
    command = [sys.executable, "-c", SERVER, str(clients), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            yield program.pid, int(program.stdout.readline().split("/")[2].split(":")[1])
        finally:
            program.terminate()


def _memory(pid: int) -> float:
    """Return the resident memory in bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return float(pages * os.sysconf("SC_PAGE_SIZE"))


def _cpu(pid: int) -> float:
    """Return the user and system time in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main(clients: int = 500, seconds: float = 30.0) -> None:
    """Measure, and print the results."""
    measured = load(clients, seconds)
    print(f"{clients} clients at {RATE} tokens/s for {seconds:g} s: {measured.completed} completed")
    print(f"tokens per client: {min(measured.tokens)} to {max(measured.tokens)}")
    print(f"the slowest client took {max(measured.seconds):.1f} s")
    print(f"longest silence {measured.longest_silence * 1000:.0f} ms")
    print(f"CPU time of the server: {measured.cpu_per_token * 1e6:.0f} us per delivered token")
    print(
        f"memory: {measured.bytes_per_stream / 1024:.0f} KiB per stream, including its connection"
    )


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
