"""`debug`: log every event at one point of a pipeline."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import count, islice
from typing import Final, Literal, TypeAlias, get_args

import msgspec
from reactivex import Observable, abc

from rxllm.arguments import check_int
from rxllm.chunks import Batch, Chunk, ErrorInfo
from rxllm.operators.analytics._watcher import Watcher, watch
from rxllm.stream import Stream
from rxllm.text.surrogates import without_surrogates

__all__ = ["DebugEntry", "DebugLog", "DebugSummary", "debug"]

Happening: TypeAlias = Literal["subscribed", "chunk", "completed", "failed", "cancelled"]

_EVENTS: Final = get_args(Happening)
_encoder: Final = msgspec.json.Encoder(enc_hook=repr)


class DebugEntry(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One logged event.

    Attributes:
        number: running number of the entry, from 1; dropped entries count too.
        subscription: running number of the subscription within the log, from 1.
        elapsed: seconds since that subscription started, by its subscriber's clock.
        time: in Unix seconds.
        event: the kind of event.
        chunk: the chunk, if the event is `"chunk"`.
        error: the class and message of the error, if the event is `"failed"`.
        stream_id: the id that was given to `debug`.
    """

    number: int
    subscription: int
    elapsed: float
    time: float
    event: Happening
    chunk: Chunk | None = None
    error: ErrorInfo | None = None
    stream_id: str | None = None


class DebugSummary(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What is in a log.

    Attributes:
        entries: number of entries.
        subscriptions, completed, failed, cancelled: number of these events.
        chunks: number of chunks by class.
    """

    entries: int
    subscriptions: int
    completed: int
    failed: int
    cancelled: int
    chunks: dict[str, int]


class DebugLog:
    """The last entries of any number of streams, which can be filtered and exported.

    Args:
        size: number of entries to keep, 1 or more; the oldest are dropped first.
        echo: also print each entry to standard error, or call this function with it.
        enabled: whether streams are logged; `None` means what the environment variable
            `RXLLM_DEBUG` says (`0`, `false`, `no` or `off`: no), and yes without it.

    Attributes:
        enabled: as given. A change applies to subscriptions that follow; a stream that isn't logged
            costs nothing.

    Raises:
        TypeError: `size` is not an integer, or `echo` is neither a bool nor a function.
        ValueError: `size` is below 1.

    >>> from rxllm.testing import Marbles
    >>> log = DebugLog()
    >>> _ = Marbles().run(Marbles().cold("a|").pipe(debug(log)), until=0.5)
    >>> len(log), [entry.event for entry in log]
    (1, ['subscribed'])
    """

    def __init__(
        self,
        size: int = 1000,
        *,
        echo: bool | Callable[[DebugEntry], object] = False,
        enabled: bool | None = None,
    ) -> None:
        kept = check_int("size", size, "the number of entries to keep")
        if not (isinstance(echo, bool) or callable(echo)):
            raise TypeError(f"echo must be a bool or a function of an entry, got {echo!r}")
        self.enabled: bool = _is_enabled() if enabled is None else enabled
        self._echo = _print if echo is True else echo or None
        self._entries: deque[DebugEntry] = deque(maxlen=kept)
        self._numbers = count(1)
        self._subscriptions = count(1)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[DebugEntry]:
        return iter(tuple(self._entries))

    def select(
        self,
        *,
        event: Happening | None = None,
        kind: type[object] | None = None,
        source: str | None = None,
        subscription: int | None = None,
        stream_id: str | None = None,
        text: str | None = None,
        after: int = 0,
        last: int | None = None,
    ) -> list[DebugEntry]:
        """Return the entries that match all given criteria, in order.

        Args:
            event: only this kind of event.
            kind: only chunks of this class.
            source: only chunks of this source.
            subscription: only this subscription.
            stream_id: only subscriptions of streams with this id.
            text: only entries with this text in a string of their chunk or error: in its text, its
                arguments, or any other value that is a string.
            after: only entries with a higher number than this.
            last: at most this many, the latest; 1 or more.

        Raises:
            TypeError: `kind` is not a class, or a number is not an integer.
            ValueError: `event` is unknown, or a number is too low.
        """
        if event is not None and event not in _EVENTS:
            raise ValueError(f"event must be one of {', '.join(_EVENTS)}, got {event!r}")
        if kind is not None and not isinstance(kind, type):
            raise TypeError(f"kind must be a chunk class, such as Token, got {kind!r}")
        check_int("after", after, "the number of an entry", minimum=0)
        if last is not None:
            check_int("last", last, "the maximum number of entries, or None")
        fitting = (
            entry
            for entry in reversed(self._entries)
            if entry.number > after
            and (event is None or entry.event == event)
            and (kind is None or isinstance(entry.chunk, kind))
            and (source is None or (entry.chunk is not None and entry.chunk.source == source))
            and (subscription is None or entry.subscription == subscription)
            and (stream_id is None or entry.stream_id == stream_id)
            and (text is None or _has_text(entry, text))
        )
        return list(islice(fitting, last))[::-1]

    def export(self) -> bytes:
        """Return all entries as NDJSON: one JSON object per line, in UTF-8, with camelCase names.

        Values that JSON can't express are written as their `repr`, lone surrogates as `?`.
        """
        return b"".join(_line(entry) for entry in tuple(self._entries))

    def summary(self) -> DebugSummary:
        """Count the entries."""
        entries = tuple(self._entries)
        events = Counter(entry.event for entry in entries)
        return DebugSummary(
            entries=len(entries),
            subscriptions=events["subscribed"],
            completed=events["completed"],
            failed=events["failed"],
            cancelled=events["cancelled"],
            chunks=dict(Counter(type(each.chunk).__name__ for each in entries if each.chunk)),
        )

    def clear(self) -> None:
        """Remove all entries; numbering continues."""
        self._entries.clear()

    def watcher(self, clock: Callable[[], float], stream_id: str | None = None) -> Watcher:
        """Return a watcher that logs one subscription. Called by `debug`."""
        subscription = next(self._subscriptions)
        return _Writer(self._write, self._numbers, subscription, stream_id, clock)

    def _write(self, entry: DebugEntry) -> None:
        self._entries.append(entry)
        if self._echo is not None:
            self._echo(entry)


def _is_enabled() -> bool:
    given = os.environ.get("RXLLM_DEBUG", "")
    return given.strip().lower() not in ("0", "false", "no", "off")


def _print(entry: DebugEntry) -> None:
    what = entry.chunk if entry.error is None else entry.error
    shown = "" if what is None else f" {what!r}"
    name = "" if entry.stream_id is None else f" {entry.stream_id}"
    line = f"{entry.elapsed:8.3f} #{entry.subscription}{name} {entry.event}{shown}"
    print(line.encode(errors="replace").decode(), file=sys.stderr)


def _has_text(entry: DebugEntry, text: str) -> bool:
    chunk = entry.chunk
    parts = chunk.chunks if isinstance(chunk, Batch) else (chunk,)
    fields = [msgspec.structs.asdict(each) for each in (*parts, entry.error) if each is not None]
    return any(text in value for value in _strings(msgspec.to_builtins(fields, enc_hook=repr)))


def _strings(plain: object) -> Iterator[str]:
    """Yield the strings in a value."""
    if isinstance(plain, str):
        yield plain
    elif isinstance(plain, Mapping):
        for value in plain.values():
            yield from _strings(value)
    elif isinstance(plain, Sequence):
        for value in plain:
            yield from _strings(value)


def _line(entry: DebugEntry) -> bytes:
    try:
        return _encoder.encode(entry) + b"\n"
    except UnicodeEncodeError:
        plain = msgspec.to_builtins(entry, enc_hook=repr)
        return _encoder.encode(without_surrogates(plain)) + b"\n"


class _Writer(Watcher):
    def __init__(
        self,
        write: Callable[[DebugEntry], object],
        numbers: Iterator[int],
        subscription: int,
        stream_id: str | None,
        clock: Callable[[], float],
    ) -> None:
        self._stream_id = stream_id
        self._keep = write
        self._numbers = numbers
        self._subscription = subscription
        self._clock = clock
        self._begun = clock()

    def begun(self) -> None:
        self._write("subscribed")

    def chunk(self, chunk: Chunk) -> None:
        self._write("chunk", chunk)

    def completed(self) -> None:
        self._write("completed")

    def failed(self, error: Exception) -> None:
        self._write("failed", error=ErrorInfo.of(error))

    def cancelled(self) -> None:
        self._write("cancelled")

    def _write(
        self, event: Happening, chunk: Chunk | None = None, error: ErrorInfo | None = None
    ) -> None:
        self._keep(
            DebugEntry(
                number=next(self._numbers),
                subscription=self._subscription,
                elapsed=self._clock() - self._begun,
                time=time.time(),
                event=event,
                chunk=chunk,
                error=error,
                stream_id=self._stream_id,
            )
        )


def debug(
    log: DebugLog, stream_id: str | None = None
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Log every event at this point of the pipeline.

    ::

        S-a-b-E|
        [ debug(log) ]
        S-a-b-E|                  log: subscribed, S, a, b, E, completed

    All chunks pass through unchanged. The log keeps the chunks themselves, including their text:
    it is meant for debugging and stays in memory. Several pipelines, and several points of one
    pipeline, may share a log.

    - Completion, error: logged, then passed on.
    - Restart: logged like any other chunk; earlier entries stay.
    - Disposal: logged as `"cancelled"`; upstream is disposed.
    - Demand: passes through; nothing is held.

    Args:
        log: the log to write to.
        stream_id: the name of the stream, in each entry. Subscriptions are numbered anyway.

    Raises:
        TypeError: `log` is not a `DebugLog`, or `stream_id` is not a string.

    >>> from rxllm.testing import Marbles
    >>> from rxllm import Token
    >>> log, marbles = DebugLog(), Marbles()
    >>> _ = marbles.run(marbles.cold("S-a-b-E|").pipe(debug(log)))
    >>> [entry.chunk.text for entry in log.select(kind=Token)], log.select(last=1)[0].event
    (['a', 'b'], 'completed')
    """
    if not isinstance(log, DebugLog):
        raise TypeError(f"log must be a DebugLog, got {type(log).__name__}")
    if not isinstance(stream_id, str | None):
        raise TypeError(f"stream_id must be a string or None, got {stream_id!r}")
    watching = watch("debug", partial(log.watcher, stream_id=stream_id))

    def operator(source: Observable[Chunk]) -> Stream[Chunk]:
        watched = watching(source)

        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            stream = watched if log.enabled else source
            return stream.subscribe(observer, scheduler=scheduler)

        return Stream(subscribe, "debug", of_chunks=True)

    return operator
