"""`multiplex` under random sequences of events.

Text is numbered: `"2.5"` is the sixth piece of its source after its second restart. So every
subscriber can detect at each piece whether one was lost or repeated. Tool calls and JSON values
are numbered too, and grow until they are complete.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Any, Literal, TypeAlias

import pytest
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
from rxllm.chunks import Batch, Chunk, Json, Notice, Progress, Reasoning, Token, ToolCall, Usage
from rxllm.errors import LaggedBehindError
from rxllm.operators.multicasting._backlogs import OnLag
from rxllm.operators.multicasting._reader import Reader
from rxllm.testing import COMPLETED, Marbles
from rxllm.valve import Valve, valve_of, with_valve
from tests.profiles import draws

SOURCES: list[str | None] = [None, "left", "right"]
POLICIES: list[OnLag] = ["block", "drop_oldest", "latest", "coalesce", "evict"]
Mode: TypeAlias = Literal["text", "progress", "states"]
"""The kinds of chunks sent. A gap notice counts all dropped chunks, so with more than text and
usage the policies that would drop the other chunks are left out."""

TASKS = ["leave", "close", "free the others", "remove the others", "join", "flicker", "raise"]
"""Actions that a listener may take in its on_next."""


class Speaker(Observable[Chunk]):
    """A source with demand that sends as soon as its valve opens, also during a send."""

    def __init__(self) -> None:
        super().__init__()
        self.begin()
        self.active = 0
        self.observer: abc.ObserverBase[Chunk] | None = None

    def begin(self) -> None:
        self.due: deque[Any] = deque()
        self.epochs: Counter[str | None] = Counter()
        self.said: Counter[str | None] = Counter()
        self.usages: Counter[str | None] = Counter()
        self.states: dict[tuple[Any, ...], State] = {}
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
        if type(chunk) is Token or type(chunk) is Reasoning:
            text = f"{self.epochs[source]}.{self.said[source]}"
            chunk = type(chunk)(text, source=source)
            self.said[source] += 1
        elif type(chunk) is ToolCall or type(chunk) is Json:
            chunk = self._grown(chunk)
        elif type(chunk) is Notice:
            for each in SOURCES if source is None else [source]:
                self.epochs[each] += 1
                self.said[each] = 0
                for key in [key for key in self.states if key[1] == each]:
                    del self.states[key]
        elif type(chunk) is Usage:
            chunk = Usage(self.usages[source], source=source)
            self.usages[source] += 1
        return chunk

    def _grown(self, chunk: ToolCall | Json) -> Chunk:
        source, complete = chunk.source, chunk.complete
        state = self.states.setdefault((type(chunk), source), State())
        epoch, number, size = self.epochs[source], state.number, state.size
        state.grow(complete)
        if type(chunk) is Json:
            return Json([epoch, number, size], complete=complete, source=source)
        arguments = f"{epoch}.{size}"
        return ToolCall(str(number), "f", arguments, complete=complete, source=source)


class State:
    """The number of complete tool calls or values of a source, and the size of the next one."""

    def __init__(self) -> None:
        self.number = self.size = 0

    def grow(self, complete: bool) -> None:
        self.number, self.size = (self.number + 1, 0) if complete else (self.number, self.size + 1)


class Listener:
    """A subscriber that checks each piece as it arrives."""

    def __init__(self, machine: Multiplexing, policy: OnLag, capacity: int) -> None:
        self.machine = machine
        self.policy, self.capacity = policy, capacity
        self.valve = Valve()
        self.got: Counter[str | None] = Counter()
        self.epochs: dict[str | None, int] = {}
        self.known: set[Any] = set()  # keys whose numbers are known from the start
        self.states: dict[tuple[Any, ...], State] = {}
        is_first = machine.speaker.active == 0 and machine.speaker.end is None
        self.usages: dict[str | None, int] = dict.fromkeys(SOURCES, 0) if is_first else {}
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
            assert self.depth == 1, "on_next was called during on_next"
            for part in chunk.chunks if type(chunk) is Batch else (chunk,):
                self.take(part)
            self.perform()
        except AssertionError as error:  # raising would only remove this listener
            self.machine.failures.append(error)
        finally:
            self.depth -= 1

    def take(self, chunk: Chunk) -> None:
        source = chunk.source
        if type(chunk) is Token or type(chunk) is Reasoning:
            epoch, number = map(int, chunk.text.split("."))
            self.take_epoch(source, epoch)
            if self.began_late(source):
                self.got[source] = number
            assert number == self.got[source], "a piece was lost or repeated"
            self.got[source] += 1
        elif type(chunk) is ToolCall:
            epoch, size = map(int, chunk.arguments.split("."))
            self.take_state(chunk, epoch, int(chunk.id), size)
        elif type(chunk) is Json:
            self.take_state(chunk, *chunk.value)
        elif type(chunk) is Usage:
            number = self.usages.setdefault(source, chunk.input_tokens)
            assert number == chunk.input_tokens, "a usage was lost or repeated"
            self.usages[source] += 1
        elif type(chunk) is Notice and chunk.kind == "lagged":
            assert self.policy in ("drop_oldest", "latest")
            if not self.began_late(source):
                self.got[source] += chunk.skipped or 0
            else:
                self.known.discard(source)
        elif type(chunk) is Notice:
            for each in SOURCES if source is None else [source]:
                self.got[each] = 0
                self.epochs.pop(each, None)
                self.known |= {each, (ToolCall, each), (Json, each)}
                for key in [key for key in self.states if key[1] == each]:
                    del self.states[key]

    def take_epoch(self, source: str | None, epoch: int) -> None:
        assert self.epochs.setdefault(source, epoch) == epoch
        if self.opening:
            assert epoch == self.machine.speaker.epochs[source], "a restart didn't drop it"

    def take_state(self, chunk: ToolCall | Json, epoch: int, number: int, size: int) -> None:
        self.take_epoch(chunk.source, epoch)
        key = type(chunk), chunk.source
        late = self.began_late(key)
        state = self.states.setdefault(key, State())
        if late:
            state.number, state.size = number, size
        assert number == state.number, "a complete one was lost or repeated"
        assert size >= state.size, "an older one followed a newer one"
        state.size = size
        state.grow(chunk.complete)

    def began_late(self, key: Any) -> bool:
        """True at the first chunk of this key, if earlier ones weren't replayed."""
        if self.machine.replay == "all" or key in self.known:
            return False
        self.known.add(key)
        return True

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
        elif task == "remove the others":
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
            everything = self.machine.replay == "all"
            for source in SOURCES if everything else self.known & {*SOURCES}:
                assert self.got[source] == speaker.said[source]
            for source, epoch in self.epochs.items():
                assert epoch == speaker.epochs[source]
            for source, number in self.usages.items():
                assert number == speaker.usages[source]
            for key in speaker.states if everything else self.states:
                mine, theirs = self.states[key], speaker.states[key]
                assert (mine.number, mine.size) == (theirs.number, theirs.size)
        if self.policy in ("block", "evict"):
            assert self.waiting <= self.capacity


class Multiplexing(RuleBasedStateMachine):
    """Any number of listeners join, lag, raise and leave while the stream sends and restarts."""

    @initialize(
        grace=st.sampled_from([0.0, 5.0]),
        replay=st.sampled_from(["all", "none"]),
        mode=st.sampled_from(["text", "progress", "states"]),
    )
    def begin(self, grace: float, replay: Literal["all", "none"], mode: Mode) -> None:
        self.failures: list[AssertionError] = []
        self.mode, self.replay = mode, replay
        self.marbles = Marbles()
        self.now = 0.0
        self.grace = grace
        self.speaker = Speaker()
        self.shared = self.speaker.pipe(ops.multiplex(replay, grace=grace))
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
            except ZeroDivisionError:  # raised by a listener
                self.marbles.scheduler.stop()

    @rule(policy=st.sampled_from(POLICIES), capacity=st.integers(1, 4))
    def join(self, policy: OnLag, capacity: int) -> None:
        drops = {"text": [], "progress": ["drop_oldest"], "states": ["drop_oldest", "latest"]}
        self.add("block" if policy in drops[self.mode] else policy, capacity)

    @rule(source=st.sampled_from(SOURCES), count=st.integers(1, 4))
    def say(self, source: str | None, count: int) -> None:
        self.push(*[Token("", source=source)] * count)

    @precondition(lambda self: self.mode == "states")
    @rule(
        source=st.sampled_from(SOURCES),
        states=st.lists(st.tuples(st.sampled_from("crj"), st.booleans()), min_size=1, max_size=5),
    )
    def build(self, source: str | None, states: list[tuple[str, bool]]) -> None:
        for kind, complete in states:
            if kind == "r":
                self.push(Reasoning("", source=source))
            elif kind == "c":
                self.push(ToolCall("", "f", complete=complete, source=source))
            else:
                self.push(Json(None, complete=complete, source=source))

    @rule(source=st.sampled_from(SOURCES))
    def start_over(self, source: str | None) -> None:
        self.push(Notice("restart", source=source))

    @precondition(lambda self: self.mode == "progress")
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


@pytest.mark.slow
def test_nothing_is_lost_repeated_or_leaked() -> None:
    run_state_machine_as_test(
        Multiplexing,
        settings=settings(max_examples=draws(1000), stateful_step_count=30, deadline=None),
    )
