"""`Stream`: the Observable that models, operators and combining functions return.

The overloads of `pipe`, three for each number of operators, take up nearly half of this file.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from functools import cached_property, partial
from typing import Any, Final, NoReturn, TypeAlias, TypeGuard, TypeVar, overload

import reactivex
from reactivex import ConnectableObservable, Observable, abc
from reactivex.disposable import Disposable
from reactivex.internal import default_error
from reactivex.scheduler import CurrentThreadScheduler

from rxllm.answer_schema import AnyAnswerSchema, schema_of
from rxllm.chunks import Chunk, is_chunk
from rxllm.consumer import consume
from rxllm.iteration import to_async, to_sync
from rxllm.result import Result
from rxllm.valve import StreamScheduler

__all__ = ["Stream", "as_stream"]

_T = TypeVar("_T", covariant=True)
_In = TypeVar("_In")
_Out = TypeVar("_Out")
_A = TypeVar("_A")
_B = TypeVar("_B")
_C = TypeVar("_C")
_D = TypeVar("_D")
_E = TypeVar("_E")
_F = TypeVar("_F")
_G = TypeVar("_G")
_H = TypeVar("_H")
_I = TypeVar("_I")
_J = TypeVar("_J")
_K = TypeVar("_K")
_Z = TypeVar("_Z")
_S = TypeVar("_S", bound="Stream[Any] | ConnectableObservable[Any]")

_Op: TypeAlias = Callable[[_In], _Out]


class Stream(Observable[_T]):
    """A cold Observable that can also be iterated and awaited.

    ::

        async for chunk in stream: ...      # in a coroutine; see `to_async`
        result = await stream               # the `Result` of a stream of chunks
        for chunk in stream: ...            # without an event loop; see `to_sync`
        shaped = stream.pipe(ops.stop_on("\n"), ops.measure(print))

    Reading it in any of these ways subscribes, and so asks the model. Leaving a `for` stops the
    model at once; leaving an `async for` stops it when Python collects the iterator, which may be
    later: use `async with contextlib.aclosing(aiter(stream)) as chunks` where it matters.

    A subscription has a single link where RxPY has an observer that checks every item (see
    `subscribe`). RxPY's operators work on a `Stream`, and `pipe` turns their results into one.

    Attributes:
        name: the name of the model or operator that made it.
        of_chunks: whether it emits chunks; `None` if not known.
        carries_chunks: whether its items are no chunks, but carry some, which sinks read.
        has_progress: whether an operator in its pipe reports the progress.
        answer_schema: the schema of the type that its answer was asked for, which `Result.value`
            reads it with; `None` without one.

    Args:
        subscribe: starts a subscription, as for `Observable`. It calls `observer.on_next(item)`,
            and must not store the bound method `observer.on_next` for later calls: it would still
            emit after the subscription has ended.
        name, of_chunks, answer_schema: see above.
    """

    carries_chunks = False
    has_progress = False
    answer_schema: AnyAnswerSchema | None = None

    def __init__(
        self,
        subscribe: Callable[
            [abc.ObserverBase[_T], abc.SchedulerBase | None],
            abc.DisposableBase | Callable[[], None],
        ],
        name: str,
        *,
        of_chunks: bool | None = None,
        answer_schema: AnyAnswerSchema | None = None,
    ) -> None:
        # Not `super().__init__`: it would create a lock for each stream, which few ever need.
        self._subscribe = subscribe  # type: ignore[assignment]
        self.name = name
        self.of_chunks = of_chunks
        if answer_schema is not None:
            self.answer_schema = answer_schema

    @cached_property
    def lock(self) -> threading.RLock:  # type: ignore[override]
        """The lock that some RxPY operators use: the same one, even if two threads race for it."""
        lock: threading.RLock = self.__dict__.setdefault("lock", threading.RLock())
        return lock

    def __repr__(self) -> str:
        return f"<Stream {self.name}>"

    def __aiter__(self) -> AsyncGenerator[_T, None]:
        return to_async(self)

    def __iter__(self) -> Generator[_T, None, None]:
        return to_sync(self)

    def __await__(self: Stream[Chunk]) -> Generator[Any, None, Result]:  # type: ignore[override]
        """Read the stream to its end.

        Raises:
            RxLLMError: the stream failed; the text so far is in `partial`.
            TypeError: its items are not chunks (after `ops.text()`, for example).
        """
        if self.of_chunks is False and not self.carries_chunks:
            raise TypeError(
                f"only a stream of chunks can be awaited, but {self.name} emits something else: "
                "read it with `async for`"
            )
        return consume(self).__await__()

    def subscribe(
        self,
        on_next: abc.ObserverBase[_T] | abc.OnNext[_T] | None = None,
        on_error: abc.OnError | None = None,
        on_completed: abc.OnCompleted | None = None,
        *,
        scheduler: abc.SchedulerBase | None = None,
    ) -> abc.DisposableBase:
        """Subscribe, with the same guarantees as `Observable.subscribe`.

        An exception raised by a callback goes to the sink (through its `StreamScheduler`), or to
        the loop's exception handler if there is no sink: it isn't a failure of the model, which a
        retry would ask again. Without a sink, an exception caused by items that other code pushes
        (into a `Subject`, for example, or during the subscription) is raised in that code or goes
        to `on_error`, as in RxPY.
        """
        link = _Link(*_callbacks(on_next, on_error, on_completed))

        def start(*_: object) -> None:
            raised = link.watch()
            try:
                upstream = self._subscribe_core(link, scheduler)
            except Exception as error:
                if error in raised and _has_sink(scheduler):
                    link.dispose()
                    scheduler.fail(error)
                elif not link.fail(error):
                    raise
            else:
                link.hold(upstream)
                link.unwatch()

        # As in RxPY: actions that a source schedules on the current thread start once the whole
        # outermost subscription is set up and can be disposed.
        current_thread = CurrentThreadScheduler.singleton()
        if current_thread.schedule_required():
            current_thread.schedule(start)
        else:
            start()
        return link

    # fmt: off
    @overload
    def pipe(  # type: ignore[overload-overlap]
        self, a: _Op[Stream[_T], _S], /
    ) -> _S: ...
    @overload
    def pipe(self, a: _Op[Stream[_T], Observable[_Z]], /) -> Stream[_Z]: ...
    @overload
    def pipe(self, a: _Op[Stream[_T], _Z], /) -> _Z: ...
    @overload
    def pipe(  # type: ignore[overload-overlap]
        self, a: _Op[Stream[_T], _A], b: _Op[_A, _S], /
    ) -> _S: ...
    @overload
    def pipe(self, a: _Op[Stream[_T], _A], b: _Op[_A, Observable[_Z]], /) -> Stream[_Z]: ...
    @overload
    def pipe(  # type: ignore[overload-overlap]
        self, a: _Op[Stream[_T], _A], b: _Op[_A, _Z], /
    ) -> _Z: ...
    @overload
    def pipe(  # type: ignore[overload-overlap]
        self, a: _Op[Stream[_T], _A], b: _Op[_A, _B], c: _Op[_B, _S], /
    ) -> _S: ...
    @overload
    def pipe(
        self, a: _Op[Stream[_T], _A], b: _Op[_A, _B], c: _Op[_B, Observable[_Z]], /
    ) -> Stream[_Z]: ...
    @overload
    def pipe(  # type: ignore[overload-overlap]
        self, a: _Op[Stream[_T], _A], b: _Op[_A, _B], c: _Op[_B, _Z], /
    ) -> _Z: ...
    @overload
    def pipe(  # type: ignore[overload-overlap]
        self, a: _Op[Stream[_T], _A], b: _Op[_A, _B], c: _Op[_B, _C],
        d: _Op[_C, _S], /
    ) -> _S: ...
    @overload
    def pipe(
        self, a: _Op[Stream[_T], _A], b: _Op[_A, _B], c: _Op[_B, _C], d: _Op[_C, Observable[_Z]], /
    ) -> Stream[_Z]: ...
    @overload
    def pipe(  # type: ignore[overload-overlap]
        self, a: _Op[Stream[_T], _A], b: _Op[_A, _B], c: _Op[_B, _C], d: _Op[_C, _Z], /
    ) -> _Z: ...
    @overload
    def pipe(  # type: ignore[overload-overlap]
        self, a: _Op[Stream[_T], _A], b: _Op[_A, _B], c: _Op[_B, _C], d: _Op[_C, _D],
        e: _Op[_D, _S], /
    ) -> _S: ...
    @overload
    def pipe(
        self, a: _Op[Stream[_T], _A], b: _Op[_A, _B], c: _Op[_B, _C], d: _Op[_C, _D],
        e: _Op[_D, Observable[_Z]], /
    ) -> Stream[_Z]: ...
    @overload
    def pipe(  # type: ignore[overload-overlap]
        self, a: _Op[Stream[_T], _A], b: _Op[_A, _B], c: _Op[_B, _C], d: _Op[_C, _D],
        e: _Op[_D, _Z], /
    ) -> _Z: ...
    @overload
    def pipe(  # type: ignore[overload-overlap]
        self, a: _Op[Stream[_T], _A], b: _Op[_A, _B], c: _Op[_B, _C], d: _Op[_C, _D],
        e: _Op[_D, _E], f: _Op[_E, _S], /
    ) -> _S: ...
    @overload
    def pipe(
        self, a: _Op[Stream[_T], _A], b: _Op[_A, _B], c: _Op[_B, _C], d: _Op[_C, _D],
        e: _Op[_D, _E], f: _Op[_E, Observable[_Z]], /
    ) -> Stream[_Z]: ...
    @overload
    def pipe(  # type: ignore[overload-overlap]
        self, a: _Op[Stream[_T], _A], b: _Op[_A, _B], c: _Op[_B, _C], d: _Op[_C, _D],
        e: _Op[_D, _E], f: _Op[_E, _Z], /
    ) -> _Z: ...
    @overload
    def pipe(  # type: ignore[overload-overlap]
        self, a: _Op[Stream[_T], _A], b: _Op[_A, _B], c: _Op[_B, _C], d: _Op[_C, _D],
        e: _Op[_D, _E], f: _Op[_E, _F], g: _Op[_F, _S], /
    ) -> _S: ...
    @overload
    def pipe(
        self, a: _Op[Stream[_T], _A], b: _Op[_A, _B], c: _Op[_B, _C], d: _Op[_C, _D],
        e: _Op[_D, _E], f: _Op[_E, _F], g: _Op[_F, Observable[_Z]], /
    ) -> Stream[_Z]: ...
    @overload
    def pipe(  # type: ignore[overload-overlap]
        self, a: _Op[Stream[_T], _A], b: _Op[_A, _B], c: _Op[_B, _C], d: _Op[_C, _D],
        e: _Op[_D, _E], f: _Op[_E, _F], g: _Op[_F, _Z], /
    ) -> _Z: ...
    @overload
    def pipe(  # type: ignore[overload-overlap]
        self, a: _Op[Stream[_T], _A], b: _Op[_A, _B], c: _Op[_B, _C], d: _Op[_C, _D],
        e: _Op[_D, _E], f: _Op[_E, _F], g: _Op[_F, _G], h: _Op[_G, _S], /
    ) -> _S: ...
    @overload
    def pipe(
        self, a: _Op[Stream[_T], _A], b: _Op[_A, _B], c: _Op[_B, _C], d: _Op[_C, _D],
        e: _Op[_D, _E], f: _Op[_E, _F], g: _Op[_F, _G], h: _Op[_G, Observable[_Z]], /
    ) -> Stream[_Z]: ...
    @overload
    def pipe(  # type: ignore[overload-overlap]
        self, a: _Op[Stream[_T], _A], b: _Op[_A, _B], c: _Op[_B, _C], d: _Op[_C, _D],
        e: _Op[_D, _E], f: _Op[_E, _F], g: _Op[_F, _G], h: _Op[_G, _Z], /
    ) -> _Z: ...
    @overload
    def pipe(  # type: ignore[overload-overlap]
        self, a: _Op[Stream[_T], _A], b: _Op[_A, _B], c: _Op[_B, _C], d: _Op[_C, _D],
        e: _Op[_D, _E], f: _Op[_E, _F], g: _Op[_F, _G], h: _Op[_G, _H],
        i: _Op[_H, _S], /
    ) -> _S: ...
    @overload
    def pipe(
        self, a: _Op[Stream[_T], _A], b: _Op[_A, _B], c: _Op[_B, _C], d: _Op[_C, _D],
        e: _Op[_D, _E], f: _Op[_E, _F], g: _Op[_F, _G], h: _Op[_G, _H], i: _Op[_H, Observable[_Z]],
        /
    ) -> Stream[_Z]: ...
    @overload
    def pipe(  # type: ignore[overload-overlap]
        self, a: _Op[Stream[_T], _A], b: _Op[_A, _B], c: _Op[_B, _C], d: _Op[_C, _D],
        e: _Op[_D, _E], f: _Op[_E, _F], g: _Op[_F, _G], h: _Op[_G, _H], i: _Op[_H, _Z], /
    ) -> _Z: ...
    @overload
    def pipe(  # type: ignore[overload-overlap]
        self, a: _Op[Stream[_T], _A], b: _Op[_A, _B], c: _Op[_B, _C], d: _Op[_C, _D],
        e: _Op[_D, _E], f: _Op[_E, _F], g: _Op[_F, _G], h: _Op[_G, _H], i: _Op[_H, _I],
        j: _Op[_I, _S], /
    ) -> _S: ...
    @overload
    def pipe(
        self, a: _Op[Stream[_T], _A], b: _Op[_A, _B], c: _Op[_B, _C], d: _Op[_C, _D],
        e: _Op[_D, _E], f: _Op[_E, _F], g: _Op[_F, _G], h: _Op[_G, _H], i: _Op[_H, _I],
        j: _Op[_I, Observable[_Z]], /
    ) -> Stream[_Z]: ...
    @overload
    def pipe(  # type: ignore[overload-overlap]
        self, a: _Op[Stream[_T], _A], b: _Op[_A, _B], c: _Op[_B, _C], d: _Op[_C, _D],
        e: _Op[_D, _E], f: _Op[_E, _F], g: _Op[_F, _G], h: _Op[_G, _H], i: _Op[_H, _I],
        j: _Op[_I, _Z], /
    ) -> _Z: ...
    @overload
    def pipe(  # type: ignore[overload-overlap]
        self, a: _Op[Stream[_T], _A], b: _Op[_A, _B], c: _Op[_B, _C], d: _Op[_C, _D],
        e: _Op[_D, _E], f: _Op[_E, _F], g: _Op[_F, _G], h: _Op[_G, _H], i: _Op[_H, _I],
        j: _Op[_I, _J], k: _Op[_J, _S], /
    ) -> _S: ...
    @overload
    def pipe(
        self, a: _Op[Stream[_T], _A], b: _Op[_A, _B], c: _Op[_B, _C], d: _Op[_C, _D],
        e: _Op[_D, _E], f: _Op[_E, _F], g: _Op[_F, _G], h: _Op[_G, _H], i: _Op[_H, _I],
        j: _Op[_I, _J], k: _Op[_J, Observable[_Z]], /
    ) -> Stream[_Z]: ...
    @overload
    def pipe(  # type: ignore[overload-overlap]
        self, a: _Op[Stream[_T], _A], b: _Op[_A, _B], c: _Op[_B, _C], d: _Op[_C, _D],
        e: _Op[_D, _E], f: _Op[_E, _F], g: _Op[_F, _G], h: _Op[_G, _H], i: _Op[_H, _I],
        j: _Op[_I, _J], k: _Op[_J, _Z], /
    ) -> _Z: ...
    @overload
    def pipe(  # type: ignore[overload-overlap]
        self, a: _Op[Stream[_T], _A], b: _Op[_A, _B], c: _Op[_B, _C], d: _Op[_C, _D],
        e: _Op[_D, _E], f: _Op[_E, _F], g: _Op[_F, _G], h: _Op[_G, _H], i: _Op[_H, _I],
        j: _Op[_I, _J], k: _Op[_J, _K], m: _Op[_K, _S], /
    ) -> _S: ...
    @overload
    def pipe(
        self, a: _Op[Stream[_T], _A], b: _Op[_A, _B], c: _Op[_B, _C], d: _Op[_C, _D],
        e: _Op[_D, _E], f: _Op[_E, _F], g: _Op[_F, _G], h: _Op[_G, _H], i: _Op[_H, _I],
        j: _Op[_I, _J], k: _Op[_J, _K], m: _Op[_K, Observable[_Z]], /
    ) -> Stream[_Z]: ...
    @overload
    def pipe(  # type: ignore[overload-overlap]
        self, a: _Op[Stream[_T], _A], b: _Op[_A, _B], c: _Op[_B, _C], d: _Op[_C, _D],
        e: _Op[_D, _E], f: _Op[_E, _F], g: _Op[_F, _G], h: _Op[_G, _H], i: _Op[_H, _I],
        j: _Op[_I, _J], k: _Op[_J, _K], m: _Op[_K, _Z], /
    ) -> _Z: ...
    @overload
    def pipe(self, *operators: _Op[Observable[_T], Observable[_T]]) -> Stream[_T]: ...
    # fmt: on

    def pipe(self, *operators: Callable[[Any], Any]) -> Any:
        """Apply operators to this stream, from left to right.

        An Observable returned by an RxPY operator or by a function of your own becomes a `Stream`
        too, which subscribes to it as RxPY does. A `ConnectableObservable`, and anything that isn't
        an Observable (the future of `to_future`, the list of `partition`), is returned unchanged.
        Types are inferred for up to twelve operators, and beyond that for operators that keep the
        type of the items.

        Raises:
            TypeError: an argument isn't an operator (for example, a function of `rxllm.operators`
                that was not called, a stream, a list or `None`), or an operator of
                `rxllm.operators`, all of which take chunks, follows one that emits something else,
                such as `text`. If that can't be known here, the error is raised at the first item
                that isn't a chunk.
        """
        for position, operator in enumerate(operators, 1):
            _check_operator(operator, position)
        value: Any = self
        for position, operator in enumerate(operators, 1):
            value = _applied(operator, value)
            if value is None and position < len(operators):
                raise TypeError(
                    f"argument {position} of pipe returned None, but argument {position + 1} "
                    "takes a stream: return one"
                )
        return value

    def __add__(self, other: Observable[Any]) -> Stream[Any]:
        """Concatenate: this stream, followed by `other`."""
        return as_stream(reactivex.concat(self, other), "concat")

    def run(self, scheduler: abc.SchedulerBase | None = None) -> NoReturn:
        """Not supported: `rxllm.run(stream)` reads a stream to its end.

        Raises:
            TypeError: always.
        """
        raise TypeError("write rxllm.run(stream), or `for item in stream`")


def as_stream(observable: Observable[_Out], name: str) -> Stream[_Out]:
    """Wrap an Observable in a `Stream`, or return `observable` itself if it is a `Stream`.

    The `Stream` subscribes through that Observable, so any subscribe function is safe behind it. A
    `ConnectableObservable` is also returned unchanged.
    """
    if isinstance(observable, Stream | ConnectableObservable):
        return observable  # type: ignore[return-value]
    return _Foreign(observable, name)


class _Foreign(Stream[_T]):
    """A `Stream` that subscribes through the Observable it wraps."""

    def __init__(self, observable: Observable[_T], name: str) -> None:
        self._observable = observable
        self.name = name
        self.of_chunks = None

    @property
    def lock(self) -> threading.RLock:  # type: ignore[override]
        return self._observable.lock

    def subscribe(
        self,
        on_next: abc.ObserverBase[_T] | abc.OnNext[_T] | None = None,
        on_error: abc.OnError | None = None,
        on_completed: abc.OnCompleted | None = None,
        *,
        scheduler: abc.SchedulerBase | None = None,
    ) -> abc.DisposableBase:
        take, *ends = _callbacks(on_next, on_error, on_completed)
        if _has_sink(scheduler):
            take = partial(_take_or_fail, take, scheduler)
        return self._observable.subscribe(take, *ends, scheduler=scheduler)


def _has_sink(scheduler: abc.SchedulerBase | None) -> TypeGuard[StreamScheduler]:
    return isinstance(scheduler, StreamScheduler) and scheduler.has_sink


def _take_or_fail(take: Callable[[Any], None], scheduler: StreamScheduler, item: Any) -> None:
    """Pass an item from foreign code to a subscriber, and its exception to the sink."""
    try:
        take(item)
    except (Exception, asyncio.CancelledError) as error:
        scheduler.fail(error)


class _Link(abc.ObserverBase[Any], abc.DisposableBase):
    """One subscription: an observer for upstream, a disposable for downstream.

    `on_next` is the subscriber's own function until the link is cut; then it does nothing.
    """

    __slots__ = ("_on_completed", "_on_error", "_upstream", "_watched", "on_next")

    on_next: Callable[[Any], None]  # type: ignore[assignment]

    def __init__(
        self,
        on_next: Callable[[Any], None],
        on_error: Callable[[Exception], None],
        on_completed: Callable[[], None],
    ) -> None:
        self.on_next = on_next
        self._on_error = on_error
        self._on_completed = on_completed
        self._upstream: abc.DisposableBase | None = None
        self._watched: Callable[[Any], None] | None = None

    def watch(self) -> list[Exception]:
        """Collect what the subscriber raises: a source may emit while it is subscribed to."""
        take = self._watched = self.on_next
        raised: list[Exception] = []

        def watching(item: Any) -> None:
            try:
                take(item)
            except Exception as error:
                raised.append(error)
                raise

        self.on_next = watching
        return raised

    def unwatch(self) -> None:
        """Stop collecting: the source is subscribed to, and items go straight to the subscriber."""
        if self._watched is not None:
            self.on_next = self._watched
            self._watched = None

    def hold(self, upstream: Any) -> None:
        """Dispose `upstream` when the link is cut, or now if it already is."""
        held = upstream if hasattr(upstream, "dispose") else Disposable(upstream)
        if self._on_error is _nothing:
            held.dispose()
        else:
            self._upstream = held

    def on_error(self, error: Exception) -> None:
        on_error = self._on_error
        self._cut()
        try:
            on_error(error)
        finally:
            self.dispose()

    def on_completed(self) -> None:
        on_completed = self._on_completed
        self._cut()
        try:
            on_completed()
        finally:
            self.dispose()

    def fail(self, error: Exception) -> bool:
        """Report that subscribing failed; return False if the link is already cut."""
        if self._on_error is _nothing:
            return False
        self.on_error(error)
        return True

    def dispose(self) -> None:
        self._cut()
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.dispose()

    def _cut(self) -> None:
        self.on_next = self._on_error = self._on_completed = _nothing
        self._watched = None


def _nothing(*_: object) -> None:
    """The callback of a link that is cut."""


def _callbacks(on_next: Any, on_error: Any, on_completed: Any) -> tuple[Any, Any, Any]:
    """Return the three functions of a subscriber, which may be an observer."""
    observer = on_next
    if isinstance(observer, _Link):  # its `on_next` changes, so look it up for each item
        return lambda item: observer.on_next(item), observer.on_error, observer.on_completed
    if callable(getattr(observer, "on_next", None)):
        return observer.on_next, observer.on_error, observer.on_completed
    return on_next or _nothing, on_error or default_error, on_completed or _nothing


_OPERATORS: Final = "rxllm.operators"
_CATALOGUES: Final = (_OPERATORS, "reactivex.operators")


def _check_operator(operator: Any, position: int) -> None:
    module = getattr(operator, "__module__", None) or ""
    if not callable(operator) or (isinstance(operator, type) and module.startswith(_OPERATORS)):
        what = f"pipe takes operators; argument {position} is {operator!r}"
        raise TypeError(what + _hint(operator))
    name = getattr(operator, "__qualname__", "_")
    if module.startswith(_CATALOGUES) and "<locals>" not in name and not name.startswith("_"):
        raise TypeError(
            f"pipe takes operators; argument {position} is the function {name}, which returns one: "
            f"call it, as in pipe({name}(...))"
        )


def _hint(mistake: Any) -> str:
    """Suggest what to write instead of something that isn't an operator."""
    if isinstance(mistake, Observable):
        return "; to combine streams, see rxllm.operators.merge_streams and its siblings"
    if isinstance(mistake, list | tuple):
        return "; write pipe(*operators)"
    if callable(getattr(mistake, "stream", None)):
        return "; a pipe starts from a model's stream: model.stream(prompt).pipe(...)"
    if (mistake if isinstance(mistake, type) else type(mistake)).__module__.startswith(_OPERATORS):
        return "; pass it to the operator that uses it, as in limit_concurrency(pool)"
    return ""


def _applied(operator: Callable[[Any], Any], source: Any) -> Any:
    """Apply an operator to `source`; a resulting Observable becomes a `Stream`."""
    if (
        not (getattr(operator, "__module__", None) or "").startswith(_OPERATORS)
        or not isinstance(source, Stream)
        or source.of_chunks
    ):
        value = operator(source)
    else:
        value = _applied_to_chunks(operator, source)
    if not isinstance(value, Observable):
        return value
    stream = as_stream(value, _name_of(operator))
    if isinstance(source, Stream):
        if source.has_progress:
            stream.has_progress = True
        if source.answer_schema is not None and schema_of(stream) is None:
            stream.answer_schema = source.answer_schema
    return stream


def _applied_to_chunks(operator: Callable[[Any], Any], source: Stream[Any]) -> Any:
    """Apply one of our operators, which all take chunks, to a source that may emit other items.

    Raises:
        TypeError: the source is known to emit other items.
    """
    taker = ""

    def subscribe(
        observer: abc.ObserverBase[Any], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        def on_next(item: Any) -> None:
            if not is_chunk(item):
                raise TypeError(f"{taker} takes chunks, but got {item!r} from {source.name}")
            observer.on_next(item)

        return source.subscribe(
            on_next, observer.on_error, observer.on_completed, scheduler=scheduler
        )

    value = operator(Stream(subscribe, source.name, of_chunks=True))
    taker = value.name if isinstance(value, Stream) else _name_of(operator)
    if source.of_chunks is False:
        raise TypeError(
            f"{taker} takes chunks, but {source.name} emits something else: "
            f"put {taker} before {source.name}"
        )
    return value


def _name_of(operator: Any) -> str:
    """Return the name of an operator; RxPY's are curried functions."""
    name: str = getattr(operator, "__qualname__", type(operator).__name__)
    if name.startswith("curry_flip."):
        for cell in operator.__closure__ or ():
            name = getattr(cell.cell_contents, "__name__", name)
    return name.split(".<locals>")[0].strip("_<>")
