"""Scripts in batches: one pipeline at a time, each with whatever has come meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple, TypeAlias

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as LostError
from redis.exceptions import NoScriptError, RedisError

from rxllm.errors import StoreUnavailableError
from rxllm.patient_timer import PatientTimer
from rxllm.redis.scripts import ALL_SCRIPTS, Script

__all__ = ["CommandQueue", "unavailable"]

Opening: TypeAlias = Callable[[], Awaitable[None]]
Reporting: TypeAlias = Callable[[Exception | None], None]

_LOST: Final = (LostError, OSError, EOFError)

_PAUSE: Final = 0.5
"""Seconds for which a Redis that hangs isn't asked again, so that not every stream waits for it."""


_SILENCE: Final = 60.0  # seconds between two reports of refused commands

_log: Final = logging.getLogger("rxllm.redis")


class _Command(NamedTuple):
    script: Script
    keys: Sequence[str | float | bytes]
    arguments: Sequence[str | float | bytes]
    reply: asyncio.Future[Any]


class CommandQueue:
    """Sends scripts in the order of the calls, over one connection.

    No caller interrupts the connection, whose replies would then belong to nobody. After a lost
    connection, such as that to a Redis that has restarted, a batch is sent once more. After a
    timeout, it has failed, and so has whatever waited behind it, or comes in the next 0.5 s.

    Args:
        client: the connections.
        timeout: seconds that a batch may take.
        opening: awaited before the first command.
        report: called with the error when Redis is unavailable, and with `None` when it answers.
    """

    def __init__(self, client: Redis, timeout: float, opening: Opening, report: Reporting) -> None:
        self._client = client
        self._timeout = timeout
        self._opening = opening
        self._report = report
        self._waiting: list[_Command] = []
        self._under_way: list[_Command] = []
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False
        self._paused_until = 0.0
        self._silent_until = 0.0

    def send(
        self, script: Script, keys: Sequence[str], arguments: Sequence[str | float | bytes]
    ) -> asyncio.Future[Any]:
        """Queue a script; see `Link.send`."""
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Any] = loop.create_future()
        command = _Command(script, [*map(_encoded, keys)], [*map(_encoded, arguments)], reply)
        if self._is_closed:
            self._fail([command], "the connections were closed", None)
            return reply
        if loop.time() < self._paused_until:
            self._fail([command], f"Redis didn't answer in {self._timeout:g} s", None)
            return reply
        self._waiting.append(command)
        if self._task is None:
            self._task = loop.create_task(self._send_all(), name="rxllm redis commands")
        return reply

    async def close(self) -> None:
        """Fail what is under way."""
        self._is_closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _send_all(self) -> None:
        try:
            await self._opening()
            while self._waiting:
                self._under_way = [each for each in self._waiting if not each.reply.done()]
                self._waiting.clear()
                if self._under_way:
                    await self._send_batch()
        except BaseException:  # cancelled: the loop ends, or the connections are closed
            self._fail(self._under_way + self._waiting, "the connections were closed", None)
            self._waiting.clear()
            raise
        finally:
            self._task = None

    async def _send_batch(self) -> None:
        batch = self._under_way
        try:
            async with _patient_timeout(self._timeout):
                try:
                    replies = await self._execute(batch)
                except _LOST:
                    replies = await self._execute(batch)
        except TimeoutError as error:
            self._report(error)
            self._fail(batch + self._waiting, f"Redis didn't answer in {self._timeout:g} s", error)
            self._waiting.clear()
            self._paused_until = asyncio.get_running_loop().time() + _PAUSE
        except (RedisError, *_LOST) as error:
            self._report(error)
            self._fail(batch, "Redis can't be reached", error)
        else:
            self._report(None)
            for command, reply in zip(batch, replies, strict=True):
                if isinstance(reply, Exception):
                    self.report_refusal(str(reply))
                _resolve(command, reply)

    async def _execute(self, batch: Sequence[_Command]) -> list[Any]:
        replies = await self._run(batch)
        unknown = [at for at, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:  # it has been restarted, or is new
            async with self._client.pipeline(transaction=False) as pipeline:
                for script in ALL_SCRIPTS:
                    pipeline.script_load(script.source)
                await pipeline.execute()
            again = await self._run([batch[at] for at in unknown])
            for at, reply in zip(unknown, again, strict=True):
                replies[at] = reply
        return replies

    async def _run(self, batch: Sequence[_Command]) -> list[Any]:
        async with self._client.pipeline(transaction=False) as pipeline:
            for script, keys, arguments, _ in batch:
                pipeline.evalsha(script.sha, len(keys), *keys, *arguments)
            return await pipeline.execute(raise_on_error=False)

    def report_refusal(self, why: str) -> None:
        """Log what Redis refuses, such as for lack of memory or of a permission: once a minute, as
        everything else may work."""
        now = asyncio.get_running_loop().time()
        if now >= self._silent_until:
            self._silent_until = now + _SILENCE
            _log.warning("Redis refused a command: %s", why)

    @staticmethod
    def _fail(batch: Sequence[_Command], why: str, cause: Exception | None) -> None:
        for command in batch:
            if not command.reply.done():
                command.reply.set_exception(unavailable(why, cause))
                command.reply.exception()  # whoever doesn't read it has left


def _encoded(value: str | float | bytes) -> float | bytes:
    """Return text as UTF-8, with each half of a surrogate pair as `?`: it would fail the batch."""
    return value.encode("utf-8", "replace") if isinstance(value, str) else value


@asynccontextmanager
async def _patient_timeout(seconds: float) -> AsyncIterator[None]:
    """As `asyncio.timeout`, but a reply that came while this process was stopped is read first."""
    async with asyncio.timeout(None) as limit:
        timer = PatientTimer(seconds, limit.reschedule, 0.0)
        try:
            yield
        finally:
            timer.cancel()


def _resolve(command: _Command, reply: Any) -> None:
    if command.reply.done():
        return
    if isinstance(reply, Exception):  # such as `OOM command not allowed`
        command.reply.set_exception(unavailable(f"Redis refused a command: {reply}", reply))
        command.reply.exception()
    else:
        command.reply.set_result(reply)


def unavailable(why: str, cause: Exception | None) -> StoreUnavailableError:
    """Return the error of a command."""
    error = StoreUnavailableError(f"the shared store is unavailable: {why}")
    error.__cause__ = cause
    return error
