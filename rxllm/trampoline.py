"""Steps that never run inside one another, whatever a subscriber does in its `on_next`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar

__all__ = ["Trampoline"]

_Argument = TypeVar("_Argument")


class _Subscription(Protocol):
    is_disposed: bool

    def dispose(self) -> None: ...


class Trampoline:
    """Runs the steps of one subscription: a chunk, the end, a timer, a change of the valve.

    A subscriber may open its valve inside its `on_next`, and upstream then emits held chunks before
    the operator has finished emitting its own. With a trampoline such a step waits until the
    current one has returned, so no step sees another one half done and chunks leave in order.

    Use each trampoline in one of two ways. `run` queues the steps that arrive, each with its
    argument. `repeat` drains the operator's own queue with a single step.

    After disposal no further step runs. An exception raised by a step (always the subscriber's,
    since an operator sends its own to `on_error`) drops the waiting steps, disposes the
    subscription, and propagates to the caller of the first step: the source, a timer or the valve.

    Args:
        subscription: the operator's, with everything it has to dispose. If `None`, nothing is
            disposed, and the trampoline remains usable after an exception.

    Attributes:
        is_running: whether a step is running now.
    """

    __slots__ = ("_steps", "_subscription", "is_running")

    def __init__(self, subscription: _Subscription | None = None) -> None:
        self.is_running: bool = False
        self._subscription = subscription if subscription is not None else _UNDISPOSABLE
        self._steps: deque[tuple[Callable[[Any], object], Any]] | None = None  # few ever need it

    def run(self, step: Callable[[_Argument], object], argument: _Argument) -> None:
        """Call `step(argument)` now or, inside another step, once that one has returned."""
        if self.is_running:
            if self._steps is None:
                self._steps = deque()
            self._steps.append((step, argument))
            return
        if self._subscription.is_disposed:
            return
        self.is_running = True
        try:
            step(argument)
            if self._steps:
                self._run_waiting()
        except BaseException:
            self._steps = None
            self._subscription.dispose()
            raise
        finally:
            self.is_running = False

    def repeat(self, step: Callable[[], bool]) -> None:
        """Call `step()` until it returns False, which means that nothing is left to do.

        Inside the step this does nothing, since the step is about to be called again.
        """
        if self.is_running:
            return
        self.is_running = True
        try:
            while not self._subscription.is_disposed and step():
                pass
        except BaseException:
            self._subscription.dispose()
            raise
        finally:
            self.is_running = False

    def _run_waiting(self) -> None:
        while self._steps and not self._subscription.is_disposed:
            step, argument = self._steps.popleft()
            step(argument)


class _Undisposable:
    """Stands in for the subscription of a trampoline that has none."""

    is_disposed = False

    def dispose(self) -> None:
        pass


_UNDISPOSABLE: Final = _Undisposable()
