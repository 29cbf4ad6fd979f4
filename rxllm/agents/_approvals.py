"""The token that an approval names: of one call, with its very arguments."""

from __future__ import annotations

import hashlib
import hmac

import msgspec

from rxllm.chunks import ToolCall

__all__ = ["approval_token"]


def approval_token(call: ToolCall, secret: bytes | None = None) -> str:
    """Return the token of a call: an HMAC-SHA-256 with `secret`, or without it a SHA-256.

    A client can't make a token for other arguments without the secret.

    >>> call = ToolCall("1", "pay", '{"usd":5}')
    >>> approval_token(call) == approval_token(ToolCall("1", "pay", '{"usd":50}'))
    False
    """
    signed = msgspec.json.encode(["rxllm approval 1", call.id, call.name, call.arguments])
    if secret is None:
        return hashlib.sha256(signed).hexdigest()
    return hmac.new(secret, signed, "sha256").hexdigest()
