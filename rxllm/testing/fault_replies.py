"""What a `FaultServer` may be told to answer. It is imported from `rxllm.testing.fault_server`."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias

__all__ = ["CUT", "FOREVER", "RESET", "Act", "Reply", "Step"]


class Act(enum.Enum):
    """What may be done to a connection in the middle of a body."""

    CUT = "cut"
    RESET = "reset"
    FOREVER = "forever"


CUT: Final = Act.CUT
"""Close the connection here, without the end that HTTP asks for."""

RESET: Final = Act.RESET
"""Reset the connection here (TCP RST)."""

FOREVER: Final = Act.FOREVER
"""Send the bytes before this again and again, until the client leaves."""

Step: TypeAlias = bytes | float | asyncio.Event | Act
"""Bytes to send, seconds to wait, an event to wait for, or what to do to the connection."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server answers to one request.

    Args:
        body: the bytes of the body, and what happens between them.
        status: of the response.
        headers: of the response. Without a `Content-Type` it is that of an event stream.
        before: what happens before the headers are sent: waits, `CUT`, `RESET`.
        pieces: send the bytes in pieces of so many, or of `"random"` sizes (1 to 40, seeded);
            None sends each step as it is.
        interval: seconds between two pieces.

    Raises:
        ValueError: `FOREVER` has no bytes before it.
    """

    body: Sequence[Step] = ()
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    before: Sequence[Step] = ()
    pieces: int | Literal["random"] | None = None
    interval: float = 0.0

    def __post_init__(self) -> None:
        for place, step in enumerate(self.body):
            if step is FOREVER and not any(isinstance(s, bytes) and s for s in self.body[:place]):
                raise ValueError("FOREVER sends the bytes before it again, and there are none")

    def cut(self, at: int, *then: Step) -> Reply:
        """This reply, whose body ends after `at` bytes, and with `then`: `CUT` if none is given."""
        kept: list[Step] = []
        for step in self.body:
            if at <= 0:
                break
            if isinstance(step, bytes):
                step, at = step[:at], at - len(step)
            kept.append(step)
        return replace(self, body=(*kept, *(then or (CUT,))))
