"""Measure the model on prompts kept out of training: `python -m rxllm.models.tiny.evaluate`."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

from rxllm.bridge import run
from rxllm.chunks import End, ToolCall, text_of
from rxllm.iteration import to_async
from rxllm.messages import Message, Tool
from rxllm.models.registry import model
from rxllm.models.tiny.corpus import Prompt, ToolPrompt, json_prompts, story_prompts, tool_prompts
from rxllm.requests import Model

STORY_LIMIT = 300
"""Maximum number of tokens in a story."""


class Answer(NamedTuple):
    """A text, and whether it ended with the model's end token."""

    text: str
    ended: bool


Check: TypeAlias = Callable[[Any, Any], bool]
"""Whether the answer to a prompt is good."""

Calls: TypeAlias = list[tuple[str, dict[str, Any]]]
"""The names and arguments of the complete tool calls of an answer."""


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


def call_is_expected(prompt: ToolPrompt, calls: Calls) -> bool:
    """True if there is one call, of the right tool with the expected arguments."""
    return calls == [(prompt.name, prompt.arguments)]


def answer_uses_the_result(prompt: ToolPrompt, answer: Answer) -> bool:
    """True if an answer says what the tool has said, and calls no other."""
    return answer.ended and all(fact in answer.text for fact in prompt.facts)


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


async def calls(asked: Model, prompts: list[ToolPrompt], temperature: float) -> list[Calls]:
    """Return the tool calls with which the model answers, in the order of the prompts."""

    async def call(seed: int, prompt: ToolPrompt) -> Calls:
        stream = asked.stream(
            prompt.text, tools=_tools(prompt), temperature=temperature, seed=seed, max_tokens=100
        )
        made = (await stream).tool_calls
        return [(each.name, json.loads(each.arguments)) for each in made if each.complete]

    return await asyncio.gather(*(call(seed, prompt) for seed, prompt in enumerate(prompts)))


async def answers_to_results(
    asked: Model, prompts: list[ToolPrompt], temperature: float
) -> list[Answer]:
    """Return the answers to the results of the expected calls, in the order of the prompts."""

    async def answer(seed: int, prompt: ToolPrompt) -> Answer:
        called = ToolCall("expected0", prompt.name, json.dumps(prompt.arguments), complete=True)
        messages = [
            Message("user", prompt.text),
            Message("assistant", "", tool_calls=(called,)),
            Message("tool", prompt.result, tool_call_id=called.id),
        ]
        result = await asked.stream(
            messages, tools=_tools(prompt), temperature=temperature, seed=seed, max_tokens=100
        )
        return Answer(result.text, result.finish_reason == "stop")

    return await asyncio.gather(*(answer(seed, prompt) for seed, prompt in enumerate(prompts)))


def _tools(prompt: ToolPrompt) -> list[Tool]:
    functions = [definition["function"] for definition in prompt.tools]
    return [
        Tool(each["name"], each.get("description", ""), each.get("parameters", {}))
        for each in functions
    ]


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
        asking = tool_prompts(count)
        made = await calls(asked, asking, temperature)
        title = f"temperature {temperature}: calls of the right tool with the expected arguments"
        report(title, asking, made, call_is_expected, show)
        used = await answers_to_results(asked, asking, temperature)
        title = f"temperature {temperature}: answers that use the result"
        report(title, asking, used, answer_uses_the_result, show)


def report(
    title: str, prompts: Sequence[Any], given: Sequence[Any], check: Check, show: bool
) -> None:
    """Print how many answers pass a check, and with `show` the answers that fail."""
    failed = [pair for pair in zip(prompts, given, strict=True) if not check(*pair)]
    print(f"{title}: {len(prompts) - len(failed)} of {len(prompts)}")
    for prompt, answer in failed if show else ():
        print(f"  {prompt.text!r} -> {answer!r}")


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
