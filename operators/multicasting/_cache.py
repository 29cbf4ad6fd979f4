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
from rxllm.operators.multicasting._answer import replay
from rxllm.operators.multicasting._calls import flight_of, joint_call, load
from rxllm.operators.multicasting._lookup import look_up
from rxllm.operators.multicasting._store import AsyncCacheStore, CacheStore
from rxllm.requests import Model, Prompt, RequestOptions, as_request
from rxllm.stream import Stream
from rxllm.valve import clock_of, scheduler_or_default

__all__ = ["cache", "cache_key"]

Timing: TypeAlias = Literal["at_once", "original"]

_encode = msgspec.json.Encoder(order="deterministic").encode


def cache(
    store: CacheStore | AsyncCacheStore,
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

    With an `AsyncCacheStore`, such as a `rxllm.redis.RedisCache`, calls are shared by processes,
    too: one asks, and the others wait until its whole answer is stored, or its call has failed and
    another one asks. The streams of the one that asks get the answer as it comes.

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
        store: where answers are stored: a `MemoryStore`, or one that processes share.
        key: the key of the request, the same for equal requests: see `cache_key`. A function is
            called at each subscription.
        ttl: how long an answer is replayed, in seconds from its end on the scheduler's clock, or
            `None` for as long as the store keeps it.
        timing: `"at_once"`, or `"original"` for a replay with the original pauses.

    Raises:
        TypeError: `store` is not a `CacheStore` or `AsyncCacheStore`, `key` is neither a string nor
            a function, or `ttl` is not a number. Into `on_error`: the function `key` doesn't
            return a string.
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
    if not isinstance(store, CacheStore | AsyncCacheStore):
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
            scheduler = scheduler_or_default(scheduler)

            def answer_with(data: bytes | None) -> abc.DisposableBase:
                answer = load(data)
                if answer is not None:
                    return replay(answer, timing == "original", observer, scheduler)
                call = joint_call(source, store, name, ttl, scheduler)
                return call.subscribe(observer, scheduler=scheduler)

            if isinstance(store, CacheStore):
                return answer_with(store.get(name, now=clock_of(scheduler)()))
            if flight_of(scheduler, name) in store.under_way:
                return answer_with(None)
            return look_up(store, name, answer_with, observer, scheduler)

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
