"""Log probabilities, as most providers send them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rxllm.chunks import Token, TokenLogprob
from rxllm.models.remote.coercion import as_float, as_objects, as_optional_text

__all__ = ["logprobs_in", "token_of"]


def token_of(text: str, logprobs: Sequence[TokenLogprob], *, is_asked: bool) -> Token:
    """Return a token with the joint probability of what it is made of.

    Args:
        text: its text.
        logprobs: of its tokens, if known.
        is_asked: they were requested, so the token carries them.
    """
    if not logprobs:
        return Token(text)
    confidence = math.exp(min(0.0, sum(each.logprob for each in logprobs)))
    return Token(text, confidence, logprobs=tuple(logprobs) if is_asked else None)


def logprobs_in(value: Any) -> list[TokenLogprob]:
    """Return the log probabilities in a list of objects; those without one are left out."""
    return [each for each in map(_logprob, as_objects(value)) if each is not None]


def _logprob(fields: dict[str, Any]) -> TokenLogprob | None:
    logprob = as_float(fields.get("logprob"))
    if logprob is None:
        return None
    token = as_optional_text(fields.get("token")) or ""
    return TokenLogprob(token, logprob, tuple(logprobs_in(fields.get("top_logprobs"))))
