"""WebSocket clients that read slowly are kept; those that have gone or send too much are not."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from rxllm.server import create_app
from rxllm.server.websocket.endpoint import CONNECTIONS
from rxllm.server.websocket.pings import Pings
from rxllm.testing import run_virtual
from tests.server.serving import scripted, serving, until
from tests.server.test_websocket import ENDLESS, START
from tests.server.websocket_client import Talker, silent, talking


class Wire:
    """What was sent to a client, and its answers."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.lost = 0
        self.pings = Pings(self.ping, self.lose, interval=15, patience=30)

    async def ping(self, payload: bytes) -> None:
        self.sent.append(payload)

    def lose(self) -> None:
        self.lost += 1


def test_a_client_that_answers_late_is_kept_as_long_as_answers_come() -> None:
    async def main() -> None:
        wire = Wire()
        for _ in range(16):
            await wire.pings.written(16 * 1024)
        held = asyncio.ensure_future(wire.pings.written(16 * 1024))
        await asyncio.sleep(1)
        assert not held.done()
        for payload in wire.sent[:16]:  # 8 minutes
            await asyncio.sleep(28)
            assert wire.pings.answered(payload)
            await asyncio.sleep(0)
            assert held.done()
        assert wire.lost == 0
        await asyncio.sleep(31)
        assert wire.lost == 1
        wire.pings.stop()

    run_virtual(main())


def test_a_silent_client_is_asked_and_lost_without_an_answer() -> None:
    async def main() -> None:
        wire = Wire()
        await asyncio.sleep(14)
        wire.pings.heard()
        await asyncio.sleep(14)
        assert wire.sent == []
        await asyncio.sleep(2)
        assert len(wire.sent) == 1
        assert not wire.pings.answered(b"")
        assert not wire.pings.answered((7).to_bytes(8))
        assert wire.pings.answered(wire.sent[0])
        assert not wire.pings.answered(wire.sent[0])
        await asyncio.sleep(20)
        assert len(wire.sent) == 2
        await asyncio.sleep(31)
        assert wire.lost == 1
        wire.pings.stop()

    run_virtual(main())


def test_one_answer_counts_for_the_pings_before_it() -> None:
    async def main() -> None:
        wire = Wire()
        for _ in range(4):
            await wire.pings.written(20_000)
        assert wire.pings.answered(wire.sent[2])
        assert not wire.pings.answered(wire.sent[1])
        assert wire.pings.answered(wire.sent[3])
        await asyncio.sleep(14)
        assert wire.lost == 0
        wire.pings.stop()

    run_virtual(main())


async def test_a_client_that_reads_slowly_is_not_dropped_by_the_pings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It takes longer than the patience of the server to read what is in the buffers."""
    monkeypatch.setattr("rxllm.server.websocket.endpoint._HEARTBEAT", 0.05)
    talker = Talker()
    limits = msgspec.structs.replace(ENDLESS, reader_stall=1.5)
    app = create_app({"tiny": talker}, limits=limits)
    async with serving(app) as session, asyncio.timeout(60), silent(session, START) as client:
        await talker.endless.held.wait()
        for _ in range(120):
            await client.read_frame()
            await asyncio.sleep(0.03)  # each frame is 10 KB
        assert len(app[CONNECTIONS]) == 1
        assert not talker.endless.disposed.is_set()


@pytest.mark.parametrize("opcode", [0x89, 0x8A], ids=["pings", "pongs"])
async def test_control_frames_count_in_the_rate(opcode: int) -> None:
    app = scripted()
    async with serving(app) as session, asyncio.timeout(20), silent(session) as client:
        await until(lambda: len(app[CONNECTIONS]) == 1)
        for _ in range(200):
            client._frame(opcode, b"x")
        await until(lambda: len(app[CONNECTIONS]) == 0)


async def test_a_ping_of_the_client_is_answered() -> None:
    async with serving(scripted()) as session, talking(session, autoping=False) as client:
        await client.socket.ping(b"there?")
        message = await client.socket.receive(timeout=20)
        assert (message.type.name, message.data) == ("PONG", b"there?")
