"""Errors in a journal, and the errors that are raised in their place when it is played."""

from __future__ import annotations

import builtins
from typing import Any

import msgspec

from rxllm import errors
from rxllm.errors import AllModelsFailedError, RxLLMError, StreamError

__all__ = ["RecordedError"]


class RecordedError(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error of a stream.

    Attributes:
        type: the name of its class.
        message: its message.
        args: the arguments of an exception of Python, such as those of an `OSError`.
        fields: the attributes of an error of `rxllm.errors`, such as `status` and `retry_after`.
        errors: those of an `AllModelsFailedError`.
    """

    type: str
    message: str
    args: tuple[Any, ...] = ()
    fields: dict[str, Any] = {}
    errors: tuple[RecordedError, ...] = ()

    @classmethod
    def of(cls, error: BaseException) -> RecordedError:
        """Record `error`. Its `partial` isn't recorded, since the chunks have the text."""
        name, message = type(error).__name__, str(error)
        if not isinstance(error, RxLLMError):
            return cls(name, message, args=_arguments(error))
        fields = {name: value for name, value in vars(error).items() if _is_plain(value)}
        fields.pop("partial", None)
        several = error.errors if isinstance(error, AllModelsFailedError) else ()
        return cls(name, message, fields=fields, errors=tuple(map(cls.of, several)))

    def restored(self) -> Exception:
        """Return an error of the same class, with the same fields.

        That of an unknown class is a `StreamError` whose message names the class.
        """
        if kind := _own(self.type):
            error = kind.__new__(kind, self.message)  # an `__init__` takes other arguments
            vars(error).update(self.fields)
            if isinstance(error, AllModelsFailedError):
                error.errors = tuple([each.restored() for each in self.errors])
            return error
        if (known := _builtin(self.type)) and self.args:
            return known(*self.args)
        if known and not self.message:
            return known()
        return StreamError(f"{self.type}: {self.message}" if self.message else self.type)


def _own(name: str) -> type[RxLLMError] | None:
    kind = getattr(errors, name, None)
    return kind if isinstance(kind, type) and issubclass(kind, RxLLMError) else None


def _builtin(name: str) -> type[Exception] | None:
    kind = getattr(builtins, name, None)
    return kind if isinstance(kind, type) and issubclass(kind, Exception) else None


def _arguments(error: BaseException) -> tuple[Any, ...]:
    """Return the arguments that make an exception of Python again, if JSON has them all."""
    arguments = error.args
    if isinstance(error, OSError) and error.filename is not None:
        arguments = (*arguments, error.filename)
    is_known = _builtin(type(error).__name__) is type(error)
    return arguments if is_known and all(map(_is_plain, arguments)) else ()


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | float | None)
