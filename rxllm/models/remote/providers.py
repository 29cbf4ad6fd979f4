"""All providers."""

from __future__ import annotations

from typing import Final

from rxllm.models.remote.provider import Provider

__all__ = ["PROVIDERS"]

_PENALTIES: Final = {
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
}
_OPENAI: Final = {
    "seed": "seed",
    **_PENALTIES,
    "logit_bias": "logit_bias",
    "parallel_tool_calls": "parallel_tool_calls",
    "reasoning": "reasoning_effort",
}
_VERBOSITY: Final = {"verbosity": "verbosity"}
_OPEN_MODELS: Final = {
    **_OPENAI,
    "top_k": "top_k",
    "min_p": "min_p",
    "repeat_penalty": "repetition_penalty",
}
"""What servers of open models take: vLLM's names, which Together and Fireworks have, too."""

PROVIDERS: Final = {
    provider.name: provider
    for provider in (
        # https://platform.openai.com/docs/api-reference/chat/create
        Provider(
            name="openai",
            base_url="https://api.openai.com/v1",
            variable="OPENAI",
            length_field="max_completion_tokens",
            option_names={**_OPENAI, **_VERBOSITY},
            logprobs=True,
            prefill=False,
            cache_key="prompt_cache_key",
        ),
        # https://learn.microsoft.com/azure/ai-foundry/openai/latest
        Provider(
            name="azure",
            variable="AZURE_OPENAI",
            key_header="api-key",
            prefix="/openai/v1",
            length_field="max_completion_tokens",
            option_names={**_OPENAI, **_VERBOSITY},
            logprobs=True,
            prefill=False,
            cache_key="prompt_cache_key",
        ),
        # https://docs.anthropic.com/en/api/messages
        Provider(
            name="anthropic",
            wire="anthropic",
            base_url="https://api.anthropic.com",
            variable="ANTHROPIC",
            key_header="x-api-key",
            headers={"anthropic-version": "2023-06-01"},
            needs_prefix=True,
            option_names={
                "top_k": "top_k",
                "reasoning": "thinking",
                "parallel_tool_calls": "tool_choice",
            },
        ),
        # https://openrouter.ai/docs/api/reference/parameters
        Provider(
            name="openrouter",
            base_url="https://openrouter.ai/api/v1",
            variable="OPENROUTER",
            prefix="/api/v1",
            option_names={**_OPEN_MODELS, **_VERBOSITY},
            logprobs=True,
            body={"usage": {"include": True}},
        ),
        # https://console.groq.com/docs/api-reference#chat-create
        Provider(
            name="groq",
            base_url="https://api.groq.com/openai/v1",
            variable="GROQ",
            prefix="/openai/v1",
            length_field="max_completion_tokens",
            option_names={
                "seed": "seed",
                "parallel_tool_calls": "parallel_tool_calls",
                "reasoning": "reasoning_effort",
            },
        ),
        # https://ai.google.dev/api/generate-content
        Provider(
            name="gemini",
            wire="gemini",
            base_url="https://generativelanguage.googleapis.com/v1beta",
            variable="GEMINI",
            key_header="x-goog-api-key",
            prefix="/v1beta",
            needs_prefix=True,
            option_names={
                "seed": "seed",
                "top_k": "topK",
                "frequency_penalty": "frequencyPenalty",
                "presence_penalty": "presencePenalty",
                "reasoning": "thinkingConfig",
            },
            logprobs=True,
            prefill=False,
        ),
        # https://docs.x.ai/docs/api-reference
        Provider(
            name="xai",
            base_url="https://api.x.ai/v1",
            variable="XAI",
            option_names=_OPENAI,
            logprobs=True,
        ),
        # https://api-docs.deepseek.com/api/create-chat-completion
        Provider(
            name="deepseek",
            base_url="https://api.deepseek.com/v1",
            variable="DEEPSEEK",
            option_names=_PENALTIES,
            logprobs=True,
            json_schema=False,
            prefill=False,
        ),
        # https://docs.mistral.ai/api: usage comes without being asked for
        Provider(
            name="mistral",
            base_url="https://api.mistral.ai/v1",
            variable="MISTRAL",
            option_names={
                "seed": "random_seed",
                **_PENALTIES,
                "parallel_tool_calls": "parallel_tool_calls",
            },
            prefill=False,
            body={"stream_options": None},
        ),
        # https://docs.together.ai/reference/chat-completions-1
        Provider(
            name="together",
            base_url="https://api.together.xyz/v1",
            variable="TOGETHER",
            option_names=_OPEN_MODELS,
        ),
        # https://docs.fireworks.ai/api-reference/post-chatcompletions
        Provider(
            name="fireworks",
            base_url="https://api.fireworks.ai/inference/v1",
            variable="FIREWORKS",
            prefix="/inference/v1",
            option_names=_OPEN_MODELS,
            logprobs=True,
        ),
        # https://docs.vllm.ai/en/latest/serving/openai_compatible_server
        Provider(
            name="vllm",
            base_url="http://localhost:8000/v1",
            variable="VLLM",
            needs_key=False,
            option_names=_OPEN_MODELS,
            logprobs=True,
            body={"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
            prefill_fields={"continue_final_message": True, "add_generation_prompt": False},
        ),
        # https://docs.ollama.com/api
        Provider(
            name="ollama",
            wire="ollama",
            base_url="http://localhost:11434",
            variable="OLLAMA",
            needs_key=False,
            prefix="/api",
            needs_prefix=True,
            option_names={
                "seed": "seed",
                "top_k": "top_k",
                "min_p": "min_p",
                "repeat_penalty": "repeat_penalty",
                "frequency_penalty": "frequency_penalty",
                "presence_penalty": "presence_penalty",
                "reasoning": "think",
            },
            logprobs=True,
            files=False,
        ),
        # https://lmstudio.ai/docs/app/api/endpoints/openai
        Provider(
            name="lm_studio",
            base_url="http://localhost:1234/v1",
            variable="LM_STUDIO",
            needs_key=False,
            option_names={**_OPENAI, "top_k": "top_k", "repeat_penalty": "repeat_penalty"},
        ),
        # llama.cpp's server, and others, use different names for a repeat penalty.
        Provider(
            name="openai_compatible",
            variable="OPENAI_COMPATIBLE",
            needs_key=False,
            option_names={**_OPENAI, "top_k": "top_k", "min_p": "min_p"},
            logprobs=True,
        ),
    )
}
