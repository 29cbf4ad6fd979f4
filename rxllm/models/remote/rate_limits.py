"""What the headers of a response say about the provider's rate limits.

Sources: https://platform.openai.com/docs/guides/rate-limits (also Azure, Groq, Mistral, xAI and
vLLM gateways), https://docs.anthropic.com/en/api/rate-limits, https://openrouter.ai/docs/api/reference/limits.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final

from rxllm.chunks import RateLimit, RateLimits

__all__ = ["rate_limits_in"]

_REQUESTS: Final = (
    *("x-ratelimit-{}-requests", "anthropic-ratelimit-requests-{}"),
    *("x-ratelimit-{}-req-minute", "x-ratelimit-{}-requests-minute"),
)
_UNNAMED: Final = ("x-ratelimit-{}", "ratelimit-{}")
"""Of requests; the latter of https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/."""

_TOKENS: Final = (
    *("x-ratelimit-{}-tokens", "x-ratelimit-{}-tokens-minute", "anthropic-ratelimit-tokens-{}"),
    *("anthropic-ratelimit-input-tokens-{}", "anthropic-ratelimit-output-tokens-{}"),
)
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
    requests = _scarcest(headers, _REQUESTS) or _scarcest(headers, _UNNAMED)
    tokens = _scarcest(headers, _TOKENS)
    return None if requests is None and tokens is None else RateLimits(requests, tokens)


def _scarcest(headers: Mapping[str, str], forms: tuple[str, ...]) -> RateLimit | None:
    found = [limit for form in forms for limit in _read(headers, form)]
    return min(found, key=lambda limit: limit.remaining, default=None)


def _read(headers: Mapping[str, str], form: str) -> Iterator[RateLimit]:
    """Yield the limits in the headers of a form: one, or a list of them (`5, 100`)."""
    remaining, limits, resets = [
        headers.get(form.format(name), "").split(",") for name in ("remaining", "limit", "reset")
    ]
    for place, given in enumerate(remaining):
        number = _number(given)
        if number is not None:
            limit, reset = [
                values[place] if len(values) == len(remaining) else values[0]
                for values in (limits, resets)
            ]
            yield RateLimit(number, _number(limit), _seconds(reset.strip()))


def _number(given: str) -> int | None:
    """The number of an item, without its parameters (`100;w=60`)."""
    try:
        return max(0, int(float(given.partition(";")[0])))
    except (ValueError, OverflowError):
        return None


def _seconds(given: str) -> float | None:
    """The seconds in a duration (`6m0s`), a number of seconds, or a time to come.

    A time without a fraction may have been truncated, so it is taken to be a second later.
    """
    parts = _DURATION.findall(given)
    if parts and "".join(number + unit for number, unit in parts) == given:
        return sum(float(number) * _UNITS[unit] for number, unit in parts)
    try:
        number = float(given)
    except ValueError:
        try:
            number = datetime.fromisoformat(given).timestamp()
        except ValueError:
            return None
    if not 0 <= number < float("inf"):
        return None
    if number > _MILLISECONDS:
        number /= 1000
    elif number > _MILLISECONDS / 100 and "." not in given:
        number += 1
    seconds = number - time.time() if number > _MILLISECONDS / 100 else number
    return max(0.0, seconds)
