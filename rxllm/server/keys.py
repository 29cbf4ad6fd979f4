"""The API keys of a server, and what each may do."""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterable

import msgspec

from rxllm.errors import BadRequestError
from rxllm.operators import Budget

__all__ = ["Key", "KeyBudget", "Keys"]


class KeyBudget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all streams of a key may spend together, until the server is started again.

    Args:
        usd: dollars, above 0; `None` for no limit.
        tokens: tokens read and written, 1 or more; `None` for no limit.

    Raises:
        ValueError: a number is out of range, or neither is given (when decoding:
            `msgspec.ValidationError`).
    """

    usd: float | None = None
    tokens: int | None = None

    def __post_init__(self) -> None:
        self.make()

    def make(self) -> Budget:
        """Return a budget of which nothing is spent."""
        return Budget(self.usd, self.tokens)


class Key(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An API key. Its streams are its own: other keys can't list, read, pause or stop them.

    Args:
        name: names it in logs and metrics, and is the owner of its streams.
        key: the secret that clients send.
        key_env: the environment variable with the secret, instead of `key`.
        admin: whether it may see and control the streams of all keys.
        streams: maximum number of live streams; `None` for that of the server.
        max_tokens: maximum `max_tokens` of a request; `None` for that of the server.
        budget: what its streams may spend; `None` for no limit.
    """

    name: str
    key: str | None = None
    key_env: str | None = None
    admin: bool = False
    streams: int | None = None
    max_tokens: int | None = None
    budget: KeyBudget | None = None

    @property
    def secret(self) -> str:
        """The secret.

        Raises:
            BadRequestError: there is none, or no client could send it.
        """
        if (self.key is None) == (self.key_env is None):
            raise BadRequestError(f"the key {self.name!r} needs exactly one of key and key_env")
        secret = os.environ.get(self.key_env, "") if self.key_env is not None else self.key
        if not secret:
            where = f"the environment variable {self.key_env}" if self.key_env else "key"
            raise BadRequestError(f"the key {self.name!r} is empty: set {where}")
        if not (secret.isascii() and secret.isprintable()):
            raise BadRequestError("api_key must be one or more printable ASCII characters")
        return secret


class Keys:
    """The keys of a server. Without any, nobody needs one, and everybody sees all streams.

    Args:
        keys: the keys.

    Raises:
        BadRequestError: a key is invalid, or two have the same name or secret.
    """

    def __init__(self, keys: Iterable[Key]) -> None:
        self._keys = [(each.secret.encode(), each) for each in keys]
        for what, values in (
            ("names", [key.name for _, key in self._keys]),
            ("secrets", [secret for secret, _ in self._keys]),
        ):
            if len(set(values)) < len(values):
                raise BadRequestError(f"the {what} of the keys must be unique")
        for _, key in self._keys:
            for field in ("streams", "max_tokens"):
                value = getattr(key, field)
                if value is not None and value < 1:
                    raise BadRequestError(f"{field} of the key {key.name!r} must be 1 or more")

    def __bool__(self) -> bool:
        return bool(self._keys)

    def named(self, name: str | None) -> Key | None:
        """Return the key with this name."""
        return next((key for _, key in self._keys if key.name == name), None)

    def find(self, given: bytes) -> Key | None:
        """Return the key with this secret. It takes the same time for any."""
        found = None
        for secret, key in self._keys:
            if hmac.compare_digest(given, secret):
                found = key
        return found
