"""Sampling: the effect of each option, including 0."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxllm.models.local.sampling import Sampler, Sampling, probability, softmax
from rxllm.requests import as_request

OPEN: dict[str, Any] = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "temperature": 1.0}
SCORES = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))


def drawn(number: int = 4000, scores: object = SCORES, **options: Any) -> np.ndarray:
    """Return the fraction of draws that each token gets."""
    sampling = Sampling.of(as_request("Hi", seed=1, **{**OPEN, **options}))
    sampler = Sampler(sampling)
    counts = np.bincount([sampler.sample(scores) for _ in range(number)], minlength=4)  # type: ignore[arg-type]
    return counts / number


def test_an_unrestricted_draw_follows_the_probabilities() -> None:
    assert drawn() == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.03)


def test_temperature_0_is_greedy_and_not_the_default() -> None:
    assert list(drawn(50, temperature=0)) == [1, 0, 0, 0]
    assert Sampling.of(as_request("Hi", temperature=0)).is_greedy
    assert not Sampling.of(as_request("Hi")).is_greedy


def test_a_high_temperature_evens_out_and_a_low_one_sharpens() -> None:
    assert drawn(temperature=2)[3] > 0.1
    assert drawn(temperature=0.3)[0] > 0.8


def test_top_k_keeps_that_many() -> None:
    assert drawn(top_k=2) == pytest.approx([0.625, 0.375, 0, 0], abs=0.03)


@pytest.mark.parametrize(("top_p", "kept"), [(0.4, 1), (0.6, 2), (0.9, 3), (1.0, 4)])
def test_top_p_keeps_the_token_that_crosses_the_threshold(top_p: float, kept: int) -> None:
    assert np.count_nonzero(drawn(top_p=top_p)) == kept


@pytest.mark.parametrize(("min_p", "kept"), [(0.0, 4), (0.2, 3), (0.5, 2), (1.0, 1)])
def test_min_p_keeps_tokens_by_their_probability_relative_to_the_best(
    min_p: float, kept: int
) -> None:
    assert np.count_nonzero(drawn(min_p=min_p)) == kept


def test_the_repeat_penalty_makes_repeated_tokens_less_likely() -> None:
    flat = np.ones(4, np.float32)
    sampler = Sampler(Sampling.of(as_request("Hi", temperature=0, repeat_penalty=1.5)))
    assert [sampler.sample(flat) for _ in range(4)] == [0, 1, 2, 3]


def test_equal_seeds_draw_equal_tokens_and_no_seed_differs() -> None:
    def tokens(seed: int | None) -> list[int]:
        sampler = Sampler(Sampling.of(as_request("Hi", seed=seed, **OPEN)))
        return [sampler.sample(SCORES) for _ in range(60)]

    assert tokens(7) == tokens(7)
    assert tokens(7) != tokens(8)
    assert tokens(None) != tokens(None)


@given(
    st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=40),
    st.fixed_dictionaries(
        {
            "temperature": st.floats(0, 2),
            "top_k": st.integers(0, 50),
            "top_p": st.floats(0.01, 1),
            "min_p": st.floats(0, 1),
        }
    ),
)
def test_any_options_draw_a_token_of_the_vocabulary(
    scores: list[float], options: dict[str, Any]
) -> None:
    sampler = Sampler(Sampling.of(as_request("Hi", seed=1, **options)))
    assert 0 <= sampler.sample(np.array(scores, np.float32)) < len(scores)


def test_probabilities_add_up_and_extremes_do_not_overflow() -> None:
    scores = np.array([1000.0, 0.0, -1000.0], np.float32)
    assert softmax(scores).sum() == pytest.approx(1)
    assert [probability(scores, token) for token in range(3)] == [1.0, 0.0, 0.0]
