"""Functions and operators that combine several streams into one."""

from rxllm.operators.combining._best_of import best_of
from rxllm.operators.combining._best_of_with import best_of_with
from rxllm.operators.combining._choice import Choice
from rxllm.operators.combining._hedge import hedge
from rxllm.operators.combining._hedge_with import hedge_with
from rxllm.operators.combining._merge_streams import merge_streams
from rxllm.operators.combining._merge_with import merge_with
from rxllm.operators.combining._parallel import parallel
from rxllm.operators.combining._quick_then_detailed import quick_then_detailed
from rxllm.operators.combining._race import race
from rxllm.operators.combining._race_run import RaceResult
from rxllm.operators.combining._race_with import race_with
from rxllm.operators.combining._side_by_side import side_by_side
from rxllm.operators.combining._side_by_side_with import side_by_side_with
from rxllm.operators.combining._streams import StreamSummary

__all__ = [
    "Choice",
    "RaceResult",
    "StreamSummary",
    "best_of",
    "best_of_with",
    "hedge",
    "hedge_with",
    "merge_streams",
    "merge_with",
    "parallel",
    "quick_then_detailed",
    "race",
    "race_with",
    "side_by_side",
    "side_by_side_with",
]
