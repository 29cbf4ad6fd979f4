"""`multiplex` under everything that can happen to it at once, step by step (rows G1, G3).

Text is numbered: `"2.5"` is the sixth piece that its source has said after its second restart.
So each subscriber can tell at each piece whether one was lost, or came twice.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable

from rxllm import operators as ops
from rxllm.chunks import Batch, Chunk, Notice, Progress, Token, Usage
from rxllm.errors import LaggedBehindError
from rxllm.operators.multicasting._backlogs import OnLag
from rxllm.operators.multicasting._reader import Reader
from rxllm.testing import COMPLETED, Marbles
from rxllm.valve import Valve, valve_of, with_valve

SOURCES: list[str | None] = [None, "left", "right"]
POLICIES: list[OnLag] = ["block", "drop_oldest", "latest", "coalesce", "evict"]
TASKS = ["leave", "close", "free the others", "put out the others", "join", "flicker", "raise"]
"""What a listener may do inside of its on_next."""


class Speaker(Observable[Chunk]):
    """A source with demand: it sends at once when its valve opens, also inside of a send."""

    def __init__(self) -> None:
        super().__init__()
        self.begin()
        self.active = 0
        self.observer: abc.ObserverBase[Chunk] | None = None

    def begin(self) -> None:
        self.due: deque[Any] = deque()
        self.epochs: Counter[str | None] = Counter()
        self.said: Counter[str | None] = Counter()
        self.usages = 0
        self.end: Any = None

    def _subscribe_core(
        self, observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        self.begin()
        self.active += 1
        self.observer = observer
        self.valve = valve_of(scheduler)
        return CompositeDisposable(self.valve.on_change(self.send), Disposable(self._stop))

    def _stop(self) -> None:
        self.active -= 1
        self.observer = None

    def send(self, _: bool = True) -> None:
        while self.due and self.observer is not None and self.valve.is_open:
            event = self.due.popleft()
            if event is COMPLETED:
                self.end = event
                self.observer.on_completed()
            elif isinstance(event, Exception):
                self.end = event
                self.observer.on_error(event)
            else:
                self.observer.on_next(self._numbered(event))

    def _numbered(self, chunk: Chunk) -> Chunk:
        source = chunk.source
        if type(chunk) is Token:
            chunk = Token(f"{self.epochs[source]}.{self.said[source]}", source=source)
            self.said[source] += 1
        elif type(chunk) is Notice:
            for each in SOURCES if source is None else [source]:
                self.epochs[each] += 1
                self.said[each] = 0
        elif type(chunk) is Usage:
            self.usages += 1
        return chunk


class Listener:
    """A subscriber that checks each piece as it comes."""

    def __init__(self, machine: Multiplexing, policy: OnLag, capacity: int) -> None:
        self.machine = machine
        self.policy, self.capacity = policy, capacity
        self.valve = Valve()
        self.got: Counter[str | None] = Counter()
        self.epochs: dict[str | None, int] = {}
        self.end: Any = None
        self.task: str | None = None
        self.out = self.opening = False
        self.depth = 0
        shared = machine.shared.with_policy(policy, capacity)
        before = set(machine.shared._hub.readers)
        self.subscription = shared.subscribe(
            self.on_next,
            self.on_end,
            lambda: self.on_end(COMPLETED),
            scheduler=with_valve(machine.marbles.scheduler, self.valve),
        )
        new = [each for each in machine.shared._hub.readers if each not in before]
        self.reader: Reader | None = new[0] if new else None

    def on_next(self, chunk: Chunk) -> None:
        self.depth += 1
        try:
            assert not self.out
            assert self.end is None
            assert self.depth == 1, "on_next was called inside of on_next"
            for part in chunk.chunks if type(chunk) is Batch else (chunk,):
                self.take(part)
            self.perform()
        except AssertionError as error:  # it would only put this listener out
            self.machine.failures.append(error)
        finally:
            self.depth -= 1

    def take(self, chunk: Chunk) -> None:
        source = chunk.source
        if type(chunk) is Token:
            epoch, number = map(int, chunk.text.split("."))
            assert self.epochs.setdefault(source, epoch) == epoch
            if self.opening:
                assert epoch == self.machine.speaker.epochs[source], "it was to be forgotten"
            assert number == self.got[source], "a piece was lost or came twice"
            self.got[source] += 1
        elif type(chunk) is Notice and chunk.kind == "lagged":
            assert self.policy in ("drop_oldest", "latest")
            self.got[source] += chunk.skipped or 0
        elif type(chunk) is Notice:
            for each in SOURCES if source is None else [source]:
                self.got[each] = 0
                self.epochs.pop(each, None)

    def perform(self) -> None:
        task, self.task = self.task, None
        if task == "leave":
            self.leave()
        elif task == "close":
            self.valve.close()
        elif task == "free the others":
            for each in self.machine.present():
                if each is not self:
                    each.valve.open()
        elif task == "put out the others":
            for each in self.machine.present():
                if each is not self:
                    each.leave()
        elif task == "join":
            self.machine.add("coalesce", 3)
        elif task == "flicker":
            self.valve.close()
            self.valve.open()
        elif task == "raise":
            self.out = True
            raise ZeroDivisionError

    def on_end(self, end: Any) -> None:
        assert self.end is None
        self.end = end
        assert (type(end) is LaggedBehindError) <= (self.policy == "evict")

    def go_on(self) -> None:
        self.opening = True
        self.valve.open()
        self.opening = False

    def leave(self) -> None:
        self.out = True
        self.subscription.dispose()

    @property
    def waiting(self) -> int:
        return 0 if self.reader is None else len(self.reader._queue)

    def check(self, speaker: Speaker) -> None:
        if self.end is not None or self.out:
            assert self.valve._callbacks == {}
            return
        if self.valve.is_open:
            assert self.waiting == 0
            assert +self.got == +speaker.said
            for source, epoch in self.epochs.items():
                assert epoch == speaker.epochs[source]
        if self.policy in ("block", "evict"):
            assert self.waiting <= self.capacity


class Multiplexing(RuleBasedStateMachine):
    """Any number of listeners come, lag, raise and go, while the stream speaks and starts over."""

    @initialize(grace=st.sampled_from([0.0, 5.0]), tells=st.booleans())
    def begin(self, grace: float, tells: bool) -> None:
        self.failures: list[AssertionError] = []
        self.tells = tells  # "drop_oldest" counts a dropped Progress too, so they are kept apart
        self.marbles = Marbles()
        self.now = 0.0
        self.grace = grace
        self.speaker = Speaker()
        self.shared = self.speaker.pipe(ops.multiplex(grace=grace))
        self.listeners: list[Listener] = []

    def add(self, policy: OnLag, capacity: int) -> None:
        self.listeners.append(Listener(self, policy, capacity))

    def present(self) -> list[Listener]:
        return [each for each in self.listeners if not each.out and each.end is None]

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        while True:
            try:
                self.marbles.scheduler.advance_to(self.now)
                return
            except ZeroDivisionError:  # a listener's, and nobody else's
                self.marbles.scheduler.stop()

    @rule(policy=st.sampled_from(POLICIES), capacity=st.integers(1, 4))
    def join(self, policy: OnLag, capacity: int) -> None:
        self.add("block" if self.tells and policy == "drop_oldest" else policy, capacity)

    @rule(source=st.sampled_from(SOURCES), count=st.integers(1, 4))
    def say(self, source: str | None, count: int) -> None:
        self.push(*[Token("", source=source)] * count)

    @rule(source=st.sampled_from(SOURCES))
    def start_over(self, source: str | None) -> None:
        self.push(Notice("restart", source=source))

    @precondition(lambda self: self.tells)
    @rule(source=st.sampled_from(SOURCES), count=st.integers(1, 9))
    def tell(self, source: str | None, count: int) -> None:
        self.push(Progress(count, 0.0, source=source))

    @rule(source=st.sampled_from(SOURCES))
    def account(self, source: str | None) -> None:
        self.push(Usage(source=source))

    @precondition(lambda self: len(self.listeners) > 3)
    @rule(end=st.sampled_from([COMPLETED, ValueError("broken")]))
    def finish(self, end: Any) -> None:
        self.push(end)

    def push(self, *events: Any) -> None:
        if self.speaker.observer is not None:
            self.speaker.due.extend(events)
            self.speaker.send()

    @precondition(lambda self: self.present())
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.present())).leave()

    @precondition(lambda self: self.present())
    @rule(data=st.data())
    def lag_or_go_on(self, data: st.DataObject) -> None:
        listener = data.draw(st.sampled_from(self.present()))
        if listener.valve.is_open:
            listener.valve.close()
        else:
            listener.go_on()

    @precondition(lambda self: self.present())
    @rule(data=st.data(), task=st.sampled_from(TASKS))
    def at_the_next_chunk(self, data: st.DataObject, task: str) -> None:
        data.draw(st.sampled_from(self.present())).task = task

    @rule(seconds=st.integers(1, 6))
    def wait(self, seconds: int) -> None:
        self.pass_time(seconds)

    @invariant()
    def nothing_is_lost_and_nothing_leaks(self) -> None:
        for failure in self.failures:
            raise failure
        for listener in self.listeners:
            listener.check(self.speaker)
        assert self.speaker.active <= 1
        assert len(self.shared.lags) == len(self.present())
        if not self.present() and not self.grace:
            assert self.speaker.active == 0
        if self.speaker.due and self.speaker.active:
            blocking = [each for each in self.present() if each.policy == "block"]
            assert any(each.waiting > each.capacity // 2 for each in blocking)

    def teardown(self) -> None:
        if not hasattr(self, "listeners"):
            return
        while lagging := [each for each in self.present() if not each.valve.is_open]:
            lagging[0].valve.open()
        self.nothing_is_lost_and_nothing_leaks()
        assert not (self.speaker.active and self.speaker.due), "a deadlock"
        self.push(COMPLETED)
        assert self.present() == []
        self.pass_time(10)
        assert self.speaker.active == 0
        assert self.marbles.timers == []


def test_nothing_is_lost_nothing_comes_twice_and_nothing_leaks() -> None:
    run_state_machine_as_test(
        Multiplexing,
        settings=settings(max_examples=1000, stateful_step_count=30, deadline=None),
    )
