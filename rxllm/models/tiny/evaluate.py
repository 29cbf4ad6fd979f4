"""Measure the model on prompts kept out of training: `python -m rxllm.models.tiny.evaluate`."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from rxllm.bridge import run
from rxllm.chunks import End, text_of
from rxllm.iteration import to_async
from rxllm.models.registry import model
from rxllm.models.tiny.corpus import Prompt, json_prompts, story_prompts
from rxllm.requests import Model

STORY_LIMIT = 300
"""Maximum number of tokens in a story."""


class Answer(NamedTuple):
    """A text, and whether it ended with the model's end token."""

    text: str
    ended: bool


Check: TypeAlias = Callable[[Prompt, Answer], bool]


def story_is_good(prompt: Prompt, answer: Answer) -> bool:
    """True if a story names its subject and ended by itself."""
    named = re.search(rf"\b{re.escape(prompt.subject)}\b", answer.text, re.IGNORECASE)
    return named is not None and answer.ended


def json_is_good(prompt: Prompt, answer: Answer) -> bool:
    """True if an answer is JSON and nothing else."""
    try:
        json.loads(answer.text)
    except ValueError:
        return False
    return answer.ended


def json_names_its_subject(prompt: Prompt, answer: Answer) -> bool:
    """True if an answer is JSON with the requested name."""
    return json_is_good(prompt, answer) and f'"{prompt.subject}"' in answer.text


async def answers(asked: Model, prompts: list[Prompt], temperature: float) -> list[Answer]:
    """Return the model's answers in the order of the prompts, sampled without truncation.

    The seed of each sample is the index of the prompt.
    """

    async def answer(seed: int, prompt: Prompt) -> Answer:
        text, ended = "", False
        stream = asked.stream(
            prompt.text,
            temperature=temperature,
            seed=seed,
            max_tokens=STORY_LIMIT,
            top_k=0,
            top_p=1.0,
            min_p=0.0,
        )
        async for chunk in to_async(stream):
            text += text_of(chunk)
            ended = isinstance(chunk, End) and chunk.finish_reason == "stop"
        return Answer(text, ended)

    return await asyncio.gather(*(answer(seed, prompt) for seed, prompt in enumerate(prompts)))


async def measure(asked: Model, count: int, show: bool) -> None:
    """Print how many of `count` answers of each kind pass, greedy and at temperature 0.7."""
    story_checks: dict[str, Check] = {"stories that name the subject and end": story_is_good}
    json_checks: dict[str, Check] = {
        "JSON that parses": json_is_good,
        "JSON with the name": json_names_its_subject,
    }
    kinds = [(story_prompts(count), story_checks), (json_prompts(count), json_checks)]
    for temperature in (0.0, 0.7):
        for prompts, checks in kinds:
            given = await answers(asked, prompts, temperature)
            for title, check in checks.items():
                report(f"temperature {temperature}: {title}", prompts, given, check, show)


def report(
    title: str, prompts: list[Prompt], given: list[Answer], check: Check, show: bool
) -> None:
    """Print how many answers pass a check, and with `show` the answers that fail."""
    failed = [pair for pair in zip(prompts, given, strict=True) if not check(*pair)]
    print(f"{title}: {len(prompts) - len(failed)} of {len(prompts)}")
    for prompt, answer in failed if show else ():
        print(f"  {prompt.text!r} -> {answer.text!r}")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tiny", help="the name of the model to measure")
    parser.add_argument("--count", type=int, default=100, help="prompts of each kind")
    parser.add_argument("--show", action="store_true", help="print the answers that fail")
    options = parser.parse_args()
    run(measure(model(options.model), options.count, options.show))


if __name__ == "__main__":
    main()
