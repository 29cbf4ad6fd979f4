"""Measure the model on prompts kept out of training: `python -m rxllm.models.tiny.evaluate`."""

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path

from rxllm.models.tiny import directory
from rxllm.models.tiny.corpus import Prompt, json_prompts, story_prompts
from rxllm.models.tiny.generation import Answer, Generator

STORY_LIMIT = 300
"""Tokens within which a story has to end."""


def story_is_good(prompt: Prompt, answer: Answer) -> bool:
    """Whether a story names its subject and ended by itself."""
    named = re.search(rf"\b{re.escape(prompt.subject)}\b", answer.text, re.IGNORECASE)
    return named is not None and answer.ended


def json_is_good(prompt: Prompt, answer: Answer) -> bool:
    """Whether an answer is JSON and nothing else."""
    try:
        json.loads(answer.text)
    except ValueError:
        return False
    return answer.ended


def json_names_its_subject(prompt: Prompt, answer: Answer) -> bool:
    """Whether an answer is JSON that holds the name asked for."""
    return json_is_good(prompt, answer) and f'"{prompt.subject}"' in answer.text


Check = Callable[[Prompt, Answer], bool]


def answers(generator: Generator, prompts: list[Prompt], temperature: float) -> list[Answer]:
    """The model's answers; where chance decides, the seed is the number of the prompt."""
    return [
        generator.answer(prompt.text, temperature, seed, STORY_LIMIT)
        for seed, prompt in enumerate(prompts)
    ]


def main() -> None:
    """Print how many answers pass, greedy and at temperature 0.7."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, default=directory, help="where the files are")
    parser.add_argument("--count", type=int, default=100, help="prompts of each kind")
    parser.add_argument("--show", action="store_true", help="print the answers that fail")
    options = parser.parse_args()
    generator = Generator(options.directory)
    story_checks: dict[str, Check] = {"stories that name the subject and end": story_is_good}
    json_checks: dict[str, Check] = {
        "JSON that parses": json_is_good,
        "JSON with the name": json_names_its_subject,
    }
    kinds = [
        (story_prompts(options.count), story_checks),
        (json_prompts(options.count), json_checks),
    ]
    for temperature in (0.0, 0.7):
        for prompts, checks in kinds:
            given = answers(generator, prompts, temperature)
            for title, check in checks.items():
                report(f"temperature {temperature}: {title}", prompts, given, check, options.show)


def report(
    title: str, prompts: list[Prompt], given: list[Answer], check: Check, show: bool
) -> None:
    """Print how many of the answers pass a check, and if asked those that don't."""
    failed = [pair for pair in zip(prompts, given, strict=True) if not check(*pair)]
    print(f"{title}: {len(prompts) - len(failed)} of {len(prompts)}")
    for prompt, answer in failed if show else ():
        print(f"  {prompt.text!r} -> {answer.text!r}")


if __name__ == "__main__":
    main()
