"""Operators that control when chunks are sent."""

from rxllm.operators.throttling._pace import pace
from rxllm.operators.throttling._rate_limit import rate_limit
from rxllm.operators.throttling._smooth import smooth
from rxllm.operators.throttling._throttle import throttle
from rxllm.operators.throttling._typewriter import typewriter

__all__ = ["pace", "rate_limit", "smooth", "throttle", "typewriter"]
