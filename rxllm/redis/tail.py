"""The one blocking read of a node: its inbox, and all streams that it follows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from redis.exceptions import RedisError

from rxllm.errors import StoreUnavailableError
from rxllm.redis.connections import Link
from rxllm.redis.replica import Replica
from rxllm.redis.stream_scripts import IS_ALIVE, StreamKeys
from rxllm.valve import report_failure

__all__ = ["Tail"]

_BLOCK: Final = 1.0  # seconds
_PATIENCE: Final = 2.0  # seconds beyond that, after which the connection is given up
_ENTRIES: Final = 20  # of each stream at once, each of which may have 500 events
_AT_ONCE: Final = 1000  # events that are taken before the event loop runs others
_MANY: Final = 4  # streams with news; then a short pause makes the next batch larger
_SHORTEST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 0.5


class Tail:
    """Reads the inbox of a node and its replicas.

    Args:
        link: the connections.
        keys: of the streams.
        node: whose inbox it is.
        pause: seconds after a reply with many streams.
        replicas: returns those to read now.
        on_message: called with each message of the inbox.
        wake: sends a message to the inbox, which ends a read that blocks.
    """

    def __init__(
        self,
        link: Link,
        keys: StreamKeys,
        node: str,
        pause: float,
        *,
        replicas: Callable[[], Iterable[Replica]],
        on_message: Callable[[dict[str, str]], object],
        wake: Callable[[], object],
    ) -> None:
        self._link = link
        self._keys = keys
        self._inbox = keys.inbox(node)
        self._pause = pause
        self._replicas = replicas
        self._on_message = on_message
        self._wake = wake
        self._is_blocked = False
        self._received = b"0-0"
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start reading."""
        self._link.client.set_response_callback("XREAD", _as_it_is)
        self._task = asyncio.get_running_loop().create_task(self._run(), name="rxllm redis tail")

    async def close(self) -> None:
        """Stop reading."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def rewind(self) -> None:
        """Read the inbox from its beginning if Redis has forgotten it: the ids of its messages are
        times, and the clock of another Redis may be behind.

        Raises:
            StoreUnavailableError: Redis can't be reached.
        """
        if not await self._link.send(IS_ALIVE, [self._inbox]):
            self._received = b"0-0"

    def refresh(self) -> None:
        """Read other streams from now on."""
        if self._is_blocked:
            self._wake()

    async def _run(self) -> None:
        pause = 0.0
        while True:
            replicas: dict[bytes, list[Replica]] = {}
            for each in self._replicas():
                if each.is_live:
                    replicas.setdefault(each.key, []).append(each)
            self._is_blocked = True
            try:
                reply = await self._read(replicas)
                pause = 0.0
            except (RedisError, OSError, EOFError, TimeoutError):  # reported by the commands
                pause = min(max(_SHORTEST_PAUSE, pause * 2), _LONGEST_PAUSE)
                await asyncio.sleep(pause)
                continue
            finally:
                self._is_blocked = False
            await self._take(reply, replicas)
            await asyncio.sleep(self._pause if len(reply) > _MANY else 0)

    async def _read(self, replicas: dict[bytes, list[Replica]]) -> list[tuple[bytes, list[Any]]]:
        positions = [min([each.position for each in those]) for those in replicas.values()]
        newest = [b"%d-18446744073709551615" % each for each in positions]
        async with asyncio.timeout(_BLOCK + _PATIENCE):
            reply = await self._link.client.execute_command(  # type: ignore[no-untyped-call]
                *("XREAD", "COUNT", _ENTRIES, "BLOCK", int(_BLOCK * 1000), "STREAMS"),
                *(self._inbox, *replicas, self._received, *newest),
            )
        return list(reply.items()) if isinstance(reply, dict) else reply or []  # RESP3, or 2

    async def _take(self, reply: list[Any], replicas: dict[bytes, list[Replica]]) -> None:
        taken = 0
        for key, entries in reply:
            those = replicas.get(key)
            for entry_id, fields in entries:
                if those is None:
                    self._received = entry_id
                    self._receive(fields)
                    continue
                those = [
                    each for each in those if each.is_live and self._give(each, entry_id, fields)
                ]
                if not those:
                    break
                taken += int(entry_id.partition(b"-")[2])
                if taken >= _AT_ONCE:
                    taken = 0
                    await asyncio.sleep(0)

    def _give(self, replica: Replica, entry_id: bytes, fields: Sequence[bytes]) -> bool:
        try:
            field, data = fields
            return replica.take(entry_id, field.decode(), data)
        except Exception as error:  # the others must be read
            report_failure(asyncio.get_running_loop(), error)
            replica.fail(StoreUnavailableError(f"an entry of the stream can't be read: {error}"))
            return False

    def _receive(self, fields: Sequence[bytes]) -> None:
        try:
            texts = [each.decode() for each in fields]
            self._on_message(dict(zip(texts[::2], texts[1::2], strict=True)))
        except Exception as error:  # the others must be handled
            report_failure(asyncio.get_running_loop(), error)


def _as_it_is(response: Any, **kwargs: Any) -> Any:
    """Return a reply without the dictionaries that redis-py would make of each entry."""
    return response
