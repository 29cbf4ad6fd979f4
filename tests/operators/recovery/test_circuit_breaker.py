"""`circuit_breaker`: a model that failed too often recently isn't called for a while."""

from typing import Any

import pytest
import reactivex as rx
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    precondition,
    rule,
)
from reactivex import Observable
from reactivex import operators as rx_ops
from reactivex.subject import Subject

from rxllm import operators as ops
from rxllm.chunks import Chunk, End, Notice, Start, Token
from rxllm.errors import (
    BadRequestError,
    CircuitOpenError,
    ConnectionFailedError,
    ContextLengthError,
    PoolFullError,
    StallTimeoutError,
)
from rxllm.models.scripted import ScriptedModel
from rxllm.operators import CircuitBreaker
from rxllm.testing import COMPLETED, Marbles
from tests.profiles import draws

LOST = ConnectionFailedError("reset")


def outcome(marbles: Marbles, stream: Observable[Chunk], seconds: float = 1.0) -> str:
    """The last event within `seconds`."""
    now = marbles.scheduler.to_seconds(marbles.scheduler.now)
    events = marbles.run(stream, until=now + seconds)
    return type(events[-1][1]).__name__ if events else "nothing"


def test_a_closed_circuit_passes_everything_unchanged(marbles: Marbles) -> None:
    breaker = CircuitBreaker()
    stream = marbles.cold("S-a-(E,|)").pipe(ops.circuit_breaker(breaker))
    assert marbles.run(stream) == marbles.expect("S-a-(E,|)")
    assert breaker.state == "closed"


def test_the_default_limits(marbles: Marbles) -> None:
    breaker, model = CircuitBreaker(), ScriptedModel([LOST])
    stream = model.stream("Hi").pipe(ops.circuit_breaker(breaker))
    got = [outcome(marbles, stream) for _ in range(7)]
    assert got == ["ConnectionFailedError"] * 5 + ["CircuitOpenError"] * 2
    assert (len(model.requests), breaker.state) == (5, "open")
    outcome(marbles, rx.never(), seconds=28)  # it failed for the fifth time 30 s before
    assert outcome(marbles, stream) == "ConnectionFailedError"
    assert (len(model.requests), breaker.state) == (6, "open")


def test_a_success_between_failures_resets_the_count(marbles: Marbles) -> None:
    failing, fine = [LOST], "Hello"
    model = ScriptedModel(failing, fine, failing)
    stream = model.stream("Hi").pipe(ops.circuit_breaker(CircuitBreaker(failures=2)))
    got = [outcome(marbles, stream) for _ in range(5)]
    assert got == [
        "ConnectionFailedError",
        "_Completed",
        "ConnectionFailedError",
        "ConnectionFailedError",
        "CircuitOpenError",
    ]


def test_failures_further_apart_than_the_window_do_not_open_it(marbles: Marbles) -> None:
    breaker = CircuitBreaker(failures=2, window=10)
    stream = marbles.cold("#", error=LOST).pipe(ops.circuit_breaker(breaker))
    for _ in range(4):
        assert outcome(marbles, stream, seconds=11) == "ConnectionFailedError"
    assert outcome(marbles, stream, seconds=9) == "ConnectionFailedError"
    assert outcome(marbles, stream) == "ConnectionFailedError"
    assert breaker.state == "open"


def opened(marbles: Marbles, **options: Any) -> CircuitBreaker:
    """A breaker that has just opened."""
    breaker = CircuitBreaker(**{"failures": 1, **options})
    outcome(marbles, marbles.cold("#", error=LOST).pipe(ops.circuit_breaker(breaker)), 0.001)
    assert breaker.state == "open"
    return breaker


def test_one_probe_at_a_time(marbles: Marbles) -> None:
    breaker = opened(marbles, reset_after=5)
    marbles.advance_to(6)
    source = marbles.cold("S-a-b-|")
    probe = marbles.subscribe(source.pipe(ops.circuit_breaker(breaker)))
    assert breaker.state == "half_open"
    assert outcome(marbles, source.pipe(ops.circuit_breaker(breaker)), 5) == "CircuitOpenError"
    assert len(source.subscriptions) == 1
    marbles.advance_to(20)
    assert (probe.events[-1][1], breaker.state) == (COMPLETED, "closed")


def test_a_failed_probe_opens_it_for_the_full_time_again(marbles: Marbles) -> None:
    breaker = opened(marbles, failures=1, reset_after=5)
    marbles.advance_to(6)
    failing = marbles.cold("S-#", error=LOST).pipe(ops.circuit_breaker(breaker))
    assert outcome(marbles, failing, 3) == "ConnectionFailedError"
    assert (breaker.state, breaker.wait(now=9.0)) == ("open", 4.0)


def test_a_probe_disposed_before_content_makes_room_for_the_next(marbles: Marbles) -> None:
    breaker = opened(marbles, reset_after=5)
    marbles.advance_to(6)
    stream = marbles.cold("S-a-b|").pipe(ops.circuit_breaker(breaker))
    probe = marbles.subscribe(stream)
    marbles.advance_to(7)
    probe.dispose()
    states = [breaker.state]
    assert outcome(marbles, stream, 9) == "_Completed"
    assert [*states, breaker.state] == ["half_open", "closed"]


@pytest.mark.parametrize(
    ("diagram", "state"), [("S-(C,|)", "half_open"), ("S-(x,C,|)", "closed"), ("S-(E,|)", "closed")]
)
def test_a_probe_stopped_upstream_counts_like_a_disposed_one(
    marbles: Marbles, diagram: str, state: str
) -> None:
    breaker = opened(marbles, reset_after=5)
    marbles.advance_to(6)
    source = marbles.cold(diagram, lookup={"C": End("cancelled")})
    assert outcome(marbles, source.pipe(ops.circuit_breaker(breaker)), 9) == "_Completed"
    assert breaker.state == state
    next_one = marbles.cold("a|").pipe(ops.circuit_breaker(breaker))
    assert outcome(marbles, next_one, 9) == "_Completed"
    assert breaker.state == "closed"


def test_a_refusal_has_the_last_failure_as_its_cause(marbles: Marbles) -> None:
    breaker = opened(marbles, reset_after=5)
    assert breaker.last_failure is LOST
    [(_, refusal)] = marbles.run(rx.never().pipe(ops.circuit_breaker(breaker)), until=2)
    assert (type(refusal), repr(refusal.__cause__)) == (CircuitOpenError, repr(LOST))
    marbles.advance_to(6)
    outcome(marbles, marbles.cold("a|").pipe(ops.circuit_breaker(breaker)), 9)
    assert breaker.last_failure is None


def test_a_probe_disposed_after_content_has_succeeded(marbles: Marbles) -> None:
    breaker = opened(marbles, reset_after=5)
    marbles.advance_to(6)
    stream = marbles.cold("S-a-b|").pipe(ops.circuit_breaker(breaker), rx_ops.take(2))
    assert outcome(marbles, stream, 9) == "_Completed"
    assert breaker.state == "closed"


def test_a_probe_whose_subscriber_raises_makes_room_for_the_next(marbles: Marbles) -> None:
    breaker = opened(marbles, reset_after=5)
    marbles.advance_to(6)
    source: Subject[Chunk] = Subject()

    def on_next(_: Chunk) -> None:
        raise LookupError("mine")

    source.pipe(ops.circuit_breaker(breaker)).subscribe(on_next, scheduler=marbles.scheduler)
    with pytest.raises(LookupError, match="mine"):
        source.on_next(Start("1", "model"))
    assert (
        outcome(marbles, marbles.cold("a|").pipe(ops.circuit_breaker(breaker)), 3) == "_Completed"
    )


def test_a_stream_started_before_it_opened_does_not_close_it(marbles: Marbles) -> None:
    breaker = CircuitBreaker(failures=1)
    slow = marbles.subscribe(marbles.cold("a---|").pipe(ops.circuit_breaker(breaker)))
    late = marbles.cold("-----#", error=LOST).pipe(ops.circuit_breaker(breaker))
    marbles.subscribe(late)
    marbles.advance_to(1)
    outcome(marbles, marbles.cold("#", error=LOST).pipe(ops.circuit_breaker(breaker)))
    marbles.advance_to(20)
    assert (slow.events[-1], breaker.state) == ((4.0, COMPLETED), "open")
    assert breaker.wait(now=20.0) == 11.0  # since 1 s, and not since the late failure at 5 s


@pytest.mark.parametrize(
    "error",
    [BadRequestError("x"), ContextLengthError("x"), PoolFullError("x"), CircuitOpenError("x")],
)
def test_errors_that_are_not_the_models_do_not_count(marbles: Marbles, error: Exception) -> None:
    breaker = CircuitBreaker(failures=1)
    outcome(marbles, marbles.cold("#", error=error).pipe(ops.circuit_breaker(breaker)))
    assert breaker.state == "closed"


def test_counts_replaces_the_rule_and_may_raise(marbles: Marbles) -> None:
    breaker = CircuitBreaker(failures=1)
    failing = marbles.cold("#", error=KeyError())
    outcome(marbles, failing.pipe(ops.circuit_breaker(breaker, counts=lambda _: True)))
    assert breaker.state == "open"
    broken = ops.circuit_breaker(CircuitBreaker(), counts=lambda _: bool(1 / 0))
    assert outcome(marbles, failing.pipe(broken)) == "ZeroDivisionError"


def test_a_silent_model_counts_with_timeouts_before_it(marbles: Marbles) -> None:
    breaker = CircuitBreaker(failures=1)
    silent = marbles.cold("S").pipe(ops.timeouts(first=5), ops.circuit_breaker(breaker))
    assert outcome(marbles, silent, 9) == StallTimeoutError.__name__.replace("Stall", "FirstToken")
    assert breaker.state == "open"


def test_a_fallback_handles_an_open_circuit_at_once(marbles: Marbles) -> None:
    breaker = opened(marbles)
    model = ScriptedModel("never asked")
    stream = model.stream("Hi").pipe(
        ops.circuit_breaker(breaker),
        ops.retry_with_backoff(),
        ops.fallback_to(marbles.cold("a|")),
    )
    events = marbles.run(stream)
    assert [type(event) for _, event in events[:2]] == [Notice, Token]
    assert model.requests == []


def test_each_attempt_of_a_retry_counts(marbles: Marbles) -> None:
    breaker, model = CircuitBreaker(failures=2), ScriptedModel([LOST])
    stream = model.stream("Hi").pipe(
        ops.circuit_breaker(breaker), ops.retry_with_backoff(5, jitter=False)
    )
    error = marbles.run(stream)[-1][1]
    assert (type(error), len(model.requests)) == (CircuitOpenError, 2)


def test_never_a_restart_disposal_and_demand(marbles: Marbles) -> None:
    breaker = CircuitBreaker()
    source = marbles.cold("S-R-a-b-|", demand=True)
    recording = marbles.subscribe(source.pipe(ops.circuit_breaker(breaker)))
    marbles.at(5, marbles.valve.close)
    marbles.advance_to(9)
    recording.dispose()
    assert recording.chunks == [Start("request-1", "model"), Notice("restart"), Token("a")]
    assert source.subscriptions == [(0.0, 9.0)]
    assert outcome(marbles, marbles.cold("").pipe(ops.circuit_breaker(breaker))) == "nothing"


def test_the_sources_of_a_merge_fail_together(marbles: Marbles) -> None:
    left, right = marbles.cold("a--", source="left"), marbles.cold("-#", error=LOST)
    breaker = CircuitBreaker(failures=1)
    outcome(marbles, rx.merge(left, right).pipe(ops.circuit_breaker(breaker)), 3)
    assert (breaker.state, left.subscriptions) == ("open", [(0.0, 1.0)])


@pytest.mark.parametrize("bad", [{"failures": 0}, {"window": 0}, {"reset_after": float("inf")}])
def test_bad_arguments_are_refused_at_the_call(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        CircuitBreaker(**bad)


@pytest.mark.parametrize(
    "bad", [{"failures": True}, {"failures": 2.5}, {"window": "60"}, {"reset_after": None}]
)
def test_arguments_of_the_wrong_type_are_refused_at_the_call(bad: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=next(iter(bad))):
        CircuitBreaker(**bad)


def test_anything_but_a_breaker_is_refused_at_the_call() -> None:
    with pytest.raises(TypeError, match="a CircuitBreaker"):
        ops.circuit_breaker(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="counts"):
        ops.circuit_breaker(CircuitBreaker(), counts=5)  # type: ignore[arg-type]


class Streams(RuleBasedStateMachine):
    """Streams with one breaker that start, answer, succeed, fail and are disposed in any order.

    The breaker is compared with the simplest possible model of it.
    """

    FAILURES, WINDOW, RESET = 2, 8.0, 5.0

    running = Bundle("running")

    def __init__(self) -> None:
        super().__init__()
        self.marbles = Marbles()
        self.now = 0.0
        self.breaker = CircuitBreaker(self.FAILURES, self.WINDOW, self.RESET)
        self.operator = ops.circuit_breaker(self.breaker)
        self.opened_at: float | None = None
        self.failed_at: list[float] = []
        self.period = 0
        self.probe: object = None

    @rule(target=running)
    def begin(self) -> Any:
        source: Subject[Chunk] = Subject()
        recording = self.marbles.subscribe(source.pipe(self.operator))
        is_closed = self.opened_at is None
        is_probe = not is_closed and self.probe is None and self.rested()
        refused = [type(event) for _, event in recording.events] == [CircuitOpenError]
        assert refused == (not is_closed and not is_probe)
        assert bool(source.observers) != refused
        if refused:
            return multiple()
        if is_probe:
            self.probe = source
        return (source, recording, self.period, [False])

    @rule(stream=running)
    def say(self, stream: Any) -> None:
        source, _, _, spoken = stream
        source.on_next(Token("a"))
        spoken[0] = True

    @rule(stream=consumes(running))
    def succeed(self, stream: Any) -> None:
        source, recording, period, _ = stream
        source.on_completed()
        assert recording.events[-1][1] is COMPLETED
        self.success(source, period)

    @rule(stream=consumes(running))
    def fail(self, stream: Any) -> None:
        source, recording, period, _ = stream
        source.on_error(LOST)
        assert recording.events[-1][1] is LOST
        if period != self.period:
            return
        self.failed_at.append(self.now)
        recent = self.failed_at[-self.FAILURES :]
        enough = len(recent) == self.FAILURES and self.now - recent[0] <= self.WINDOW
        if source is self.probe or enough:
            self.turn(self.now)

    @rule(stream=consumes(running))
    def bad_request(self, stream: Any) -> None:
        source, *_ = stream
        source.on_error(BadRequestError("no"))
        self.leave_room(source)

    @rule(stream=consumes(running))
    def leave(self, stream: Any) -> None:
        source, recording, period, spoken = stream
        recording.dispose()
        assert not source.observers
        if spoken[0]:
            self.success(source, period)
        else:
            self.leave_room(source)

    @rule(seconds=st.sampled_from([1.0, 3.0, 5.0, 9.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.marbles.advance_to(self.now)

    @precondition(lambda self: self.opened_at is not None and self.probe is None)
    @rule()
    def wait_until_a_probe_may_begin(self) -> None:
        assert self.opened_at is not None
        if not self.rested():
            self.now = self.opened_at + self.RESET
            self.marbles.advance_to(self.now)

    @invariant()
    def the_state_is_what_it_must_be(self) -> None:
        if self.opened_at is None:
            assert self.breaker.state == "closed"
        elif self.probe is not None:
            assert self.breaker.state == "half_open"
        else:
            assert self.breaker.state != "closed"

    def rested(self) -> bool:
        return self.opened_at is not None and self.now >= self.opened_at + self.RESET

    def success(self, source: object, period: int) -> None:
        if period == self.period:
            self.failed_at.clear()
            if source is self.probe:
                self.turn(None)

    def leave_room(self, source: object) -> None:
        if source is self.probe:
            self.probe = None

    def turn(self, opened_at: float | None) -> None:
        self.opened_at, self.probe = opened_at, None
        self.period += 1
        self.failed_at.clear()


Streams.TestCase.settings = settings(
    max_examples=draws(1000),
    stateful_step_count=15,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


class TestStreams(Streams.TestCase):  # type: ignore[misc, valid-type]
    """The machine above, as a test."""
