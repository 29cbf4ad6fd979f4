"""Operators that tell how a stream is doing."""

from rxllm.operators.analytics._cost import cost
from rxllm.operators.analytics._debug import DebugEntry, DebugLog, debug
from rxllm.operators.analytics._log_stream import log_stream
from rxllm.operators.analytics._measure import measure
from rxllm.operators.analytics._measurement import Intervals, Measurement
from rxllm.operators.analytics._prices import Price, Prices, read_prices
from rxllm.operators.analytics._progress import progress
from rxllm.operators.analytics._stages import stages
from rxllm.operators.analytics._stream_analytics import (
    AnalyticsReport,
    StreamAnalytics,
    StreamRecord,
    analyzed,
)

__all__ = [
    "AnalyticsReport",
    "DebugEntry",
    "DebugLog",
    "Intervals",
    "Measurement",
    "Price",
    "Prices",
    "StreamAnalytics",
    "StreamRecord",
    "analyzed",
    "cost",
    "debug",
    "log_stream",
    "measure",
    "progress",
    "read_prices",
    "stages",
]
