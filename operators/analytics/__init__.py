"""Operators that tell how a stream is doing."""

from rxllm.operators.analytics._measure import measure
from rxllm.operators.analytics._measurement import Intervals, Measurement
from rxllm.operators.analytics._progress import progress

__all__ = ["Intervals", "Measurement", "measure", "progress"]
