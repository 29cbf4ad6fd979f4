"""One step after another: what comes while a subscriber is being told waits its turn."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from reactivex.disposable import CompositeDisposable, SingleAssignmentDisposable

__all__ = ["Trampoline"]

_Argument = TypeVar("_Argument")


class Trampoline:
    """Runs the steps of one subscription: chunks, the end, a timer, a change of the valve.

    Inside of its `on_next` a subscriber may open its valve, and what is held upstream of an
    operator then comes before the operator has sent all that it had to. Such a step waits until
    the one under way is done; so no step finds another one half done, and their chunks leave in
    order.

    After disposal no step is run, nor goes on to the next one. What a step raises (a subscriber's
    exception: an operator sends its own to `on_error`) disposes the subscription, and then goes
    on, also where the step began with a timer.

    Args:
        subscription: of the operator, with all that it has to dispose.
    """

    __slots__ = ("_running", "_steps", "_subscription")

    def __init__(self, subscription: CompositeDisposable | SingleAssignmentDisposable) -> None:
        self._subscription = subscription
        self._steps: deque[tuple[Callable[[Any], object], Any]] = deque()
        self._running = False

    def run(self, step: Callable[[_Argument], object], argument: _Argument) -> None:
        """Call `step(argument)`, now or when its turn has come."""
        if self._running:
            self._steps.append((step, argument))
            return
        if self._subscription.is_disposed:
            return
        self._running = True
        try:
            step(argument)
            if self._steps:
                self._run_the_others()
        except Exception:
            self._subscription.dispose()
            raise
        finally:
            self._running = False

    def _run_the_others(self) -> None:
        while self._steps and not self._subscription.is_disposed:
            step, argument = self._steps.popleft()
            step(argument)
