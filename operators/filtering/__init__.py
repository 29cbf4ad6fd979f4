"""Operators that leave out a part of the stream."""

from rxllm.operators.filtering._stop_on import stop_on

__all__ = ["stop_on"]
