"""A server of a fleet, as a process: `python -m tests.redis.gateway URL LEASE TAKE_OVER`."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from functools import partial
from types import TracebackType
from typing import IO

from rxllm import Settings
from rxllm.redis import RedisStreams
from rxllm.server import Limits, create_app, serve
from tests.redis.counting import CountingModel

__all__ = ["Gateway"]


class Gateway:
    """The process of a server.

    Args:
        redis: the URL of Redis.
        lease: seconds.
        take_over: whether it continues the streams of others.
    """

    def __init__(self, redis: str, lease: float = 1.0, take_over: bool = True) -> None:
        self._arguments = redis, f"{lease}", f"{int(take_over)}"
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    def __enter__(self) -> Gateway:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, and return once it listens."""
        command = [sys.executable, "-m", "tests.redis.gateway", *self._arguments]
        process = self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        self.url = _url_in(process.stdout)

    def kill(self) -> None:
        """End it by SIGKILL."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()

    def stop(self) -> None:
        """Let it finish, by SIGTERM."""
        self._send(signal.SIGTERM)

    def pause(self) -> None:
        self._send(signal.SIGSTOP)

    def go_on(self) -> None:
        self._send(signal.SIGCONT)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def _send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)


def _url_in(output: IO[str]) -> str:
    for line in output:
        if "http://" in line:
            return "http://" + line.partition("http://")[2].partition("/ ")[0]
    raise AssertionError("the server has ended")


def main(redis: str, lease: str, take_over: str) -> None:
    app = create_app(
        {"counting": CountingModel()},
        limits=Limits(streams=1000, readers=5000, reader_stall=20.0, ended_streams=1000),
        settings=Settings(remote_streams=1000, shutdown=5.0),
        store=partial(RedisStreams, redis, lease=float(lease)),
        take_over=take_over == "1",
    )
    asyncio.run(serve(app, port=0, say=partial(print, flush=True)))


if __name__ == "__main__":
    main(*sys.argv[1:])
