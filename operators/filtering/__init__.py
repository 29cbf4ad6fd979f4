"""Operators that remove or rewrite parts of the stream."""

from rxllm.operators.filtering._change_case import change_case
from rxllm.operators.filtering._drop_blank import drop_blank
from rxllm.operators.filtering._filters import filters
from rxllm.operators.filtering._guard import Checked, guard
from rxllm.operators.filtering._punctuation import punctuation
from rxllm.operators.filtering._redact import Redaction, redact
from rxllm.operators.filtering._stop_on import stop_on

__all__ = [
    "Checked",
    "Redaction",
    "change_case",
    "drop_blank",
    "filters",
    "guard",
    "punctuation",
    "redact",
    "stop_on",
]
