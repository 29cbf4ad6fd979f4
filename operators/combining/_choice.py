"""Rounds in which one piece of several streams is chosen: the machinery of `best_of`."""

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
from rxllm.operators.combining._streams import Streams, all_failed, failed, tagging
from rxllm.operators.combining._subscriber import Subscriber
from rxllm.restart import survives_restart
from rxllm.stream import Stream
from rxllm.trampoline import Trampoline
from rxllm.valve import Valve, scheduler_or_default, valve_of, with_valve

__all__ = ["Choice", "choose_best"]


class Choice(msgspec.Struct, frozen=True):
    """What was chosen in one round.

    Attributes:
        number: which round, from 1.
        source: the name of the chosen stream.
        score: of the chosen piece, weight included.
        scores: those of all streams that took part.
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
    """The best pieces of `streams`, tagged with their names; `weights` has one for each."""

    def subscribe(
        observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        work = _Selection(observer, weights, score, on_choice)
        return work.start(streams, scheduler_or_default(scheduler))

    return Stream(subscribe, "best_of", of_chunks=True)


class _Speaker:
    """One stream: what it has said that is not decided yet begins with a piece of text."""

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
        self._speakers: dict[str, _Speaker] = {}
        self._rounds = 0
        self._has_begun = False
        self._trampoline = Trampoline(self._subscription)

    def start(self, streams: Streams, scheduler: abc.SchedulerBase) -> abc.DisposableBase:
        for name in streams:
            speaker = self._speakers[name] = _Speaker(valve_of(scheduler))
            self._subscription.add(CompositeDisposable(speaker.upstream, speaker.valve))
        for name, stream in streams.items():
            speaker = self._speakers[name]
            speaker.upstream.disposable = stream.subscribe(
                tagging(name, partial(self._on_next, speaker)),
                partial(self._on_error, name, speaker),
                partial(self._on_completed, speaker),
                scheduler=with_valve(scheduler, speaker.valve),
            )
        # Once this subscription is in the hands of the subscriber, who may want but one round.
        self._subscription.add(CurrentThreadScheduler.singleton().schedule(self._begin))
        return self._subscription

    def _begin(self, *_: object) -> None:
        self._has_begun = True
        self._decide()

    def _on_next(self, speaker: _Speaker, chunk: Chunk) -> None:
        if is_restart(chunk):
            self._take_back(speaker, chunk.source)
            self._subscriber.on_next(chunk)
            self._release(speaker)
        elif speaker.waiting:
            speaker.waiting.append(chunk)
        elif _is_piece(chunk):
            speaker.waiting.append(chunk)
            speaker.valve.close()
            self._decide()
        else:
            self._subscriber.on_next(chunk)

    def _take_back(self, speaker: _Speaker, source: str | None) -> None:
        """Drop what `source` has said, and pass on what else waits of it."""
        left = [chunk for chunk in speaker.waiting if survives_restart(chunk, source)]
        speaker.waiting = deque(chunk for chunk in left if chunk.source != source)
        for chunk in left:
            if chunk.source == source:
                self._subscriber.on_next(chunk)

    def _on_error(self, name: str, speaker: _Speaker, error: Exception) -> None:
        self._subscriber.reraise(error)
        speaker.ended, speaker.error = True, error
        self._on_next(speaker, failed(name, error))
        self._decide()

    def _on_completed(self, speaker: _Speaker) -> None:
        speaker.ended = True
        self._decide()

    def _decide(self) -> None:
        """Hold as many rounds as can be held now."""
        if self._has_begun:
            self._trampoline.repeat(self._hold_round)

    def _is_round(self) -> bool:
        speakers = self._speakers.values()
        return any(speaker.waiting for speaker in speakers) and all(
            speaker.waiting or speaker.ended for speaker in speakers
        )

    def _hold_round(self) -> bool:
        """Hold one round, or end; False if a piece has to be waited for."""
        if not self._is_round():
            if all(speaker.ended for speaker in self._speakers.values()):
                self._end()
            return False
        taking_part = [name for name, speaker in self._speakers.items() if speaker.waiting]
        pieces = {name: self._speakers[name].waiting.popleft() for name in taking_part}
        try:
            best = self._choose(pieces)
        except Exception as error:
            self._subscription.dispose()
            self._subscriber.on_error(error)
            return False
        self._subscriber.on_next(pieces[best])
        for name in taking_part:
            self._release(self._speakers[name])
        return True

    def _choose(self, pieces: Mapping[str, Any]) -> str:
        """The name of the stream with the best of these pieces of text."""
        scores = {name: self._score(piece) * self._weights[name] for name, piece in pieces.items()}
        for name, score in scores.items():
            if isnan(score):
                raise ValueError(f"the score of {pieces[name]!r} is no number")
        best = max(scores, key=scores.__getitem__)
        self._rounds += 1
        if self._on_choice is not None:
            text = pieces[best].text
            self._on_choice(Choice(self._rounds, best, scores[best], scores, text))
        return best

    def _release(self, speaker: _Speaker) -> None:
        """Pass on what stood behind the piece of this round, and ask for the next one."""
        waiting = speaker.waiting
        while waiting and not _is_piece(waiting[0]):
            self._subscriber.on_next(waiting.popleft())
        if not waiting:
            speaker.valve.open()

    def _end(self) -> None:
        errors = [speaker.error for speaker in self._speakers.values() if speaker.error]
        if len(errors) == len(self._speakers):
            self._subscriber.on_error(all_failed(errors))
        else:
            self._subscriber.on_completed()


def _is_piece(chunk: Chunk) -> bool:
    return (type(chunk) is Token or type(chunk) is Batch) and bool(chunk.text)
