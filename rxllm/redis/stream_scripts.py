"""The keys and scripts of `RedisStreams`."""

from __future__ import annotations

from typing import Final

from rxllm.redis.scripts import NOW, Script, key_for

__all__ = [
    "APPEND",
    "CLAIM",
    "COMMAND",
    "DELETE",
    "ENLIST",
    "FIND",
    "FLAG",
    "FORGET",
    "IS_ALIVE",
    "LIST",
    "READ",
    "READ_REQUEST",
    "RENEW",
    "RESTORE",
    "SET_STATE",
    "TAKE_OVER",
    "UNLIST",
    "StreamKeys",
]


class StreamKeys:
    """The keys of the streams of one name.

    Args:
        name: of the streams.

    >>> keys = StreamKeys("gateway")
    >>> keys.of_stream("s"), keys.lease("n"), keys.inbox("n"), keys.listing
    (['rx:{gateway:s}', 'rx:{gateway:s}:l'], 'rx:{gateway}:node:n', 'rx:{gateway}:node:n:in',\
 ['rx:{gateway}:all', 'rx:{gateway}:ids'])
    """

    def __init__(self, name: str) -> None:
        key_for(name, "s")
        self._name = name
        self.listing: list[str] = [f"rx:{{{name}}}:all", f"rx:{{{name}}}:ids"]
        self.others: str = f"rx:{{{name}}}:others"

    def of_stream(self, stream_id: str) -> list[str]:
        """Return the hash with what is known of a stream, and the Redis Stream of its entries."""
        name = stream_id.encode("utf-8", "replace").decode()  # half a surrogate pair can't be sent
        head = f"rx:{{{self._name}:{name}}}"
        return [head, f"{head}:l"]

    def lease(self, node: str) -> str:
        """Return the key that exists while a node is alive."""
        return f"rx:{{{self._name}}}:node:{node}"

    def inbox(self, node: str) -> str:
        """Return the Redis Stream of the messages to a node."""
        return f"{self.lease(node)}:in"

    def room(self, room: str) -> str:
        """Return the key with the node of a room."""
        return f"rx:{{{self._name}}}:room:{room}"


# The hash of a stream: token ("<epoch>.<random>", the fence), node (that runs it), last (position),
# status ("live", or how it has ended), state ("running" or "paused"), flag (the last command, with
# its id), key (SHA-256), model, owner, ask (the request), resumable, started and at (Unix seconds),
# and born, which names this stream among all that have had the id. It has no status once its node
# has forgotten it. The keys expire, so that nothing is left of a dead node.

_EPOCH: Final = "local function epoch(token) return tonumber(string.match(token, '^%d+')) end\n"

_SECONDS: Final = "local seconds = string.format('%.6f', time[1] + time[2] / 1e6)\n"

_NEW: Final = (
    NOW
    + _SECONDS
    + """
local function create(token, ttl, first)
  -- Only what exists is deleted: after a write, Redis no longer refuses the others of a script
  -- when its memory is full.
  if redis.call('EXISTS', KEYS[1], KEYS[2]) > 0 then redis.call('DEL', KEYS[1], KEYS[2]) end
  redis.call('HSET', KEYS[1], 'token', token, 'last', '0', 'status', 'live', 'state', 'running',
    'at', seconds, 'started', seconds, unpack(ARGV, first))
  redis.call('PEXPIRE', KEYS[1], ttl)
end
"""
)

CLAIM: Final = Script(
    _NEW
    + _EPOCH
    + """
local key, random, gap, dead, ttl = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local token, known, status, node =
  unpack(redis.call('HMGET', KEYS[1], 'token', 'key', 'status', 'node'))
local next = 1
if token then
  if string.sub(token, -#random) == random then
    return {'new', token, node}
  end
  if status and token ~= dead then
    if key == '' or known ~= key then
      return {'exists', token, node}
    end
    if status == 'live' or status == 'completed' then
      return {'join', token, node}
    end
  end
  next = epoch(token) + tonumber(gap)
end
local claimed = next .. '.' .. random
create(claimed, ttl, 6)
redis.call('HSET', KEYS[1], 'born', random)
return {'new', claimed, ''}
"""
)
"""Arguments: the hash of the request (`''` for none), a random text, the distance to the epoch of a
stream that had the id, a token that doesn't count because its node is dead, the TTL (ms), and
fields. Return `new`, `join` (the same request) or
`exists`, the token, and the node."""

APPEND: Final = Script(
    NOW
    + _SECONDS
    + _EPOCH
    + """
local function append(key, data, ours, before, position, events, field, ended, ttl)
  local token, last, flag = unpack(redis.call('HMGET', key, 'token', 'last', 'flag'))
  if not token then return {-1, 0, ''} end
  if token ~= ours then return {epoch(token) < epoch(ours) and -1 or -2, 0, ''} end
  last = tonumber(last)
  flag = flag or ''
  if last > 0 and redis.call('EXISTS', key .. ':l') == 0 then return {-1, 0, ''} end
  if last >= position then return {0, last, flag} end
  if last ~= before then return {-3, last, flag} end
  redis.call('XADD', key .. ':l', string.format('%.0f-%d', position, events), field, data)
  redis.call('HSET', key, 'last', string.format('%.0f', position), 'at', seconds)
  if ended ~= '' then redis.call('HSET', key, 'status', ended) end
  if last == 0 or ended ~= '' then
    redis.call('PEXPIRE', key, ttl)
    redis.call('PEXPIRE', key .. ':l', ttl)
  end
  if flag == '' then return 1 end
  return {1, position, flag}
end

local replies = {}
for at, entry in ipairs(cmsgpack.unpack(ARGV[1])) do
  local done, reply = pcall(append, KEYS[at], ARGV[at + 1], unpack(entry))
  replies[at] = done and reply or tostring(type(reply) == 'table' and reply.err or reply)
end
return replies
"""
)
"""Append an entry to each of several streams, whose first keys are given. The arguments: an array
in MessagePack, with an array for each (the token, the position before the entry, its last position,
its events, its field, the status, `''` while it is live, and the TTL in ms), and the data of each.
Return for each 1 if it was written; else an array, or what is wrong. The array has 1 if it was
written, 0 if it was there, -1 if Redis has lost the stream, or that this node has taken it over, -2
if another node has it, -3 if another position is the last; the last position; and the flag."""

RESTORE: Final = Script(
    _NEW
    + _EPOCH
    + """
local token, status, last, node, born =
  unpack(redis.call('HMGET', KEYS[1], 'token', 'status', 'last', 'node', 'born'))
if token == ARGV[1] and (last == '0' or redis.call('EXISTS', KEYS[2]) == 1) then
  return {2, ''}
end
if token and token ~= ARGV[1] and (status == 'live' or status == 'completed')
  and (born ~= ARGV[3] or epoch(token) >= epoch(ARGV[1])) then
  return {0, ''}
end
create(ARGV[1], ARGV[2], 4)
redis.call('HSET', KEYS[1], 'born', ARGV[3])
return {1, token and token ~= ARGV[1] and node or ''}
"""
)
"""Create a stream again that Redis has forgotten: arguments are the token, the TTL (ms), what the
stream was born as, and fields. Another stream with the id stays. Return 1; 2 if it is there; 0 if
another node has it; and a node that had it, and no longer has."""

TAKE_OVER: Final = Script("""
local token = redis.call('HGET', KEYS[1], 'token')
if token ~= ARGV[1] and token ~= ARGV[2] then return -1 end
redis.call('HSET', KEYS[1], 'token', ARGV[2], 'node', ARGV[3], 'state', 'running')
redis.call('HDEL', KEYS[1], 'flag')
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
return tonumber(redis.call('HGET', KEYS[1], 'last'))
""")
"""Arguments: the token of the dead node, the new token, the node, the TTL (ms). Return the last
position; -1 if another node was faster."""

FORGET: Final = Script("""
if redis.call('HGET', KEYS[1], 'token') == ARGV[1] then
  redis.call('HDEL', KEYS[1], 'status')
  redis.call('PEXPIRE', KEYS[1], ARGV[2], 'LT')
  redis.call('PEXPIRE', KEYS[2], ARGV[2], 'LT')
end
""")
"""Arguments: the token, and the milliseconds for which its readers may still read. Nothing here is
refused when the memory is full."""

SET_STATE: Final = Script("""
if redis.call('HGET', KEYS[1], 'token') == ARGV[1] then
  redis.call('HSET', KEYS[1], 'state', ARGV[2])
end
""")

FLAG: Final = Script("""
if redis.call('HGET', KEYS[1], 'status') == 'live' then
  redis.call('HSET', KEYS[1], 'flag', ARGV[1])
end
""")

FIND: Final = Script("""
return redis.call('HMGET', KEYS[1], 'status', 'token', 'node', 'born', 'key', 'owner')
""")

READ: Final = Script("""
return redis.call('HMGET', KEYS[1], 'token', 'node', 'last', 'status', 'state', 'key', 'model',
  'owner', 'resumable', 'started', 'at', 'born')
""")
"""Return what is known of a stream, but not the request, which may be long."""

READ_REQUEST: Final = Script("return redis.call('HGET', KEYS[1], 'ask')")

COMMAND: Final = Script("""
redis.call('XADD', KEYS[1], 'MAXLEN', '~', '1000', '*', unpack(ARGV))
redis.call('PEXPIRE', KEYS[1], '60000')
""")
"""Put a message into the inbox of a node."""

RENEW: Final = Script("""
if redis.call('PEXPIRE', KEYS[1], ARGV[1]) == 1 then return 1 end
redis.call('SET', KEYS[1], '', 'PX', ARGV[1])
return 0
""")
"""Renew the lease of a node: not by `SET`, which is refused when the memory is full. Return 0 if
the lease had expired."""

IS_ALIVE: Final = Script("return redis.call('EXISTS', KEYS[1])")

ENLIST: Final = Script(
    NOW
    + """
local id, ttl = ARGV[1], tonumber(ARGV[2])
for _, old in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - ttl, 'LIMIT', 0, 100)) do
  redis.call('ZREM', KEYS[1], old)
  redis.call('ZREM', KEYS[2], old)
end
redis.call('ZADD', KEYS[1], 'NX', now, id)
redis.call('ZADD', KEYS[2], 0, id)
redis.call('PEXPIRE', KEYS[1], ttl)
redis.call('PEXPIRE', KEYS[2], ttl)
"""
)
"""Add a stream to the list, and remove some that have expired."""

DELETE: Final = Script("redis.call('DEL', KEYS[1])")

UNLIST: Final = Script("""
for _, id in ipairs(ARGV) do
  redis.call('ZREM', KEYS[1], id)
  redis.call('ZREM', KEYS[2], id)
end
""")

LIST: Final = Script("""
if ARGV[1] == '' then return redis.call('ZRANGE', KEYS[1], 0, -1) end
return redis.call('ZRANGEBYLEX', KEYS[2], '[' .. ARGV[1], '[' .. ARGV[1] .. '\\255')
""")
"""Return the ids of all streams by their start, or of those that begin with the argument."""
