"""The model itself, on a small sample of the prompts evaluated in its model card."""

from __future__ import annotations

import pytest

import rxllm
from rxllm.models.tiny.corpus import json_prompts, story_prompts, tool_prompts
from rxllm.models.tiny.evaluate import (
    answer_uses_the_result,
    answers,
    answers_to_results,
    call_is_expected,
    calls,
    json_is_good,
    story_is_good,
)


@pytest.mark.slow
async def test_stories_name_their_subject_and_end() -> None:
    prompts = story_prompts(50)
    given = await answers(rxllm.model("tiny"), prompts, temperature=0.0)
    # The model card reports nine in ten; two fewer allow for rounding on other processors.
    assert sum(map(story_is_good, prompts, given)) >= 43


async def test_json_parses() -> None:
    prompts = json_prompts(20)
    given = await answers(rxllm.model("tiny"), prompts, temperature=0.0)
    assert sum(map(json_is_good, prompts, given)) >= 19


async def test_the_story_of_the_readme() -> None:
    stream = rxllm.model("tiny").stream(
        "Tell me a story about a robot who learns to paint", temperature=0
    )
    result = await rxllm.sinks.collect(stream)
    assert result.finish_reason == "stop"
    assert result.text.count("robot") >= 2
    assert "paint" in result.text


@pytest.mark.parametrize("name", ["tiny/onnx", "tiny/llama"])
async def test_tools_are_called_and_their_results_used(name: str) -> None:
    if name == "tiny/llama":
        pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    model, prompts = rxllm.model(name), tool_prompts(30)
    made = await calls(model, prompts, temperature=0.0)
    assert sum(map(call_is_expected, prompts, made)) >= 27
    used = await answers_to_results(model, prompts, temperature=0.0)
    assert sum(map(answer_uses_the_result, prompts, used)) >= 27
