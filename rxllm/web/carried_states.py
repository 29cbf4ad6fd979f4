"""The states of providers on their way through other wires, in fields that clients send back.

A wire has one opaque text for the state of its reasoning (`signature`, `encrypted_content`). Ours
is in it, with what it belongs to.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final, Literal, TypeAlias

import msgspec

from rxllm.chunks import ProviderState
from rxllm.web.encoding import to_json
from rxllm.wire_names import EXTENSION

__all__ = ["CarriedState", "Owner", "carried_state", "state_text"]

Owner: TypeAlias = Literal["reasoning", "text", "call"]
"""What a state belongs to."""

_HEAD: Final = f"{EXTENSION}:"


class CarriedState(msgspec.Struct, frozen=True, omit_defaults=True):
    """A state, and what it belongs to; `call` is the id of a call."""

    state: ProviderState
    owner: Owner = "reasoning"
    call: str | None = None


def state_text(state: ProviderState, owner: Owner = "reasoning", call: str | None = None) -> str:
    """Return the text that carries a state."""
    return _HEAD + base64.b64encode(to_json(CarriedState(state, owner, call))).decode()


def carried_state(text: str | None) -> CarriedState | None:
    """Return the state in a text; `None` for the text of another server.

    Raises:
        ValueError: it was changed.

    >>> state = ProviderState("anthropic", "claude", {"signature": "abc"})
    >>> carried_state(state_text(state, "call", "c1"))
    CarriedState(state=ProviderState(...), owner='call', call='c1')
    """
    if text is None or not text.startswith(_HEAD):
        return None
    try:
        data = base64.b64decode(text.removeprefix(_HEAD), validate=True)
        return msgspec.json.decode(data, type=CarriedState)
    except (binascii.Error, msgspec.DecodeError) as error:
        raise ValueError(f"the state of a message was changed: {error}") from None
