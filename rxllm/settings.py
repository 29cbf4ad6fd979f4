"""Settings: the numbers of a program in one validated value.

Said once, for each stream of a model, a router or a server:

>>> import rxllm
>>> settings = Settings(total=60, attempts=2)
>>> model = rxllm.model("tiny", settings=settings)
>>> router = rxllm.Router(["tiny"], settings=settings)
>>> app = rxllm.server.create_app(["tiny"], settings=settings)

Each group holds the keyword arguments of an operator or a class:

>>> from rxllm import operators as ops
>>> settings.timeouts
{'first': 10.0, 'between': 5.0, 'total': 60}
>>> ops.Pool(**settings.local_pool)
Pool(limit=3, queue=100, wait=30.0): 0 active, 0 waiting
"""

from __future__ import annotations

from typing import Final, TypedDict

import msgspec

__all__ = ["BatchSettings", "PoolSettings", "RetrySettings", "Settings", "TimeoutSettings"]


class TimeoutSettings(TypedDict):
    """The arguments of `ops.timeouts`."""

    first: float
    between: float
    total: float


class RetrySettings(TypedDict):
    """The arguments of `ops.retry_with_backoff`."""

    attempts: int
    initial: float


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

    A model, a router and a server use them for each stream; a router, for each of its models. Those
    from `batch_size` to `shutdown` are of a server alone.

    Args:
        connect: seconds to connect, above 0, of remote models that are made by name.
        first_token: seconds to the first token, above 0.
        between_tokens: seconds between two tokens, above 0.
        total: seconds for a whole stream, above 0. Ten minutes, since models that think before they
            answer take minutes.
        attempts: the maximum number of attempts, including the first, 1 or more.
        retry_delay: seconds before the second attempt, 0 or more. It doubles with each failure, up
            to 60; the wait is random, up to that (see `ops.retry_with_backoff`).
        local_streams: concurrent streams from local models, 1 or more: of one model, or of all
            those of a server.
        remote_streams: the same for remote models.
        queue: streams that may wait for a slot, 0 or more.
        queue_wait: seconds that each of them may wait, above 0.
        piece_size: characters of the pieces in which text is passed on, 1 or more, or `None` as it
            comes.
        batch_size: the maximum number of pieces of text in one event, 1 or more.
        batch_seconds: seconds that the first of them may wait for the others, above 0.
        buffer_size: events that all readers of a stream may lag behind before its model waits, 1 or
            more.
        max_pause: seconds after which a paused stream is stopped, above 0.
        shutdown: seconds that live streams have to finish during a shutdown, 0 or more.

    Raises:
        ValueError: a number is out of range (`msgspec.ValidationError` when decoding).
    """

    connect: float = 10.0
    first_token: float = 10.0
    between_tokens: float = 5.0
    total: float = 600.0
    attempts: int = 3
    retry_delay: float = 1.0
    local_streams: int = 3
    remote_streams: int = 10
    queue: int = 100
    queue_wait: float = 30.0
    piece_size: int | None = None
    batch_size: int = 1
    batch_seconds: float = 0.1
    buffer_size: int = 1024
    max_pause: float = 300.0
    shutdown: float = 30.0

    def __post_init__(self) -> None:
        for name, default in zip(self.__struct_fields__, self.__struct_defaults__, strict=True):
            value = getattr(self, name)
            is_integer = type(default) is not float
            if value is None and default is None:
                continue
            if not _fits(value, integer=is_integer, from_zero=name in _FROM_ZERO):
                what = "an integer" if is_integer else "a number of seconds"
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
    def retry(self) -> RetrySettings:
        """For `ops.retry_with_backoff(**settings.retry)`."""
        return {"attempts": self.attempts, "initial": self.retry_delay}

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


_FROM_ZERO: Final = {"queue", "retry_delay", "shutdown"}


def _fits(value: object, *, integer: bool, from_zero: bool) -> bool:
    if isinstance(value, bool) or not isinstance(value, int if integer else int | float):
        return False
    return 0 < value < float("inf") or (from_zero and value == 0)
