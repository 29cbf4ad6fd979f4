"""Sampling: chooses the next token from the scores (logits) of all tokens.

The steps and their order are those of llama.cpp's default chain: repeat penalty, top-k, top-p,
min-p, temperature, then a random draw.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from rxllm.requests import Request

__all__ = ["REPEAT_WINDOW", "Sampler", "Sampling", "Scores", "probability", "softmax"]

Scores: TypeAlias = npt.NDArray[np.float32]

REPEAT_WINDOW: Final = 64
"""Number of most recent answer tokens that the repeat penalty considers."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """The sampling options, with llama.cpp's defaults for those that aren't set."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repeat_penalty: float
    seed: int | None

    @classmethod
    def of(cls, request: Request) -> Sampling:
        """Return the options of `request`. 0 counts as set: temperature 0 stays 0 (greedy)."""

        def given(value: Any, default: Any) -> Any:
            return default if value is None else value

        return cls(
            temperature=given(request.temperature, 0.8),
            top_k=given(request.top_k, 40),
            top_p=given(request.top_p, 0.95),
            min_p=given(request.min_p, 0.05),
            repeat_penalty=given(request.repeat_penalty, 1.0),
            seed=request.seed,
        )

    @property
    def is_greedy(self) -> bool:
        """True if the most likely token is always chosen, without a draw."""
        return self.temperature == 0


class Sampler:
    """Samples the tokens of one answer. The same options and seed give the same tokens."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._random = np.random.default_rng(sampling.seed)
        self._recent: deque[int] = deque(maxlen=REPEAT_WINDOW)

    def sample(self, scores: Scores) -> int:
        """Return the next token, given one score for each token of the vocabulary."""
        scores = self._penalised(scores)
        token = int(scores.argmax()) if self._sampling.is_greedy else self._draw(scores)
        self._recent.append(token)
        return token

    def _penalised(self, scores: Scores) -> Scores:
        penalty = self._sampling.repeat_penalty
        if penalty == 1.0 or not self._recent:
            return scores
        recent = np.fromiter(set(self._recent), dtype=np.int64)
        scores = scores.copy()
        chosen = scores[recent]
        scores[recent] = np.where(chosen > 0, chosen / penalty, chosen * penalty)
        return scores

    def _draw(self, scores: Scores) -> int:
        options = self._sampling
        keep = options.top_k if 0 < options.top_k < len(scores) else len(scores)
        tokens = (
            np.argpartition(scores, -keep)[-keep:] if keep < len(scores) else np.arange(len(scores))
        )
        tokens = tokens[np.argsort(-scores[tokens], kind="stable")]
        probabilities = softmax(scores[tokens])
        if options.top_p < 1:
            # The token that crosses the threshold is kept.
            kept = int(np.searchsorted(np.cumsum(probabilities), options.top_p)) + 1
            tokens, probabilities = tokens[:kept], probabilities[:kept]
        likely = (probabilities >= options.min_p * probabilities[0]) & (probabilities > 0)
        tokens = tokens[likely]
        weights = softmax(scores[tokens].astype(np.float64) / max(options.temperature, 1e-6))
        drawn = int(np.searchsorted(np.cumsum(weights), self._random.random(), side="right"))
        return int(tokens[min(drawn, len(tokens) - 1)])


def softmax(scores: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    """Convert scores to probabilities that add up to 1."""
    weights = np.exp(scores.astype(np.float64) - scores.max())
    return np.asarray(weights / weights.sum())


def probability(scores: Scores, token: int) -> float:
    """Return the probability of `token` before any sampling option is applied."""
    weights = np.exp(scores.astype(np.float64) - scores.max())
    return float(weights[token] / weights.sum())
