"""What the headers of a response say about the provider's rate limits.

Sources: https://platform.openai.com/docs/guides/rate-limits (also Azure, Groq, Mistral, xAI and
vLLM gateways), https://docs.anthropic.com/en/api/rate-limits, https://openrouter.ai/docs/api/reference/limits.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from rxllm.chunks import RateLimit, RateLimits

__all__ = ["rate_limits_in"]

_KINDS: Final = ("requests", "tokens")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_MILLISECONDS: Final = 1e11
"""A reset above this many is a time in milliseconds, above a hundredth of it one in seconds."""


def rate_limits_in(headers: Mapping[str, str]) -> RateLimits | None:
    """Return the rate limits in the headers of a response, or `None` if there are none.

    Args:
        headers: with names in lower case.

    >>> headers = {"x-ratelimit-remaining-requests": "4", "x-ratelimit-reset-requests": "1m0.5s"}
    >>> rate_limits_in(headers).requests
    RateLimit(remaining=4, limit=None, reset=60.5)
    """
    found = [_limit(headers, kind) for kind in _KINDS]
    requests, tokens = found
    if requests is None:
        requests = _read(headers, "x-ratelimit-{}")
    return None if requests is None and tokens is None else RateLimits(requests, tokens)


def _limit(headers: Mapping[str, str], kind: str) -> RateLimit | None:
    return _read(headers, f"x-ratelimit-{{}}-{kind}") or _read(
        headers, f"anthropic-ratelimit-{kind}-{{}}"
    )


def _read(headers: Mapping[str, str], form: str) -> RateLimit | None:
    remaining = _number(headers.get(form.format("remaining")))
    if remaining is None:
        return None
    limit = _number(headers.get(form.format("limit")))
    return RateLimit(remaining, limit, _seconds(headers.get(form.format("reset"))))


def _number(given: str | None) -> int | None:
    try:
        return max(0, int(float(given or "")))
    except (ValueError, OverflowError):
        return None


def _seconds(given: str | None) -> float | None:
    """The seconds in a duration (`6m0s`), a number of seconds, or a time to come."""
    if not given:
        return None
    parts = _DURATION.findall(given)
    if parts and "".join(number + unit for number, unit in parts) == given.strip():
        return sum(float(number) * _UNITS[unit] for number, unit in parts)
    try:
        number = float(given)
    except ValueError:
        try:
            number = datetime.fromisoformat(given).timestamp()
        except ValueError:
            return None
    if number > _MILLISECONDS:
        number /= 1000
    seconds = number - time.time() if number > _MILLISECONDS / 100 else number
    return max(0.0, seconds)
