"""The tokens of one decode step, in llama.cpp's format."""

from __future__ import annotations

import ctypes
from typing import Any, Final

import llama_cpp
import numpy as np

__all__ = ["LlamaBatch"]


class LlamaBatch:
    """A `llama_batch` over numpy arrays: each token with its position, sequence and output flag."""

    def __init__(self, capacity: int) -> None:
        self._tokens = np.zeros(capacity, np.int32)
        self._positions = np.zeros(capacity, np.int32)
        self._counts = np.ones(capacity, np.int32)
        self._slots = np.zeros(capacity, np.int32)
        self._outputs = np.zeros(capacity, np.int8)
        step = self._slots.itemsize
        self._slot_pointers = self._slots.ctypes.data + step * np.arange(capacity, dtype=np.uint64)
        self.struct: Final = llama_cpp.llama_batch(
            n_tokens=0,
            token=_pointer(self._tokens, ctypes.c_int32),
            pos=_pointer(self._positions, ctypes.c_int32),
            n_seq_id=_pointer(self._counts, ctypes.c_int32),
            seq_id=_pointer(self._slot_pointers, ctypes.POINTER(ctypes.c_int32)),
            logits=_pointer(self._outputs, ctypes.c_int8),
        )

    @property
    def room(self) -> int:
        """Number of tokens that can still be added."""
        return len(self._tokens) - int(self.struct.n_tokens)

    def clear(self) -> None:
        self.struct.n_tokens = 0

    def add(self, tokens: list[int], position: int, slot: int, has_output: bool) -> int:
        """Add tokens of one sequence, and return the index of the last one."""
        first = self.struct.n_tokens
        end = first + len(tokens)
        self._tokens[first:end] = tokens
        self._positions[first:end] = np.arange(position, position + len(tokens))
        self._slots[first:end] = slot
        self._outputs[first:end] = 0
        self._outputs[end - 1] = has_output
        self.struct.n_tokens = end
        return int(end - 1)


def _pointer(array: np.ndarray[Any, Any], kind: Any) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(kind))
