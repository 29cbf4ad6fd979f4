"""The plan of `degrade`: lesser requests, without what the model doesn't take."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final, TypeAlias

import msgspec

from rxllm.chunks import ErrorInfo, Notice
from rxllm.errors import UnsupportedError
from rxllm.operators.recovery._annotations import add_note
from rxllm.operators.recovery._continuation import supports
from rxllm.operators.recovery._plan import Attempt
from rxllm.operators.recovery._policy import Policy
from rxllm.requests import SAMPLING_OPTIONS, Model, Request

__all__ = ["DegradePlan", "DegradingStep"]

DegradingStep: TypeAlias = Callable[[Request], Request]
"""A function from the original request to one that asks for less."""

_ESSENTIAL: Final = ("messages", "tools")
"""Without these, the answer would be to another question."""

_DEFAULTS: Final[dict[str, Any]] = {
    field.name: field.default if field.default_factory is msgspec.NODEFAULT else {}
    for field in msgspec.structs.fields(Request)
}


class DegradePlan:
    """The plan of one subscription.

    Args:
        model: the model.
        request: the original request, which has been sent.
        steps: the steps.
        when: classifies errors.
    """

    def __init__(
        self, model: Model, request: Request, steps: Iterable[DegradingStep], when: Policy
    ) -> None:
        self._model = model
        self._request = request  # without the options that were refused
        self._original = request
        self._sent = request
        self._steps = iter(steps)
        self._when = when
        self._unsupported = set() if supports(model, "sampling") else {*SAMPLING_OPTIONS}
        self._errors: list[Exception] = []
        self._attempts = 1

    def __call__(self, error: Exception) -> Attempt | Exception:
        """Return the next attempt, or the error of the stream."""
        option = self._refused_option(error)
        if option is not None and self._is_changed(option):
            return self._attempt_with_original(option, error)
        if self._when(error) == "raise":
            return error
        if option is not None:
            self._unsupported.add(option)
            self._request = _without(self._request, (option,))
            return self._attempt(_without(self._sent, (option,)), error, f"without {option}")
        if not (isinstance(error, UnsupportedError) and self._has_reached_provider()):
            self._errors.append(error)
        return self._next_step()

    def _refused_option(self, error: Exception) -> str | None:
        """Return the option that the model doesn't take, if the last request can do without it."""
        name = error.field if isinstance(error, UnsupportedError) else None
        if name is None or name not in _DEFAULTS or name in _ESSENTIAL:
            return None
        return name if getattr(self._sent, name) != _DEFAULTS[name] else None

    def _is_changed(self, option: str) -> bool:
        """Whether the last step has changed an option."""
        return bool(getattr(self._sent, option) != getattr(self._request, option))

    def _has_reached_provider(self) -> bool:
        """Whether the request itself was supported, so that only a step can be unsupported."""
        return not all(isinstance(error, UnsupportedError) for error in self._errors)

    def _attempt_with_original(self, option: str, error: Exception) -> Attempt | Exception:
        """Undo the change of a step: it isn't a failure of the request."""
        original = getattr(self._request, option)
        words = f"with the original {option}"
        if original == _DEFAULTS[option]:
            self._unsupported.add(option)
            words = f"without {option}"
        request = msgspec.structs.replace(self._sent, **{option: original})
        if request == self._request:
            return self._next_step()
        return self._attempt(request, error, words)

    def _next_step(self) -> Attempt | Exception:
        error = self._errors[-1]
        for step in self._steps:
            lesser = step(self._request)
            left_out = [name for name in _DEFAULTS if name in self._unsupported]
            left_out = [name for name in left_out if getattr(lesser, name) != _DEFAULTS[name]]
            lesser = _without(lesser, left_out)
            if lesser != self._request:
                words = f"without {', '.join(left_out)}" if left_out else ""
                return self._attempt(lesser, error, words)
        for earlier in self._errors[:-1]:
            if earlier is not error:
                add_note(error, f"before that: {type(earlier).__name__}: {earlier}")
        return error

    def _attempt(self, request: Request, error: Exception, words: str) -> Attempt:
        self._sent = request
        self._attempts += 1
        reason = ErrorInfo.of(error)
        if words:
            reason = ErrorInfo(reason.type, f"{reason.message} ({words})")
        changed = {
            name: value
            for name in _DEFAULTS
            if name not in _ESSENTIAL
            and (value := getattr(request, name)) != getattr(self._original, name)
        }
        notice = Notice("degraded", attempt=self._attempts, error=reason, options=changed)
        return Attempt(partial(self._model.stream, request), notice)


def _without(request: Request, options: Iterable[str]) -> Request:
    return msgspec.structs.replace(request, **{name: _DEFAULTS[name] for name in options})
