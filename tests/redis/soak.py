"""Three servers, 200 streams, and what can go wrong: `python -m tests.redis.soak [seconds]`.

Servers are killed, and stopped for a while; Redis is restarted, with what it had or empty, and made
to hang. Each client moves from one server to another, begins streams and reads them to their end.
Its text must be right, or the gap must have been announced: by an `error`, or by a 204, which says
that there is no such stream any more. The report counts what happened; exit status 1 for a text
that is wrong, or a client that stands still.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import aiohttp

from tests.redis.counting import counted
from tests.redis.following import Following
from tests.redis.gateway import Gateway
from tests.redis.server import RedisServer

STREAMS = 200
NUMBERS, PACE = 100, 0.1  # 10 seconds
PATIENCE = 90.0


class Soak:
    """One run.

    Attributes:
        ends: how the streams have ended.
        wrong: what must not have happened.
        faults: how often each has happened.
        longest_gap: seconds between two messages of any client.
        hops, restarts: how many there were.
    """

    def __init__(self, server: RedisServer, gateways: list[Gateway], seed: int) -> None:
        self.ends: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.longest_gap = 0.0
        self.restarts = self.hops = 0
        self._server = server
        self._gateways = gateways
        self._chance = random.Random(seed)
        self._is_over = False
        self._clients: dict[str, Following] = {}

    async def run(self, seconds: float) -> None:
        """Read streams while faults happen, and until all have ended."""
        timeout = aiohttp.ClientTimeout(total=None)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            clients = [asyncio.create_task(self._read(session)) for _ in range(STREAMS)]
            hopping = asyncio.create_task(self._hop())
            await self._break_things(seconds)
            self._is_over = True
            hopping.cancel()
            await asyncio.gather(*clients)

    async def _read(self, session: aiohttp.ClientSession) -> None:
        await asyncio.sleep(self._chance.random() * NUMBERS * PACE)
        while not self._is_over:
            client = Following(session, uuid4().hex, self._urls, f"{NUMBERS} {PACE}")
            self._clients[client.stream_id] = client
            try:
                async with asyncio.timeout(PATIENCE):
                    await client.run()
            except TimeoutError:
                self.wrong.append(f"stands still: {client.text!r}, {client.failures[-5:]}")
                continue
            finally:
                del self._clients[client.stream_id]
            self._judge(client)

    async def _hop(self) -> None:
        """Let clients move to another server."""
        while True:
            await asyncio.sleep(0.05)
            if self._clients:
                self._chance.choice(list(self._clients.values())).drop()
                self.hops += 1

    def _urls(self) -> list[str]:
        urls = [each.url for each in self._gateways]
        self._chance.shuffle(urls)
        return urls

    def _judge(self, client: Following) -> None:
        self.restarts += client.restarts
        self.longest_gap = max(self.longest_gap, *client.gaps, 0.0)
        last = client.last
        if last is None:
            end = "gone"
            is_right = counted(NUMBERS).startswith(client.text)
        elif last["type"] == "complete":
            end = last["finishReason"]
            whole = counted(NUMBERS)
            is_right = client.text == whole if end == "stop" else whole.startswith(client.text)
        else:
            end = f"{last['code']}: {last['message']}"
            is_right = counted(NUMBERS).startswith(client.text)
        self.ends[end] += 1
        if not is_right:
            self.wrong.append(f"{end}: {client.text!r}, {client.restarts} restarts")

    async def _break_things(self, seconds: float) -> None:
        faults: list[Callable[[], Awaitable[None]]] = [
            self._kill,
            self._stop,
            self._restart_redis,
            self._empty_redis,
            self._hang_redis,
        ]
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            await asyncio.sleep(self._chance.uniform(1.0, 4.0))
            fault = self._chance.choice(faults)
            self.faults[fault.__name__.strip("_")] += 1
            await fault()

    async def _kill(self) -> None:
        gateway = self._chance.choice(self._gateways)
        gateway.kill()
        await asyncio.sleep(self._chance.random())
        await asyncio.to_thread(gateway.start)

    async def _stop(self) -> None:
        gateway = self._chance.choice(self._gateways)
        gateway.pause()
        await asyncio.sleep(self._chance.uniform(0.2, 5.0))
        gateway.go_on()

    async def _restart_redis(self) -> None:
        self._server.stop()
        await asyncio.sleep(self._chance.uniform(0.0, 3.0))
        await asyncio.to_thread(self._server.start)

    async def _empty_redis(self) -> None:
        self._server.stop()
        self._server.forget()
        await asyncio.to_thread(self._server.start)

    async def _hang_redis(self) -> None:
        self._server.hang()
        await asyncio.sleep(self._chance.uniform(0.2, 5.0))
        self._server.go_on()

    def report(self) -> str:
        """Return what happened."""
        lines = [
            f"faults: {dict(self.faults)}",
            f"streams by their end: {dict(self.ends)}",
            f"hops: {self.hops}",
            f"restarts that were told: {self.restarts}",
            f"longest silence: {self.longest_gap:.1f} s",
            f"wrong: {len(self.wrong)}",
            *self.wrong[:20],
        ]
        return "\n".join(lines)


def main(seconds: float = 600.0, seed: int | None = None) -> int:
    """Run it; return the exit status."""
    seed = random.randrange(1000) if seed is None else seed
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        server = RedisServer(Path(folder), "--appendonly", "yes")
        stack.enter_context(server)
        gateways = [stack.enter_context(Gateway(server.url)) for _ in range(3)]
        soak = Soak(server, gateways, seed)
        asyncio.run(soak.run(seconds))
    print(soak.report())
    return 1 if soak.wrong else 0


if __name__ == "__main__":
    given = sys.argv[1:]
    sys.exit(main(float(given[0]) if given else 600.0, int(given[1]) if given[1:] else None))
