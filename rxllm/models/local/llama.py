"""GGUF models through llama.cpp's low-level API, with all live sequences in one batch.

llama-cpp-python's high-level `create_completion(stream=True)` processes the whole answer again for
each token; this module calls `llama_decode` and the samplers of llama.cpp directly (`llama.h`).
"""

from __future__ import annotations

import codecs
import os
import time
import weakref
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import llama_cpp
import numpy as np

from rxllm.errors import ModelError, ModelLoadError
from rxllm.models.local.chat_template import ChatTemplate
from rxllm.models.local.control_tokens import LocalPrompt, PromptTokenizer
from rxllm.models.local.engine import Sampled, check_context_length, common_prefix
from rxllm.models.local.gguf_header import check_gguf
from rxllm.models.local.guidance import Mask, apply_mask
from rxllm.models.local.llama_batch import LlamaBatch
from rxllm.models.local.llama_log import log_of_this_thread
from rxllm.models.local.llama_sampler import LlamaSampler
from rxllm.models.local.llama_vocabulary import LlamaVocabulary
from rxllm.models.local.prompt_pace import PromptPace
from rxllm.models.local.sampling import probability
from rxllm.requests import Request

__all__ = ["LlamaEngine", "LlamaSequence", "load_llama"]

BATCH: Final = 512
"""Maximum number of tokens in one decode step; longer prompts take several steps."""

DEFAULT_CONTEXT: Final = 4096
_NO_FLASH_ATTENTION: Final = 0  # LLAMA_FLASH_ATTN_TYPE_DISABLED
_WORTH_A_COPY: Final = 32  # tokens that needn't be read
DEFAULT_SLOTS: Final = 8


@dataclass(slots=True, eq=False)
class LlamaSequence:
    """One sequence: `pending` tokens are decoded next, starting at `position`.

    It has no slot while it is parked.
    """

    slot: int | None
    tokens: list[int]
    pending: list[int]
    position: int
    sampler: LlamaSampler
    mask: Mask | None
    confidence: bool
    cached: int
    decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace")
    )


def load_llama(
    path: Path,
    *,
    context_length: int | None = None,
    slots: int = DEFAULT_SLOTS,
    threads: int | None = None,
) -> LlamaEngine:
    """Load a GGUF file.

    Args:
        path: the file.
        context_length: tokens per sequence, or `None` for the model's training context, up to
            4,096. The key-value cache takes memory for `slots` times as many.
        slots: maximum number of live sequences.
        threads: threads per decode step, or `None` for one per core.

    Raises:
        ModelLoadError: the file is missing, isn't a GGUF file, is corrupt, or isn't a model that
            writes text.
    """
    check_gguf(path)
    llama_cpp.llama_backend_init()
    options = llama_cpp.llama_model_default_params()
    options.n_gpu_layers = -1 if llama_cpp.llama_supports_gpu_offload() else 0
    with log_of_this_thread() as log:
        model = llama_cpp.llama_model_load_from_file(os.fsencode(path), options)
    if not model:
        raise ModelLoadError(f"llama.cpp can't load {path}: {log.reason()}")
    return LlamaEngine(model, path, context_length, slots, threads or _cores())


class LlamaEngine:
    """One GGUF model in memory; see `rxllm.models.local.engine.Engine`."""

    def __init__(
        self, model: Any, path: Path, context_length: int | None, slots: int, threads: int
    ) -> None:
        self._model = model
        self._free: Any = weakref.finalize(self, llama_cpp.llama_model_free, model)
        self._free.atexit = False  # a step may still be running then
        self.vocabulary: LlamaVocabulary = LlamaVocabulary(model)
        self._tokenizer = self._read_tokenizer(path)
        self.slots = slots
        trained = llama_cpp.llama_model_n_ctx_train(model)
        check_context_length(path, trained, context_length)
        self.context_length: int = context_length or min(trained, DEFAULT_CONTEXT)
        self._context = self._new_context(path, threads)
        self._free.detach()
        self._free = weakref.finalize(self, _free, self._context, model)
        self._free.atexit = False
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._batch = LlamaBatch(BATCH)
        self._pace = PromptPace(BATCH)
        # The tokens in the cache of each slot, for a prompt that begins alike.
        self._free_slots: dict[int, list[int]] = {slot: [] for slot in range(slots)}
        self._taken_slots: dict[int, list[int]] = {}

    def prompt(self, request: Request) -> LocalPrompt:
        """Return the prompt: the request rendered with the model's chat template."""
        return self._tokenizer.prompt(request)

    def open(self, tokens: list[int], request: Request, mask: Mask | None) -> LlamaSequence:
        """Take the free slot whose cache shares the longest beginning with `tokens`.

        If another slot shares much more, its cache is copied.
        """
        sampler = LlamaSampler(request, self.vocabulary.size)
        sequence = LlamaSequence(None, [], tokens, 0, sampler, mask, request.confidence, 0)
        self.resume(sequence)
        sequence.cached = sequence.position
        return sequence

    def step(self, sequences: list[LlamaSequence]) -> list[Sampled | Exception | None]:
        """Run one `llama_decode` for all: sequences that are answering first, then prompts."""
        batch = self._batch
        batch.clear()
        outputs: dict[int, int] = {}
        reading = [sequence for sequence in sequences if len(sequence.pending) > 1]
        room = self._pace.room(is_shared=len(reading) < len(sequences))
        read, begun = 0, time.perf_counter()
        for sequence in sorted(sequences, key=lambda sequence: len(sequence.pending)):
            is_prompt = len(sequence.pending) > 1
            fed = sequence.pending[: min(batch.room, room - read) if is_prompt else batch.room]
            if not fed:
                continue
            assert sequence.slot is not None  # noqa: S101 - it is live
            read += len(fed) * is_prompt
            sequence.pending = sequence.pending[len(fed) :]
            last = batch.add(fed, sequence.position, sequence.slot, not sequence.pending)
            sequence.position += len(fed)
            sequence.tokens += fed
            if not sequence.pending:
                outputs[sequence.slot] = last
        failure = llama_cpp.llama_decode(self._context, batch.struct)
        if failure:
            for sequence in sequences:  # their cache can't be trusted
                sequence.tokens.clear()
                llama_cpp.llama_memory_seq_rm(self._memory, sequence.slot, -1, -1)
            raise ModelError(f"llama_decode failed with code {failure}")
        self._pace.note(read, time.perf_counter() - begun)
        return [
            self._attempt(sequence, outputs[sequence.slot]) if sequence.slot in outputs else None
            for sequence in sequences
        ]

    def park(self, sequence: LlamaSequence) -> None:
        """Free the slot, keeping its cache until another sequence needs it."""
        assert sequence.slot is not None  # noqa: S101 - it is live
        self._free_slots[sequence.slot] = self._taken_slots.pop(sequence.slot)
        sequence.slot = None
        sequence.pending = [*sequence.tokens, *sequence.pending]
        sequence.tokens = []

    def resume(self, sequence: LlamaSequence) -> None:
        """Take a slot for all tokens, and leave those pending that no cache has."""
        tokens = sequence.pending
        sequence.slot, kept = self._take_slot(tokens)
        sequence.tokens, sequence.pending, sequence.position = tokens[:kept], tokens[kept:], kept
        self._taken_slots[sequence.slot] = sequence.tokens

    def close(self, sequence: LlamaSequence) -> None:
        """Free the slot, keeping its cache."""
        if sequence.slot is not None:
            self.park(sequence)
        sequence.sampler.free()

    def _take_slot(self, tokens: list[int]) -> tuple[int, int]:
        """Take a free slot, and return it with the number of `tokens` in its cache."""
        memory = self._memory
        caches = self._free_slots | self._taken_slots
        shared = {slot: common_prefix(cache, tokens) for slot, cache in caches.items()}
        slot = max(self._free_slots, key=shared.__getitem__)
        other = max(shared, key=shared.__getitem__)
        del self._free_slots[slot]
        if shared[other] >= shared[slot] + _WORTH_A_COPY:
            # Between sequences llama.cpp copies whole caches only.
            llama_cpp.llama_memory_seq_rm(memory, slot, -1, -1)
            llama_cpp.llama_memory_seq_cp(memory, other, slot, -1, -1)
            shared[slot] = shared[other]
        # The last token is always decoded, since its scores give the first answer token.
        kept = min(shared[slot], len(tokens) - 1)
        if not llama_cpp.llama_memory_seq_rm(memory, slot, kept, -1):
            kept = 0  # a recurrent model can't remove part of its state
            llama_cpp.llama_memory_seq_rm(memory, slot, -1, -1)
        return slot, kept

    def unload(self) -> None:
        """Free the context and the model."""
        self._free()

    def _attempt(self, sequence: LlamaSequence, output: int) -> Sampled | Exception:
        try:
            return self._sample(sequence, output)
        except Exception as error:
            return error

    def _sample(self, sequence: LlamaSequence, output: int) -> Sampled:
        mask, before = sequence.mask, None
        if mask is not None or sequence.confidence:
            pointer = llama_cpp.llama_get_logits_ith(self._context, output)
            scores = np.ctypeslib.as_array(pointer, shape=(self.vocabulary.size,))
            before = apply_mask(mask, scores, keep=sequence.confidence)
        token = sequence.sampler.sample(self._context, output)
        confidence = None
        if sequence.confidence and before is not None:
            confidence = probability(before, token)
        if self.vocabulary.is_end(token):
            return Sampled("", confidence, True)
        if mask is not None:
            mask.take(token)
        sequence.pending = [token]
        return Sampled(sequence.decoder.decode(self.vocabulary.piece(token)), confidence, False)

    def _new_context(self, path: Path, threads: int) -> Any:
        options = llama_cpp.llama_context_default_params()
        options.n_ctx = self.context_length * self.slots
        options.n_seq_max = self.slots
        options.n_batch = options.n_ubatch = BATCH
        options.n_threads = options.n_threads_batch = threads
        options.no_perf = True
        if not llama_cpp.llama_supports_gpu_offload():
            # On a processor it takes several times as long for each token of a long context.
            options.flash_attn_type = _NO_FLASH_ATTENTION
        with log_of_this_thread() as log:
            context = llama_cpp.llama_init_from_model(self._model, options)
        if not context:
            raise ModelLoadError(f"llama.cpp can't create a context for {path}: {log.reason()}")
        return context

    def _read_tokenizer(self, path: Path) -> PromptTokenizer:
        vocabulary = self.vocabulary

        def template(name: bytes | None) -> ChatTemplate | None:
            source = llama_cpp.llama_model_chat_template(self._model, name)
            if source is None and name is not None:
                return None
            return ChatTemplate(
                source.decode() if source else None,
                bos_token=vocabulary.bos,
                eos_token=vocabulary.eos,
                origin=path,
            )

        usual = template(None)
        assert usual is not None  # noqa: S101 - it is the default
        return PromptTokenizer(
            usual,
            vocabulary.controls,
            vocabulary.encode,
            partial(vocabulary.encode, plain=True),
            first=vocabulary.first,
            first_text=vocabulary.bos,
            tool_template=template(b"tool_use"),
        )


def _free(context: Any, model: Any) -> None:
    llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)


def _cores() -> int:
    """Number of cores available to this process."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
