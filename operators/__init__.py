"""The catalogue of operators: `from rxllm import operators as ops`.

Each takes a stream of chunks and gives one: `stream.pipe(ops.stop_on("END"), ops.batch())`. Any of
RxPY's own operators can stand between them.
"""

if __name__ != "rxllm.operators":
    raise ImportError(f"import rxllm.operators, not {__name__}: each class would exist twice")

from rxllm.operators.analytics import Intervals, Measurement, measure, progress
from rxllm.operators.buffering import batch
from rxllm.operators.controlling import Control, pausable
from rxllm.operators.filtering import stop_on
from rxllm.operators.transforming import text

__all__ = [
    "Control",
    "Intervals",
    "Measurement",
    "batch",
    "measure",
    "pausable",
    "progress",
    "stop_on",
    "text",
]
