"""Operators that let users pause, cancel, limit and track streams."""

from rxllm.operators.controlling._budget import budget
from rxllm.operators.controlling._control import Control
from rxllm.operators.controlling._limit import limit
from rxllm.operators.controlling._limit_concurrency import limit_concurrency
from rxllm.operators.controlling._limiter import Limited, Limiter, RateLimiter
from rxllm.operators.controlling._pausable import pausable
from rxllm.operators.controlling._pool import Pool, Pooled, SlotPool
from rxllm.operators.controlling._shared_budget import Budget
from rxllm.operators.controlling._stream_registry import StreamRegistry
from rxllm.operators.controlling._track import track
from rxllm.operators.controlling._tracked_stream import StreamInfo, TrackedStream

__all__ = [
    "Budget",
    "Control",
    "Limited",
    "Limiter",
    "Pool",
    "Pooled",
    "RateLimiter",
    "SlotPool",
    "StreamInfo",
    "StreamRegistry",
    "TrackedStream",
    "budget",
    "limit",
    "limit_concurrency",
    "pausable",
    "track",
]
