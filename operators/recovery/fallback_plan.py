"""The plan of `fallback_to` and of a Router: one stream after another, then an apology."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import reactivex
from reactivex import Observable

from rxllm.chunks import Chunk, End, ErrorInfo, Notice, Start, Token
from rxllm.errors import (
    AllModelsFailedError,
    AuthenticationError,
    UnsupportedError,
    classify_error,
)
from rxllm.operators.recovery._plan import Attempt, Plan, StreamOrFactory
from rxllm.operators.recovery._policy import Policy

__all__ = ["check_apology", "fallback_plan"]

_logger = logging.getLogger("rxllm")


def check_apology(apology: object) -> None:
    """Check an argument.

    Raises:
        TypeError: it is neither a string nor `None`.
        ValueError: it is empty.
    """
    if apology is not None and not isinstance(apology, str):
        raise TypeError(f"apology must be a string or None, got {apology!r}")
    if apology == "":
        raise ValueError("apology must not be empty: use None for no apology")


def fallback_plan(
    streams: Sequence[StreamOrFactory], apology: str | None, when: Policy = classify_error
) -> Plan:
    """The plan of one subscription that tries `streams` in order.

    If no model supports the request, the error is that of the first one, without an apology.
    """
    errors: list[Exception] = []

    def plan(error: Exception) -> Attempt | Exception:
        if when(error) == "raise":
            return error
        errors.append(error)
        used = len(errors)
        if isinstance(error, AuthenticationError):
            _logger.warning("a model rejected its API key and was skipped: %s", error)
        if used <= len(streams):
            notice = Notice("fallback", attempt=used + 1, error=ErrorInfo.of(error))
            return Attempt(streams[used - 1], notice)
        if all(isinstance(each, UnsupportedError) for each in errors):
            return errors[0]
        who = f"all {used} models" if used > 1 else "the only model"
        failure = AllModelsFailedError(f"{who} failed: {_summary_of(errors)}", errors)
        failure.__cause__ = error
        if apology is None or used > len(streams) + 1:
            return failure
        notice = Notice("fallback", attempt=used + 1, error=ErrorInfo.of(failure))
        return Attempt(_apology_stream(apology), notice, otherwise=failure)

    return plan


def _summary_of(errors: list[Exception]) -> str:
    return "; ".join(f"{type(error).__name__}: {error}" for error in errors)


def _apology_stream(apology: str) -> Observable[Chunk]:
    return reactivex.of(Start("apology", "apology"), Token(apology), End("stop"))
