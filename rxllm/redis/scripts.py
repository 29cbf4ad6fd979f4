"""Scripts: whatever must be atomic is executed where the data is."""

from __future__ import annotations

import hashlib
from typing import Final

__all__ = ["ALL_SCRIPTS", "NOW", "Script", "digest", "key_for", "milliseconds"]

NOW: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""
"""Milliseconds on the clock of Redis, which all processes share."""


class Script:
    """A Lua script, sent by its hash.

    A script must be repeatable: after a lost connection it is sent once more, although it may have
    been executed.

    Args:
        source: the script.
    """

    def __init__(self, source: str) -> None:
        self.source: str = source.strip()
        self.sha: str = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()
        ALL_SCRIPTS.append(self)


ALL_SCRIPTS: Final[list[Script]] = []
"""They are loaded together, so that Redis never knows some of them only, which would change their
order."""


def key_for(kind: str, name: str) -> str:
    """Return the key for the state called `name`; in a cluster, keys that begin so share a slot.

    Raises:
        TypeError: `name` is not a string.
        ValueError: `name` is empty, or holds a brace or half a surrogate pair.

    >>> key_for("pool", "gpt")
    'rx:{pool:gpt}'
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a string, got {name!r}")
    if not name or "{" in name or "}" in name:
        raise ValueError(f"name must not be empty or contain a brace, got {name!r}")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"name must be valid Unicode, got {name!r}") from error
    return f"rx:{{{kind}:{name}}}"


def digest(text: str) -> str:
    """Return the SHA-256 of any text, for what Redis must not hold itself.

    >>> digest("a")[:16]
    'ca978112ca1bbdca'
    """
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def milliseconds(seconds: float) -> int:
    """Return whole milliseconds, at least 1.

    >>> milliseconds(0.0001), milliseconds(2.5)
    (1, 2500)
    """
    return max(1, round(seconds * 1000))
