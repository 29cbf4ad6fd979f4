"""Operators that pack chunks."""

from rxllm.operators.buffering._batch import batch

__all__ = ["batch"]
