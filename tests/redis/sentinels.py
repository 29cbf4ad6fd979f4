"""A Redis, its replica, and three Sentinels that let the replica take its place."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import redis
from redis.asyncio import Redis
from redis.asyncio.sentinel import Sentinel

from tests.redis.server import RedisServer, free_port

__all__ = ["Sentinels"]

_NAME: Final = "mine"
_DOWN: Final = 1000  # ms

_CONFIGURATION: Final = """
port {port}
bind 127.0.0.1
dir {folder}
sentinel monitor {name} 127.0.0.1 {master} 2
sentinel down-after-milliseconds {name} {down}
sentinel failover-timeout {name} 5000
"""


class Sentinels:
    """They agree on a failover a second after the master has died or hangs.

    Attributes:
        master: the Redis that is the master at first.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.master = RedisServer(folder)
        self._ports = [free_port() for _ in range(3)]
        self._processes: list[subprocess.Popen[bytes]] = []
        self._stack = ExitStack()

    def __enter__(self) -> Sentinels:
        with ExitStack() as stack:
            stack.callback(self._stop)
            stack.enter_context(self.master)
            options = "--replicaof", "127.0.0.1", f"{self.master.port}"
            fast = "--repl-diskless-sync-delay", "0"
            stack.enter_context(RedisServer(self.folder, *options, *fast))
            for port in self._ports:
                self._start(port)
            for port in self._ports:
                self._wait_for(port)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def client(self) -> Redis:
        """Return a client of whichever Redis is the master."""
        addresses = [("127.0.0.1", port) for port in self._ports]
        sentinel: Any = Sentinel(addresses)  # type: ignore[no-untyped-call]
        client: Redis = sentinel.master_for(_NAME)
        return client

    def fail(self, how: str) -> None:
        """Let the master and the first Sentinel be `"killed"`, or hang."""
        if how == "killed":
            self.master.stop()
            self._processes[0].kill()
        else:
            self.master.hang()
            self._processes[0].send_signal(signal.SIGSTOP)

    def _start(self, port: int) -> None:
        path = self.folder / f"sentinel-{port}.conf"
        path.write_text(
            _CONFIGURATION.format(
                port=port, folder=self.folder, name=_NAME, master=self.master.port, down=_DOWN
            )
        )
        command = [self.master.program, str(path), "--sentinel"]
        self._processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))

    def _wait_for(self, port: int) -> None:
        """Wait until a Sentinel knows the other two, and the replica."""
        with redis.Redis(port=port) as client:
            _until(lambda: _is_ready(client))

    def _stop(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


def _is_ready(client: Any) -> bool:
    master = client.sentinel_master(_NAME)
    replicas = client.sentinel_slaves(_NAME)
    return master["num-other-sentinels"] == 2 and any(
        each["master-link-status"] == "ok" for each in replicas
    )


def _until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            if is_so():
                return
        except redis.RedisError:  # it doesn't listen yet
            pass
        assert time.monotonic() < deadline, "the Sentinels didn't find each other"
        time.sleep(0.05)
