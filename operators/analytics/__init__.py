"""Operators that tell how a stream is doing."""

from rxllm.operators.analytics._cost import cost
from rxllm.operators.analytics._measure import measure
from rxllm.operators.analytics._measurement import Intervals, Measurement
from rxllm.operators.analytics._prices import Price, Prices, read_prices
from rxllm.operators.analytics._progress import progress

__all__ = [
    "Intervals",
    "Measurement",
    "Price",
    "Prices",
    "cost",
    "measure",
    "progress",
    "read_prices",
]
