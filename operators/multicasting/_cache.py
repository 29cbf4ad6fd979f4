"""`cache`: an answer that is known is not asked for again."""

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
    """Keep the whole answer, and say it again when it is asked for once more.

    ::

        S--a--b-(E,|)
        [ cache(store, key, 60) ]
        S--a--b-(E,|)    the first time
            x-b-(E,|)    at the same time, from the same call; x: S and a
        (S,a,b,E,|)      within 60 s after its end

    A call is shared by all streams with the same store and key: who comes while it is under way
    gets what was said so far, as from `multiplex`, and goes on with it. It is stopped when the
    last of them has left.

    Kept is an answer that came to its `End` and its completion; one that failed, was left, ended
    with `"cancelled"`, has a gap (`Notice("lagged")`), or in which one of several streams has
    failed (`Notice("failed")`) is not. A loser of `race` or `hedge` that fails is one too: there,
    put `cache` into each of the streams. An answer is said again chunk by chunk as it was, `Usage`
    included: put `price` before `cache`, and what you sum up behind it counts a replay like a call.

    - Completion, error: passed on, to all who share the call; after an error the next one to ask
      makes a call. An exception out of `key` or `store.get` is the error. One out of `store.put`
      goes to the exception handler of the event loop: the answer was whole. So does a `ValueError`
      if JSON can't hold what is in it, such as a NaN in a `Json` chunk.
    - Restart: what came before it is not kept, nor the notice.
    - Disposal: leaves the call, or stops the replay.
    - Demand: the whole answer is in memory while it is under way. So the model does not wait for
      a subscriber of a call: what that one can't take is joined (`on_lag="coalesce"`). A replay
      waits.

    Args:
        store: where answers are kept, a `MemoryStore` for one.
        key: the name of the request, the same for equal requests: see `cache_key`. A function is
            called at each subscription.
        ttl: how long an answer may be given out, in seconds from its end, on the scheduler's
            clock; None: as long as the store keeps it.
        timing: `"at_once"`, or `"original"`: with the pauses that it came with.

    Raises:
        TypeError: `store` is no `CacheStore`, `key` neither a text nor a function, or `ttl` no
            number. Into `on_error`: what the function `key` returns is no text.
        ValueError: `ttl` is not above 0, or `timing` none of these.

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
        raise TypeError(f"store is a CacheStore, such as MemoryStore(), not {store!r}")
    if not (isinstance(key, str) or callable(key)):
        raise TypeError(f"key is a text or a function that returns one, not {key!r}")
    if ttl is not None:
        check_number(
            "ttl", ttl, "the seconds for which an answer is kept", above=0, allow_infinity=True
        )
    if timing not in get_args(Timing):
        raise ValueError(f"timing is one of {get_args(Timing)}, not {timing!r}")

    def operator(source: Observable[Chunk]) -> Stream[Chunk]:
        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            name = _name(key)
            answer = _known(store.get(name, now=clock_of(scheduler)()))
            if answer is not None:
                return replay(answer, timing == "original", observer, scheduler)
            call = _joint_call(source, store, name, ttl, scheduler_or_default(scheduler))
            return call.subscribe(observer, scheduler=scheduler)

        return Stream(subscribe, "cache", of_chunks=True)

    return operator


def cache_key(
    model: Model, prompt: Prompt, *, salt: str = "", **options: Unpack[RequestOptions]
) -> str:
    """A name for a request: the same for equal requests to a model of the same name, and no other.

    The name of a model (its provider and id) may not be all that tells it from another. What it
    leaves out, such as a `base_url` of your own or the script of a `ScriptedModel`, goes into
    `salt`, unless each has a store of its own.

    Args:
        model: who is asked.
        prompt, options: as for `Model.stream`.
        salt: what else makes an answer another one.

    Raises:
        BadRequestError: the prompt or an option can't be right.

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
        raise BadRequestError(f"the request can't be written as JSON: {error}") from error
    return hashlib.sha256(asked).hexdigest()


def _name(key: str | Callable[[], str]) -> str:
    name = key if isinstance(key, str) else key()
    if not isinstance(name, str):
        raise TypeError(f"key returned {name!r}: the name of a request is a text")
    return name


def _known(data: bytes | None) -> Answer | None:
    """The answer, unless there is none, or none that this version can read."""
    if data is None:
        return None
    try:
        return _decode(data)
    except msgspec.DecodeError:
        return None


def _written(answer: Answer) -> bytes:
    data = _encode(answer)
    if _decode(data) != answer:
        raise ValueError("JSON can't hold what is in it: it would be another one when read again")
    return data


def _joint_call(
    source: Observable[Chunk],
    store: CacheStore,
    name: str,
    ttl: float | None,
    scheduler: abc.SchedulerBase,
) -> Multiplexed:
    """The call for `name` that is under way on this event loop, or a new one."""
    flights = store.under_way
    flight = getattr(scheduler, "loop", None), name
    if flight not in flights:
        for each in tuple(flights):
            if getattr(each[0], "is_closed", bool)():
                flights.pop(each, None)  # it was closed before the call had ended
        flights[flight] = _call(source, store, flight, ttl)
    return flights[flight]


def _call(
    source: Observable[Chunk], store: CacheStore, flight: tuple[object, str], ttl: float | None
) -> Multiplexed:
    """One call, for all who ask the same on one event loop until it is over."""
    _, name = flight

    def keep(answer: Answer, scheduler: abc.SchedulerBase) -> None:
        try:
            store.put(name, _written(answer), now=clock_of(scheduler)(), ttl=ttl)
        except Exception as error:
            report(scheduler, "an answer could not be cached", error)

    def release() -> None:
        if store.under_way.get(flight) is call:
            del store.under_way[flight]

    call = source.pipe(recording(keep, release), multiplex(on_lag="coalesce"))
    return call
