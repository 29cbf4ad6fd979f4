"""The seeded grammar: reproducible, valid, and free of the held-out words."""

import json
import re
from collections.abc import Iterator
from itertools import islice
from random import Random
from typing import Any

import jsonschema
import pytest

from rxllm.chunks import ToolCall
from rxllm.messages import Tool
from rxllm.models.local.call_forms import CALL_FORMS
from rxllm.models.local.call_reader import CallReader
from rxllm.models.tiny.corpus import (
    Conversation,
    conversations,
    held_out_words,
    json_prompts,
    story_prompts,
    tool_prompts,
    training_words,
)
from rxllm.models.tiny.corpus.names import plural, with_article
from rxllm.models.tiny.corpus.records import json_exchange
from rxllm.models.tiny.corpus.stories import write_story
from rxllm.models.tiny.corpus.tool_questions import failed, is_kept_out, question
from rxllm.models.tiny.corpus.tools import offer


@pytest.fixture(scope="module")
def sample() -> list[Conversation]:
    return list(islice(conversations(seed=1), 3_000))


def test_the_same_seed_gives_the_same_corpus(sample: list[Conversation]) -> None:
    assert list(islice(conversations(seed=1), 200)) == sample[:200]


def test_another_seed_gives_another_corpus(sample: list[Conversation]) -> None:
    assert list(islice(conversations(seed=2), 200)) != sample[:200]


def test_turns_alternate_and_the_model_has_the_last_word(sample: list[Conversation]) -> None:
    turns = re.compile(r"(system )?(user assistant (tool (tool )*assistant )?)+")
    for conversation in sample:
        assert turns.fullmatch("".join(f"{message.role} " for message in conversation))


def test_no_slot_is_left_open(sample: list[Conversation]) -> None:
    slot = re.compile(r"\{[a-zA-Z_]*\}")
    for conversation in sample:
        for message in conversation:
            if not (message.role == "tool" or "<tool" in message.content):  # {} is JSON there
                assert not slot.search(message.content)


def test_every_story_names_its_subject() -> None:
    random, words = Random(3), training_words()
    for _ in range(2_000):
        story = write_story(random, words)
        assert story.noun in story.text.lower()
        assert story.noun in story.short.lower()


def test_every_json_answer_parses() -> None:
    random, words = Random(4), training_words()
    for _ in range(2_000):
        _, answer = json_exchange(random, words)
        assert json.loads(answer)


def tool_dialogues(sample: list[Conversation]) -> Iterator[tuple[dict[str, Any], Conversation]]:
    """The dialogues with tools, and the parameters of their tools by name."""
    for first, *rest in sample:
        if first.role == "system" and "<tools>" in first.content:
            listed = first.content.partition("<tools>\n")[2].partition("\n</tools>")[0]
            functions = [json.loads(line)["function"] for line in listed.splitlines()]
            yield {each["name"]: each.get("parameters", {}) for each in functions}, rest


def test_every_call_is_of_a_tool_that_is_offered_and_every_result_is_used(
    sample: list[Conversation],
) -> None:
    calls = 0
    for parameters, messages in tool_dialogues(sample):
        made = {name: Tool(name, "", schema) for name, schema in parameters.items()}
        for message in messages:
            reader = CallReader(CALL_FORMS["hermes"], [*made.values()])
            for call in [*reader.feed(message.content), *reader.flush()]:
                if isinstance(call, ToolCall) and call.complete:
                    calls += 1
                    jsonschema.validate(json.loads(call.arguments), parameters[call.name])
            assert ("<tool_call>" in message.content) == bool(reader.calls)
            assert message.role == "assistant" or not reader.calls
    assert calls > 200


def test_questions_for_tools_have_answers_with_the_facts_of_their_results() -> None:
    random, words = Random(5), training_words()
    for kind in ("clock", "calculator", "weather", "places"):
        for _ in range(300):
            asked = question(random, words, offer(random, kind))
            for each in (asked, failed(random, asked)):
                assert each.facts
                assert all(fact in each.result and fact in each.answer for fact in each.facts)
            assert all(str(each) in asked.asked for each in [*asked.arguments.values()]
                       if kind != "calculator")  # fmt: skip


def test_numbers_of_the_evaluation_never_occur_in_training() -> None:
    random, words = Random(6), training_words()
    for _ in range(500):
        asked = question(random, words, offer(random, "calculator"))
        one, _, other = next(iter(asked.arguments.values())).split()
        assert not is_kept_out(int(one), int(other))
    for prompt in tool_prompts(100):
        for formula in prompt.arguments.values():
            if re.fullmatch(r"\d+ . \d+", formula):
                one, _, other = formula.split()
                assert is_kept_out(int(one), int(other))


def test_there_are_several_hundred_subjects() -> None:
    words = training_words()
    assert len(words.characters) + len(words.objects) + len(words.themes) >= 300


def test_held_out_words_never_occur_in_training(sample: list[Conversation]) -> None:
    text = "\n".join(message.content for conversation in sample for message in conversation)
    words = held_out_words()
    nouns = "|".join(words.characters + words.objects + words.themes)
    names = "|".join(words.her_names + words.his_names + words.places)
    assert re.findall(rf"\b(?:{nouns})s?\b", text, re.IGNORECASE) == []
    assert re.findall(rf"\b(?:{names})\b", text) == []


def test_evaluation_prompts_are_reproducible_and_contain_their_subject() -> None:
    for make in (story_prompts, json_prompts):
        prompts = make(50)
        assert prompts == make(50)
        assert all(prompt.subject in prompt.text for prompt in prompts)
    assert tool_prompts(50) == tool_prompts(50)


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        ("owl", "an owl"),
        ("fox", "a fox"),
        ("unicorn", "a unicorn"),
        ("user", "a user"),
        ("honest owl", "an honest owl"),
    ],
)
def test_articles(phrase: str, expected: str) -> None:
    assert with_article(phrase) == expected


@pytest.mark.parametrize(
    ("noun", "expected"),
    [("fox", "foxes"), ("fairy", "fairies"), ("mouse", "mice"), ("monkey", "monkeys")],
)
def test_plurals(noun: str, expected: str) -> None:
    assert plural(noun) == expected
