"""Operators that share one stream among many subscribers."""

from rxllm.operators.multicasting._cache import cache, cache_key
from rxllm.operators.multicasting._multiplex import Multiplexed, multiplex
from rxllm.operators.multicasting._store import AsyncCacheStore, CacheStore, MemoryStore

__all__ = [
    "AsyncCacheStore",
    "CacheStore",
    "MemoryStore",
    "Multiplexed",
    "cache",
    "cache_key",
    "multiplex",
]
