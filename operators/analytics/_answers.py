"""The answers of a stream, each with its own figures."""

from __future__ import annotations

from collections.abc import Callable

from rxllm.chunks import Outcome, Start, Usage
from rxllm.operators.analytics._loading import LoadingTime
from rxllm.operators.analytics._run import Call

__all__ = ["Answer", "Answers"]


class Answer:
    """One answer, over all its attempts.

    Attributes:
        source: that of its chunks.
        begun, ended: when, by the clock of the stream. It begins when it is asked for: at the
            subscription, or once the results before it are there.
        start: its last `Start`; `None` before it.
        time_to_first: seconds to the first content, without those in which a local model was
            loaded; `None` before it.
        finish_reason: from its `End`.
        outcome: how it ended.
        error: the name of the class of the error; `None` without one.
    """

    __slots__ = (
        *("_finished", "_loaded", "_usage", "begun", "ended", "error", "finish_reason"),
        *("outcome", "source", "start", "time_to_first"),
    )

    def __init__(self, source: str | None, begun: float, loaded: float = 0.0) -> None:
        self.source = source
        self.begun = self.ended = begun
        self.start: Start | None = None
        self.time_to_first: float | None = None
        self.finish_reason: str | None = None
        self.outcome: Outcome = "completed"
        self.error: str | None = None
        self._loaded = loaded  # seconds of loading before it
        self._finished: list[Usage] = []  # of earlier attempts
        self._usage: Usage | None = None

    @property
    def used(self) -> Usage | None:
        """The sum of the usage of all attempts; `None` if not reported."""
        usages = [*self._finished, *([] if self._usage is None else [self._usage])]
        return sum(usages[1:], usages[0]) if usages else None

    def attempt(self, start: Start) -> None:
        """A model has accepted the request."""
        if self._usage is not None:
            self._finished.append(self._usage)
            self._usage = None
        self.start = start

    def use(self, usage: Usage) -> None:
        """Set the usage of the current attempt, which replaces an earlier one."""
        self._usage = usage

    def end(self, now: float, outcome: Outcome, error: str | None) -> None:
        """Note how it ended."""
        self.ended, self.outcome, self.error = now, outcome, error

    def note_first(self, now: float, loading: float) -> None:
        """Note the time of the first content, given the seconds of loading so far."""
        self.time_to_first = now - self.begun - (loading - self._loaded)


class Answers:
    """Tells the answers of a stream apart.

    Attributes:
        open: the answers under way, by source.
        silent: the sources among them without content.
    """

    __slots__ = ("_asked", "_clock", "_loading", "_subscribed", "open", "silent")

    def __init__(self, clock: Callable[[], float], loading: LoadingTime) -> None:
        self.open: dict[str | None, Answer] = {}
        self.silent: set[str | None] = set()
        self._clock = clock
        self._loading = loading
        self._subscribed = clock()
        self._asked: dict[str | None, tuple[float, float]] = {}  # when, and the loading until then

    def ask(self, source: str | None) -> None:
        """Note that the next answer of `source` may be asked for from now on."""
        self._asked[source] = self._clock(), self._loading.seconds

    def expect(self, source: str | None, call: Call | None = None) -> Answer:
        """Return the answer of `source` that comes next, inside a tool if there is a `call`."""
        since = (self._subscribed, 0.0) if call is None else (call.begun, self._loading.seconds)
        return Answer(source, *self._asked.get(source, since))

    def attempt(self, start: Start, call: Call | None) -> None:
        """Begin an answer, or another attempt at the one under way."""
        if start.source not in self.open:
            self.open[start.source] = self.expect(start.source, call)
            self.silent.add(start.source)
        self.open[start.source].attempt(start)

    def use(self, usage: Usage) -> None:
        """Note the usage of the answer under way."""
        if usage.source in self.open:
            self.open[usage.source].use(usage)

    def note_first(self, source: str | None) -> None:
        """Note content of `source`, which may be the first of its answer."""
        if source in self.silent:
            self.silent.discard(source)
            self.open[source].note_first(self._clock(), self._loading.seconds)

    def end(
        self,
        source: str | None,
        finish_reason: str | None,
        outcome: Outcome = "completed",
        error: str | None = None,
    ) -> Answer:
        """End the answer of `source` under way, and return it."""
        answer = self.open.pop(source)
        self.silent.discard(source)
        answer.finish_reason = finish_reason
        answer.end(self._clock(), outcome, error)
        return answer
