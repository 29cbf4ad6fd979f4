"""Names that are bound to one server each, by leases."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Any, Final

from rxllm.errors import StoreUnavailableError
from rxllm.redis.connections import Link
from rxllm.redis.scripts import Script, milliseconds
from rxllm.valve import report_failure

__all__ = ["RedisNames"]

_RETRY: Final = 0.1  # seconds

# The key of a name holds who has it, and the address: "<server> <address>". It expires.

_BIND: Final = Script("""
local held = redis.call('GET', KEYS[1])
if held and string.sub(held, 1, #ARGV[1]) ~= ARGV[1] then return held end
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. ARGV[2], 'PX', ARGV[3])
return ''
""")
"""Arguments: the server, its address, the lease (ms). Return what another server has written, or
`''`."""

_RENEW: Final = Script("""
local lost = {}
for at, key in ipairs(KEYS) do
  local held = redis.call('GET', key)
  if held and string.sub(held, 1, #ARGV[1]) ~= ARGV[1] then
    lost[at] = held
  else
    lost[at] = ''
    if redis.call('PEXPIRE', key, ARGV[3]) == 0 then
      redis.pcall('SET', key, ARGV[1] .. ' ' .. ARGV[2], 'PX', ARGV[3])
    end
  end
end
return lost
""")
"""Arguments and replies as of `_BIND`, for several keys. Not by `SET` alone, which is refused when
the memory is full: a later renewal may do."""

_UNBIND: Final = Script("""
local held = redis.call('GET', KEYS[1])
if held and string.sub(held, 1, #ARGV[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
""")


class RedisNames:
    """The names of one server, as `rxllm.web.shared_store.NameLeases`.

    While Redis can't be reached, the names of this server stay its own. If it is cut off for longer
    than `lease`, another server may bind them; `on_lost` is called when they meet again.

    Args:
        link: returns the connections.
        key_for: returns the key of a name.
        lease: seconds until the names of a server that died are free.
        address, on_lost: see `rxllm.web.shared_store.SharedStore.names`.
    """

    def __init__(
        self,
        link: Callable[[], Link],
        key_for: Callable[[str], str],
        lease: float,
        address: Callable[[], str],
        on_lost: Callable[[str, str], object],
    ) -> None:
        self._link = link
        self._key_for = key_for
        self._lease = lease
        self._address = address
        self._on_lost = on_lost
        self._server: Final = secrets.token_hex(6)
        self._names: set[str] = set()
        self._renewing: asyncio.Task[None] | None = None

    async def bind(self, name: str) -> str | None:
        """As `NameLeases.bind`."""
        held = (await self._send(_BIND, [name])).decode()
        if held:
            return _address_in(held)
        self._names.add(name)
        if self._renewing is None:
            loop = asyncio.get_running_loop()
            self._renewing = loop.create_task(self._renew(), name="rxllm redis names")
        return None

    def unbind(self, name: str) -> None:
        """As `NameLeases.unbind`."""
        if name in self._names:
            self._forget(name)
            self._send(_UNBIND, [name])

    async def close(self) -> None:
        """Unbind all names, as far as Redis can be reached."""
        renewing = self._renewing
        for name in tuple(self._names):
            self.unbind(name)
        if renewing is not None:
            await asyncio.wait([renewing])

    async def _renew(self) -> None:
        loop, seconds = asyncio.get_running_loop(), self._lease / 3
        while True:
            await asyncio.sleep(seconds)
            names = sorted(self._names)
            try:
                replies = await self._send(_RENEW, names)
                seconds = self._lease / 3
            except StoreUnavailableError:  # reported by the connection
                seconds = min(_RETRY, self._lease / 3)
                continue
            for name, reply in zip(names, replies, strict=True):
                if reply and name in self._names:
                    self._names.discard(name)
                    try:
                        self._on_lost(name, _address_in(reply.decode()))
                    except Exception as error:  # the other names must be renewed
                        report_failure(loop, error)
            if not self._names:
                self._renewing = None
                return

    def _forget(self, name: str) -> None:
        self._names.discard(name)
        if not self._names and self._renewing is not None:
            self._renewing.cancel()
            self._renewing = None

    def _send(self, script: Script, names: list[str]) -> asyncio.Future[Any]:
        keys = [self._key_for(name) for name in names]
        more = self._server, self._address(), milliseconds(self._lease)
        return self._link().send(script, keys, *more)


def _address_in(held: str) -> str:
    return held.partition(" ")[2]
