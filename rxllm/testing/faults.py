"""Faults that providers really have, as replies of a `FaultServer`.

>>> reply = faulty_reply("the body ends", "in the middle")
>>> b"".join(step for step in reply.body if isinstance(step, bytes)).count(b"data:")
1
>>> [fault for fault in FAULTS if not FAULTS[fault].is_wrong][0]
'one malformed event'
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

from rxllm.testing.fault_replies import CUT, RESET, Reply, Step
from rxllm.testing.provider_streams import (
    anthropic_event,
    anthropic_events,
    openai_event,
    openai_events,
)

__all__ = ["FAULTS", "PLACES", "Fault", "Place", "faulty_reply"]

Place: TypeAlias = Literal["before the first token", "in the middle", "at the end"]
PLACES: Final[tuple[Place, ...]] = get_args(Place)


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of a provider.

    Args:
        places: where it may be.
        is_wrong: a client should report an error; otherwise it should read on.
        ends: the answer doesn't go on behind it.
    """

    places: tuple[Place, ...] = PLACES
    is_wrong: bool = True
    ends: bool = False


_AT_START: Final = PLACES[:1]

FAULTS: Final[dict[str, Fault]] = {
    "status 401": Fault(_AT_START),
    "status 429": Fault(_AT_START),
    "status 500": Fault(_AT_START),
    "status 529": Fault(_AT_START),
    "an HTML page with status 200": Fault(_AT_START),
    "JSON in place of a stream": Fault(_AT_START),
    "closed before the headers": Fault(_AT_START),
    "reset before the headers": Fault(_AT_START),
    "connection closed": Fault(ends=True),
    "connection reset": Fault(ends=True),
    "the body ends": Fault(ends=True),
    "an error in the stream": Fault(),
    "an error as plain text": Fault(),
    "an error as JSON without `data:`": Fault(),
    "an error before `[DONE]`": Fault(ends=True),
    "a finish reason that gives up": Fault(),
    "one malformed event": Fault(is_wrong=False),
    "three malformed events": Fault(),
    "an event without end": Fault(_AT_START),
    "comments": Fault(is_wrong=False),
    "heartbeats in `data:`": Fault(is_wrong=False),
    "fields of other types": Fault(is_wrong=False),
    "events under another media type": Fault(_AT_START, is_wrong=False),
    "bytes one by one": Fault(is_wrong=False),
    "half a character": Fault(ends=True),
}
"""All faults, and oddities that aren't wrong."""


def faulty_reply(
    fault: str, place: Place, wire: Literal["openai_chat", "anthropic"] = "openai_chat"
) -> Reply:
    """Return an answer of two tokens, "Hé" and "llo", with a fault.

    Args:
        fault: one of `FAULTS`.
        place: one of its places.
        wire: the API.

    Raises:
        ValueError: the fault is unknown, or can't be there.
    """
    if fault not in FAULTS or place not in FAULTS[fault].places:
        raise ValueError(f"there is no fault {fault!r} {place}")
    before, after = _halves(fault, place, wire)
    if fault.startswith("status "):
        return Reply([b"{}"], status=int(fault.removeprefix("status ")))
    if fault.endswith("before the headers"):
        return Reply(before=[RESET if fault.startswith("reset") else CUT])
    if fault == "an HTML page with status 200":
        return Reply([b"<html>"], headers={"Content-Type": "text/html; charset=utf-8"})
    if fault == "JSON in place of a stream":
        return Reply([b"{}"], headers={"Content-Type": "application/json"})
    if fault == "events under another media type":
        return Reply([*before, *after], headers={"Content-Type": "text/plain"})
    if fault == "bytes one by one":
        return Reply([*before, *after], pieces=1)
    steps = _steps(wire)[fault]
    return Reply([*before, *steps, *([] if FAULTS[fault].ends else after)])


def _halves(fault: str, place: Place, wire: str) -> tuple[list[bytes], list[bytes]]:
    """Return the events of an answer of two tokens, split at `place`."""
    if wire == "anthropic":
        events, at = anthropic_events("Hé", "llo"), (0, 4, 6)[PLACES.index(place)]
        if not FAULTS[fault].is_wrong:
            at = max(at, 1)  # an event before `message_start` is wrong
    else:
        events, at = openai_events("Hé", "llo", usage=False), PLACES.index(place)
    return events[:at], events[at:]


def _steps(wire: str) -> dict[str, Sequence[Step]]:
    error = {"type": "overloaded_error", "message": "Overloaded"}
    if wire == "anthropic":
        reported = anthropic_event("error", error=error)
        gave_up = anthropic_event("message_delta", delta={"stop_reason": "network_error"})
        odd = anthropic_event("message_delta", delta={"stop_reason": {"type": "end_turn"}})
    else:
        reported = openai_event(choices=[], error=error)
        choice = {"index": 0, "delta": {}, "finish_reason": "network_error"}
        gave_up = openai_event(choices=[choice])
        odd = openai_event(choices=[{"index": "0", "delta": {"content": []}}], created="now")
    return {
        "connection closed": [CUT],
        "connection reset": [RESET],
        "the body ends": [],
        "an error in the stream": [reported],
        "an error as plain text": [b"data: error: CUDA out of memory\n\n"],
        "an error as JSON without `data:`": [b'{"error": {"message": "busy"}}\n\n'],
        "an error before `[DONE]`": [b'data: {"detail": "busy"}\n\n', b"data: [DONE]\n\n"],
        "a finish reason that gives up": [gave_up],
        "one malformed event": [b"data: {\n\n"],
        "three malformed events": [b"data: {\n\n"] * 3,
        "an event without end": [b"data: ", *[b"x" * (1 << 20)] * 33],
        "comments": [b": still here\n\n"] * 50,
        "heartbeats in `data:`": [b"data: : PROCESSING\n\n"] * 50,
        "fields of other types": [odd],
        "half a character": [b"data: \xc3", CUT],
    }
