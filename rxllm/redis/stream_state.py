"""What Redis knows of a stream."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Literal, NamedTuple, cast

from rxllm.chunks import Outcome
from rxllm.errors import StoreUnavailableError
from rxllm.redis.connections import Link
from rxllm.redis.stream_entries import epoch_of
from rxllm.redis.stream_scripts import FIND, READ, READ_REQUEST, UNLIST, StreamKeys
from rxllm.web.failures import StreamNotFoundError
from rxllm.web.running_stream import StreamDetails
from rxllm.web.stream_messages import StreamStatus, StreamSummary

__all__ = ["Found", "StreamReader", "StreamState", "fields_of"]


class StreamState(NamedTuple):
    """The hash of a stream.

    Args:
        details: what it was begun with, without the request.
        token: with which its node writes.
        node: that runs it.
        last: the position of its last event.
        status: `"live"`, or how it has ended.
        is_paused: whether it is paused.
        started, last_activity: in Unix seconds, on the clock of Redis.
        born: names this stream among all that have had the id.
    """

    details: StreamDetails
    token: str
    node: str
    last: int
    status: Literal["live"] | Outcome
    is_paused: bool
    started: float
    last_activity: float
    born: str

    @property
    def epoch(self) -> int:
        """How many nodes have run it."""
        return epoch_of(self.token)

    @property
    def is_live(self) -> bool:
        """Whether it has not ended."""
        return self.status == "live"

    @classmethod
    def of(cls, stream_id: str, grace: float, reply: list[bytes | None]) -> StreamState | None:
        """Return what a reply of `READ` says; `None` if there is no such stream, or no longer."""
        token, node, last, status, state, key, model, owner, resumable, started, at, born = [
            None if each is None else each.decode() for each in reply
        ]
        if token is None or status is None:
            return None
        details = StreamDetails(
            id=stream_id,
            grace=grace,
            model=model,
            key=key or None,
            owner=owner,
            is_resumable=resumable is not None,
        )
        return cls(
            details,
            token,
            node or "",
            int(last or 0),
            cast('Literal["live"] | Outcome', status),
            state == "paused",
            float(started or 0),
            float(at or 0),
            born or "",
        )

    def summary(self, is_lost: bool) -> StreamSummary:
        """Return its summary; `is_lost` if its node is dead and nobody continues it."""
        ended = not self.is_live
        return StreamSummary(
            id=self.details.id,
            status=self._status(is_lost),
            started=self.started,
            last_activity=self.last_activity,
            duration=max(0.0, (self.last_activity if ended else time.time()) - self.started),
            model=self.details.model,
            position=self.last,
            owner=self.details.owner,
        )

    def _status(self, is_lost: bool) -> StreamStatus:
        if self.status != "live":
            return self.status
        if is_lost:
            return "failed"
        if self.is_paused:
            return "paused"
        return "running" if self.last else "waiting"


def fields_of(details: StreamDetails, node: str) -> tuple[str | bytes, ...]:
    """Return the fields of the hash that don't change, for `CLAIM` and `RESTORE`."""
    fields: list[str | bytes] = ["node", node, "key", details.key or ""]
    for name, value in (
        ("model", details.model),
        ("owner", details.owner),
        ("ask", details.asked),
    ):
        if value is not None:
            fields += [name, value]
    if details.is_resumable:
        fields += ["resumable", "1"]
    return tuple(fields)


class Found(NamedTuple):
    """Which stream has an id, and who runs it. See `StreamState`."""

    token: str
    node: str
    born: str
    key: str
    owner: str | None

    @classmethod
    def of(cls, state: StreamState) -> Found:
        """Return this part of a state."""
        details = state.details
        return cls(state.token, state.node, state.born, details.key or "", details.owner)


class StreamReader:
    """Reads what Redis knows of streams.

    Args:
        link: the connections.
        keys: of the streams.
        grace: seconds that a stream runs without a reader, where another node takes it over.
        is_certain: returns whether a stream that Redis doesn't have is nowhere.
    """

    def __init__(
        self,
        link: Link,
        keys: StreamKeys,
        grace: float,
        is_certain: Callable[[], Awaitable[bool]],
    ) -> None:
        self.link: Link = link
        self.keys: StreamKeys = keys
        self._grace = grace
        self._is_certain = is_certain

    async def read(self, stream_id: str) -> StreamState:
        """Return the state of a stream.

        Raises:
            StreamNotFoundError: there is none.
            StoreUnavailableError: Redis can't be reached, or has just forgotten all streams, which
                their nodes are about to write again.
        """
        reply = await self.link.send(READ, self.keys.of_stream(stream_id))
        state = StreamState.of(stream_id, self._grace, reply)
        if state is None:
            raise await self._missing(stream_id, was_forgotten=reply[0] is not None)
        return state

    async def request(self, stream_id: str) -> bytes | None:
        """Return the request of a stream.

        Raises:
            StoreUnavailableError: Redis can't be reached.
        """
        request: bytes | None = await self.link.send(READ_REQUEST, self.keys.of_stream(stream_id))
        return request

    async def find(self, stream_id: str) -> Found:
        """Return which stream has an id, and who runs it.

        Raises:
            StreamNotFoundError, StoreUnavailableError: as for `read`.
        """
        reply = await self.link.send(FIND, self.keys.of_stream(stream_id))
        status, *found = [each and each.decode() for each in reply]
        if status is None:
            raise await self._missing(stream_id, was_forgotten=found[0] is not None)
        return Found(*found)

    async def _missing(self, stream_id: str, was_forgotten: bool) -> Exception:
        """Return the error for a stream that Redis doesn't have."""
        if was_forgotten or await self._is_certain():
            return StreamNotFoundError(f"there is no stream {stream_id!r}, or it is no longer kept")
        return StoreUnavailableError(f"the stream {stream_id!r} may not be known again yet")

    async def read_all(self, stream_ids: list[str]) -> list[StreamState]:
        """Return the states of those that there are; the others are taken out of the list.

        Raises:
            StoreUnavailableError: Redis can't be reached.
        """
        replies = [self.link.send(READ, self.keys.of_stream(each)) for each in stream_ids]
        found, expired = [], []
        for stream_id, sent in zip(stream_ids, replies, strict=True):
            reply = await sent
            state = StreamState.of(stream_id, self._grace, reply)
            if state is not None:
                found.append(state)
            elif reply[0] is None:
                expired.append(stream_id)
        if expired:
            self.link.send(UNLIST, self.keys.listing, *expired)
        return found
