"""Conversations with tools, in the form of Hermes: calls, results, and answers that use them.

The form, also that of Qwen: https://github.com/NousResearch/Hermes-Function-Calling.
"""

import json
from collections.abc import Sequence
from random import Random
from typing import Any

from rxllm.models.tiny.corpus import records, small_talk, wordings
from rxllm.models.tiny.corpus.heroes import Words
from rxllm.models.tiny.corpus.messages import Conversation, Message
from rxllm.models.tiny.corpus.stories import write_story
from rxllm.models.tiny.corpus.tool_questions import Question, failed, question
from rxllm.models.tiny.corpus.tools import Kind, Offer, offer

INSTRUCTIONS = (
    "To call a tool, write\n<tool_call>\n"
    '{"name": <name of the tool>, "arguments": <object of its arguments>}\n</tool_call>'
)
_KINDS: tuple[Kind, ...] = ("clock", "calculator", "weather", "places")
_MISSING = (
    "I have no tool for that, and I do not know it myself.",
    "None of my tools can tell me that.",
    "I can't find that out: I have no tool for it.",
)
_TOPICS = ("time", "weather", "plus", "minus", "+", "*", "alculate", "bout", "people", "here is")


def system_text(definitions: Sequence[dict[str, Any]], system: str = "") -> str:
    """Return the system message that offers tools, as the chat template writes it."""
    listed = "".join(f"{json.dumps(each, ensure_ascii=False)}\n" for each in definitions)
    return f"{system}\n\n" * bool(system) + f"<tools>\n{listed}</tools>\n{INSTRUCTIONS}"


def call_text(name: str, arguments: dict[str, Any]) -> str:
    """Return a call as the model writes it."""
    call = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{call}\n</tool_call>"


def tool_dialogue(random: Random, words: Words) -> Conversation:
    """Return a conversation in which one to three tools are offered."""
    kinds = random.sample(_KINDS, random.choices((1, 2, 3), (30, 50, 20))[0])
    offers = [offer(random, kind) for kind in kinds]
    system = random.choice(wordings.PLAIN_SYSTEMS) if random.random() < 0.2 else ""
    messages = [Message("system", system_text([each.definition for each in offers], system))]
    last = ""
    for _ in range(random.choice((1, 2, 2, 3, 3, 4))):
        if random.random() < 0.22:
            messages += _without_call(random, words, kinds)
            last = ""
            continue
        chosen = random.choice(offers)
        if len(offers) > 1 and random.random() < 0.1:
            pair = random.sample(offers, 2)
            messages += _exchange(random, words, pair, "")
            last = ""
            continue
        messages += _exchange(random, words, [chosen], last)
        last = chosen.kind
    return messages


def _exchange(random: Random, words: Words, offers: list[Offer], last: str) -> list[Message]:
    """A request, a call for each tool, their results, and the answer."""
    asked = [question(random, words, each) for each in offers]
    if random.random() < 0.06:
        asked = [failed(random, asked[0]), *asked[1:]]
    text = _request(random, asked, offers, last)
    calls = [call_text(each.name, one.arguments) for each, one in zip(offers, asked, strict=True)]
    return [
        Message("user", text),
        Message("assistant", "\n".join(calls)),
        *(Message("tool", one.result) for one in asked),
        Message("assistant", " ".join(one.answer for one in asked)),
    ]


def _request(random: Random, asked: list[Question], offers: list[Offer], last: str) -> str:
    if len(asked) > 1:
        first, second = asked[0].asked.rstrip("?"), asked[1].asked
        second = second[0].lower() + second[1:] if second[1:2].islower() else second
        return f"{first}{random.choice((', and ', ' and ', '? And '))}{second}"
    if offers[0].kind == last and random.random() < 0.5:
        return asked[0].after
    return wordings.vary(random, asked[0].asked)


def _without_call(random: Random, words: Words, kinds: list[Kind]) -> list[Message]:
    """A request that no tool is needed or good for, and its answer."""
    kind = random.random()
    if kind < 0.3:
        asked, answer = small_talk.small_talk(random)
    elif kind < 0.45:
        asked = random.choice(small_talk.THANKS)
        answer = random.choice(small_talk.THANKS_ANSWERS)
    elif kind < 0.6:
        story = write_story(random, words)
        asked, answer = random.choice(wordings.SHORT_REQUESTS).format(story.asked), story.short
    elif kind < 0.7:
        asked, answer = records.json_exchange(random, words)
    elif kind < 0.85 and (missing := [each for each in _KINDS if each not in kinds]):
        asked = question(random, words, offer(random, random.choice(missing))).asked
        answer = random.choice(_MISSING)
    else:
        asked, answer = small_talk.beyond(random, words)
        while any(topic in asked for topic in _TOPICS):
            asked, answer = small_talk.beyond(random, words)
    return [Message("user", wordings.vary(random, asked)), Message("assistant", answer)]
