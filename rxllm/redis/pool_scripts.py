"""The scripts of `RedisPool`."""

from __future__ import annotations

from typing import Final

from rxllm.redis.scripts import NOW, Script

__all__ = ["ENTER", "LEAVE", "RENEW"]

# Keys: holders by the end of their lease; the queue, by number; those in it by the end of their
# lease; the last number. Arguments: limit, lease (ms). An id is "<node>/<number>", and its node
# listens to "<holders>:<node>".
_COMMON: Final = (
    NOW
    + """
local holders, queue, alive, numbers = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local limit, lease = tonumber(ARGV[1]), tonumber(ARGV[2])

local function wait(id)
  if not redis.call('ZSCORE', queue, id) then
    redis.call('ZADD', queue, redis.call('INCR', numbers), id)
  end
  redis.call('ZADD', alive, now + lease, id)
end

local function forget(id)
  redis.call('ZREM', holders, id)
  redis.call('ZREM', queue, id)
  redis.call('ZREM', alive, id)
end

local function pass_on(own)
  redis.call('ZREMRANGEBYSCORE', holders, '-inf', now)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', alive, '-inf', now)) do
    forget(id)
  end
  while redis.call('ZCARD', holders) < limit do
    local first = redis.call('ZPOPMIN', queue)[1]
    if not first then break end
    redis.call('ZREM', alive, first)
    redis.call('ZADD', holders, now + lease, first)
    if first ~= own then
      redis.call('PUBLISH', holders .. ':' .. string.match(first, '^[^/]+'), first)
    end
  end
  for _, key in ipairs(KEYS) do
    redis.call('PEXPIRE', key, lease + 60000)
  end
end

local function place(id)
  local rank = not redis.call('ZSCORE', holders, id) and redis.call('ZRANK', queue, id)
  return rank and rank + 1 or 0
end
"""
)

ENTER: Final = Script(
    _COMMON
    + """
local id, longest = ARGV[3], tonumber(ARGV[4])
if not redis.call('ZSCORE', holders, id) then
  wait(id)
end
pass_on(id)
local at = place(id)
if at > longest then
  forget(id)
  return -1
end
return at
"""
)
"""Return 0 for a slot, a place in the queue, or -1 if that is full."""

LEAVE: Final = Script(_COMMON + "forget(ARGV[3]) pass_on('')")

RENEW: Final = Script(
    _COMMON
    + """
for at = 4, #ARGV do
  local id = ARGV[at]
  if at < 4 + tonumber(ARGV[3]) or redis.call('ZSCORE', holders, id) then
    forget(id)
    redis.call('ZADD', holders, now + lease, id)
  else
    wait(id)
  end
end
pass_on('')
local places = {}
for at = 4, #ARGV do
  places[at - 3] = place(ARGV[at])
end
return places
"""
)
"""Renew the leases of streams that run, as many as the third argument says, and of those that wait.
Return their places; 0 for a slot. Running streams that Redis has forgotten are held again."""
