"""The state of `circuit_breaker`, shared by all streams of a model."""

from __future__ import annotations

from collections import deque
from threading import Lock
from typing import Literal, TypeAlias

from rxllm.arguments import check_int, check_number

__all__ = ["CircuitBreaker", "CircuitState", "Permit"]

CircuitState: TypeAlias = Literal["closed", "open", "half_open"]


class CircuitBreaker:
    """Tracks the failures of a model, for all streams with `circuit_breaker(breaker)`.

    - `"closed"`: streams pass. The circuit opens after `failures` failures in a row within `window`
      seconds, with no success between them.
    - `"open"`: the model isn't called. After `reset_after` seconds the next stream is a probe.
    - `"half_open"`: one probe runs, and other streams are refused. If it succeeds, the circuit
      closes; if it fails, the circuit opens again for `reset_after` seconds. A probe that is
      disposed without a verdict makes room for the next one.

    The outcome of a stream that started before the circuit last opened or closed is ignored. All
    streams must use the same clock: that of event loops (any number of them), or that of one
    virtual scheduler.

    Args:
        failures: failures in a row that open the circuit, 1 or more.
        window: seconds within which they must occur, above 0.
        reset_after: seconds for which the circuit stays open, above 0.

    Raises:
        TypeError, ValueError: an argument is not such a number, or is out of range.

    >>> breaker = CircuitBreaker(failures=1, reset_after=30)
    >>> breaker.ask(now=0.0).fail(now=1.0)
    >>> breaker.state, breaker.ask(now=2.0), breaker.wait(now=2.0)
    ('open', None, 29.0)
    >>> probe = breaker.ask(now=31.0)
    >>> breaker.state, breaker.ask(now=31.0)
    ('half_open', None)
    >>> probe.succeed(); breaker.state
    'closed'
    """

    def __init__(self, failures: int = 5, window: float = 60.0, reset_after: float = 30.0) -> None:
        count = check_int("failures", failures, "failures in a row that open the circuit")
        self._window = check_number("window", window, "seconds within which they occur", above=0)
        self._reset_after = check_number(
            "reset_after", reset_after, "seconds for which the circuit stays open", above=0
        )
        self._lock = Lock()  # streams of several event loops may share the breaker
        self._failed_at: deque[float] = deque(maxlen=count)
        self._state: CircuitState = "closed"
        self._opened_at = 0.0
        self._period = 0  # counts openings and closings: a permit is valid for one period
        self._probe: Permit | None = None
        self._last_failure: Exception | None = None

    @property
    def last_failure(self) -> Exception | None:
        """The last failure that counted, if its error is known; `None` after a success."""
        return self._last_failure

    @property
    def state(self) -> CircuitState:
        """`"closed"`, `"open"` until a probe starts, or `"half_open"`."""
        return self._state

    def ask(self, now: float) -> Permit | None:
        """A permit to call the model at `now` (clock time in seconds), or `None` if refused."""
        with self._lock:
            if self._state == "closed":
                return Permit(self, self._period)
            if self._probe is not None or self.wait(now) > 0:
                return None
            self._state = "half_open"
            self._probe = Permit(self, self._period)
            return self._probe

    def wait(self, now: float) -> float:
        """Seconds until a probe may start; 0.0 if the circuit isn't open."""
        if self._state != "open":
            return 0.0
        return max(0.0, self._opened_at + self._reset_after - now)

    def judge(
        self, permit: Permit, failed_at: float | None, error: Exception | None = None
    ) -> bool:
        """Record the outcome of a stream: `failed_at` is `None` if it succeeded. For `Permit`.

        Returns:
            Whether it counts: the circuit hasn't opened or closed since the stream started.
        """
        with self._lock:
            if permit.period != self._period:
                return False
            if failed_at is None:
                self._failed_at.clear()
                self._last_failure = None
                if permit is self._probe:
                    self._turn("closed")
                return True
            self._last_failure = error
            self._failed_at.append(failed_at)
            failures = self._failed_at
            enough = len(failures) == failures.maxlen and failed_at - failures[0] <= self._window
            if permit is self._probe or enough:
                self._opened_at = failed_at
                self._turn("open")
            return True

    def adopt(self, open_for: float, now: float) -> None:
        """Take over what another process has found, at `now` (clock time in seconds).

        Args:
            open_for: seconds for which the circuit is still open, at most `reset_after`; 0 if it
                is closed, and no stream has failed since the last success.
            now: the time of the clock.
        """
        with self._lock:
            if open_for > 0:
                self._opened_at = now + open_for - self._reset_after
                self._turn("open")
            elif self._state != "closed":
                self._turn("closed")
            else:
                self._failed_at.clear()

    def release(self, permit: Permit) -> None:
        """Record that a stream was disposed without a verdict. For `Permit`."""
        with self._lock:
            if permit is self._probe:
                self._probe = None

    def _turn(self, state: CircuitState) -> None:
        self._state = state
        self._period += 1
        self._probe = None
        self._failed_at.clear()


class Permit:
    """A permit for one call of the model. The first verdict counts; later ones are ignored."""

    __slots__ = ("_breaker", "period")

    def __init__(self, breaker: CircuitBreaker, period: int) -> None:
        self._breaker: CircuitBreaker | None = breaker
        self.period: int = period

    def succeed(self) -> None:
        """Record a success."""
        breaker, self._breaker = self._breaker, None
        if breaker is not None:
            breaker.judge(self, None)

    def fail(self, now: float, error: Exception | None = None) -> None:
        """Record a failure at `now` (clock time in seconds)."""
        breaker, self._breaker = self._breaker, None
        if breaker is not None:
            breaker.judge(self, now, error)

    def release(self) -> None:
        """Give the permit back without a verdict."""
        breaker, self._breaker = self._breaker, None
        if breaker is not None:
            breaker.release(self)
