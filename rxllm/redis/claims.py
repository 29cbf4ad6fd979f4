"""`RedisClaims`: what is done once, by whichever of several processes."""

from __future__ import annotations

import secrets
from typing import Final

from rxllm.arguments import check_number
from rxllm.errors import StoreUnavailableError
from rxllm.redis.connections import Connected, Server
from rxllm.redis.scripts import Script, digest, key_for, milliseconds

__all__ = ["RedisClaims"]

_DAY: Final = 86_400.0
_MOST_UNANSWERED: Final = 1000

_CLAIM: Final = Script("""
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
return redis.call('GET', KEYS[1]) == ARGV[1] and 1 or 0
""")
"""Arguments: a random value, so that the same claim may be sent again; how long it is kept (ms)."""


class RedisClaims(Connected):
    """The approved calls that the agents of several processes have made, for `Agent(claim=...)`.

    If Redis doesn't answer, the call isn't made. It may be claimed all the same: then it can be
    made when this process is asked again, and by no other process. Redis holds a hash of each token
    until `ttl` is over. If it loses its data, the calls that it knew can be made again.

    Args:
        server: a URL, a `redis.asyncio.Redis`, or `RedisConnections` to share.
        name: whose calls they are. All claims of this name share them.
        ttl: seconds for which a claim is known, above 0; an approval must not be older.

    Raises:
        TypeError, ValueError: an argument is not such a value.

    >>> from rxllm import Agent
    >>> from rxllm.models.scripted import ScriptedModel
    >>> claims = RedisClaims("redis://127.0.0.1:6379", "payments")
    >>> agent = Agent(ScriptedModel("Paid."), claim=claims, secret=b"one of all processes")
    """

    def __init__(self, server: Server, name: str, *, ttl: float = 30 * _DAY) -> None:
        self.name: str = name
        self.ttl: float = check_number("ttl", ttl, "the seconds that a claim is known", above=0)
        self._prefix = key_for("claims", name)
        self._unanswered: dict[str, str] = {}  # by key, the values of claims
        super().__init__(server)

    async def __call__(self, token: str, context: object = None) -> bool:
        """Return whether this is the first claim of a call in all processes.

        Raises:
            StoreUnavailableError: Redis doesn't answer.
        """
        key = f"{self._prefix}:{digest(token)}"
        value = self._unanswered.pop(key, "") or secrets.token_hex(8)
        try:
            reply = await self._connections.link().send(
                _CLAIM, [key], value, milliseconds(self.ttl)
            )
        except StoreUnavailableError:
            self._unanswered[key] = value
            if len(self._unanswered) > _MOST_UNANSWERED:
                del self._unanswered[next(iter(self._unanswered))]
            raise
        return bool(reply)
