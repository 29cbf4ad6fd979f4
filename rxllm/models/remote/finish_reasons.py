"""The finish reasons of all providers.

Sources: the API references of OpenAI, Anthropic, Gemini, Mistral, Cohere, DeepSeek and Z.ai; vLLM,
SGLang and llama.cpp.
"""

from __future__ import annotations

import re
from typing import Final

from rxllm.chunks import End, FinishReason
from rxllm.errors import AbortedStreamError

__all__ = ["check_not_aborted", "end_of", "finish_reason_in"]

_REASONS: Final[dict[str, FinishReason]] = {
    **dict.fromkeys(
        ("stop", "end_turn", "stop_sequence", "eos", "eos_token", "complete", "completed"), "stop"
    ),
    **dict.fromkeys(
        (
            *("length", "max_tokens", "max_output_tokens", "max_length", "model_length"),
            "model_context_window_exceeded",
        ),
        "length",
    ),
    "limit": "limit",
    **dict.fromkeys(("tool_calls", "tool_call", "tool_use", "function_call"), "tool_calls"),
    **dict.fromkeys(
        (
            *("content_filter", "safety", "sensitive", "refusal", "recitation", "blocklist"),
            *("prohibited_content", "spii", "image_safety", "image_recitation"),
            *("image_prohibited_content", "content_filtered", "guardrail_intervened"),
        ),
        "content_filter",
    ),
}
_NONE: Final = ("", "null", "none")
_ENUM: Final = re.compile(r"\w+\.\w+")
_ABORTED: Final = (
    "cancelled",
    "canceled",
    "server_error",
    "system_error",
    "abort",
    "aborted",
    "error",
    "insufficient_system_resource",
    "network_error",
    "timeout",
    "malformed_function_call",
    "malformed_response",
    "unexpected_tool_call",
    "too_many_tool_calls",
    "missing_thought_signature",
)


def finish_reason_in(value: object) -> str | None:
    """Return the provider's word for a finish reason, or `None` if there is none yet.

    >>> finish_reason_in({"type": "length"}), finish_reason_in("FinishReason.STOP")
    ('length', 'STOP')
    >>> finish_reason_in("null")
    """
    while isinstance(value, dict | list):
        fields = value if isinstance(value, dict) else {"type": next(iter(value), None)}
        value = fields.get("type") or fields.get("reason")
    word = str(value).strip() if value else ""
    word = word.rpartition(".")[2] if _ENUM.fullmatch(word) else word
    return None if word.lower() in _NONE else word


def end_of(reason: str | None, stop_sequence: str | None = None) -> End:
    """Return the `End` for a provider's finish reason; an unknown one is kept beside `"stop"`.

    >>> end_of("MAX_TOKENS").finish_reason
    'length'
    >>> end = end_of("pause_turn")
    >>> end.finish_reason, end.native_reason
    ('stop', 'pause_turn')
    """
    known = _REASONS.get((reason or "stop").lower().replace("-", "_"))
    return End(known or "stop", stop_sequence, None if known else reason)


def check_not_aborted(reason: str, provider: str) -> None:
    """Raise an `AbortedStreamError` if the provider has given up the answer."""
    if reason.lower().replace("-", "_") in _ABORTED:
        raise AbortedStreamError(f"{provider} aborted the answer: finish reason {reason!r}")
