"""`RedisLimiter`: requests and tokens a minute, of several processes."""

from __future__ import annotations

import asyncio
import os

from rxllm.arguments import check_number
from rxllm.chunks import RateLimits
from rxllm.operators.controlling import Limited, RateLimiter
from rxllm.redis.connections import Connected, Link, Server
from rxllm.redis.limiter_node import LimiterNode
from rxllm.redis.scripts import key_for

__all__ = ["RedisLimiter"]


class RedisLimiter(Connected, RateLimiter):
    """Requests and tokens a minute of the streams of several processes, for `limit`.

    In any time of `t` seconds, no more than the rate times `burst + t` seconds is permitted to all
    processes together. Streams of one event loop start in the order of their subscriptions; between
    processes, whoever asks first when something has come back.

    A pause that a provider asks for, by the `retry_after` of a `RateLimitError` or by headers that
    say that nothing remains (`Start.rate_limits`), holds all processes.

    While Redis can't be reached, each event loop keeps to the rates by itself: `n` of them may then
    use `n` times as much. The first stream waits for the timeout of the connections before that.
    Redis holds times and no text.

    Args:
        server: a URL, a `redis.asyncio.Redis`, or `RedisConnections` to share.
        name: whose rates they are, such as the name of an account. All limiters of this name share
            them, and must be given the same numbers.
        requests: per minute, above 0; `None` for no limit.
        tokens: read and written per minute, above 0; `None` likewise. A stream is expected to use
            as many as the average of those before it, and the difference is made up at its end.
        burst: seconds of the rates that may be used at once, above 0.
        wait: maximum seconds that a stream waits, above 0.

    Raises:
        TypeError: an argument is not a number, or neither `requests` nor `tokens` is given.
        ValueError: a number is out of range.

    >>> RedisLimiter("redis://127.0.0.1:6379", "account", requests=600)
    RedisLimiter('account', requests=600, tokens=None, burst=60.0, wait=60.0): 0 waiting here
    """

    def __init__(
        self,
        server: Server,
        name: str,
        *,
        requests: float | None = None,
        tokens: float | None = None,
        burst: float = 60.0,
        wait: float = 60.0,
    ) -> None:
        if requests is None and tokens is None:
            raise TypeError("give requests, tokens or both: what is permitted in a minute")
        for each, rate in (("requests", requests), ("tokens", tokens)):
            if rate is not None:
                check_number(each, rate, f"the number of {each} a minute", above=0)
        self.name: str = name
        self.burst: float = check_number(
            "burst", burst, "the seconds of the rates that may be used at once", above=0
        )
        self.wait: float = check_number("wait", wait, "the seconds that a stream may wait", above=0)
        self.key: str = key_for("rate", name)
        self.rates: tuple[float | None, float | None] = requests, tokens
        super().__init__(server)
        self._nodes: dict[Link, LimiterNode] = {}

    def __repr__(self) -> str:
        requests, tokens = self.rates
        return (
            f"RedisLimiter({self.name!r}, requests={requests}, tokens={tokens}, "
            f"burst={self.burst}, wait={self.wait}): {self.waiting} waiting here"
        )

    @property
    def waiting(self) -> int:
        """The number of streams of this process that wait."""
        nodes = list(self._nodes.items())
        return sum(len(node.waiting) for link, node in nodes if link.pid == os.getpid())

    def enter(self, stream: Limited) -> None:
        """Take a place in the queue. Called by `limit`, as are the other methods.

        Raises:
            NoEventLoopError: no event loop is running.
        """
        self._node().enter(stream)

    def delay(self, stream: Limited, now: float) -> float:
        """Return 0 if `stream` starts now; else infinity: it is woken."""
        return self._node().delay(stream)

    def answered(self, stream: Limited, limits: RateLimits | None, now: float) -> None:
        """Hold all processes if the provider says that nothing remains."""
        node = self._node()
        if limits is not None and node.is_first_answer(stream):
            for each in (limits.requests, limits.tokens):
                if each is not None and each.remaining <= 0:
                    node.pause(each.reset)

    def refused(self, retry_after: float | None, now: float) -> asyncio.Task[None]:
        """Hold all processes for a while: the provider has answered 429."""
        return self._node().refused(retry_after)

    def leave(self, stream: Limited, tokens: int | None) -> asyncio.Task[None] | None:
        """Leave the queue, or end; `tokens` are those used, if known."""
        return self._node().leave(stream, tokens)

    def _node(self) -> LimiterNode:
        link = self._connections.link()
        node = self._nodes.get(link)
        if node is None:
            for closed in [each for each in list(self._nodes) if each.is_closed]:
                self._nodes.pop(closed, None)
            node = self._nodes[link] = LimiterNode(link, self.key, self.rates, self.burst)
        return node
