"""A chain of llama.cpp's samplers for one answer."""

from __future__ import annotations

import secrets
from typing import Any

import llama_cpp

from rxllm.models.local.sampling import REPEAT_WINDOW, Sampling
from rxllm.requests import Request

__all__ = ["LlamaSampler"]

_SEEDS = 2**32 - 1  # the largest one means a random seed to llama.cpp


class LlamaSampler:
    """Draws the tokens of one answer.

    Repeat penalty, top-k, top-p, min-p, temperature and the draw, which is the order of llama.cpp's
    own default chain.

    Args:
        request: provides the sampling options.
        vocabulary_size: number of tokens in the vocabulary.
    """

    def __init__(self, request: Request, vocabulary_size: int) -> None:
        options = Sampling.of(request)
        self._chain = llama_cpp.llama_sampler_chain_init(
            llama_cpp.llama_sampler_chain_default_params()
        )
        if options.repeat_penalty != 1.0:
            self._add(
                llama_cpp.llama_sampler_init_penalties(
                    vocabulary_size, REPEAT_WINDOW, options.repeat_penalty, 0.0, 0.0
                )
            )
        if options.is_greedy:
            self._add(llama_cpp.llama_sampler_init_greedy())
            return
        self._add(llama_cpp.llama_sampler_init_top_k(options.top_k))
        self._add(llama_cpp.llama_sampler_init_top_p(options.top_p, 1))
        self._add(llama_cpp.llama_sampler_init_min_p(options.min_p, 1))
        self._add(llama_cpp.llama_sampler_init_temp(options.temperature))
        seed = secrets.randbelow(_SEEDS) if options.seed is None else options.seed % _SEEDS
        self._add(llama_cpp.llama_sampler_init_dist(seed))

    def sample(self, context: Any, output: int) -> int:
        """Draw from the scores at index `output` of the last batch."""
        return int(llama_cpp.llama_sampler_sample(self._chain, context, output))

    def free(self) -> None:
        """Free the chain and its samplers."""
        llama_cpp.llama_sampler_free(self._chain)

    def _add(self, sampler: Any) -> None:
        llama_cpp.llama_sampler_chain_add(self._chain, sampler)
