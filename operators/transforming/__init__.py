"""Operators that change what flows."""

from rxllm.operators.transforming._text import text

__all__ = ["text"]
