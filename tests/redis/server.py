"""A real redis-server on loopback."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import pytest
import redis

__all__ = ["RedisServer"]

PROGRAM = shutil.which("redis-server")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RedisServer:
    """One server, which can be stopped, started again, and made to hang."""

    def __init__(self, folder: Path, *options: str) -> None:
        if PROGRAM is None:
            pytest.skip("there is no redis-server: apt-get install redis-server")
        self.program: str = PROGRAM
        self.folder = folder
        self.options = options
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client = redis.Redis(port=self.port)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        self.client.close()

    def start(self) -> None:
        """Start it, empty, and return once it answers."""
        command = [self.program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self._process = subprocess.Popen(
            [*command, "--dir", str(self.folder), *self.options], stdout=subprocess.DEVNULL
        )
        for _ in range(500):
            try:
                self.client.ping()
            except (redis.ConnectionError, redis.BusyLoadingError):
                assert self._process.poll() is None, "redis-server has ended"
                time.sleep(0.01)
            else:
                return
        raise AssertionError("redis-server didn't start")

    def stop(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def forget(self) -> None:
        """Let it start empty, if it keeps what it has."""
        shutil.rmtree(self.folder / "appendonlydir", ignore_errors=True)

    def hang(self) -> None:
        """Let it answer nothing, with its connections open, until `go_on`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def all_keys(self) -> set[str]:
        return {key.decode() for key in self.client.scan_iter()}

    def keys_without_expiry(self) -> set[str]:
        # It is -2 for a key that has expired since it was listed.
        return {key for key in self.all_keys() if self.client.pttl(key) == -1}

    def content(self) -> bytes:
        """Return all keys and values in one."""
        return b"\n".join(self._dumped(key) for key in self.client.scan_iter())

    def _dumped(self, key: bytes) -> bytes:
        read: dict[object, Callable[[bytes], object]] = {
            b"string": self.client.get,
            b"zset": lambda key: self.client.zrange(key, 0, -1, withscores=True),
            b"hash": self.client.hgetall,
            b"stream": self.client.xrange,
        }
        return key + b" " + repr(read[self.client.type(key)](key)).encode()
