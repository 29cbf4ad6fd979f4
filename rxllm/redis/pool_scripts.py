"""The scripts of `RedisPool`."""

from __future__ import annotations

from typing import Final

from rxllm.operators.controlling import SlotPool
from rxllm.redis.scripts import NOW, Script

__all__ = ["ENTER", "LEAVE", "RENEW"]

# Keys: holders by the end of their lease; the queue, by number; those in it by the end of their
# lease; the last number; how many wait, by client. Arguments: limit, lease (ms). An id is
# "<node>/<number>/<client>", and its node listens to "<holders>:<node>".
_COMMON: Final = (
    NOW
    + f"local OVERTAKEN = {SlotPool.OVERTAKEN}"
    + """
local holders, queue, alive, numbers, clients = unpack(KEYS)
local limit, lease = tonumber(ARGV[1]), tonumber(ARGV[2])

local function client_of(id)
  return string.match(id, '^[^/]*/[^/]*/(.*)')
end

local function wait(id)
  if not redis.call('ZSCORE', queue, id) then
    redis.call('ZADD', queue, redis.call('INCR', numbers), id)
    redis.call('HINCRBY', clients, client_of(id), 1)
  end
  redis.call('ZADD', alive, now + lease, id)
end

local function forget(id)
  redis.call('ZREM', holders, id)
  redis.call('ZREM', alive, id)
  local has_waited = redis.call('ZREM', queue, id) == 1
  if has_waited and redis.call('HINCRBY', clients, client_of(id), -1) <= 0 then
    redis.call('HDEL', clients, client_of(id))
  end
end

-- Return the number of slots by client; 0 for any other.
local function count_slots()
  local slots = setmetatable({}, {__index = function() return 0 end})
  for _, id in ipairs(redis.call('ZRANGE', holders, 0, -1)) do
    local client = client_of(id)
    slots[client] = slots[client] + 1
  end
  return slots
end

-- Return the one whose number plus OVERTAKEN for each slot of its client is the lowest.
local function first_waiting()
  local unseen, at = redis.call('HLEN', clients), 0
  if unseen < 2 then return redis.call('ZRANGE', queue, 0, 0)[1] end
  local slots, seen = count_slots(), {}
  local first, rank
  while unseen > 0 do
    local some = redis.call('ZRANGE', queue, at, at + 99, 'WITHSCORES')
    for i = 1, #some, 2 do
      local client, number = client_of(some[i]), tonumber(some[i + 1])
      if rank and number >= rank then return first end
      if not seen[client] then
        seen[client], unseen = true, unseen - 1
        local own = number + OVERTAKEN * slots[client]
        if not rank or own < rank then
          first, rank = some[i], own
        end
      end
    end
    if #some == 0 then break end
    at = at + 100
  end
  return first
end

local function pass_on(own)
  redis.call('ZREMRANGEBYSCORE', holders, '-inf', now)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', alive, '-inf', now)) do
    forget(id)
  end
  while redis.call('ZCARD', queue) > 0 and redis.call('ZCARD', holders) < limit do
    local first = first_waiting()
    forget(first)
    redis.call('ZADD', holders, now + lease, first)
    if first ~= own then
      redis.call('PUBLISH', holders .. ':' .. string.match(first, '^[^/]+'), first)
    end
  end
  for _, key in ipairs(KEYS) do
    redis.call('PEXPIRE', key, lease + 60000)
  end
end

"""
)

ENTER: Final = Script(
    _COMMON
    + """
local id, longest = ARGV[3], tonumber(ARGV[4])
if not redis.call('ZSCORE', holders, id) then
  wait(id)  -- the first to write: it fails if the memory is full
end
pass_on(id)
local before = redis.call('ZRANK', queue, id)
if before and before >= longest then
  forget(id)
  redis.call('DECR', numbers)
  return -1
end
return before and before + 1 or 0
"""
)
"""Return 0 for a slot, a place in the queue by arrival, or -1 if that is full."""

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

local places, replies = {}, {}
if #ARGV >= 4 + tonumber(ARGV[3]) then  -- else nobody asks for a place
  local slots, waiting = count_slots(), {}
  local order = redis.call('ZRANGE', queue, 0, -1, 'WITHSCORES')
  for at = 1, #order, 2 do
    local client, number = client_of(order[at]), tonumber(order[at + 1])
    table.insert(waiting, {order[at], number + OVERTAKEN * slots[client], number})
    slots[client] = slots[client] + 1
  end
  table.sort(waiting, function(a, b) return a[2] < b[2] or a[2] == b[2] and a[3] < b[3] end)
  for place, each in ipairs(waiting) do
    places[each[1]] = place
  end
end
for at = 4, #ARGV do
  replies[at - 3] = places[ARGV[at]] or 0
end
return replies
"""
)
"""Renew the leases of streams that run, as many as the third argument says, and of those that wait.
Return their places; 0 for a slot. Running streams that Redis has forgotten are held again."""
