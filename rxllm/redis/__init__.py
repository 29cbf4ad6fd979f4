"""Control that several processes share, on Redis or Valkey (extra `redis`)."""

from __future__ import annotations

try:
    import redis.asyncio  # noqa: F401 - the package of this name that is installed
except ImportError as _error:
    raise ImportError("rxllm.redis requires redis 8.1: pip install 'rxllm[redis]'") from _error

from rxllm.redis.breaker import RedisBreaker
from rxllm.redis.cache import RedisCache
from rxllm.redis.claims import RedisClaims
from rxllm.redis.connections import RedisConnections
from rxllm.redis.limiter import RedisLimiter
from rxllm.redis.pool import RedisPool
from rxllm.redis.streams import RedisStreams

__all__ = [
    "RedisBreaker",
    "RedisCache",
    "RedisClaims",
    "RedisConnections",
    "RedisLimiter",
    "RedisPool",
    "RedisStreams",
]
