"""The seeded grammar: reproducible, valid, and free of the held-out words."""

import json
import re
from itertools import islice
from random import Random

import pytest

from rxllm.models.tiny.corpus import (
    Conversation,
    conversations,
    held_out_words,
    json_prompts,
    story_prompts,
    training_words,
)
from rxllm.models.tiny.corpus.names import plural, with_article
from rxllm.models.tiny.corpus.records import json_exchange
from rxllm.models.tiny.corpus.stories import write_story


@pytest.fixture(scope="module")
def sample() -> list[Conversation]:
    return list(islice(conversations(seed=1), 3_000))


def test_the_same_seed_gives_the_same_corpus(sample: list[Conversation]) -> None:
    assert list(islice(conversations(seed=1), 200)) == sample[:200]


def test_another_seed_gives_another_corpus(sample: list[Conversation]) -> None:
    assert list(islice(conversations(seed=2), 200)) != sample[:200]


def test_turns_alternate_and_the_model_has_the_last_word(sample: list[Conversation]) -> None:
    for conversation in sample:
        roles = [message.role for message in conversation if message.role != "system"]
        assert roles == ["user", "assistant"] * (len(roles) // 2)


def test_no_slot_is_left_open(sample: list[Conversation]) -> None:
    slot = re.compile(r"\{[a-zA-Z_]*\}")
    for conversation in sample:
        for message in conversation:
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


def test_there_are_several_hundred_subjects() -> None:
    words = training_words()
    assert len(words.characters) + len(words.objects) + len(words.themes) >= 300


def test_held_out_words_never_occur_in_training(sample: list[Conversation]) -> None:
    text = "\n".join(message.content for conversation in sample for message in conversation)
    words = held_out_words()
    nouns = "|".join(words.characters + words.objects + words.themes)
    names = "|".join(words.her_names + words.his_names)
    assert re.findall(rf"\b(?:{nouns})s?\b", text, re.IGNORECASE) == []
    assert re.findall(rf"\b(?:{names})\b", text) == []


def test_evaluation_prompts_are_reproducible_and_contain_their_subject() -> None:
    for make in (story_prompts, json_prompts):
        prompts = make(50)
        assert prompts == make(50)
        assert all(prompt.subject in prompt.text for prompt in prompts)


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
