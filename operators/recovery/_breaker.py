"""The state behind `circuit_breaker`, shared by all streams of a model."""

from __future__ import annotations

from collections import deque
from threading import Lock
from typing import Literal, TypeAlias

from rxllm.arguments import check_int, check_number

__all__ = ["CircuitBreaker", "CircuitState", "Permit"]

CircuitState: TypeAlias = Literal["closed", "open", "half_open"]


class CircuitBreaker:
    """Remembers how a model has fared, for all streams that have `circuit_breaker(breaker)`.

    - `"closed"`: streams pass. So many `failures` in a row within `window` seconds, with no stream
      that succeeded between them, open it.
    - `"open"`: nobody asks the model. After `reset_after` seconds the next stream is a probe.
    - `"half_open"`: one probe runs, and nothing else. If it succeeds the circuit is closed, if it
      fails it is open again for `reset_after` seconds. A probe that is left without a verdict makes
      room for the next one.

    What began before the circuit opened, or closed again, says nothing about it any more. Give all
    streams one clock: that of event loops (any number of them), or that of one virtual scheduler.

    Args:
        failures: in a row, that open it, 1 or more.
        window: seconds within which they have to fall, above 0.
        reset_after: seconds for which it stays open, above 0.

    Raises:
        TypeError, ValueError: an argument is no such number, or out of its range.

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
        count = check_int("failures", failures, "how many in a row open it")
        self._window = check_number("window", window, "the seconds within which they fall", above=0)
        self._reset_after = check_number(
            "reset_after", reset_after, "how long it stays open", above=0
        )
        self._lock = Lock()  # streams of several event loops may share it
        self._failed_at: deque[float] = deque(maxlen=count)
        self._state: CircuitState = "closed"
        self._opened_at = 0.0
        self._period = 0  # counts openings and closings: a permit is good for its own one
        self._probe: Permit | None = None
        self._last_failure: Exception | None = None

    @property
    def last_failure(self) -> Exception | None:
        """The error of the model that counted last, where it was told; None once it is closed."""
        return self._last_failure

    @property
    def state(self) -> CircuitState:
        """`"closed"`, `"open"` until a probe begins, or `"half_open"`."""
        return self._state

    def ask(self, now: float) -> Permit | None:
        """May the model be asked, `now` on the clock in seconds? A permit, or None."""
        with self._lock:
            if self._state == "closed":
                return Permit(self, self._period)
            if self._probe is not None or self.wait(now) > 0:
                return None
            self._state = "half_open"
            self._probe = Permit(self, self._period)
            return self._probe

    def wait(self, now: float) -> float:
        """Seconds until a probe may begin; 0.0 if time is not what is waited for."""
        if self._state != "open":
            return 0.0
        return max(0.0, self._opened_at + self._reset_after - now)

    def judge(
        self, permit: Permit, failed_at: float | None, error: Exception | None = None
    ) -> None:
        """Take the verdict of a stream: it succeeded (None), or failed. Called by `Permit`."""
        with self._lock:
            if permit.period != self._period:
                return
            if failed_at is None:
                self._failed_at.clear()
                self._last_failure = None
                if permit is self._probe:
                    self._turn("closed")
                return
            self._last_failure = error
            self._failed_at.append(failed_at)
            failures = self._failed_at
            enough = len(failures) == failures.maxlen and failed_at - failures[0] <= self._window
            if permit is self._probe or enough:
                self._opened_at = failed_at
                self._turn("open")

    def release(self, permit: Permit) -> None:
        """The stream was left without a verdict. Called by `Permit`."""
        with self._lock:
            if permit is self._probe:
                self._probe = None

    def _turn(self, state: CircuitState) -> None:
        self._state = state
        self._period += 1
        self._probe = None
        self._failed_at.clear()


class Permit:
    """The leave to ask the model once. The first verdict counts, the others do nothing."""

    __slots__ = ("_breaker", "period")

    def __init__(self, breaker: CircuitBreaker, period: int) -> None:
        self._breaker: CircuitBreaker | None = breaker
        self.period: int = period

    def succeed(self) -> None:
        """The model has answered."""
        breaker, self._breaker = self._breaker, None
        if breaker is not None:
            breaker.judge(self, None)

    def fail(self, now: float, error: Exception | None = None) -> None:
        """The model has failed, `now` on the clock in seconds, with `error`."""
        breaker, self._breaker = self._breaker, None
        if breaker is not None:
            breaker.judge(self, now, error)

    def release(self) -> None:
        """Nobody knows."""
        breaker, self._breaker = self._breaker, None
        if breaker is not None:
            breaker.release(self)
