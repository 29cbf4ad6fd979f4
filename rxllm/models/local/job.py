"""A stream shared by its event loop and the engine thread, and the events passed between them."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec
from llguidance import LLMatcher

from rxllm.chunks import FinishReason
from rxllm.errors import PoolFullError, RxLLMError
from rxllm.models.local.answer_form import AnswerForm
from rxllm.models.local.call_grammar import combined_grammar
from rxllm.models.local.compiler import COMPILE_SECONDS
from rxllm.models.local.control_tokens import LocalPrompt
from rxllm.models.local.engine import Sampled
from rxllm.models.local.guidance import Mask, Vocabulary
from rxllm.requests import Request
from rxllm.text.stop_sequences import StopMatcher

__all__ = [
    "LEAD",
    "Failed",
    "Finished",
    "Job",
    "Opened",
    "Outbox",
    "Piece",
    "Purpose",
    "Reading",
    "Released",
]

LONG_PROMPT: Final = 512
"""Number of tokens from which on it is reported how much of a prompt has been read."""

LEAD: Final = 16
"""Number of events that a stream may be ahead of its reader before it leaves the batch."""


class _Event(msgspec.Struct, frozen=True, tag=True, array_like=True, gc=False):
    """Sent as it is from the process of a model; see `worker`."""


class Opened(_Event, frozen=True, gc=False):
    """The stream has its slot. `cached` of its `input_tokens` were found in the cache."""

    input_tokens: int
    cached: int
    form: AnswerForm = AnswerForm()


class Reading(_Event, frozen=True, gc=False):
    """A long prompt is being read: so many of its tokens have been."""

    tokens: int


class Piece(_Event, frozen=True, gc=False):
    """The text of one token, which may be empty."""

    text: str
    confidence: float | None


class Finished(_Event, frozen=True, gc=False):
    """The last event of a completed answer."""

    reason: FinishReason
    stop_sequence: str | None
    output_tokens: int


@dataclass(slots=True, frozen=True)
class Failed:
    """The last event of a failed answer."""

    error: RxLLMError


class Released(_Event, frozen=True, gc=False):
    """The last event of a cancelled stream: its slot is free."""


Last = Finished | Failed | Released
Event = Opened | Reading | Piece | Last
Purpose = Literal["answer", "count", "load"]
"""What a job is for: an answer, the number of tokens of its prompt, or only to load the model."""


class Job:
    """One stream.

    The event loop writes `taken`, `wanted` and `cancelled`, the engine thread everything else.

    Args:
        request: the request.
        outbox: delivers events to the stream's event loop.
        wake: notifies the runner of a change.
        withdraw: removes this job from the runner's queue; False if it has already left it.
        purpose: what it is for.
        grammar: what the answer must follow, or `None` if it is free.
    """

    def __init__(
        self,
        request: Request,
        outbox: Outbox,
        wake: Callable[[], None],
        withdraw: Callable[[Job], bool],
        *,
        purpose: Purpose = "answer",
        grammar: str | None = None,
    ) -> None:
        self.request = request
        self.purpose: Purpose = purpose
        self.queued_at: float = time.monotonic()
        self.idle_since: float = math.inf
        self._grammar = grammar
        self._is_promised = False
        self.prompt: LocalPrompt | None = None
        self.matcher: Future[LLMatcher] | None = None
        self.matcher_due: float = math.inf
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
        """True if nobody listens any more: the stream was cancelled or its event loop closed."""
        return self.cancelled or self.outbox.loop.is_closed()

    def note_idle(self, now: float) -> None:
        """Take note of whether the stream is runnable. Called on the engine thread."""
        if self.is_runnable:
            self.idle_since = math.inf
        elif self.idle_since == math.inf:
            self.idle_since = now

    def prepare(self, prompt: LocalPrompt, vocabulary: Vocabulary, now: float) -> None:
        """Take the prompt, and begin to compile the grammar of its answer, if there is one."""
        self.prompt = prompt
        if self.purpose != "answer":
            return
        must_call = self.request.tool_choice not in (None, "auto", "none")
        self._is_promised = must_call or self._grammar is not None
        grammar = combined_grammar(
            calls=prompt.calls,
            must_call=must_call,
            answer=self._grammar,
            thinking_end=prompt.form.thinking_end,
        )
        if grammar is not None:
            self.matcher_due = now + COMPILE_SECONDS
            self.matcher = vocabulary.compile(grammar)
            wake = self._wake  # not the job: the matcher is kept for other streams
            self.matcher.add_done_callback(lambda _: wake())

    def may_open(self, now: float) -> bool:
        """Whether the grammar, if there is one, is compiled or is late, as far as is known."""
        return self.matcher is None or self.matcher.done() or now >= self.matcher_due

    def mask(self, size: int) -> Mask | None:
        """Return the mask of the answer. A grammar that the request doesn't demand may be left out.

        Raises:
            PoolFullError: the grammar isn't compiled in time.
            UnsupportedError: it can't be.
        """
        if self.matcher is None:
            return None
        try:
            if not self.matcher.done():
                raise PoolFullError(f"the grammar was not compiled within {COMPILE_SECONDS:g} s")
            return Mask(self.matcher.result(), size)
        except RxLLMError:
            if self._is_promised:
                raise
            return None

    async def has_events(self, seconds: float) -> bool:
        """Wait for events, but only so long; returns whether there are any."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._arrived.wait()
        return self._arrived.is_set()

    async def next_events(self) -> list[Event]:
        """Wait for events, and return all that have arrived since the last call.

        Each call acknowledges the events returned by the last one.
        """
        self.taken += self._reading
        self._wake()
        await self._arrived.wait()
        self._arrived.clear()
        events, self._events = self._events, []
        self._reading = len(events)
        return events

    def receive(self, event: Event) -> None:
        """Receive an event. Called on the event loop."""
        if isinstance(event, Last):
            self._over.set()
        if not self.cancelled:
            self._events.append(event)
            self._arrived.set()

    def set_wanted(self, wanted: bool) -> None:
        """Leave the batch at the next step, or rejoin it."""
        self.wanted = wanted
        self._wake()

    def cancel(self) -> bool:
        """Give up the slot or the place in the queue; False if the last event is still to come."""
        if self._over.is_set() or self._withdraw(self):
            return True
        self.cancelled = True
        self._wake()
        return False

    async def leave(self) -> None:
        """Give up the slot or the place in the queue, and wait until that is done."""
        if not self.cancel():
            await self._over.wait()

    def note_reading(self) -> None:
        """Send how much of the prompt has been read, if it is a long one."""
        assert self.prompt is not None  # noqa: S101 - it has a sequence
        length = len(self.prompt.tokens)
        read = length - len(self.sequence.pending)
        if not self.output_tokens and length - self.sequence.cached > LONG_PROMPT and read > 0:
            self.put(Reading(read))

    def put(self, event: Opened | Reading | Piece) -> None:
        """Send an event that its reader has to take before the stream gets too far ahead."""
        self.made += 1
        self.outbox.put(self, event)

    def add(self, sampled: Sampled) -> Finished | None:
        """Process a sampled token and send its text; returns the last event if the answer ends."""
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
            self.put(Piece(text, confidence))
        return None if reason is None else Finished(reason, matched, self.output_tokens)

    def _confidence_of(self, sampled: Sampled) -> float | None:
        """The product over the tokens of a piece, as a character may consist of several."""
        if sampled.confidence is None:
            return None
        confidence = self._confidence * sampled.confidence
        self._confidence = 1.0 if sampled.text else confidence
        return confidence


class Outbox:
    """The queue from the engine thread to one event loop, with one wake-up per batch of events."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._queue: deque[tuple[Job, Event]] = deque()
        self._is_waking = False

    def put(self, job: Job, event: Event) -> None:
        """Queue an event. Called on the engine thread."""
        self._queue.append((job, event))
        if not self._is_waking:
            self._is_waking = True
            with suppress(RuntimeError):  # the loop is closed: nobody listens
                self.loop.call_soon_threadsafe(self._flush)

    def _flush(self) -> None:
        self._is_waking = False  # first, so that an event queued from now on wakes the loop again
        while self._queue:
            job, event = self._queue.popleft()
            job.receive(event)
