"""Operators that measure, log and report on streams."""

from rxllm.operators.analytics._analyze_text import TextFigures, analyze_text
from rxllm.operators.analytics._debug import DebugEntry, DebugLog, DebugSummary, debug
from rxllm.operators.analytics._lexicon import Lexicon, read_lexicon
from rxllm.operators.analytics._log_stream import log_stream
from rxllm.operators.analytics._measure import measure
from rxllm.operators.analytics._measurement import Intervals, Measurement
from rxllm.operators.analytics._meter import meter
from rxllm.operators.analytics._price import price
from rxllm.operators.analytics._progress import progress
from rxllm.operators.analytics._sentiment_and_keywords import (
    ContentFigures,
    sentiment_and_keywords,
)
from rxllm.operators.analytics._stream_analytics import (
    AnalyticsReport,
    StreamAnalytics,
    StreamRecord,
    analyze,
)
from rxllm.operators.analytics._trace import trace
from rxllm.operators.analytics._track_stages import track_stages
from rxllm.operators.analytics._transcribe import transcribe

__all__ = [
    "AnalyticsReport",
    "ContentFigures",
    "DebugEntry",
    "DebugLog",
    "DebugSummary",
    "Intervals",
    "Lexicon",
    "Measurement",
    "StreamAnalytics",
    "StreamRecord",
    "TextFigures",
    "analyze",
    "analyze_text",
    "debug",
    "log_stream",
    "measure",
    "meter",
    "price",
    "progress",
    "read_lexicon",
    "sentiment_and_keywords",
    "trace",
    "track_stages",
    "transcribe",
]
