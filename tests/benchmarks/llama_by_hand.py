"""What a good engineer writes by hand with llama-cpp-python's low-level API: a batched loop."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Sequence
from pathlib import Path

import llama_cpp

BATCH = 512


class BareLoop:
    """Decodes several prompts side by side, greedily, without anything around it.

    Args:
        path: a GGUF file.
        streams: how many prompts there are at most.
        context: tokens of each.
        threads: threads of a decode step.
    """

    def __init__(self, path: Path, streams: int, context: int, threads: int) -> None:
        options = llama_cpp.llama_model_default_params()
        self._model = llama_cpp.llama_model_load_from_file(os.fsencode(path), options)
        self._vocabulary = llama_cpp.llama_model_get_vocab(self._model)
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx, settings.n_seq_max = context * streams, streams
        settings.n_batch = settings.n_ubatch = BATCH
        settings.n_threads = settings.n_threads_batch = threads
        settings.no_perf = True
        self._context = llama_cpp.llama_init_from_model(self._model, settings)
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._batch = llama_cpp.llama_batch_init(BATCH, 0, 1)
        chain = llama_cpp.llama_sampler_chain_default_params()
        self._sampler = llama_cpp.llama_sampler_chain_init(chain)
        greedy = llama_cpp.llama_sampler_init_greedy()
        llama_cpp.llama_sampler_chain_add(self._sampler, greedy)

    def tokens_of(self, text: str) -> list[int]:
        """Tokenize a prompt, with its control tokens."""
        data = text.encode()
        tokens = (llama_cpp.llama_token * (len(data) + 8))()
        count = llama_cpp.llama_tokenize(
            self._vocabulary, data, len(data), tokens, len(tokens), False, True
        )
        return tokens[:count]

    def run(self, prompts: Sequence[list[int]], length: int) -> float:
        """Return the tokens per second of all answers together, including the prompts."""
        started = time.perf_counter()
        last = self.read(prompts)
        for step in range(1, length):
            self._batch.n_tokens = 0
            for sequence, token in enumerate(last):
                self._add(token, len(prompts[sequence]) + step - 1, sequence, True)
            llama_cpp.llama_decode(self._context, self._batch)
            last = [self._draw(output) for output in range(len(prompts))]
        return length * len(prompts) / (time.perf_counter() - started)

    def read(self, prompts: Sequence[list[int]]) -> list[int]:
        """Read the prompts, and return the first token of each answer."""
        llama_cpp.llama_memory_clear(self._memory, True)
        first: list[int] = []
        self._batch.n_tokens = 0
        for sequence, prompt in enumerate(prompts):
            for position, token in enumerate(prompt):
                if self._batch.n_tokens == BATCH:
                    llama_cpp.llama_decode(self._context, self._batch)
                    self._batch.n_tokens = 0
                self._add(token, position, sequence, position == len(prompt) - 1)
            llama_cpp.llama_decode(self._context, self._batch)
            first.append(self._draw(-1))
            self._batch.n_tokens = 0
        return first

    def close(self) -> None:
        """Free everything."""
        llama_cpp.llama_sampler_free(self._sampler)
        llama_cpp.llama_batch_free(self._batch)
        llama_cpp.llama_free(self._context)
        llama_cpp.llama_model_free(self._model)

    def _add(self, token: int, position: int, sequence: int, has_output: bool) -> None:
        batch, at = self._batch, self._batch.n_tokens
        batch.token[at] = token
        batch.pos[at] = position
        batch.n_seq_id[at] = 1
        batch.seq_id[at][0] = sequence
        batch.logits[at] = has_output
        batch.n_tokens = at + 1

    def _draw(self, output: int) -> int:
        token = int(llama_cpp.llama_sampler_sample(self._sampler, self._context, output))
        buffer = ctypes.create_string_buffer(64)
        size = llama_cpp.llama_token_to_piece(self._vocabulary, token, buffer, 64, 0, False)
        buffer.raw[:size].decode("utf-8", "replace")
        return token
