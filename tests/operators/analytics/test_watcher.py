"""`watch` and `Watcher`: the base of operators that observe a stream."""

from collections.abc import Callable
from typing import Any

import pytest
import reactivex as rx
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry
from reactivex import Observable, abc
from structlog.testing import capture_logs

from rxllm import operators as ops
from rxllm.chunks import Chunk, Token
from rxllm.operators.analytics._watcher import Watcher, watch
from rxllm.testing import COMPLETED, Marbles


class Writing(Watcher):
    """Records its calls, and raises at the given ones."""

    def __init__(self, *raises_at: str) -> None:
        self.calls: list[str] = []
        self._raises_at = raises_at

    def begun(self) -> None:
        self._write("begun")

    def chunk(self, chunk: Chunk) -> None:
        self._write(getattr(chunk, "text", "chunk"))

    def completed(self) -> None:
        self._write("completed")

    def failed(self, error: Exception) -> None:
        self._write("failed")

    def cancelled(self) -> None:
        self._write("cancelled")

    def _write(self, what: str) -> None:
        self.calls.append(what)
        if what in self._raises_at:
            raise OSError(what)


def at_once(*texts: str, error: Exception | None = None) -> Observable[Chunk]:
    """A source that emits everything synchronously on subscription."""

    def subscribe(
        observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        for text in texts:
            observer.on_next(Token(text))
        if error is None:
            observer.on_completed()
        else:
            observer.on_error(error)
        return rx.disposable.Disposable()

    return Observable(subscribe)


def watched_by(watcher: Watcher) -> Callable[[Observable[Chunk]], Observable[Chunk]]:
    return watch("test", lambda _: watcher)


def refusing(chunk: Chunk) -> None:
    raise RuntimeError("the subscriber's own")


def test_it_is_called_before_each_event_is_passed_on(marbles: Marbles) -> None:
    watcher = Writing()
    seen: list[int] = []
    stream = marbles.cold("a-b|").pipe(watched_by(watcher))
    stream.subscribe(lambda _: seen.append(len(watcher.calls)), scheduler=marbles.scheduler)
    marbles.advance_to(9)
    assert (watcher.calls, seen) == (["begun", "a", "b", "completed"], [2, 3])


def test_it_is_called_for_a_synchronous_source_too(marbles: Marbles) -> None:
    watcher, error = Writing(), ValueError("broken")
    events = marbles.run(at_once("a", "b", error=error).pipe(watched_by(watcher)))
    assert events == [(0.0, Token("a")), (0.0, Token("b")), (0.0, error)]
    assert watcher.calls == ["begun", "a", "b", "failed"]


def test_never_and_empty(marbles: Marbles) -> None:
    never, empty = Writing(), Writing()
    recording = marbles.subscribe(marbles.cold("").pipe(watched_by(never)))
    assert marbles.run(marbles.cold("|").pipe(watched_by(empty)))[-1][1] is COMPLETED
    recording.dispose()
    recording.dispose()
    assert (never.calls, empty.calls) == (["begun", "cancelled"], ["begun", "completed"])


def test_after_raising_a_watcher_is_notified_of_that_failure_only(
    marbles: Marbles,
) -> None:
    """And not of chunks that a source still pushes."""
    watcher = Writing("a")
    events = marbles.run(at_once("a", "b", "c").pipe(watched_by(watcher)))
    assert [repr(event) for _, event in events] == ["OSError('a')"]
    assert watcher.calls == ["begun", "a", "failed"]


@pytest.mark.parametrize("at", ["begun", "a", "completed"])
def test_an_exception_of_the_watcher_fails_the_stream(marbles: Marbles, at: str) -> None:
    source = marbles.cold("a|")
    events = marbles.run(source.pipe(watched_by(Writing(at))))
    assert repr(events[-1][1]) == f"OSError('{at}')"
    assert marbles.timers == []


def test_a_subscriber_that_raises_cancels(marbles: Marbles) -> None:
    watcher, errors = Writing(), list[Exception]()
    source = marbles.cold("a-b|")
    stream = source.pipe(watched_by(watcher))
    stream.subscribe(refusing, errors.append, scheduler=marbles.scheduler)
    with pytest.raises(RuntimeError, match="own"):
        marbles.advance_to(9)
    assert (watcher.calls, errors) == (["begun", "a", "cancelled"], [])
    assert (source.subscriptions, marbles.timers) == ([(0.0, 0.0)], [])


def test_an_exception_raised_then_is_a_note_on_the_subscribers_exception(marbles: Marbles) -> None:
    stream = marbles.cold("a|").pipe(watched_by(Writing("cancelled")))
    stream.subscribe(refusing, scheduler=marbles.scheduler)
    with pytest.raises(RuntimeError, match="own") as caught:
        marbles.advance_to(9)
    assert "OSError('cancelled')" in caught.value.__notes__[0]


def test_an_exception_of_the_subscriber_at_a_synchronous_source_is_not_lost(
    marbles: Marbles,
) -> None:
    """RxPY treats it as a failure of the source."""
    watcher, errors = Writing(), list[Exception]()
    stream = at_once("a", "b").pipe(watched_by(watcher))
    stream.subscribe(refusing, errors.append, scheduler=marbles.scheduler)
    assert watcher.calls == ["begun", "a", "cancelled"]
    assert [str(error) for error in errors] == ["the subscriber's own"]


def test_every_watcher_ends_when_a_subscriber_raises(marbles: Marbles) -> None:
    """Gauge, span, record, log and measurement all end, nested in one another."""
    registry, exporter, provider = CollectorRegistry(), InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    log, analytics, outcomes = ops.DebugLog(), ops.StreamAnalytics(), list[Any]()
    source = marbles.cold("a-b|")
    stream = source.pipe(
        ops.meter(registry),
        ops.trace(provider.get_tracer("test")),
        ops.debug(log),
        ops.analyze(analytics),
        ops.measure(lambda measured: outcomes.append(measured.outcome)),
        ops.log_stream(),
    )
    stream.subscribe(refusing, scheduler=marbles.scheduler)
    with capture_logs() as lines, pytest.raises(RuntimeError):
        marbles.advance_to(9)
    assert registry.get_sample_value("rxllm_active_streams") == 0
    assert len(exporter.get_finished_spans()) == 1
    assert (analytics.active, analytics.cancelled, outcomes) == (0, 1, ["cancelled"])
    assert [entry.event for entry in log][-1] == "cancelled"
    assert lines[-1]["event"] == "stream.cancelled"
    assert source.subscriptions == [(0.0, 0.0)]


def test_demand_passes_through(marbles: Marbles) -> None:
    marbles.valve.close()
    watcher = Writing()
    marbles.at(5, marbles.valve.open)
    events = marbles.run(marbles.cold("a|", demand=True).pipe(watched_by(watcher)))
    assert events == [(5.0, Token("a")), (5.0, COMPLETED)]
