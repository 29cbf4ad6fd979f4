"""The live streams of each node that are in no store, such as those of whole answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from rxllm.errors import StoreUnavailableError
from rxllm.operators.controlling import TrackedStream
from rxllm.redis.connections import Link
from rxllm.redis.scripts import NOW, Script, milliseconds
from rxllm.redis.stream_scripts import StreamKeys
from rxllm.web.running_stream import live_summary
from rxllm.web.stream_messages import StreamSummary

__all__ = ["NodeStream", "OtherStreams"]

# Keys: the nodes that have such streams, by the end of their lease; and a key for each of them.
_PUBLISH: Final = Script(
    NOW
    + """
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('SET', KEYS[1] .. ':' .. ARGV[1], ARGV[3], 'PX', ARGV[2])
"""
)

_WITHDRAW: Final = Script("""
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('DEL', KEYS[1] .. ':' .. ARGV[1])
""")

_READ: Final = Script(
    NOW
    + """
local found = {}
for _, node in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], now, '+inf')) do
  local streams = redis.call('GET', KEYS[1] .. ':' .. node)
  if streams then
    found[#found + 1] = node
    found[#found + 1] = streams
  end
end
return found
"""
)


class NodeStream(msgspec.Struct, frozen=True):
    """A stream, and the node that runs it."""

    node: str
    summary: StreamSummary


class OtherStreams:
    """Publishes those of this node, and reads those of the others. They are at most a third of a
    lease old.

    Args:
        link: the connections.
        keys: of the streams.
        node: the name of this node.
        lease: seconds for which they are known.
        live: returns the live streams of this node that are in no store.
        owner_of: returns the owner of a stream; `None` to publish nothing.
    """

    def __init__(
        self,
        link: Link,
        keys: StreamKeys,
        node: str,
        lease: float,
        live: Callable[[], Sequence[TrackedStream]],
        owner_of: Callable[[str], str | None] | None,
    ) -> None:
        self._link = link
        self._keys = [keys.others]
        self._node = node
        self._lease = milliseconds(lease)
        self._live = live
        self._owner_of = owner_of
        self._has_published = False

    def publish(self) -> None:
        """Publish those that there are now; for each renewal of the lease."""
        if self._owner_of is None:
            return
        owner_of = self._owner_of
        summaries = [live_summary(each.info, owner_of(each.id)) for each in self._live()]
        if summaries:
            data = msgspec.json.encode(summaries)
            self._link.send(_PUBLISH, self._keys, self._node, self._lease, data)
        elif self._has_published:
            self._link.send(_WITHDRAW, self._keys, self._node)
        self._has_published = bool(summaries)

    async def read(self) -> list[NodeStream]:
        """Return those of other nodes.

        Raises:
            StoreUnavailableError: Redis can't be reached.
        """
        reply = await self._link.send(_READ, self._keys)
        return [
            NodeStream(node.decode(), summary)
            for node, data in zip(reply[::2], reply[1::2], strict=True)
            if node.decode() != self._node
            for summary in _decode(data)
        ]

    async def find(self, stream_id: str) -> NodeStream | None:
        """Return one of another node."""
        found = [each for each in await self.read() if each.summary.id == stream_id]
        return found[0] if found else None

    async def close(self) -> None:
        """Withdraw those of this node."""
        if self._has_published:
            with suppress(StoreUnavailableError):
                await self._link.send(_WITHDRAW, self._keys, self._node)


_decode: Final = msgspec.json.Decoder(list[StreamSummary]).decode
