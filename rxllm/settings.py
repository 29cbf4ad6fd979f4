"""Settings: the numbers of a program in one validated value.

Nothing reads them automatically. Each group holds the keyword arguments of one function or class:

>>> from rxllm import operators as ops
>>> settings = Settings(total=60, local_streams=2)
>>> settings.timeouts
{'first': 10.0, 'between': 5.0, 'total': 60}
>>> ops.Pool(**settings.local_pool)
Pool(limit=2, queue=100, wait=30.0): 0 active, 0 waiting
>>> as_packed = ops.batch(**settings.batch)
"""

from __future__ import annotations

from typing import Final, TypedDict

import msgspec

__all__ = ["BatchSettings", "PoolSettings", "Settings", "TimeoutSettings"]


class TimeoutSettings(TypedDict):
    """The arguments of `ops.timeouts`."""

    first: float
    between: float
    total: float


class BatchSettings(TypedDict):
    """The arguments of `ops.batch`."""

    size: int
    seconds: float


class PoolSettings(TypedDict):
    """The arguments of `ops.Pool`."""

    limit: int
    queue: int
    wait: float


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The limits, sizes and timeouts of a streaming program, with this framework's defaults.

    It is a value: change it with `msgspec.structs.replace`, or read it from a file with
    `msgspec.toml.decode(text, type=Settings)`. Either way, values out of range and unknown names
    are rejected.

    Args:
        buffer_size: chunks that a buffer holds, 1 or more.
        batch_size: the maximum number of chunks in a batch, 1 or more.
        batch_seconds: seconds that the first chunk of a batch may wait, above 0.
        local_streams: concurrent streams from local engines, 1 or more.
        remote_streams: concurrent streams from remote models, 1 or more.
        queue: streams that may wait for a slot, 0 or more.
        queue_wait: seconds that each of them may wait, above 0.
        connect: seconds to connect, above 0.
        first_token: seconds to the first token, above 0.
        between_tokens: seconds between two tokens, above 0.
        total: seconds for a whole stream, above 0.
        attempts: the maximum number of attempts, including the first, 1 or more:
            `ops.retry_with_backoff(settings.attempts)`.
        max_pause: seconds after which a paused stream is stopped, above 0.
        shutdown: seconds that live streams have to finish during a shutdown, 0 or more.

    Raises:
        ValueError: a number is out of range (`msgspec.ValidationError` when decoding).
    """

    buffer_size: int = 1024
    batch_size: int = 10
    batch_seconds: float = 0.1
    local_streams: int = 3
    remote_streams: int = 10
    queue: int = 100
    queue_wait: float = 30.0
    connect: float = 10.0
    first_token: float = 10.0
    between_tokens: float = 5.0
    total: float = 30.0
    attempts: int = 3
    max_pause: float = 300.0
    shutdown: float = 30.0

    def __post_init__(self) -> None:
        for name, default in zip(self.__struct_fields__, self.__struct_defaults__, strict=True):
            value = getattr(self, name)
            if not _fits(value, integer=type(default) is int, from_zero=name in _FROM_ZERO):
                what = "an integer" if type(default) is int else "a number of seconds"
                minimum = ", 0 or more" if name in _FROM_ZERO else " above 0"
                raise ValueError(f"{name} must be {what}{minimum}, got {value!r}")

    @property
    def timeouts(self) -> TimeoutSettings:
        """For `ops.timeouts(**settings.timeouts)`; `connect` is an option of the remote models."""
        return {
            "first": self.first_token,
            "between": self.between_tokens,
            "total": self.total,
        }

    @property
    def batch(self) -> BatchSettings:
        """For `ops.batch(**settings.batch)`."""
        return {"size": self.batch_size, "seconds": self.batch_seconds}

    @property
    def local_pool(self) -> PoolSettings:
        """For `ops.Pool(**settings.local_pool)`."""
        return {"limit": self.local_streams, "queue": self.queue, "wait": self.queue_wait}

    @property
    def remote_pool(self) -> PoolSettings:
        """For `ops.Pool(**settings.remote_pool)`."""
        return {"limit": self.remote_streams, "queue": self.queue, "wait": self.queue_wait}


_FROM_ZERO: Final = {"queue", "shutdown"}


def _fits(value: object, *, integer: bool, from_zero: bool) -> bool:
    if isinstance(value, bool) or not isinstance(value, int if integer else int | float):
        return False
    return 0 < value < float("inf") or (from_zero and value == 0)
