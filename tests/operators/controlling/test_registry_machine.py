"""A stateful test of `StreamRegistry`: anything may happen to its streams, in any order."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from reactivex.subject import Subject

from rxllm import operators as ops
from rxllm.chunks import Chunk, End, Token
from rxllm.errors import StreamStateError
from rxllm.operators import StreamRegistry
from rxllm.testing import COMPLETED, VirtualTimeLoop
from rxllm.valve import StreamScheduler
from tests.profiles import draws

MAX_IDLE, MAX_PAUSE = 20.0, 7.0
WHICH = st.integers(0, 20)
MOMENT = 0.01


class Stream:
    """One subscription: its input, its output, and its expected status."""

    def __init__(self, machine: RegistryMachine, stream_id: str | None) -> None:
        self.subject: Subject[Chunk] = Subject()
        self.events: list[Any] = []
        self.sent: list[Chunk] = []
        known = set(machine.registry)
        taken = stream_id in {stream.id for stream in machine.registry.active}
        stream = self.subject.pipe(ops.track(machine.registry, stream_id))
        self.subscription = stream.subscribe(
            self.events.append,
            self.events.append,
            lambda: self.events.append(COMPLETED),
            scheduler=StreamScheduler(machine.loop),
        )
        self.refused = bool(self.events)
        assert self.refused == (taken or machine.registry.refusing)
        if not self.refused:
            new = set(machine.registry) - known
            self.entry = machine.registry[stream_id or new.pop()]
        self.left = False

    @property
    def last(self) -> Any:
        """The end that its subscriber was notified of."""
        event = self.events[-1] if self.events else None
        return event if event is COMPLETED or isinstance(event, Exception) else None

    @property
    def lives(self) -> bool:
        return not self.left and self.last is None

    @property
    def status(self) -> str:
        """The status that the registry should report."""
        if self.left or End("cancelled") in self.events:
            return "cancelled"
        if self.last is None:
            return "live"
        return "completed" if self.last is COMPLETED else "failed"


class RegistryMachine(RuleBasedStateMachine):
    """Streams start, emit, end, are disposed, paused and cancelled, until a shutdown."""

    @initialize(keep=st.integers(0, 3))
    def begin(self, keep: int) -> None:
        self.loop = VirtualTimeLoop()
        self.registry = StreamRegistry(keep=keep, max_idle=MAX_IDLE, max_pause=MAX_PAUSE)
        self.keep = keep
        self.streams: list[Stream] = []
        self.shutdowns: list[asyncio.Task[None]] = []
        self.deadline = float("inf")

    def pick(self, which: int) -> Stream | None:
        found = [stream for stream in self.streams if stream.lives]
        return found[which % len(found)] if found else None

    def turn(self, seconds: float = MOMENT) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))

    @rule(stream_id=st.sampled_from(["a", "b", "c", None]))
    def subscribe(self, stream_id: str | None) -> None:
        stream = Stream(self, stream_id)
        if stream.refused:
            assert isinstance(stream.last, StreamStateError)
            assert stream.subject.observers == []
        else:
            self.streams.append(stream)

    @rule(which=WHICH)
    def emit(self, which: int) -> None:
        stream = self.pick(which)
        if stream and stream.subject.observers:  # else its end waits behind a pause
            stream.sent.append(Token(str(len(stream.sent))))
            stream.subject.on_next(stream.sent[-1])

    @rule(which=WHICH, fails=st.booleans())
    def end(self, which: int, fails: bool) -> None:
        if stream := self.pick(which):
            if fails:
                stream.subject.on_error(ConnectionResetError())
            else:
                stream.subject.on_completed()

    @rule(which=WHICH)
    def leave(self, which: int) -> None:
        if stream := self.pick(which):
            stream.subscription.dispose()
            stream.left = True

    @rule(which=WHICH, what=st.sampled_from(["pause", "resume"]))
    def hold(self, which: int, what: str) -> None:
        if stream := self.pick(which):
            getattr(stream.entry, what)()

    @rule(which=WHICH)
    def cancel(self, which: int) -> None:
        if stream := self.pick(which):
            self.registry.cancel(stream.entry.id)
            assert stream.events[-2:] == [End("cancelled"), COMPLETED]

    @rule()
    def cancel_all(self) -> None:
        self.registry.cancel_all()
        assert self.registry.active == []

    @rule(seconds=st.sampled_from([0.5, 4.0, 15.0]))
    def wait(self, seconds: float) -> None:
        self.turn(seconds)

    @precondition(lambda self: len(self.streams) > 2)
    @rule(deadline=st.sampled_from([0.0, 3.0, 30.0]))
    def shut_down(self, deadline: float) -> None:
        if not self.shutdowns:
            self.deadline = self.loop.time() + deadline
        self.shutdowns.append(self.loop.create_task(self.registry.shutdown(deadline)))
        self.turn()

    @invariant()
    def the_registry_knows_the_live_streams(self) -> None:
        live = [stream for stream in self.streams if stream.lives]
        assert self.registry.active == [stream.entry for stream in live]
        for stream in self.streams:
            assert bool(stream.subject.observers) <= stream.lives
            if not stream.lives:
                assert stream.entry.status == stream.status
            else:
                assert stream.entry.status in ("running", "paused")
                assert self.registry[stream.entry.id] is stream.entry

    @invariant()
    def no_more_ended_streams_are_kept_than_configured(self) -> None:
        assert len(self.registry) - len(self.registry.active) <= self.keep
        assert [info.id for info in self.registry.snapshot()] == list(self.registry)

    @invariant()
    def no_active_stream_is_abandoned(self) -> None:
        for entry in self.registry.active:
            limit = MAX_PAUSE if entry.status == "paused" else MAX_IDLE
            assert entry.idle <= limit + MOMENT

    @invariant()
    def nothing_is_lost(self) -> None:
        for stream in self.streams:
            got = [event for event in stream.events if isinstance(event, Token)]
            assert got == stream.sent[: len(got)]
            if stream.entry.status in ("running", "completed", "failed"):
                assert got == stream.sent
            assert sum(event is COMPLETED for event in stream.events) <= 1

    @invariant()
    def a_shutdown_ends_with_the_last_stream_or_at_its_deadline(self) -> None:
        if self.shutdowns:
            self.turn()
            if self.loop.time() > self.deadline + MOMENT:
                assert self.registry.active == []
            over = {task.done() for task in self.shutdowns}
            assert over == {not self.registry.active}

    def teardown(self) -> None:
        self.registry.cancel_all()
        self.turn()
        assert all(task.done() and not task.exception() for task in self.shutdowns)
        timers = getattr(self.loop, "_scheduled")  # noqa: B009 - it has no public name
        assert [timer for timer in timers if not timer.cancelled()] == []
        assert [stream for stream in self.streams if stream.subject.observers] == []
        self.loop.close()


RegistryMachine.TestCase.settings = settings(
    max_examples=draws(1000),
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestRegistry = RegistryMachine.TestCase
