"""Fields of other servers' chat completions that would change the answer, and aren't supported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["EMPTY", "unsupported_field"]

_UNSUPPORTED: Final[dict[str, Any]] = {
    # OpenAI
    "audio": None,
    "function_call": None,
    "functions": None,
    "moderation": None,
    "prediction": None,
    "web_search_options": None,
    # vLLM and SGLang
    "add_generation_prompt": True,
    "allowed_token_ids": None,
    "bad_words": None,
    "best_of": 1,
    "chat_template": None,
    "chat_template_kwargs": None,
    "continue_final_message": None,
    "ebnf": None,
    "echo": None,
    "guided_choice": None,
    "guided_decoding_backend": None,
    "guided_regex": None,
    "guided_whitespace_pattern": None,
    "ignore_eos": None,
    "include_stop_str_in_output": None,
    "length_penalty": 1,
    "logits_processors": None,
    "min_tokens": None,
    "prompt_logprobs": None,
    "regex": None,
    "stop_regex": None,
    "stop_token_ids": None,
    "truncate_prompt_tokens": None,
    "use_beam_search": None,
    # llama.cpp
    "dry_allowed_length": None,
    "dry_base": None,
    "dry_multiplier": None,
    "dry_penalty_last_n": None,
    "dry_sequence_breakers": None,
    "dynatemp_exponent": None,
    "dynatemp_range": None,
    "lora": None,
    "mirostat": None,
    "mirostat_eta": None,
    "mirostat_tau": None,
    "n_keep": None,
    "n_predict": -1,
    "n_probs": None,
    "penalize_nl": None,
    "reasoning_budget": None,
    "samplers": None,
    "t_max_predict_ms": None,
    "tfs_z": 1,
    "top_n_sigma": -1,
    "typical_p": 1,
    "xtc_probability": None,
    "xtc_threshold": None,
    # OpenRouter
    "models": None,
    "plugins": None,
    "provider": None,
    "reasoning": None,
    "route": None,
    "top_a": None,
    "transforms": None,
}
"""Each with the value that has no effect, besides an empty one."""

EMPTY: Final[tuple[Any, ...]] = (None, False, 0, "", [], {})
"""Values that have no effect for any option that isn't supported."""


def unsupported_field(fields: Mapping[str, Any]) -> str | None:
    """Return the name of an unsupported field that would have an effect, or `None`.

    >>> unsupported_field({"min_tokens": 0, "typical_p": 1}), unsupported_field({"min_tokens": 9})
    (None, 'min_tokens')
    """
    for name, value in fields.items():
        if name in _UNSUPPORTED and value not in EMPTY and value != _UNSUPPORTED[name]:
            return name
    return None
