"""The catalogue of operators: `from rxllm import operators as ops`.

Each takes a stream of chunks and gives one: `stream.pipe(ops.stop_on("END"), ops.batch())`. Any of
RxPY's own operators can stand between them.
"""

if __name__ != "rxllm.operators":
    raise ImportError(f"import rxllm.operators, not {__name__}: each class would exist twice")

from rxllm.operators.analytics import (
    Intervals,
    Measurement,
    Price,
    Prices,
    cost,
    measure,
    progress,
    read_prices,
)
from rxllm.operators.buffering import batch
from rxllm.operators.controlling import Control, pausable
from rxllm.operators.filtering import stop_on
from rxllm.operators.transforming import text

__all__ = [
    "Control",
    "Intervals",
    "Measurement",
    "Price",
    "Prices",
    "batch",
    "cost",
    "measure",
    "pausable",
    "progress",
    "read_prices",
    "stop_on",
    "text",
]
