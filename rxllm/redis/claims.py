"""`RedisClaims`: what is done once, by whichever of several processes."""

from __future__ import annotations

import hashlib
import secrets
from typing import Final

from rxllm.arguments import check_number
from rxllm.redis.connections import Connected, Server
from rxllm.redis.scripts import Script, key_for, milliseconds

__all__ = ["RedisClaims"]

_DAY: Final = 86_400.0

_CLAIM: Final = Script("""
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
return redis.call('GET', KEYS[1]) == ARGV[1] and 1 or 0
""")
"""Arguments: a random value, so that the same claim may be sent again; how long it is kept (ms)."""


class RedisClaims(Connected):
    """The approved calls that the agents of several processes have made, for `Agent(claim=...)`.

    An approved call is made at most once: if it isn't known whether a claim has reached Redis, the
    call isn't made, and neither is it when it is asked for again. Redis holds a hash of each
    token until `ttl` is over; if it loses its data, the calls that it knew can be made again.

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
        super().__init__(server)

    async def __call__(self, token: str, context: object = None) -> bool:
        """Return whether this is the first claim of a call in all processes.

        Raises:
            StoreUnavailableError: Redis can't be asked. The call may be claimed all the same.
        """
        key = f"{self._prefix}:{hashlib.sha256(token.encode(errors='surrogatepass')).hexdigest()}"
        arguments = secrets.token_hex(8), milliseconds(self.ttl)
        return bool(await self._connections.link().send(_CLAIM, [key], *arguments))
