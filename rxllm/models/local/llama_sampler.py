"""A chain of llama.cpp's samplers for one answer."""

from __future__ import annotations

import json
import re
import secrets
from functools import lru_cache
from typing import Any

import llama_cpp
from llama_cpp.llama_grammar import JSON_GBNF, json_schema_to_gbnf

from rxllm.errors import BadRequestError, UnsupportedError
from rxllm.models.local.llama_log import stderr_captured
from rxllm.models.local.sampling import REPEAT_WINDOW, Sampling
from rxllm.requests import Request

__all__ = ["LlamaSampler"]

_SURROGATES = re.compile(r"\\u(d[89ab]..)\\u(d[c-f]..)", re.IGNORECASE)
_SEEDS = 2**32 - 1  # the largest one means a random seed to llama.cpp


class LlamaSampler:
    """Draws the tokens of one answer.

    Grammar first, then repeat penalty, top-k, top-p, min-p, temperature and the draw, which is
    the order of llama.cpp's own default chain.

    Args:
        request: provides the sampling options, `response_format`, and `extra["grammar"]` (GBNF).
        vocabulary: llama.cpp's pointer to the vocabulary.
        vocabulary_size: number of tokens in the vocabulary.

    Raises:
        BadRequestError: the grammar or the JSON Schema is invalid, or an option is unknown.
    """

    def __init__(self, request: Request, vocabulary: Any, vocabulary_size: int) -> None:
        grammar = _grammar(request)
        options = Sampling.of(request)
        self._chain = llama_cpp.llama_sampler_chain_init(
            llama_cpp.llama_sampler_chain_default_params()
        )
        if grammar is not None:
            try:
                self._add(_grammar_sampler(grammar, vocabulary))
            except BaseException:
                self.free()
                raise
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


def _grammar(request: Request) -> str | None:
    unknown = request.extra.keys() - {"grammar"}
    if unknown:
        raise UnsupportedError(f"the llama engine doesn't support {min(unknown)!r} in extra")
    grammar = request.extra.get("grammar")
    if request.response_format is None:
        return grammar
    if grammar is not None:
        raise BadRequestError("pass either a grammar or a response_format, not both")
    if request.response_format == "json":
        return str(JSON_GBNF)
    return _schema_grammar(json.dumps(request.response_format))


@lru_cache(maxsize=64)
def _schema_grammar(schema: str) -> str:
    try:
        grammar = str(json_schema_to_gbnf(schema))
    except Exception as error:
        raise UnsupportedError(
            f"the JSON Schema can't be converted to a grammar: {error}"
        ) from error
    # llama-cpp-python's grammar allows raw control characters in strings, which JSON forbids, and
    # writes a character beyond U+FFFF as two surrogates, which GBNF treats as two characters.
    grammar = grammar.replace('[^"\\\\]', '[^"\\\\\\x7F\\x00-\\x1F]')
    return _SURROGATES.sub(_join_surrogates, grammar)


def _join_surrogates(pair: re.Match[str]) -> str:
    high, low = (int(half, 16) for half in pair.groups())
    return f"\\U{0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00):08X}"


def _grammar_sampler(grammar: str, vocabulary: Any) -> Any:
    sampler, reason = None, "it must be a str"
    if isinstance(grammar, str):
        with stderr_captured() as take:
            sampler = llama_cpp.llama_sampler_init_grammar(vocabulary, grammar.encode(), b"root")
            if not sampler:
                reason = " ".join(take().split()) or "it has no rule named root"
    if not sampler:
        raise BadRequestError(f"llama.cpp rejects the grammar (GBNF): {reason}")
    return sampler
