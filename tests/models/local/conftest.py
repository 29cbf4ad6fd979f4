"""The bundled model on both engines; llama.cpp is skipped if it isn't installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from tokenizers import Tokenizer

import rxllm
from rxllm.models import tiny
from rxllm.models.local.engine import Sampled
from rxllm.models.local.model import LocalModel
from rxllm.requests import as_request

ENGINES = ["tiny/onnx", "tiny/llama"]


class Greedy(NamedTuple):
    """The most likely token at each step, and the gap between its score and the second best."""

    tokens: list[int]
    gaps: list[float]


class GreedyRecorder:
    """Replaces the sampler of either engine."""

    def __init__(self, vocabulary_size: int) -> None:
        self.output = Greedy([], [])
        self._vocabulary_size = vocabulary_size

    def sample(self, scores: Any, output: int | None = None) -> int:
        if output is not None:
            import llama_cpp

            pointer = llama_cpp.llama_get_logits_ith(scores, output)
            scores = np.ctypeslib.as_array(pointer, shape=(self._vocabulary_size,))
        second, best = np.argsort(scores)[-2:]
        self.output.tokens.append(int(best))
        self.output.gaps.append(float(scores[best] - scores[second]))
        return int(best)

    def free(self) -> None:
        """Do nothing, as there is nothing to free."""


def require(name: str) -> None:
    if name == "tiny/llama" and importlib.util.find_spec("llama_cpp") is None:
        pytest.skip("llama-cpp-python is not installed (the extra llama)")


def decode_greedily(name: str, prompts: list[str], steps: int) -> list[Greedy]:
    """Decode all prompts at once on a fresh engine, up to `steps` tokens each including the end."""
    require(name)
    model = rxllm.model(name)
    assert isinstance(model, LocalModel)
    engine = model._runner._load()  # type: ignore[union-attr]
    vocabulary_size = Tokenizer.from_file(str(tiny.directory / "tokenizer.json")).get_vocab_size()
    sequences = []
    for prompt in prompts:
        request = as_request(prompt, temperature=0)
        sequence = engine.open(engine.prompt(request).tokens, request, None)
        if hasattr(sequence.sampler, "free"):
            sequence.sampler.free()
        sequence.sampler = GreedyRecorder(vocabulary_size)
        sequences.append(sequence)
    live = list(sequences)
    while live:
        results = engine.step(live)
        ended = [
            sequence
            for sequence, sampled in zip(live, results, strict=True)
            if isinstance(sampled, Sampled)
            and (sampled.is_end or len(sequence.sampler.output.tokens) == steps)
        ]
        live = [sequence for sequence in live if sequence not in ended]
    for sequence in sequences:
        engine.close(sequence)
    engine.unload()
    return [sequence.sampler.output for sequence in sequences]


@pytest.fixture
def greedy() -> Callable[[str, list[str], int], list[Greedy]]:
    return decode_greedily


@pytest.fixture(params=ENGINES)
def model(request: pytest.FixtureRequest) -> LocalModel:
    require(request.param)
    model = rxllm.model(request.param)
    assert isinstance(model, LocalModel)
    return model
