"""What a check has found: a verdict for each thing that was judged."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

import msgspec

__all__ = ["ASPECTS", "Aspect", "Finding", "Sheet", "Verdict"]

Aspect: TypeAlias = Literal[
    "response",
    "framing",
    "order",
    "ids",
    "end",
    "usage",
    "tools",
    "errors",
    "heartbeats",
    "delivery",
    "cancellation",
]
ASPECTS: Final[tuple[Aspect, ...]] = get_args(Aspect)

Verdict: TypeAlias = Literal["ok", "unknown", "odd", "wrong"]
_SEVERITY: Final[tuple[Verdict, ...]] = get_args(Verdict)

_MOST_DETAILS: Final = 3
_LONGEST_DETAIL: Final = 300  # characters


class Finding(msgspec.Struct, frozen=True):
    """The verdict about one aspect of a server's streams.

    Args:
        wire: the wire format.
        aspect: what was judged.
        verdict: `"ok"`; `"odd"` for what is legal, but trips some clients up; `"wrong"` for what
            clients refuse or misread; `"unknown"` if it could not be judged.
        details: why, at most three reasons.
    """

    wire: str
    aspect: Aspect
    verdict: Verdict
    details: tuple[str, ...] = ()


class Sheet:
    """Collects the verdicts about one wire; the worst one of each aspect counts.

    Args:
        wire: the wire format.
    """

    def __init__(self, wire: str) -> None:
        self.wire = wire
        self._found: dict[Aspect, tuple[Verdict, list[str]]] = {}

    def note(self, aspect: Aspect, verdict: Verdict, detail: str = "") -> None:
        """Record a verdict."""
        worst, details = self._found.get(aspect, ("ok", []))
        if _SEVERITY.index(verdict) > _SEVERITY.index(worst):
            worst, details = verdict, []
        reason = " ".join(detail[:_LONGEST_DETAIL].split())
        is_new = len(details) < _MOST_DETAILS and reason not in details
        if reason and verdict == worst and is_new:
            details.append(reason)
        self._found[aspect] = worst, details

    def ok(self, *aspects: Aspect) -> None:
        """Record that these were judged; a worse verdict about them stays."""
        for aspect in aspects:
            self.note(aspect, "ok")

    def odd(self, aspect: Aspect, detail: str) -> None:
        """Record something legal that trips some clients up."""
        self.note(aspect, "odd", detail)

    def wrong(self, aspect: Aspect, detail: str) -> None:
        """Record something that clients refuse or misread."""
        self.note(aspect, "wrong", detail)

    def unknown(self, aspect: Aspect, detail: str) -> None:
        """Record that something could not be judged."""
        self.note(aspect, "unknown", detail)

    @property
    def is_wrong(self) -> bool:
        """Whether something was wrong."""
        return any(verdict == "wrong" for verdict, _ in self._found.values())

    def findings(self) -> list[Finding]:
        """Return the verdicts, in the order of `ASPECTS`."""
        return [
            Finding(self.wire, aspect, verdict, tuple(details))
            for aspect in ASPECTS
            if (found := self._found.get(aspect)) is not None
            for verdict, details in [found]
        ]
