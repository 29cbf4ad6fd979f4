"""Operators that buffer or regroup chunks."""

from rxllm.operators.buffering._batch import batch
from rxllm.operators.buffering._buffered import BufferStatus, buffered
from rxllm.operators.buffering._lines import lines
from rxllm.operators.buffering._pieces import TextCount
from rxllm.operators.buffering._rechunk import rechunk
from rxllm.operators.buffering._sentences import sentences
from rxllm.operators.buffering._words import words

__all__ = [
    "BufferStatus",
    "TextCount",
    "batch",
    "buffered",
    "lines",
    "rechunk",
    "sentences",
    "words",
]
