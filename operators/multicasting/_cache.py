"""`cache`: replay known answers instead of calling the model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Literal, TypeAlias, Unpack, get_args

import msgspec
from reactivex import Observable, abc

from rxllm.arguments import check_number
from rxllm.chunks import Chunk
from rxllm.errors import BadRequestError
from rxllm.operators.multicasting._answer import Answer, recording, replay
from rxllm.operators.multicasting._multiplex import Multiplexed, multiplex
from rxllm.operators.multicasting._report import report
from rxllm.operators.multicasting._store import CacheStore
from rxllm.requests import Model, Prompt, RequestOptions, as_request
from rxllm.stream import Stream
from rxllm.valve import clock_of, scheduler_or_default

__all__ = ["cache", "cache_key"]

Timing: TypeAlias = Literal["at_once", "original"]

_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder(Answer).decode


def cache(
    store: CacheStore,
    key: str | Callable[[], str],
    ttl: float | None = 3600.0,
    *,
    timing: Timing = "at_once",
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Store the whole answer, and replay it for further subscriptions with the same key.

    ::

        S--a--b-(E,|)
        [ cache(store, key, 60) ]
        S--a--b-(E,|)    the first subscription
            x-b-(E,|)    another one meanwhile, from the same call; x: S and a
        (S,a,b,E,|)      within 60 s of its end

    A call is shared by all streams with the same store and key: a subscriber that joins while it
    runs gets the answer so far, as from `multiplex`, and then the rest. The call is stopped when
    its last subscriber has left.

    An answer is stored once it has reached its `End` and completed. It isn't stored if it failed,
    was disposed, ended with `"cancelled"`, has a gap (`Notice("lagged")`), or contains a failed
    stream (`Notice("failed")`). That includes a failed loser of `race` or `hedge`: put `cache` into
    each of their streams instead. An answer is replayed chunk by chunk, `Usage` included: put
    `price` before `cache`, and note that totals computed after it count a replay like a call.

    - Completion, error: passed on to all subscribers of the call; after an error, the next
      subscription makes a new call. An exception of `key` or `store.get` is the error. An exception
      of `store.put` goes to the exception handler of the event loop, since the answer was complete.
      So does a `ValueError` if JSON can't represent the answer, such as a NaN in a `Json` chunk.
    - Restart: neither the chunks before it nor the notice are stored.
    - Disposal: leaves the call, or stops the replay.
    - Demand: the whole answer is in memory while a call runs, so the model doesn't wait for its
      subscribers: waiting chunks are joined (`on_lag="coalesce"`). A replay waits for the valve.

    Args:
        store: where answers are stored, such as a `MemoryStore`.
        key: the key of the request, the same for equal requests: see `cache_key`. A function is
            called at each subscription.
        ttl: how long an answer is replayed, in seconds from its end on the scheduler's clock, or
            `None` for as long as the store keeps it.
        timing: `"at_once"`, or `"original"` for a replay with the original pauses.

    Raises:
        TypeError: `store` is not a `CacheStore`, `key` is neither a string nor a function, or `ttl`
            is not a number. Into `on_error`: the function `key` doesn't return a string.
        ValueError: `ttl` is not above 0, or `timing` is invalid.

    >>> from rxllm.models.scripted import ScriptedModel
    >>> from rxllm.operators import MemoryStore
    >>> from rxllm.testing import Marbles
    >>> marbles, store, model = Marbles(), MemoryStore(), ScriptedModel("Hello", delay=2)
    >>> for _ in range(2):
    ...     marbles.run(model.stream("Hi").pipe(cache(store, "Hi")))[-1]
    (2.0, |)
    (1000.0, |)
    >>> len(model.requests), store.hits
    (1, 1)
    """
    if not isinstance(store, CacheStore):
        raise TypeError(f"store must be a CacheStore, such as MemoryStore(), got {store!r}")
    if not (isinstance(key, str) or callable(key)):
        raise TypeError(f"key must be a string or a function that returns one, got {key!r}")
    if ttl is not None:
        check_number(
            "ttl", ttl, "the seconds for which an answer is kept", above=0, allow_infinity=True
        )
    if timing not in get_args(Timing):
        raise ValueError(f"timing must be one of {get_args(Timing)}, got {timing!r}")

    def operator(source: Observable[Chunk]) -> Stream[Chunk]:
        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            name = _name(key)
            answer = _load(store.get(name, now=clock_of(scheduler)()))
            if answer is not None:
                return replay(answer, timing == "original", observer, scheduler)
            call = _joint_call(source, store, name, ttl, scheduler_or_default(scheduler))
            return call.subscribe(observer, scheduler=scheduler)

        return Stream(subscribe, "cache", of_chunks=True)

    return operator


def cache_key(
    model: Model, prompt: Prompt, *, salt: str = "", **options: Unpack[RequestOptions]
) -> str:
    """The key of a request: the same for equal requests to models of the same name only.

    The name of a model (its provider and id) may not identify it completely. Put other differences,
    such as your own `base_url` or the script of a `ScriptedModel`, into `salt`, unless each model
    has its own store.

    Args:
        model: the model that gets the request.
        prompt, options: as for `Model.stream`.
        salt: anything else that changes the answer.

    Raises:
        BadRequestError: the prompt or an option is invalid.

    >>> from rxllm.models.scripted import ScriptedModel
    >>> model = ScriptedModel("Hello")
    >>> cache_key(model, "Hi", stop="x") == cache_key(model, "Hi", stop=["x"])
    True
    >>> cache_key(model, "Hi", temperature=0) == cache_key(model, "Hi")
    False
    """
    request = as_request(prompt, **options)
    try:
        asked = _encode((model.info.provider, model.info.id, request, salt))
    except (TypeError, UnicodeEncodeError, RecursionError) as error:
        raise BadRequestError(f"the request can't be encoded as JSON: {error}") from error
    return hashlib.sha256(asked).hexdigest()


def _name(key: str | Callable[[], str]) -> str:
    name = key if isinstance(key, str) else key()
    if not isinstance(name, str):
        raise TypeError(f"key must return a string, and returned {name!r}")
    return name


def _load(data: bytes | None) -> Answer | None:
    """The answer, or `None` if there is none or this version can't decode it."""
    if data is None:
        return None
    try:
        return _decode(data)
    except msgspec.DecodeError:
        return None


def _dump(answer: Answer) -> bytes:
    data = _encode(answer)
    if _decode(data) != answer:
        raise ValueError("JSON can't represent the answer: decoding would give a different one")
    return data


def _joint_call(
    source: Observable[Chunk],
    store: CacheStore,
    name: str,
    ttl: float | None,
    scheduler: abc.SchedulerBase,
) -> Multiplexed:
    """The running call for `name` on this event loop, or a new one."""
    flights = store.under_way
    flight = getattr(scheduler, "loop", None), name
    if flight not in flights:
        for each in tuple(flights):
            if getattr(each[0], "is_closed", bool)():
                flights.pop(each, None)  # the loop was closed before the call ended
        flights[flight] = _call(source, store, flight, ttl)
    return flights[flight]


def _call(
    source: Observable[Chunk], store: CacheStore, flight: tuple[object, str], ttl: float | None
) -> Multiplexed:
    """A call shared by all subscribers with the same key on one event loop."""
    _, name = flight

    def keep(answer: Answer, scheduler: abc.SchedulerBase) -> None:
        try:
            store.put(name, _dump(answer), now=clock_of(scheduler)(), ttl=ttl)
        except Exception as error:
            report(scheduler, "an answer could not be cached", error)

    def release() -> None:
        if store.under_way.get(flight) is call:
            del store.under_way[flight]

    call = source.pipe(recording(keep, release), multiplex(on_lag="coalesce"))
    return call
