"""The streams of a `RedisLimiter` on one event loop."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Any, Final

from rxllm.errors import StoreUnavailableError
from rxllm.operators.controlling import Limited
from rxllm.redis.allowance import Allowance
from rxllm.redis.connections import Link
from rxllm.redis.scripts import Script

__all__ = ["LimiterNode"]

_FIRST_GUESS: Final = 1000.0
"""Tokens of a stream, before any has reported its usage."""

_WINDOW: Final = 60.0
"""Seconds until a reset that the provider doesn't report."""

# The generic cell rate algorithm, in microseconds. Of requests and of tokens, the hash holds the
# time at which all of what was used will have come back; it may lie ahead by the burst. "until" is
# the end of a pause.
_COMMON: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local latest = now

local function read(field)
  return math.max(tonumber(redis.call('HGET', KEYS[1], field) or '0'), now)
end

local function write(field, at)
  redis.call('HSET', KEYS[1], field, string.format('%.0f', at))
end

local function expire()
  for _, field in ipairs({'requests', 'tokens', 'until'}) do
    latest = math.max(latest, read(field))
  end
  redis.call('PEXPIRE', KEYS[1], math.ceil((latest - now) / 1000) + 1000)
end
"""

_TAKE: Final = Script(
    _COMMON
    + """
local burst = tonumber(ARGV[1])
local wait = read('until') - now
local used = {}
for at = 2, #ARGV, 2 do
  local cost = tonumber(ARGV[at + 1])
  used[ARGV[at]] = read(ARGV[at]) + cost
  wait = math.max(wait, read(ARGV[at]) + math.min(cost, burst) - burst - now)
end
if wait > 0 then return math.ceil(wait) end
for field, at in pairs(used) do write(field, at) end
expire()
return 0
"""
)
"""Return the microseconds to wait; 0 if the request is permitted and counted. A lost reply counts
it twice, which errs on the safe side."""

_CORRECT: Final = Script(
    _COMMON + "write('tokens', math.max(now, read('tokens') + tonumber(ARGV[1]))) expire()"
)

_PAUSE: Final = Script(
    _COMMON + "write('until', math.max(read('until'), now + tonumber(ARGV[1]))) expire()"
)


class LimiterNode:
    """The streams of one limiter on one event loop. Its methods are those of `RedisLimiter`.

    Args:
        link: the connections of the loop.
        key: of the limiter.
        rates: requests and tokens a minute; `None` for no limit.
        burst: seconds of the rates that may be used at once.

    Attributes:
        waiting: the streams that wait, in order.
    """

    def __init__(
        self, link: Link, key: str, rates: tuple[float | None, float | None], burst: float
    ) -> None:
        self.waiting: OrderedDict[Limited, None] = OrderedDict()
        self._link = link
        self._key = key
        self._rates = rates
        self._burst = burst
        self._loop = asyncio.get_running_loop()
        self._permitted: dict[Limited, float] = {}  # about to start; the tokens they expect
        self._started: dict[Limited, float] = {}
        self._unanswered: set[Limited] = set()
        self._expected = _FIRST_GUESS
        self._refusals = 0  # in a row
        self._asking: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._alone = Allowance(rates, burst)  # while Redis is away

    def enter(self, stream: Limited) -> None:
        """Take a place in the queue."""
        self.waiting[stream] = None

    def delay(self, stream: Limited) -> float:
        """Return 0 if `stream` starts now; else infinity: it is woken."""
        if stream in self._permitted:
            self._started[stream] = self._permitted.pop(stream)
            self._unanswered.add(stream)
            return 0.0
        if self._asking is None:
            self._asking = self._loop.create_task(self._ask(), name="rxllm redis limiter")
        return float("inf")

    def is_first_answer(self, stream: Limited) -> bool:
        """Whether `stream` has not restarted."""
        if stream not in self._unanswered:
            return False
        self._unanswered.discard(stream)
        self._refusals = 0
        return True

    def refused(self, retry_after: float | None) -> asyncio.Task[None]:
        """Hold all processes for a while."""
        seconds = min(_WINDOW, 2.0**self._refusals) if retry_after is None else retry_after
        self._refusals = min(self._refusals + 1, 6)
        return self.pause(seconds)

    def pause(self, seconds: float | None) -> asyncio.Task[None]:
        """Hold all processes for `seconds`; 60 if they aren't known."""
        if seconds is None or not 0 <= seconds < float("inf"):
            seconds = _WINDOW
        self._alone.pause(seconds, self._loop.time())
        return self._tell(_PAUSE, round(seconds * 1e6))

    def leave(self, stream: Limited, tokens: int | None) -> asyncio.Task[None] | None:
        """Leave the queue, or end."""
        self.waiting.pop(stream, None)
        self._permitted.pop(stream, None)
        self._unanswered.discard(stream)
        expected = self._started.pop(stream, None)
        if not self.waiting and self._asking is not None:
            self._asking.cancel()
            self._asking = None
        if expected is None or tokens is None:
            return None
        self._expected += (tokens - self._expected) / 4
        per_minute = self._rates[1]
        if per_minute is None:
            return None
        self._alone.correct(tokens - expected, self._loop.time())
        return self._tell(_CORRECT, round((tokens - expected) * 60e6 / per_minute))

    async def _ask(self) -> None:
        """Ask for one stream after another, until none waits."""
        while self.waiting:
            expected = self._expected
            wait = await self._take(expected)
            if wait > 0:
                await asyncio.sleep(wait)
            elif self.waiting:
                first, _ = self.waiting.popitem(last=False)
                self._permitted[first] = expected
                try:
                    first.wake()
                except Exception:  # its scheduler accepts no more work: a closed event loop
                    self._permitted.pop(first, None)
        self._asking = None

    async def _take(self, expected: float) -> float:
        """Return the seconds to wait; 0 if a request is permitted."""
        requests, tokens = self._rates
        costs: list[str | int] = []
        if requests is not None:
            costs += ["requests", round(60e6 / requests)]
        if tokens is not None:
            costs += ["tokens", round(expected * 60e6 / tokens)]
        try:
            wait = await self._send(_TAKE, round(self._burst * 1e6), *costs)
        except StoreUnavailableError:  # reported by the connection
            return self._alone.take(expected, self._loop.time())
        if wait == 0:
            self._alone.use(expected, self._loop.time())
        return float(wait) / 1e6

    def _tell(self, script: Script, argument: int) -> asyncio.Task[None]:
        sent = self._send(script, argument)

        async def settle() -> None:
            try:
                await sent
            except StoreUnavailableError:  # reported by the connection; others aren't told
                return

        task = self._loop.create_task(settle(), name="rxllm redis limiter")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _send(self, script: Script, *arguments: str | int) -> asyncio.Future[Any]:
        return self._link.send(script, [self._key], *arguments)
