"""The rounds of `best_of`, in each of which the piece of one stream is chosen."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from math import isnan
from typing import Any

import msgspec
from reactivex import abc
from reactivex.disposable import CompositeDisposable
from reactivex.disposable import SingleAssignmentDisposable as Single
from reactivex.scheduler import CurrentThreadScheduler

from rxllm.chunks import Batch, Chunk, Token, is_restart
from rxllm.operators.combining._streams import Streams, all_failed, failed
from rxllm.operators.combining._subscriber import Subscriber
from rxllm.restart import surviving
from rxllm.stream import Stream
from rxllm.tagging import tagging
from rxllm.trampoline import Trampoline
from rxllm.valve import Valve, scheduler_or_default, valve_of, with_valve

__all__ = ["Choice", "choose_best"]


class Choice(msgspec.Struct, frozen=True):
    """The choice of one round of `best_of`.

    Attributes:
        number: the number of the round, from 1.
        source: the name of the chosen stream.
        score: the score of the chosen piece, weight included.
        scores: the scores of all streams that took part.
        text: the chosen piece.
    """

    number: int
    source: str
    score: float
    scores: dict[str, float]
    text: str


def choose_best(
    streams: Streams,
    weights: Mapping[str, float],
    score: Callable[[Token | Batch], float],
    on_choice: Callable[[Choice], object] | None,
) -> Stream[Chunk]:
    """The best pieces of `streams`, tagged with their names; each stream needs a weight."""

    def subscribe(
        observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        work = _Selection(observer, weights, score, on_choice)
        return work.start(streams, scheduler_or_default(scheduler))

    return Stream(subscribe, "best_of", of_chunks=True)


class _Candidate:
    """One stream. If it has undecided chunks, the first is a piece of text."""

    def __init__(self, downstream: Valve) -> None:
        self.waiting: deque[Chunk] = deque()
        self.valve = Valve(downstream=downstream)
        self.upstream = Single()
        self.ended = False
        self.error: Exception | None = None


class _Selection:
    """One subscription."""

    def __init__(
        self,
        observer: abc.ObserverBase[Chunk],
        weights: Mapping[str, float],
        score: Callable[[Token | Batch], float],
        on_choice: Callable[[Choice], object] | None,
    ) -> None:
        self._subscription = CompositeDisposable()
        self._subscriber = Subscriber(observer, self._subscription.dispose)
        self._weights = weights
        self._score = score
        self._on_choice = on_choice
        self._candidates: dict[str, _Candidate] = {}
        self._rounds = 0
        self._has_begun = False
        self._trampoline = Trampoline(self._subscription)

    def start(self, streams: Streams, scheduler: abc.SchedulerBase) -> abc.DisposableBase:
        for name in streams:
            candidate = self._candidates[name] = _Candidate(valve_of(scheduler))
            self._subscription.add(CompositeDisposable(candidate.upstream, candidate.valve))
        for name, stream in streams.items():
            candidate = self._candidates[name]
            candidate.upstream.disposable = stream.subscribe(
                tagging(name, partial(self._on_next, candidate)),
                partial(self._on_error, name, candidate),
                partial(self._on_completed, candidate),
                scheduler=with_valve(scheduler, candidate.valve),
            )
        # After the subscriber has got this subscription: it may want only one round.
        self._subscription.add(CurrentThreadScheduler.singleton().schedule(self._begin))
        return self._subscription

    def _begin(self, *_: object) -> None:
        self._has_begun = True
        self._decide()

    def _on_next(self, candidate: _Candidate, chunk: Chunk) -> None:
        if is_restart(chunk):
            self._take_back(candidate, chunk.source)
            self._subscriber.on_next(chunk)
            self._release(candidate)
        elif candidate.waiting:
            candidate.waiting.append(chunk)
        elif _is_piece(chunk):
            candidate.waiting.append(chunk)
            candidate.valve.close()
            self._decide()
        else:
            self._subscriber.on_next(chunk)

    def _take_back(self, candidate: _Candidate, source: str | None) -> None:
        """Drop the content of `source`, and pass on its other waiting chunks."""
        left = surviving(candidate.waiting, source)
        candidate.waiting = deque(chunk for chunk in left if chunk.source != source)
        for chunk in left:
            if chunk.source == source:
                self._subscriber.on_next(chunk)

    def _on_error(self, name: str, candidate: _Candidate, error: Exception) -> None:
        self._subscriber.reraise(error)
        candidate.ended, candidate.error = True, error
        self._on_next(candidate, failed(name, error))
        self._decide()

    def _on_completed(self, candidate: _Candidate) -> None:
        candidate.ended = True
        self._decide()

    def _decide(self) -> None:
        """Run as many rounds as possible now."""
        if self._has_begun:
            self._trampoline.repeat(self._run_round)

    def _is_round(self) -> bool:
        candidates = self._candidates.values()
        return any(candidate.waiting for candidate in candidates) and all(
            candidate.waiting or candidate.ended for candidate in candidates
        )

    def _run_round(self) -> bool:
        """Run one round, or end; False if a piece is missing."""
        if not self._is_round():
            if all(candidate.ended for candidate in self._candidates.values()):
                self._end()
            return False
        taking_part = [name for name, candidate in self._candidates.items() if candidate.waiting]
        pieces = {name: self._candidates[name].waiting.popleft() for name in taking_part}
        try:
            best = self._choose(pieces)
        except Exception as error:
            self._subscription.dispose()
            self._subscriber.on_error(error)
            return False
        self._subscriber.on_next(pieces[best])
        for name in taking_part:
            self._release(self._candidates[name])
        return True

    def _choose(self, pieces: Mapping[str, Any]) -> str:
        """The name of the stream with the best of these pieces of text."""
        scores = {name: self._score(piece) * self._weights[name] for name, piece in pieces.items()}
        for name, score in scores.items():
            if isnan(score):
                raise ValueError(f"the score of {pieces[name]!r} is not a number")
        best = max(scores, key=scores.__getitem__)
        self._rounds += 1
        if self._on_choice is not None:
            text = pieces[best].text
            self._on_choice(Choice(self._rounds, best, scores[best], scores, text))
        return best

    def _release(self, candidate: _Candidate) -> None:
        """Pass on the chunks after the piece of this round, and request the next piece."""
        waiting = candidate.waiting
        while waiting and not _is_piece(waiting[0]):
            self._subscriber.on_next(waiting.popleft())
        if not waiting:
            candidate.valve.open()

    def _end(self) -> None:
        errors = [candidate.error for candidate in self._candidates.values() if candidate.error]
        if len(errors) == len(self._candidates):
            self._subscriber.on_error(all_failed(errors))
        else:
            self._subscriber.on_completed()


def _is_piece(chunk: Chunk) -> bool:
    return (type(chunk) is Token or type(chunk) is Batch) and bool(chunk.text)
