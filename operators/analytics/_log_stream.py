"""`log_stream`: structured log lines for the events of a stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reactivex import Observable

from rxllm.answer_counts import AnswerCounts
from rxllm.chunks import Batch, Chunk, End, Notice, Start, ToolCall, Usage, has_output, text_of
from rxllm.operators.analytics._loading import LoadingTime
from rxllm.operators.analytics._run import Run
from rxllm.operators.analytics._watcher import Watcher, watch
from rxllm.stream import Stream

__all__ = ["log_stream"]


def log_stream(
    logger: Any = None, *, chunks: bool = False, **fields: object
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Log the events of the stream through structlog.

    ::

        S-a-b-E|
        [ log_stream() ]
        S-a-b-E|                  stream.start, stream.first_token, stream.end, stream.completed

    All chunks pass through unchanged. Events and their fields: `stream.start` (model, provider,
    request), `stream.first_token` (seconds), `stream.usage` (the fields of `Usage`), `stream.end`
    (finish_reason), `stream.tool` for each result of a tool (name, call, seconds, error), and one
    of `stream.completed`, `stream.failed` (error, message) and `stream.cancelled`, each with
    content chunks, characters, and seconds since the subscription.
    A `Notice` is logged as a warning under its kind: `stream.retry`, `stream.fallback`,
    `stream.restart`, ... (attempt, delay, skipped, error). `source` is included if the chunk has
    one. The failure of the stream is logged at level error, that of a tool as a warning, and
    everything else at info.

    Each answer of a run of an agent has its `stream.start` and `stream.end`; the last line has the
    number of steps and of tool calls too. The seconds of a tool are those since the end of the
    answer that calls it, and its error is the name of the class.

    The text of the answer and of the prompt, and the arguments and results of tools, are never
    logged, but an error message may quote the provider.

    - Completion, error: logged, then passed on.
    - Restart: logged; the counts of that answer are reset, the clock is not.
    - Disposal: logged as `stream.cancelled`; upstream is disposed.
    - Demand: passes through; nothing is held.

    Args:
        logger: a structlog logger or an object with the same methods, or `None` to use
            `structlog.get_logger("rxllm")`.
        chunks: also log each content chunk, as `stream.chunk` (type, characters), at level debug.
        fields: bound to each line, such as `request_id="..."`.

    Raises:
        TypeError: `logger` is a class, or has no method `bind`.

    >>> from structlog.testing import capture_logs
    >>> from rxllm.testing import Marbles
    >>> marbles = Marbles()
    >>> with capture_logs() as lines:
    ...     _ = marbles.run(marbles.cold("S-a-b-E|").pipe(log_stream(user="ada")))
    >>> [line["event"] for line in lines], lines[1]["seconds"], lines[1]["user"]
    (['stream.start', 'stream.first_token', 'stream.end', 'stream.completed'], 2.0, 'ada')
    """
    import structlog  # here, since it takes longer to import than this whole package

    given = structlog.get_logger("rxllm") if logger is None else logger
    if isinstance(given, type) or not callable(getattr(given, "bind", None)):
        raise TypeError(
            f"logger must be a structlog logger with a `bind` method, got {type(given).__name__}: "
            "wrap a standard library logger with structlog.wrap_logger(logger)"
        )
    return watch("log_stream", lambda clock: _LogWatcher(given.bind(**fields), clock, chunks))


class _LogWatcher(Watcher):
    def __init__(self, log: Any, clock: Callable[[], float], every_chunk: bool) -> None:
        self._log = log
        self._clock = clock
        self._every_chunk = every_chunk
        self._begun = clock()
        self._loading = LoadingTime(clock)
        self._run = Run(clock)
        self._chunks = AnswerCounts()
        self._characters = AnswerCounts()
        self._has_content = False

    def chunk(self, chunk: Chunk) -> None:
        if has_output(chunk):
            self._content(chunk)
            return
        call = self._run.note(chunk)
        self._chunks.note(chunk)
        self._characters.note(chunk)
        if type(chunk) is Start:
            self._loading.add(chunk)
            self._log_event(
                chunk, "start", model=chunk.model, provider=chunk.provider, request=chunk.request_id
            )
        elif type(chunk) is Notice:
            self._loading.add(chunk)
            self._notice(chunk)
        elif type(chunk) is Usage:
            used = {name: getattr(chunk, name) for name in chunk.__struct_fields__}
            used.pop("source")
            self._log_event(chunk, "usage", **used)
        elif type(chunk) is End:
            self._log_event(
                chunk, "end", finish_reason=chunk.finish_reason, stop_sequence=chunk.stop_sequence
            )
        elif call is not None:
            fields = {"call": call.id, "seconds": call.seconds, "error": call.error}
            level = self._log.info if call.error is None else self._log.warning
            self._log_event(chunk, "tool", level, name=call.name, **fields)

    def completed(self) -> None:
        self._log.info("stream.completed", **self._totals())

    def failed(self, error: Exception) -> None:
        self._log.error(
            "stream.failed", error=type(error).__name__, message=str(error), **self._totals()
        )

    def cancelled(self) -> None:
        self._log.info("stream.cancelled", **self._totals())

    def _content(self, chunk: Chunk) -> None:
        if not self._has_content:
            self._has_content = True
            seconds = self._clock() - self._begun - self._loading.seconds
            self._log_event(chunk, "first_token", seconds=seconds)
        if type(chunk) is ToolCall:
            self._run.note(chunk)
        source, characters = chunk.source, len(text_of(chunk))
        chunks = len(chunk.chunks) if type(chunk) is Batch else 1
        self._chunks[source] = self._chunks.get(source, 0) + chunks
        self._characters[source] = self._characters.get(source, 0) + characters
        if self._every_chunk:
            kind = type(chunk).__name__
            self._log_event(chunk, "chunk", self._log.debug, type=kind, characters=characters)

    def _notice(self, notice: Notice) -> None:
        error = notice.error
        self._log_event(
            notice,
            notice.kind,
            self._log.warning,
            attempt=notice.attempt,
            delay=notice.delay,
            skipped=notice.skipped,
            error=None if error is None else error.type,
            message=None if error is None else error.message,
        )

    def _log_event(
        self, chunk: Chunk, event: str, level: Callable[..., object] | None = None, **fields: object
    ) -> None:
        known = {name: value for name, value in fields.items() if value is not None}
        if chunk.source is not None:
            known["source"] = chunk.source
        (level or self._log.info)(f"stream.{event}", **known)

    def _totals(self) -> dict[str, object]:
        run = self._run
        of_run = {"steps": run.steps, "tool_calls": run.tool_calls} if run.has_begun else {}
        return {
            "chunks": sum(self._chunks.values()),
            "characters": sum(self._characters.values()),
            "seconds": self._clock() - self._begun,
            **of_run,
        }
