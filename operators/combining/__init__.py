"""Functions that make one stream of several."""

from rxllm.operators.combining._best_of import best_of
from rxllm.operators.combining._choosing import Choice
from rxllm.operators.combining._hedge import hedge
from rxllm.operators.combining._merge_streams import merge_streams
from rxllm.operators.combining._parallel import parallel
from rxllm.operators.combining._quick_then_detailed import quick_then_detailed
from rxllm.operators.combining._race import race
from rxllm.operators.combining._racing import RaceResult
from rxllm.operators.combining._side_by_side import side_by_side
from rxllm.operators.combining._streams import StreamSummary

__all__ = [
    "Choice",
    "RaceResult",
    "StreamSummary",
    "best_of",
    "hedge",
    "merge_streams",
    "parallel",
    "quick_then_detailed",
    "race",
    "side_by_side",
]
