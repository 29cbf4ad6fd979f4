"""Which recording of a journal answers a request."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeAlias

from rxllm.errors import TruncatedStreamError, UnsupportedError
from rxllm.models.journal._reader import Event, Recording, read_journal
from rxllm.models.journal._requests import differences, key_of

__all__ = ["Match", "Recordings", "ReplayEndedError"]

Match: TypeAlias = Literal["request", "order"]
"""Which recording answers a request; see `replay`."""


class ReplayEndedError(TruncatedStreamError):
    """The replay has ended after as many chunks as `until` says."""


class Recordings:
    """The recordings in a journal that haven't been played yet.

    Args:
        path: the journal.
        match: how a recording is found.
        until: the number of chunks to play of each.

    Raises:
        ModelLoadError: the journal can't be read.
    """

    def __init__(self, path: Path, match: Match, until: int | None) -> None:
        self._path = path
        self._until = until
        self._all = read_journal(path)
        self._next = iter(self._all)
        self._by_request: dict[str, list[Recording]] | None = None
        if match == "request":
            self._by_request = {}
            for each in self._all:
                if each.begun is not None:
                    self._by_request.setdefault(key_of(each.begun.request), []).append(each)

    def take(self, request: dict[str, Any]) -> list[Event]:
        """Return the events of the recording to play next; the last event is the end.

        Raises:
            UnsupportedError: there is none.
        """
        recording = self._take(request)
        events, until = recording.events, self._until
        end = recording.end()
        if until is None or until > len(events) or (until == len(events) and end[1] is None):
            return [*events, end]
        played = events[:until]
        seconds = played[-1][0] if played else 0.0
        return [*played, (seconds, ReplayEndedError(f"the replay ended after {until} chunks"))]

    def _take(self, request: dict[str, Any]) -> Recording:
        if self._by_request is None:
            recording = next(self._next, None)
            if recording is None:
                raise UnsupportedError(
                    f"all {len(self._all)} streams recorded in {self._path} have been played"
                )
            return recording
        equal = self._by_request.get(key_of(request))
        if equal is None:
            raise UnsupportedError(self._refusal(request))
        return equal.pop(0) if len(equal) > 1 else equal[0]

    def _refusal(self, request: dict[str, Any]) -> str:
        known = [each.begun.request for each in self._all if each.begun is not None]
        if not known:
            return f"no stream is recorded in {self._path}"
        return (
            f"the request isn't among the {len(known)} recorded in {self._path}; the nearest one "
            f"differs in {differences(request, known)}"
        )
