"""The replies of a `FaultServer`. Import them from `rxllm.testing.fault_server`."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias

__all__ = ["CUT", "FOREVER", "RESET", "Act", "Reply", "Step"]


class Act(enum.Enum):
    """An action on the connection in the middle of a body."""

    CUT = "cut"
    RESET = "reset"
    FOREVER = "forever"


CUT: Final = Act.CUT
"""Close the connection here, without the end that HTTP requires."""

RESET: Final = Act.RESET
"""Reset the connection here (TCP RST)."""

FOREVER: Final = Act.FOREVER
"""Repeat the preceding bytes until the client disconnects."""

Step: TypeAlias = bytes | float | asyncio.Event | Act
"""Bytes to send, seconds to wait, an event to wait for, or an action on the connection."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The server's reply to one request.

    Args:
        body: the bytes of the body, with waits and actions between them.
        status: HTTP status of the response.
        headers: of the response. The default `Content-Type` is that of an event stream.
        before: steps before the headers are sent: waits, `CUT`, `RESET`.
        pieces: size of the pieces in which bytes are sent, `"random"` (1 to 40, seeded), or `None`
            to send each step whole.
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
                raise ValueError("FOREVER repeats the preceding bytes, but there are none")

    def cut(self, at: int, *then: Step) -> Reply:
        """Return this reply with its body cut after `at` bytes, followed by `then` or `CUT`."""
        kept: list[Step] = []
        for step in self.body:
            if at <= 0:
                break
            if isinstance(step, bytes):
                step, at = step[:at], at - len(step)
            kept.append(step)
        return replace(self, body=(*kept, *(then or (CUT,))))
