"""Operators that put a stream into the hands of a user."""

from rxllm.operators.controlling._control import Control
from rxllm.operators.controlling._pausable import pausable

__all__ = ["Control", "pausable"]
