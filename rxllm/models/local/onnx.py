"""ONNX decoders with a key-value cache, in the layout and naming of Hugging Face Optimum.

A directory holds `model.onnx`, `tokenizer.json` and `config.json`, and may hold
`tokenizer_config.json` (chat template), `chat_template.jinja` and `generation_config.json`. Inputs:
`input_ids`, `attention_mask`, optionally `position_ids`, `past_key_values.N.key` and `.value`;
outputs: `logits`, `present.N.key` and `.value`. A merged decoder has the input `use_cache_branch`
as well: it reads a prompt at once, and then token by token.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import onnxruntime
from llguidance import LLTokenizer
from tokenizers import Tokenizer

from rxllm.errors import ModelLoadError
from rxllm.models.local.answer_form import MARKERS
from rxllm.models.local.control_tokens import ControlToken, LocalPrompt, PromptTokenizer
from rxllm.models.local.detokenizer import Detokenizer
from rxllm.models.local.engine import Sampled, check_context_length, common_prefix
from rxllm.models.local.guidance import Mask, Vocabulary, apply_mask
from rxllm.models.local.onnx_directory import OnnxDirectory
from rxllm.models.local.prompt_pace import PromptPace
from rxllm.models.local.sampling import Sampler, Sampling, probability
from rxllm.requests import Request

__all__ = ["OnnxEngine", "OnnxSequence", "load_onnx"]

PROMPT_CHUNK: Final = 128
"""Maximum prompt tokens per sequence and step, so a long prompt doesn't hold up other streams."""

DEFAULT_SLOTS: Final = 8
_USE_CACHE: Final = "use_cache_branch"

Cache: TypeAlias = dict[str, Any]
"""The key-value cache of a sequence: an OrtValue for each `past_key_values` input."""


@dataclass(slots=True, eq=False)
class OnnxSequence:
    """One live sequence: `pending` tokens are decoded next; the cache holds `tokens`."""

    tokens: list[int]
    pending: list[int]
    cache: Cache
    sampler: Sampler
    mask: Mask | None
    confidence: bool
    cached: int
    decoder: Detokenizer


def load_onnx(
    path: Path,
    *,
    context_length: int | None = None,
    slots: int = DEFAULT_SLOTS,
    threads: int | None = None,
) -> OnnxEngine:
    """Load a model directory.

    Args:
        path: the directory.
        context_length: tokens per sequence, or `None` for the length in `config.json`.
        slots: maximum number of live sequences.
        threads: threads per decode step, or `None` for onnxruntime's default.

    Raises:
        ModelLoadError: a file is missing, of the wrong kind, or corrupt.
    """
    directory = OnnxDirectory.read(path)
    check_context_length(path, directory.context_length, context_length)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # fatal only: failures are also raised
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(
            str(directory.model), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise ModelLoadError(f"onnxruntime can't load {directory.model}: {error}") from error
    return OnnxEngine(session, directory, context_length or directory.context_length, slots)


class OnnxEngine:
    """One ONNX model in memory; see `rxllm.models.local.engine.Engine`."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        directory: OnnxDirectory,
        context_length: int,
        slots: int,
    ) -> None:
        self.slots = slots
        self.context_length = context_length
        self._session = session
        self._tokenizer: Tokenizer = directory.tokenizer
        self._prompts = _prompt_tokenizer(directory)
        self._markers = {
            token: added.content
            for token, added in self._tokenizer.get_added_tokens_decoder().items()
            if added.special and added.content in MARKERS
        }
        self._end_tokens = directory.end_tokens
        self._empty_cache = _empty_cache(session, directory.model)
        self.vocabulary: Vocabulary = Vocabulary(
            self._tokenizer_of_all, _scores_size(session, self._tokenizer)
        )
        inputs = {node.name for node in session.get_inputs()}
        self._has_positions = "position_ids" in inputs
        self._is_merged = _USE_CACHE in inputs
        # Caches of closed sequences, for prompts with the same prefix; the oldest is evicted first.
        self._closed: list[tuple[list[int], Cache]] = []
        self._live: list[OnnxSequence] = []
        self._pace = PromptPace(PROMPT_CHUNK * slots)

    def prompt(self, request: Request) -> LocalPrompt:
        """Return the prompt: the request rendered with the model's chat template."""
        return self._prompts.prompt(request)

    def open(self, tokens: list[int], request: Request, mask: Mask | None) -> OnnxSequence:
        """Begin a sequence with the cache that shares the longest beginning with `tokens`."""
        sequence = OnnxSequence(
            [],
            tokens,
            self._empty_cache,
            Sampler(Sampling.of(request)),
            mask,
            request.confidence,
            0,
            Detokenizer(self._tokenizer, self._markers),
        )
        self.resume(sequence)
        sequence.cached = len(sequence.tokens)
        return sequence

    def step(self, sequences: list[OnnxSequence]) -> list[Sampled | Exception | None]:
        """Decode one token, or one piece of the prompt, for each sequence in turn."""
        reading = [sequence for sequence in sequences if len(sequence.pending) > 1]
        room = self._pace.room(is_shared=len(reading) < len(sequences))
        pieces = {}
        for sequence in reading:
            piece = min(room, PROMPT_CHUNK, len(sequence.pending))
            pieces[id(sequence)] = len(sequence.pending) if self._is_merged else piece
            room -= piece
        return [self._attempt(each, pieces.get(id(each), 1)) for each in sequences]

    def park(self, sequence: OnnxSequence) -> None:
        """Keep the cache of the sequence for its own return or for another prompt."""
        self._live.remove(sequence)
        if sequence.tokens:
            self._closed.append((sequence.tokens, sequence.cache))
            del self._closed[: -self.slots]
        sequence.pending = [*sequence.tokens, *sequence.pending]
        sequence.tokens, sequence.cache = [], self._empty_cache

    def resume(self, sequence: OnnxSequence) -> None:
        """Take a cache for all tokens, and leave those pending that it hasn't."""
        tokens = sequence.pending
        known = [*self._closed, *((live.tokens, live.cache) for live in self._live)]
        best = max(known, key=lambda old: common_prefix(old[0], tokens), default=([], {}))
        # The last token is always decoded, since its scores give the first answer token.
        kept = min(common_prefix(best[0], tokens), len(tokens) - 1)
        if self._is_merged and kept < len(tokens) - 1:
            kept = 0
        sequence.cache = _shortened(best[1], kept) if kept else self._empty_cache
        sequence.tokens, sequence.pending = tokens[:kept], tokens[kept:]
        self._live.append(sequence)

    def close(self, sequence: OnnxSequence) -> None:
        """Keep the cache of the sequence for a later prompt."""
        if sequence in self._live:
            self.park(sequence)

    def unload(self) -> None:
        """Release the session and the caches."""
        self._closed.clear()
        del self._session

    def _tokenizer_of_all(self) -> LLTokenizer:
        text, ends = self._tokenizer.to_str(), sorted(self._end_tokens)
        return LLTokenizer(text, n_vocab=self.vocabulary.size, eos_token=ends)

    def _attempt(self, sequence: OnnxSequence, length: int) -> Sampled | Exception | None:
        try:
            return self._advance(sequence, length) if length else None
        except Exception as error:
            return error

    def _advance(self, sequence: OnnxSequence, length: int) -> Sampled | None:
        """Decode `length` tokens, and draw the next one if none is left."""
        fed, sequence.pending = sequence.pending[:length], sequence.pending[length:]
        begun = time.perf_counter()
        scores = self._run(sequence, fed)
        self._pace.note(length, time.perf_counter() - begun)
        if sequence.pending:
            return None
        mask = sequence.mask
        before = apply_mask(mask, scores, keep=sequence.confidence)
        token = sequence.sampler.sample(scores)
        confidence = probability(before, token) if sequence.confidence else None
        if token in self._end_tokens:
            return Sampled("", confidence, True)
        if mask is not None:
            mask.take(token)
        sequence.pending = [token]
        return Sampled(sequence.decoder.step(token), confidence, False)

    def _run(self, sequence: OnnxSequence, fed: list[int]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Decode `fed` and return the scores after its last token. The cache stays in ORT."""
        past, length = len(sequence.tokens), len(fed)
        binding = self._session.io_binding()
        binding.bind_cpu_input("input_ids", np.array([fed], np.int64))
        binding.bind_cpu_input("attention_mask", np.ones((1, past + length), np.int64))
        if self._has_positions:
            positions = np.arange(past, past + length, dtype=np.int64)
            binding.bind_cpu_input("position_ids", positions[np.newaxis])
        if self._is_merged:
            binding.bind_cpu_input(_USE_CACHE, np.array([past > 0]))
        for name, value in sequence.cache.items():
            binding.bind_ortvalue_input(name, value)
        binding.bind_output("logits")
        for name in sequence.cache:
            binding.bind_output(name.replace("past_key_values", "present"))
        self._session.run_with_iobinding(binding)
        logits, *present = binding.get_outputs()
        sequence.cache = dict(zip(sequence.cache, present, strict=True))
        sequence.tokens += fed
        scores: np.ndarray[Any, np.dtype[np.float32]] = logits.numpy()[0, -1].astype(np.float32)
        return scores


def _prompt_tokenizer(directory: OnnxDirectory) -> PromptTokenizer:
    tokenizer = directory.tokenizer
    plain = Tokenizer.from_str(tokenizer.to_str())
    plain.encode_special_tokens = True  # as ordinary text
    controls = [
        ControlToken(token, added.content, added.lstrip, added.rstrip)
        for token, added in tokenizer.get_added_tokens_decoder().items()
        if added.special
    ]
    return PromptTokenizer(
        directory.template,
        controls,
        lambda text: list(tokenizer.encode(text, add_special_tokens=False).ids),
        lambda text: list(plain.encode(text, add_special_tokens=False).ids),
        first=directory.first_tokens,
        first_text="",
        tool_template=directory.tool_template,
    )


def _scores_size(session: onnxruntime.InferenceSession, tokenizer: Tokenizer) -> int:
    """The number of scores of a step, which may be more than the tokenizer has tokens."""
    logits = next((node for node in session.get_outputs() if node.name == "logits"), None)
    size = logits.shape[-1] if logits is not None else None
    return size if isinstance(size, int) else tokenizer.get_vocab_size()


def _empty_cache(session: onnxruntime.InferenceSession, path: Path) -> Cache:
    nodes = {node.name: node for node in session.get_inputs()}
    outputs = {node.name for node in session.get_outputs()}
    cache: Cache = {}
    for name, node in nodes.items():
        if name.startswith("past_key_values."):
            _, heads, _, size = node.shape
            kind = np.float16 if node.type == "tensor(float16)" else np.float32
            cache[name] = onnxruntime.OrtValue.ortvalue_from_numpy(
                np.zeros((1, heads, 0, size), kind)
            )
    wanted = {name.replace("past_key_values", "present") for name in cache} | {"logits"}
    known = {"input_ids", "attention_mask", "position_ids", _USE_CACHE}
    unknown = nodes.keys() - cache.keys() - known
    if not cache or unknown or wanted - outputs:
        raise ModelLoadError(
            f"{path} must be a decoder with a key-value cache and Optimum's names, "
            f"got the inputs {', '.join(nodes)}"
        )
    return cache


def _shortened(cache: Cache, length: int) -> Cache:
    """Copy the beginning: an OrtValue of an array doesn't own its memory, nor does its `numpy`."""
    return {
        name: onnxruntime.OrtValue.ortvalue_from_numpy(value.numpy()[:, :, :length, :].copy())
        for name, value in cache.items()
    }
