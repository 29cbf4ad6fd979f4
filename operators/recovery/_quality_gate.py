"""`quality_gate`: turn a bad answer into an error."""

from __future__ import annotations

from collections.abc import Callable

from reactivex import Observable, abc
from reactivex.disposable import SingleAssignmentDisposable

from rxllm.arguments import check_int
from rxllm.chunks import Batch, Chunk, End, Token, is_restart, text_of
from rxllm.errors import QualityError, write_partial
from rxllm.operators.recovery._quality import Condition, Quality
from rxllm.restart import forget, matching_sources
from rxllm.stream import Stream
from rxllm.valve import clock_of

__all__ = ["quality_gate"]


def quality_gate(
    *conditions: Condition, every: int = 10
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Fail when an answer meets one of the conditions, so that a fallback can take over.

    ::

        S-a-b-a-b-a-b-a-b
        [ quality_gate(repeats(characters=4, times=2), every=4) ]
        S-a-b-a-#         QualityError, in place of the fourth token

    Conditions are functions of a `Quality` (tokens, elapsed seconds, the text or its end) that
    return `True` or the reason in words if the answer is bad. `too_slow`, `repeats` and `not_json`
    are ready-made ones. They are checked every ten tokens by default, and at the end; for answers
    without text use `require_output`. A `QualityError` is classified as `"fallback"`. The chunks
    before it have been passed on, so the fallback needs an `after_output`:
    `fallback_to(backup, after_output="restart")`.

    - Completion: the conditions are checked before `End`, or at completion if there is no `End`.
      Error: passed on.
    - Restart: passed on; the answer is checked from there on.
    - Disposal: upstream is disposed, also before the error is sent.
    - Demand: passes through; nothing is held back, the text passed on is kept. A subscriber whose
      valve is closed makes the answer slow.

    Args:
        conditions: one or more.
        every: tokens between two checks, 1 or more; the tokens of a `Batch` arrive together.

    Raises:
        ValueError: there is no condition, or `every` is below 1.
        TypeError: a condition is not callable, or `every` is not an integer.
        QualityError: into `on_error`, with the text that was passed on in `partial`.

    >>> from rxllm.models.scripted import ScriptedModel
    >>> from rxllm.testing import Marbles
    >>> stream = ScriptedModel("As an AI, I can't.", by="word").stream("Hi").pipe(
    ...     quality_gate(lambda quality: "As an AI" in quality.text)
    ... )
    >>> Marbles().run(stream)[-1]
    (0.0, QualityError('the answer failed a quality check'))
    """
    if not conditions:
        raise ValueError("quality_gate takes at least one condition")
    for condition in conditions:
        if not callable(condition):
            raise TypeError(f"a condition must be a function of a Quality, got {condition!r}")
    check_int("every", every, "tokens between two checks")

    def operator(source: Observable[Chunk]) -> Stream[Chunk]:
        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            gate = _Gate(observer, clock_of(scheduler), conditions, every)
            gate.upstream.disposable = source.subscribe(
                gate.on_next, observer.on_error, gate.on_completed, scheduler=scheduler
            )
            return gate.upstream

        return Stream(subscribe, "quality_gate", of_chunks=True)

    return operator


class _Answer:
    """One source: the text already checked, and the pieces since then."""

    __slots__ = ("begun", "fresh", "quality")

    def __init__(self, begun: float) -> None:
        self.begun = begun
        self.quality = Quality()
        self.fresh: list[Token] = []

    @property
    def text(self) -> str:
        return self.quality.text + "".join(map(text_of, self.fresh))


class _Gate:
    """One subscription."""

    def __init__(
        self,
        observer: abc.ObserverBase[Chunk],
        clock: Callable[[], float],
        conditions: tuple[Condition, ...],
        every: int,
    ) -> None:
        self._observer = observer
        self._clock = clock
        self._conditions = conditions
        self._every = every
        self._answers: dict[str | None, _Answer] = {}
        self.upstream = SingleAssignmentDisposable()

    def on_next(self, chunk: Chunk) -> None:
        if type(chunk) is Token or type(chunk) is Batch:
            answer = self._answers.get(chunk.source)
            if answer is None:
                answer = self._answers[chunk.source] = _Answer(self._clock())
            fresh = answer.fresh
            passed_on = len(fresh)
            if type(chunk) is Token:
                fresh.append(chunk)
            elif type(chunk) is Batch:
                fresh.extend(part for part in chunk.chunks if type(part) is Token)
            if len(fresh) >= self._every and not self._is_good(answer, passed_on):
                return
        elif type(chunk) is End:
            if chunk.finish_reason == "cancelled":
                forget(self._answers, chunk.source)
            elif not self._are_good_at_end(chunk.source):
                return
            elif chunk.more:
                forget(self._answers, chunk.source)  # the next answer is checked by itself
        elif is_restart(chunk):
            forget(self._answers, chunk.source)
        self._observer.on_next(chunk)

    def on_completed(self) -> None:
        if self._are_good_at_end(None):
            self._observer.on_completed()

    def _are_good_at_end(self, source: str | None) -> bool:
        for each in matching_sources(self._answers, source):
            answer = self._answers[each]
            if not answer.quality.is_complete:
                answer.quality.is_complete = True
                if not self._is_good(answer, len(answer.fresh)):
                    return False
        return True

    def _is_good(self, answer: _Answer, passed_on: int) -> bool:
        """Check the conditions. `passed_on` of the fresh pieces have been passed on."""
        quality = answer.quality
        for piece in answer.fresh:
            quality.add(piece.text, piece.tokens)
        quality.elapsed = self._clock() - answer.begun
        withheld = sum(len(piece.text) for piece in answer.fresh[passed_on:])
        answer.fresh.clear()
        failure = self._ask(quality)
        quality.looked_at = quality.characters
        if failure is None:
            return True
        self.upstream.dispose()
        write_partial(failure, self._text_before(answer, withheld))
        self._observer.on_error(failure)
        return False

    def _ask(self, quality: Quality) -> Exception | None:
        try:
            reasons = (condition(quality) for condition in self._conditions)
            reason = next(filter(None, reasons), None)
        except Exception as error:
            return error
        if reason is None:
            return None
        why = f": {reason}" if isinstance(reason, str) else ""
        return QualityError(f"the answer failed a quality check{why}")

    def _text_before(self, failing: _Answer, withheld: int) -> str:
        """The text passed on, without the last `withheld` characters of the failing answer."""
        return "".join(
            answer.text[: -withheld or None] if answer is failing else answer.text
            for answer in self._answers.values()
        )
