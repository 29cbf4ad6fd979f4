"""Prompts for evaluation, made with the words held out of training."""

from random import Random
from typing import Any, NamedTuple

from rxllm.models.tiny.corpus import records, tools
from rxllm.models.tiny.corpus.held_out import held_out_words
from rxllm.models.tiny.corpus.stories import write_story
from rxllm.models.tiny.corpus.tool_questions import question
from rxllm.models.tiny.corpus.wordings import STORY_REQUESTS, vary


class Prompt(NamedTuple):
    """A user's message and the word that a good answer must contain."""

    text: str
    subject: str


class ToolPrompt(NamedTuple):
    """A user's message with one or two tools, and what is expected.

    tools: their definitions, as in OpenAI's chat completions; name and arguments: those of the
    call; result: what the tool says; facts: what a good answer contains.
    """

    text: str
    tools: list[dict[str, Any]]
    name: str
    arguments: dict[str, Any]
    result: str
    facts: tuple[str, ...]


def story_prompts(count: int, seed: int = 0) -> list[Prompt]:
    """Return `count` requests for stories about subjects that no training text contains."""
    random, words = Random(f"stories {seed}"), held_out_words()  # noqa: S311 - not a secret
    prompts: list[Prompt] = []
    for _ in range(count):
        story = write_story(random, words)
        request = vary(random, random.choice(STORY_REQUESTS).format(story.asked))
        prompts.append(Prompt(request, story.noun))
    return prompts


def json_prompts(count: int, seed: int = 0) -> list[Prompt]:
    """Return `count` requests for a JSON record with a name that no training text contains."""
    random, words = Random(f"json {seed}"), held_out_words()  # noqa: S311 - not a secret
    prompts: list[Prompt] = []
    while len(prompts) < count:
        request, _ = records.json_exchange(random, words)
        named = [name for name in (*words.her_names, *words.his_names) if name in request]
        if named:
            prompts.append(Prompt(request, named[0]))
    return prompts


def tool_prompts(count: int, seed: int = 0) -> list[ToolPrompt]:
    """Return `count` requests that need a tool, with places and numbers kept out of training."""
    random, words = Random(f"tools {seed}"), held_out_words()  # noqa: S311 - not a secret
    kinds: tuple[tools.Kind, ...] = ("clock", "calculator", "weather")
    prompts: list[ToolPrompt] = []
    for _ in range(count):
        chosen = random.sample(kinds, random.choice((1, 2)))
        offers = [tools.offer(random, kind) for kind in chosen]
        offered = random.choice(offers)
        asked = question(random, words, offered)
        prompts.append(
            ToolPrompt(
                vary(random, asked.asked),
                [each.definition for each in offers],
                offered.name,
                asked.arguments,
                asked.result,
                asked.facts,
            )
        )
    return prompts
