"""`quick_then_detailed`: a quick answer, then a better one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable
from reactivex.disposable import SingleAssignmentDisposable as Single
from reactivex.scheduler import CurrentThreadScheduler

from rxllm.chunks import Chunk, End, is_restart, text_of
from rxllm.operators.combining._streams import failed, named, note_source
from rxllm.operators.combining._subscriber import Subscriber
from rxllm.stream import Stream
from rxllm.tagging import tagging

__all__ = ["quick_then_detailed"]

_Detailed: TypeAlias = Observable[Chunk] | Callable[[str], Observable[Chunk]]


def quick_then_detailed(quick: Observable[Chunk], detailed: _Detailed) -> Stream[Chunk]:
    """Send the answer of a quick model, followed by that of a slower, more thorough one.

    ::

        S-a-E|
        ---S---x-y-E|
        [ quick_then_detailed(quick, detailed) ]
        S-a-ES---x-y-E|           S, a, E: source="quick", then source="detailed"

    The second stream starts when the first has completed. They are two answers from two sources, so
    there is no restart between the two `End`s. If the quick answer fails, a `Notice` of kind
    `"failed"` is sent, and the detailed answer still follows. If the quick answer ends with
    `End("cancelled")`, the detailed one isn't started.

    - Completion: that of the second stream. Error: that of the second stream, or an exception of
      `detailed`.
    - Restart: passed on with the name of its stream.
    - Disposal: the running stream is disposed and the second one doesn't start, also if the
      subscriber raises.
    - Demand: passes through to the running stream; nothing is held. The text of the quick answer
      is kept if `detailed` is a function.

    Args:
        quick: the first stream.
        detailed: the second stream, or a function from the (possibly partial) text of the quick
            answer to it: `lambda text: model.stream(f"Explain in detail: {text}")`.

    Raises:
        TypeError: `quick` is not a stream, or `detailed` is neither a stream nor a function.

    >>> from rxllm.models.scripted import ScriptedModel
    >>> from rxllm.testing import Marbles
    >>> quick, thorough = ScriptedModel("Yes."), ScriptedModel("Yes, since it rains.", delay=2)
    >>> stream = quick_then_detailed(quick.stream("Wet?"), thorough.stream("Wet? Why?"))
    >>> for time, event in Marbles().run(stream):
    ...     if hasattr(event, "text"):
    ...         print(time, event.source, event.text)
    0.0 quick Yes.
    2.0 detailed Yes, since it rains.
    """
    named("quick_then_detailed", {"quick": quick})
    if not isinstance(detailed, Observable) and not callable(detailed):
        raise TypeError(
            "detailed must be a stream, or a function from the text of the quick answer to a "
            f"stream, got {type(detailed).__name__}"
        )

    def subscribe(
        observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        return _Subscription(observer, scheduler, detailed).start(quick)

    return Stream(subscribe, "quick_then_detailed", of_chunks=True)


class _Subscription:
    """One subscription."""

    def __init__(
        self,
        observer: abc.ObserverBase[Chunk],
        scheduler: abc.SchedulerBase | None,
        detailed: _Detailed,
    ) -> None:
        self._first, self._second = Single(), Single()
        self._subscription = CompositeDisposable(self._first, self._second)
        self._subscriber = Subscriber(observer, self._subscription.dispose)
        self._scheduler = scheduler
        self._detailed = detailed
        self._pieces: list[str] = []
        self._cancelled = False

    def start(self, quick: Observable[Chunk]) -> abc.DisposableBase:
        self._first.disposable = quick.subscribe(
            tagging("quick", self._on_quick),
            self._on_quick_error,
            self._on_quick_completed,
            scheduler=self._scheduler,
        )
        return self._subscription

    def _on_quick(self, chunk: Chunk) -> None:
        if type(chunk) is End:
            self._cancelled = chunk.finish_reason == "cancelled"
            if chunk.more:
                self._pieces.clear()  # the answer is the last one of a run
        elif is_restart(chunk):
            self._pieces.clear()
            self._cancelled = False
        elif (text := text_of(chunk)) and not isinstance(self._detailed, Observable):
            self._pieces.append(text)
        self._subscriber.on_next(chunk)

    def _on_quick_error(self, error: Exception) -> None:
        self._subscriber.reraise(error)
        self._subscriber.on_next(failed("quick", error))
        self._schedule_detailed()

    def _on_quick_completed(self) -> None:
        if self._cancelled:
            self._subscriber.on_completed()
        else:
            self._schedule_detailed()

    def _schedule_detailed(self) -> None:
        # After the subscriber has got this subscription: it may not want the second answer.
        self._subscription.add(CurrentThreadScheduler.singleton().schedule(self._begin_detailed))

    def _begin_detailed(self, *_: object) -> None:
        if self._subscription.is_disposed:
            return
        try:
            detailed = self._make()
        except Exception as error:
            self._subscriber.on_error(error)
            return
        self._second.disposable = detailed.subscribe(
            tagging("detailed", self._subscriber.on_next),
            self._on_error,
            self._subscriber.on_completed,
            scheduler=self._scheduler,
        )

    def _make(self) -> Observable[Chunk]:
        if isinstance(self._detailed, Observable):
            return self._detailed
        detailed = self._detailed("".join(self._pieces))
        named("quick_then_detailed", {"detailed": detailed})
        return detailed

    def _on_error(self, error: Exception) -> None:
        self._subscriber.reraise(error)
        note_source(error, "detailed")
        self._subscriber.on_error(error)
