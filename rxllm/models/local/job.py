"""One stream between its event loop and the engine thread, and what is handed over for it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from rxllm.chunks import FinishReason
from rxllm.errors import RxLLMError
from rxllm.models.local.engine import Sampled
from rxllm.requests import Request
from rxllm.text.stop_sequences import StopMatcher

__all__ = ["LEAD", "Failed", "Finished", "Job", "Opened", "Outbox", "Piece", "Released"]

LEAD: Final = 16
"""How many tokens a stream may be ahead of its reader before it leaves the batch."""


@dataclass(slots=True, frozen=True)
class Opened:
    """The stream has its slot. `cached` of its `input_tokens` need not be computed again."""

    input_tokens: int
    cached: int


@dataclass(slots=True, frozen=True)
class Piece:
    """One token's worth of text, which may be empty."""

    text: str
    confidence: float | None


@dataclass(slots=True, frozen=True)
class Finished:
    """The last event of a good answer."""

    reason: FinishReason
    stop_sequence: str | None
    output_tokens: int


@dataclass(slots=True, frozen=True)
class Failed:
    """The last event of any other."""

    error: RxLLMError


@dataclass(slots=True, frozen=True)
class Released:
    """The last event of a stream that was left: its slot is free."""


Last = Finished | Failed | Released
Event = Opened | Piece | Last


class Job:
    """One stream.

    The event loop writes `taken`, `wanted` and `cancelled`, the engine thread everything else.

    Args:
        request: what is asked.
        outbox: takes events to the stream's event loop.
        wake: tells the runner that something has changed.
        withdraw: takes this job out of the runner's queue; False if it is not in there any more.
    """

    def __init__(
        self,
        request: Request,
        outbox: Outbox,
        wake: Callable[[], None],
        withdraw: Callable[[Job], bool],
    ) -> None:
        self.request = request
        self.outbox = outbox
        self._wake = wake
        self._withdraw = withdraw
        self.taken: int = 0
        self.made: int = 0
        self.wanted: bool = True
        self.cancelled: bool = False
        self.sequence: Any = None
        self.output_tokens: int = 0
        self.limit = 0
        self.stop: StopMatcher | None = None
        self._confidence = 1.0
        self._events: list[Event] = []
        self._reading = 0
        self._arrived = asyncio.Event()
        self._over = asyncio.Event()

    @property
    def is_runnable(self) -> bool:
        """True if the stream takes part in the next decode step."""
        return self.wanted and not self.cancelled and self.made - self.taken < LEAD

    @property
    def is_gone(self) -> bool:
        """True if nobody listens any more: the stream was left, or its event loop is closed."""
        return self.cancelled or self.outbox.loop.is_closed()

    async def next_events(self) -> list[Event]:
        """All events that have gathered since the last call, one at least.

        A call says that the events of the last one have been passed on.
        """
        self.taken += self._reading
        self._wake()
        await self._arrived.wait()
        self._arrived.clear()
        events, self._events = self._events, []
        self._reading = len(events)
        return events

    def receive(self, event: Event) -> None:
        """Called on the event loop for each event."""
        if isinstance(event, Last):
            self._over.set()
        if not self.cancelled:
            self._events.append(event)
            self._arrived.set()

    def set_wanted(self, wanted: bool) -> None:
        """Leave the batch at the next step, or enter it again."""
        self.wanted = wanted
        self._wake()

    async def leave(self) -> None:
        """Give the slot back, or the place in the queue; returns once that is done."""
        if self._over.is_set() or self._withdraw(self):
            return
        self.cancelled = True
        self._wake()
        await self._over.wait()

    def add(self, sampled: Sampled) -> Finished | None:
        """Take in what was sampled, and hand over its text; what it returns is the end."""
        text, stop = sampled.text, self.stop
        was_held = stop is not None and stop.held != ""
        if not sampled.is_end:
            self.output_tokens += 1
            if stop is not None:
                text = stop.feed(text)
        matched = stop.matched if stop is not None else None
        reason: FinishReason | None = None
        if sampled.is_end or matched is not None:
            reason = "stop"
        elif self.output_tokens >= self.limit:
            reason = "length"
        if stop is not None and reason is not None and matched is None:
            text += stop.flush()
        is_whole = not was_held and text == sampled.text
        confidence = self._confidence_of(sampled) if is_whole else None
        if reason is None or text:
            self.made += 1
            self.outbox.put(self, Piece(text, confidence))
        return None if reason is None else Finished(reason, matched, self.output_tokens)

    def _confidence_of(self, sampled: Sampled) -> float | None:
        """Of all tokens of a piece: a character of several tokens is as sure as all of them."""
        if sampled.confidence is None:
            return None
        confidence = self._confidence * sampled.confidence
        self._confidence = 1.0 if sampled.text else confidence
        return confidence


class Outbox:
    """What the engine thread hands to one event loop: one wake-up for all that has gathered."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._queue: deque[tuple[Job, Event]] = deque()
        self._is_waking = False

    def put(self, job: Job, event: Event) -> None:
        """Called on the engine thread, with each event."""
        self._queue.append((job, event))
        if not self._is_waking:
            self._is_waking = True
            with suppress(RuntimeError):  # the loop is closed: its jobs are gone
                self.loop.call_soon_threadsafe(self._flush)

    def _flush(self) -> None:
        self._is_waking = False  # first, so that an event put from here on wakes the loop again
        while self._queue:
            job, event = self._queue.popleft()
            job.receive(event)
