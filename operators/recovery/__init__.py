"""Operators that recover from failures."""

from rxllm.operators.recovery._breaker import CircuitBreaker, Permit
from rxllm.operators.recovery._circuit_breaker import circuit_breaker, is_failure_of_model
from rxllm.operators.recovery._complete_partial import complete_partial
from rxllm.operators.recovery._degrade import degrade
from rxllm.operators.recovery._fallback_to import fallback_to
from rxllm.operators.recovery._keep_partial import keep_partial
from rxllm.operators.recovery._quality import Quality, not_json, repeats, too_slow
from rxllm.operators.recovery._quality_gate import quality_gate
from rxllm.operators.recovery._require_output import require_output
from rxllm.operators.recovery._resume import resume
from rxllm.operators.recovery._retry_with_backoff import retry_with_backoff
from rxllm.operators.recovery._timeouts import timeouts
from rxllm.operators.recovery.commit import AfterOutput

__all__ = [
    "AfterOutput",
    "CircuitBreaker",
    "Permit",
    "Quality",
    "circuit_breaker",
    "complete_partial",
    "degrade",
    "fallback_to",
    "is_failure_of_model",
    "keep_partial",
    "not_json",
    "quality_gate",
    "repeats",
    "require_output",
    "resume",
    "retry_with_backoff",
    "timeouts",
    "too_slow",
]
