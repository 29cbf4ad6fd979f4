"""`recorded`: a model whose streams are written to a journal."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Unpack

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable, SingleAssignmentDisposable

from rxllm.chunks import Chunk
from rxllm.errors import StreamError
from rxllm.models.journal._errors import RecordedError
from rxllm.models.journal._models import check_path, model_of
from rxllm.models.journal._requests import record_of
from rxllm.models.journal._writer import JournalWriter
from rxllm.requests import Model, Prompt, Request, RequestOptions, as_request
from rxllm.stream import Stream
from rxllm.valve import StreamScheduler, clock_of, scheduler_or_default
from rxllm.wrapped_model import WrappedModel

__all__ = ["recorded"]


def recorded(model: Model | str, path: str | os.PathLike[str]) -> Model:
    """Return a model that also appends each of its streams to a journal, for `replay`.

    Everything else is that of the model; the chunks pass through unchanged. A line is written
    before its chunk is passed on, so the journal has all that a subscriber has received, also after
    a crash of the process. The docstring of `rxllm.models.journal` describes the file, and what is
    left out of it: keys, and the bytes of images and files.

    - Subscription: the journal is opened, and the request written, before the model is asked.
    - Completion, error: written, then passed on.
    - Disposal: written as `"cancelled"`; a failure to write it goes to the exception handler of the
      event loop.
    - Demand: passes through. Writing blocks the event loop until the operating system has accepted
      the line (some microseconds); nothing is held here.
    - A journal that can't be written, on a full disk for example, stops the model, and a
      `StreamError` ends the stream. So does a value in a chunk that isn't JSON. Values that JSON
      has in another form (a tuple) are replayed in that one.

    Args:
        model: a model, or a name for `rxllm.model`.
        path: the journal, created if it doesn't exist. Several streams, models and processes may
            append to one journal at the same time.

    Raises:
        TypeError: `model` is not a model, or `path` is not a path.
        BadRequestError: no model has this name.

    >>> import rxllm, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model = recorded("scripted/Hello there!", f"{folder}/run.jsonl")
    ...     _ = rxllm.run(model.stream("Hi"))
    ...     rxllm.run(rxllm.replay(f"{folder}/run.jsonl").stream("Hi")).text
    'Hello there!'
    """
    return _RecordedModel(model_of(model), check_path(path))


class _RecordedModel(WrappedModel):
    def __init__(self, model: Model, path: Path) -> None:
        super().__init__(model)
        self._path = path

    def __repr__(self) -> str:
        return f"recorded({self._model!r}, {str(self._path)!r})"

    def stream(self, prompt: Prompt, **options: Unpack[RequestOptions]) -> Stream[Chunk]:
        """Return a cold Observable of the answer, which each subscription records.

        Options that aren't fields of `Request` are passed to the model, and aren't recorded.

        Raises:
            BadRequestError: the prompt or an option is invalid, or can't be written as JSON.
        """
        source = self._model.stream(prompt, **options)
        fields: Any = {
            name: value for name, value in options.items() if name in Request.__struct_fields__
        }
        record = record_of(as_request(prompt, **fields))

        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            scheduler = scheduler_or_default(scheduler)
            try:
                writer = JournalWriter(self._path, clock_of(scheduler))
                writer.begin(self._model.info, record)
            except Exception as error:
                raise _failure(self._path, error) from error
            return _Subscription(observer, scheduler, writer, self._path).start(source)

        return Stream(subscribe, source.name, of_chunks=True, answer_schema=source.answer_schema)


class _Subscription:
    """One subscription."""

    def __init__(
        self,
        observer: abc.ObserverBase[Chunk],
        scheduler: abc.SchedulerBase,
        writer: JournalWriter,
        path: Path,
    ) -> None:
        self._observer = observer
        self._scheduler = scheduler
        self._writer = writer
        self._path = path
        self._is_over = False
        self._upstream = SingleAssignmentDisposable()

    def start(self, source: Observable[Chunk]) -> abc.DisposableBase:
        self._upstream.disposable = source.subscribe(
            self._on_next, self._on_error, self._on_completed, scheduler=self._scheduler
        )
        return CompositeDisposable(self._upstream, Disposable(self._on_disposed))

    def _on_next(self, chunk: Chunk) -> None:
        if self._is_over:
            return  # a source that emits synchronously has not seen the disposal yet
        try:
            self._writer.add(chunk)
        except Exception as error:
            self._is_over = True
            self._upstream.dispose()
            self._fail(error)
            return
        try:
            self._observer.on_next(chunk)
        except BaseException:
            self._upstream.dispose()
            self._on_disposed()
            raise

    def _on_error(self, error: Exception) -> None:
        if self._is_over:
            return
        self._is_over = True
        try:
            self._writer.end("failed", RecordedError.of(error))
        except Exception as unwritten:
            error.add_note(str(_failure(self._path, unwritten)))
        self._observer.on_error(error)

    def _on_completed(self) -> None:
        if self._is_over:
            return
        self._is_over = True
        try:
            self._writer.end("completed")
        except Exception as error:
            self._fail(error)
        else:
            self._observer.on_completed()

    def _on_disposed(self) -> None:
        if self._is_over:
            return
        self._is_over = True
        try:
            self._writer.end("cancelled")
        except Exception as error:
            self._report(_failure(self._path, error))

    def _fail(self, error: Exception) -> None:
        failure = _failure(self._path, error)
        failure.__cause__ = error
        self._observer.on_error(failure)

    def _report(self, failure: StreamError) -> None:
        if not isinstance(self._scheduler, StreamScheduler):
            raise failure
        context = {"message": str(failure), "exception": failure}
        self._scheduler.loop.call_exception_handler(context)


def _failure(path: Path, error: Exception) -> StreamError:
    return StreamError(f"the journal {path} could not be written: {error}")
