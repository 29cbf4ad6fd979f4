"""A stateful test of `Pool`: anything may happen to its streams, in any order."""

from __future__ import annotations

from typing import Any

import reactivex as rx
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from reactivex import operators
from reactivex.subject import Subject

from rxllm import operators as ops
from rxllm.chunks import Chunk, End, Token
from rxllm.errors import PoolFullError, StreamStateError
from rxllm.operators import Control, Pool
from rxllm.testing import COMPLETED, Marbles
from tests.profiles import draws

WAIT, MAX_PAUSE = 5.0, 7.0
WHICH = st.integers(0, 20)


class Stream:
    """One subscription: what went in, and what came out."""

    def __init__(self, machine: PoolMachine) -> None:
        self.marbles = machine.marbles
        self.subject: Subject[Chunk] = Subject()
        self.control = Control(MAX_PAUSE)
        self.asked = machine.now
        self.disposed = False
        self.sent: list[Chunk] = []
        self.passed: list[Chunk] = []
        self.errors: list[Exception] = []
        self.begun = False

        def begin(_: object) -> rx.Observable[Chunk]:
            earlier = machine.streams[: machine.streams.index(self)]
            machine.overtaken += [other for other in earlier if other.waits]
            self.begun = True
            return self.subject

        machine.streams.append(self)
        stream = rx.defer(begin).pipe(ops.limit_concurrency(machine.pool))
        # Here an error is seen even while a pause holds it back.
        seen = operators.do_action(self.passed.append, self.errors.append)(stream)
        self.recording = self.marbles.subscribe(seen.pipe(ops.pausable(self.control)))

    @property
    def last(self) -> Any:
        """The end that its subscriber was notified of."""
        event = self.recording.events[-1][1] if self.recording.events else None
        return event if event is COMPLETED or isinstance(event, Exception) else None

    @property
    def gone(self) -> bool:
        return self.disposed or self.last is not None

    @property
    def waits(self) -> bool:
        return not (self.begun or self.gone or self.errors)

    @property
    def fed(self) -> bool:
        """True while its source is subscribed to."""
        return bool(self.subject.observers)


class PoolMachine(RuleBasedStateMachine):
    """Streams start, emit, complete, fail, are disposed, paused and stopped, and time passes."""

    @initialize(limit=st.integers(1, 3), queue=st.integers(0, 3))
    def begin(self, limit: int, queue: int) -> None:
        self.marbles = Marbles()
        self.pool = Pool(limit, queue=queue, wait=WAIT)
        self.streams: list[Stream] = []
        self.overtaken: list[Stream] = []
        self.now = 0.0

    def pick(self, which: int, *, fed: bool) -> Stream | None:
        found = [stream for stream in self.streams if not stream.gone and stream.fed >= fed]
        return found[which % len(found)] if found else None

    def turn(self, seconds: float = 0.001) -> None:
        self.now += seconds
        self.marbles.advance_to(self.now)

    @rule()
    def subscribe(self) -> None:
        full = self.pool.active == self.pool.limit and self.pool.waiting == self.pool.queue
        stream = Stream(self)
        assert isinstance(stream.last, PoolFullError) == full
        self.turn()

    @rule(which=WHICH)
    def emit(self, which: int) -> None:
        if stream := self.pick(which, fed=True):
            stream.sent.append(Token(str(len(stream.sent))))
            stream.subject.on_next(stream.sent[-1])

    @rule(which=WHICH)
    def complete(self, which: int) -> None:
        if stream := self.pick(which, fed=True):
            stream.subject.on_completed()
            self.turn()

    @rule(which=WHICH)
    def fail(self, which: int) -> None:
        if stream := self.pick(which, fed=True):
            stream.subject.on_error(ConnectionResetError())
            self.turn()

    @rule(which=WHICH)
    def leave(self, which: int) -> None:
        if stream := self.pick(which, fed=False):
            stream.recording.dispose()
            stream.disposed = True
            self.turn()

    @rule(which=WHICH, what=st.sampled_from(["pause", "resume", "stop"]))
    def control(self, which: int, what: str) -> None:
        if stream := self.pick(which, fed=False):
            getattr(stream.control, what)()
            self.turn()

    @rule(seconds=st.sampled_from([0.5, 2.0, 6.0]))
    def wait(self, seconds: float) -> None:
        self.turn(seconds)

    @invariant()
    def the_limits_hold(self) -> None:
        assert self.pool.active <= self.pool.limit
        assert self.pool.waiting <= self.pool.queue

    @invariant()
    def no_slot_is_lost_or_idle_while_a_stream_waits(self) -> None:
        assert self.pool.active == sum(stream.fed for stream in self.streams)
        assert self.pool.waiting == sum(stream.waits for stream in self.streams)
        assert self.pool.waiting == 0 or self.pool.active == self.pool.limit

    @invariant()
    def first_come_first_served(self) -> None:
        assert self.overtaken == []

    @invariant()
    def nobody_waits_too_long(self) -> None:
        for stream in self.streams:
            if stream.waits:
                assert self.now - stream.asked < WAIT

    @invariant()
    def nothing_is_lost(self) -> None:
        for stream in self.streams:
            assert stream.passed == stream.sent
            got = [chunk for chunk in stream.recording.chunks if type(chunk) is not End]
            assert got == stream.sent[: len(got)]
            if stream.control.status == "running":
                assert got == stream.sent

    def teardown(self) -> None:
        for stream in self.streams:
            stream.recording.dispose()
        assert (self.pool.active, self.pool.waiting, self.marbles.timers) == (0, 0, [])
        assert self.marbles.valve._callbacks == {}
        for stream in self.streams:
            assert stream.subject.observers == []
            if stream.begun:
                assert not isinstance(stream.last, PoolFullError | StreamStateError)


PoolMachine.TestCase.settings = settings(
    max_examples=draws(1000),
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestPool = PoolMachine.TestCase
