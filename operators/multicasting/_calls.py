"""The calls of `cache`, which all streams with the same store and key share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
from reactivex import Observable, abc

from rxllm.chunks import Chunk
from rxllm.operators.multicasting._answer import Answer, recording
from rxllm.operators.multicasting._multiplex import Multiplexed, multiplex
from rxllm.operators.multicasting._report import report
from rxllm.operators.multicasting._store import AsyncCacheStore, CacheStore, Flight
from rxllm.valve import clock_of, wait_for_cleanup

__all__ = ["flight_of", "joint_call", "load"]

_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder(Answer).decode


def load(data: bytes | None) -> Answer | None:
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


def flight_of(scheduler: abc.SchedulerBase, name: str) -> Flight:
    """The event loop of `scheduler`, if it has one, and the key."""
    return getattr(scheduler, "loop", None), name


def joint_call(
    source: Observable[Chunk],
    store: CacheStore | AsyncCacheStore,
    name: str,
    ttl: float | None,
    scheduler: abc.SchedulerBase,
) -> Multiplexed:
    """The running call for `name` on this event loop, or a new one."""
    flights = store.under_way
    flight = flight_of(scheduler, name)
    if flight not in flights:
        for each in tuple(flights):
            if getattr(each[0], "is_closed", bool)():
                flights.pop(each, None)  # the loop was closed before the call ended
        flights[flight] = _call(source, store, flight, ttl)
    return flights[flight]


def _call(
    source: Observable[Chunk],
    store: CacheStore | AsyncCacheStore,
    flight: Flight,
    ttl: float | None,
) -> Multiplexed:
    """A call shared by all subscribers with the same key on one event loop."""
    _, name = flight
    keeper = (
        _Keeper(store, name, ttl)
        if isinstance(store, CacheStore)
        else _AsyncKeeper(store, name, ttl)
    )

    def keep(answer: Answer, scheduler: abc.SchedulerBase) -> None:
        try:
            keeper.keep(_dump(answer), scheduler)
        except Exception as error:
            report(scheduler, "an answer could not be cached", error)

    def release(scheduler: abc.SchedulerBase) -> None:
        if store.under_way.get(flight) is call:
            del store.under_way[flight]
        keeper.release(scheduler)

    call = source.pipe(recording(keep, release), multiplex(on_lag="coalesce"))
    return call


class _Keeper:
    """Stores the answer of a call."""

    def __init__(self, store: CacheStore, name: str, ttl: float | None) -> None:
        self._store = store
        self._name = name
        self._ttl = ttl

    def keep(self, data: bytes, scheduler: abc.SchedulerBase) -> None:
        self._store.put(self._name, data, now=clock_of(scheduler)(), ttl=self._ttl)

    def release(self, scheduler: abc.SchedulerBase) -> None:
        """The call has ended."""


class _AsyncKeeper:
    """Stores the answer of a call, or lets other processes ask."""

    def __init__(self, store: AsyncCacheStore, name: str, ttl: float | None) -> None:
        self._store = store
        self._name = name
        self._ttl = ttl
        self._is_kept = False

    def keep(self, data: bytes, scheduler: abc.SchedulerBase) -> None:
        self._is_kept = True
        self._start(lambda: self._store.put(self._name, data, ttl=self._ttl), scheduler)

    def release(self, scheduler: abc.SchedulerBase) -> None:
        if not self._is_kept:
            self._start(lambda: self._store.release(self._name), scheduler)
        self._is_kept = False

    def _start(
        self, action: Callable[[], Coroutine[Any, Any, None]], scheduler: abc.SchedulerBase
    ) -> None:
        async def run() -> None:
            try:
                await action()
            except Exception as error:
                report(scheduler, "an answer could not be cached", error)

        task = asyncio.get_running_loop().create_task(run(), name="rxllm cache")
        wait_for_cleanup(scheduler, task)
