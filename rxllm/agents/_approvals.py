"""The token of an approval, which stands for one call with its arguments."""

from __future__ import annotations

import hashlib
import hmac
import json

from rxllm.chunks import ToolCall

__all__ = ["approval_token"]


def approval_token(call: ToolCall, secret: bytes | None = None, agent: str = "agent") -> str:
    """Return the token of a call: an HMAC-SHA-256 with `secret`, or without it a SHA-256.

    A client can't make a token for other arguments without the secret. The token depends on their
    value, not on their text: clients decode arguments, and encode them again in another way.

    >>> call = ToolCall("1", "pay", '{"usd":5}')
    >>> approval_token(call) == approval_token(ToolCall("1", "pay", '{"usd":50}'))
    False
    >>> approval_token(call) == approval_token(ToolCall("1", "pay", '{ "usd": 5.0 }'))
    True
    """
    arguments = _normal(call.arguments)
    signed = json.dumps(["rxllm approval 1", agent, call.id, call.name, arguments]).encode()
    if secret is None:
        return hashlib.sha256(signed).hexdigest()
    return hmac.new(secret, signed, "sha256").hexdigest()


def _normal(arguments: str) -> str:
    """Return the one way to write a JSON value: sorted, compact, and a whole number without a
    fraction, as JavaScript writes it. Other text is returned as it is."""
    try:
        value = json.loads(arguments.strip() or "{}", parse_float=_number)
        return json.dumps(value, sort_keys=True, separators=(",", ":"))
    except (ValueError, RecursionError):
        return arguments


def _number(text: str) -> float | int:
    number = float(text)
    return int(number) if number.is_integer() else number
