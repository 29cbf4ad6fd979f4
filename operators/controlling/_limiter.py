"""`Limiter`: requests and tokens a minute."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import OrderedDict
from threading import RLock
from typing import Protocol

from rxllm.arguments import check_number
from rxllm.chunks import RateLimit, RateLimits
from rxllm.operators.controlling._after_fork import clear_after_fork

__all__ = ["Limited", "Limiter", "RateLimiter"]

_MARGIN = 0.01
"""Seconds after a reset: headers are rounded."""

_PROBE = 2.0
"""Seconds between requests until the first answer, which tells whether there are limits."""

_WINDOW = 60.0
"""Seconds until a reset that the provider doesn't report."""

_SHORTEST_WINDOW = 1.0
"""Seconds between two resets."""

_FIRST_GUESS = 1000.0
"""Tokens of a stream, before any has reported its usage."""


class Limited(Protocol):
    """A subscription of `limit`."""

    def wake(self) -> None:
        """Ask `delay` again, in a turn of its own. Raises if its event loop is closed."""


class RateLimiter(ABC):
    """The base class of the limiters of `limit`: `Limiter`, and `rxllm.redis.RedisLimiter`.

    All methods are called by `limit`, each on the thread of the stream's event loop; `now` is the
    time of its clock in seconds.

    Attributes:
        wait: maximum seconds that a stream waits.
    """

    wait: float

    @abstractmethod
    def enter(self, stream: Limited) -> None:
        """Take a place in the queue."""

    @abstractmethod
    def delay(self, stream: Limited, now: float) -> float:
        """Return 0 if `stream` starts now, else the seconds to wait; infinity until it is woken."""

    @abstractmethod
    def answered(self, stream: Limited, limits: RateLimits | None, now: float) -> None:
        """Take over what the provider says at the start of an answer."""

    @abstractmethod
    def refused(self, retry_after: float | None, now: float) -> asyncio.Task[None] | None:
        """Send nothing for a while: the provider has answered 429.

        Returns:
            What tells it to others, if that takes time: the sink of the stream waits for it.
        """

    @abstractmethod
    def leave(self, stream: Limited, tokens: int | None) -> asyncio.Task[None] | None:
        """Leave the queue, or end; `tokens` are those used, if known.

        Returns:
            As `refused`.
        """


class _Bucket:
    """What may still be used: by a rate of our own, and by what the provider has said.

    Args:
        per_minute: the rate; `None` for what the provider says alone.
    """

    def __init__(self, per_minute: float | None) -> None:
        self._per_minute = per_minute
        self._level = per_minute or 0.0
        self._filled: float | None = None  # when the level was computed
        self._known: RateLimit | None = None
        self._left = 0.0  # of what the provider has said
        self._reset = 0.0
        self._window = _SHORTEST_WINDOW  # or the longest time until a reset that was reported
        self._age = 0.0  # of the report, at most: the reset may have been earlier by that
        self._late = 0.0  # what was used in that time

    @property
    def is_known(self) -> bool:
        return self._per_minute is not None or self._known is not None

    def delay(self, amount: float, now: float) -> float:
        """Seconds until `amount` may be used."""
        wait = 0.0
        if self._per_minute is not None:
            filled = now if self._filled is None else self._filled
            level = self._level + (now - filled) * self._per_minute / 60
            self._level, self._filled = min(level, self._per_minute), now
            needed = min(amount, self._per_minute) - self._level
            wait = max(0.0, needed * 60 / self._per_minute)
        if self._known is not None:
            if now >= self._reset:
                self._left = float(self._known.limit or 1) - self._late
                self._late = 0.0
                self._reset = now + self._window
            if self._left < min(amount, float(self._known.limit or amount)):
                wait = max(wait, self._reset - now)
        return wait

    def use(self, amount: float, now: float | None = None) -> None:
        """Use `amount`; a negative one is given back."""
        self._level -= amount
        self._left -= amount
        if now is not None and now >= self._reset - self._age:
            self._late += amount

    def learn(self, known: RateLimit | None, on_the_way: float, now: float, age: float) -> None:
        """Take over what the provider has said, at most `age` seconds ago.

        What is `on_the_way` to it is not in that.
        """
        if known is not None:
            reset = _finite(known.reset, _WINDOW)
            self._window = max(self._window, reset)
            self._known = known
            self._left = max(0.0, known.remaining - on_the_way)
            self._reset = now + reset + _MARGIN
            self._age, self._late = age, 0.0

    def pause(self, seconds: float, now: float) -> None:
        """Permit nothing for `seconds`, and then one request, until the provider says more."""
        self._known = RateLimit(0)
        self._left = self._age = self._late = 0.0
        self._reset = now + seconds + _MARGIN


def _finite(seconds: float | None, default: float) -> float:
    return default if seconds is None or not 0 <= seconds < float("inf") else seconds


class Limiter(RateLimiter):
    """Requests and tokens a minute of all streams that have `limit(limiter)` in their pipe.

    It learns from the headers of a provider (`Start.rate_limits`) and from the `retry_after` of a
    `RateLimitError`, so no rate needs to be given. Until a first answer has told whether there are
    limits, one request is sent every 2 s. One limiter may serve any number of models that share
    their limits, on any number of event loops. In a forked child, no stream is under way, and what
    was learned stays.

    Args:
        requests: per minute, above 0; `None` for no limit but the provider's.
        tokens: read and written per minute, above 0; `None` likewise. A stream is expected to use
            as many as the average of those before it, and the difference is made up at its end.
        wait: maximum seconds that a stream waits, above 0.

    Raises:
        TypeError: an argument is not a number.
        ValueError: a number is out of range.

    >>> Limiter(requests=60)
    Limiter(requests=60, tokens=None, wait=60.0): 0 waiting
    """

    def __init__(
        self,
        *,
        requests: float | None = None,
        tokens: float | None = None,
        wait: float = 60.0,
    ) -> None:
        if requests is not None:
            check_number("requests", requests, "the number of requests a minute", above=0)
        if tokens is not None:
            check_number("tokens", tokens, "the number of tokens a minute", above=0)
        self.wait: float = check_number("wait", wait, "the seconds that a stream may wait", above=0)
        self._rates = (requests, tokens)
        self._requests = _Bucket(requests)
        self._tokens = _Bucket(tokens)
        self._expected = _FIRST_GUESS
        self._has_learned = False
        self._refusals = 0  # in a row
        self._probed_until = 0.0
        self.clear()
        clear_after_fork(self)

    def __repr__(self) -> str:
        requests, tokens = self._rates
        return (
            f"Limiter(requests={requests}, tokens={tokens}, wait={self.wait}): "
            f"{self.waiting} waiting"
        )

    @property
    def waiting(self) -> int:
        """The number of streams that wait."""
        return len(self._waiting)

    def clear(self) -> None:
        """Forget all streams: they run in the process that this one was forked from."""
        self._waiting: OrderedDict[Limited, None] = OrderedDict()
        self._unanswered: dict[Limited, tuple[float, float]] = {}  # expected tokens, sent at
        self._answered: dict[Limited, float] = {}
        self._lock = RLock()  # streams of several event loops may share the limiter

    def enter(self, stream: Limited) -> None:
        """Take a place in the queue. Called by `limit`, as are the other methods."""
        with self._lock:
            self._waiting[stream] = None

    def delay(self, stream: Limited, now: float) -> float:
        """Return 0 if `stream` starts now, else the seconds to wait; infinity until it is woken."""
        with self._lock:
            if next(iter(self._waiting), None) is not stream:
                return float("inf")
            is_probing = not (self._has_learned or self._requests.is_known)
            if is_probing and self._unanswered and now < self._probed_until:
                return self._probed_until - now
            expected = self._expected
            wait = max(self._requests.delay(1, now), self._tokens.delay(expected, now))
            if wait > 0:
                return wait
            del self._waiting[stream]
            self._requests.use(1, now)
            self._tokens.use(expected, now)
            self._probed_until = now + _PROBE
            self._unanswered[stream] = expected, now
            self._wake_first()
            return 0.0

    def answered(self, stream: Limited, limits: RateLimits | None, now: float) -> None:
        """Take over what the provider says at the start of an answer."""
        with self._lock:
            if stream not in self._unanswered:
                return  # the stream has restarted
            expected, sent_at = self._unanswered.pop(stream)
            self._answered[stream] = expected
            self._has_learned = True
            self._refusals = 0
            if limits is not None:
                age = now - sent_at
                tokens = sum(each for each, _ in self._unanswered.values())
                self._requests.learn(limits.requests, len(self._unanswered), now, age)
                self._tokens.learn(limits.tokens, tokens, now, age)
            self._wake_first()

    def refused(self, retry_after: float | None, now: float) -> None:
        """Send nothing for a while: the provider has answered 429."""
        with self._lock:
            self._requests.pause(_finite(retry_after, min(_WINDOW, 2.0**self._refusals)), now)
            self._refusals = min(self._refusals + 1, 6)

    def leave(self, stream: Limited, tokens: int | None) -> None:
        """Leave the queue, or end; `tokens` are those used, if known."""
        with self._lock:
            self._waiting.pop(stream, None)
            expected, _ = self._unanswered.pop(stream, (self._answered.pop(stream, None), 0.0))
            if expected is not None and tokens is not None:
                self._tokens.use(tokens - expected)
                self._expected += (tokens - self._expected) / 4
            self._wake_first()

    def _wake_first(self) -> None:
        while self._waiting:
            first = next(iter(self._waiting))
            try:
                first.wake()
            except Exception:  # its scheduler accepts no more work: a closed event loop
                del self._waiting[first]
            else:
                return
