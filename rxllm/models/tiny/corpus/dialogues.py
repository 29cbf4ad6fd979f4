"""Conversations, the documents that the model is trained on."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random

from rxllm.models.tiny.corpus import answers, plots_of_things, records, small_talk, wordings
from rxllm.models.tiny.corpus.held_out import training_words
from rxllm.models.tiny.corpus.heroes import Words, single
from rxllm.models.tiny.corpus.messages import Conversation, Message
from rxllm.models.tiny.corpus.names import with_article
from rxllm.models.tiny.corpus.stories import Story, write_story
from rxllm.models.tiny.corpus.tool_dialogues import tool_dialogue

Exchanges = list[tuple[str, str]]


def _story_exchanges(random: Random, words: Words) -> Exchanges:
    length = random.random()
    if length > 0.95:
        words = replace(words, invented=0.0)
    story = write_story(random, words)
    ask, answer = wordings.STORY_REQUESTS, story.text
    if length < 0.12:
        ask, answer = wordings.SHORT_REQUESTS, story.short
    elif length < 0.2:
        ask, answer = wordings.LONG_REQUESTS, f"{story.text}\n\n{story.sequel}"
    request = random.choice(ask).format(story.asked)
    if length > 0.95:
        request = random.choice(wordings.OPEN_REQUESTS)
    exchanges = [(wordings.vary(random, request), answer)]
    if random.random() < 0.4:
        exchanges += _follow_ups(random, words, story)
    return exchanges


def _follow_ups(random: Random, words: Words, story: Story) -> Exchanges:
    kind = random.random()
    if kind < 0.25:
        other = write_story(random, replace(words, invented=0.0))
        following = [(random.choice(wordings.ANOTHER), other.text)]
    elif kind < 0.5:
        following = [(random.choice(wordings.SHORTER), story.short)]
    elif kind < 0.75:
        following = [(random.choice(wordings.SEQUEL), story.sequel)]
    elif kind < 0.85 and story.name:
        asked = random.choice(("Who was the story about?", "What was the name of the hero?"))
        following = [(asked, f"The hero was called {story.name}.")]
    elif kind < 0.95:
        asked = random.choice(("Who helped {}?", "And who came to help {}?")).format(story.hero)
        following = [(asked, f"It was {story.helper}.")]
    else:
        following = []
    if random.random() < 0.4:
        following.append(_polite(random))
    return following


def _polite(random: Random) -> tuple[str, str]:
    thanks = (small_talk.THANKS, small_talk.THANKS_ANSWERS)
    asked, answer = random.choice((thanks, (small_talk.BYES, small_talk.BYE_ANSWERS)))
    return wordings.vary(random, random.choice(asked)), random.choice(answer)


_TERMS, _QUESTIONS = (
    answers.wordings_and_answers(answers.TERMS),
    answers.wordings_and_answers(answers.QUESTIONS),
)


def _question(random: Random, words: Words) -> Exchanges:
    if random.random() < 0.6:
        terms, replies = random.choice(_TERMS)
        term = random.choice(terms)
        asked = random.choice(wordings.TERM_REQUESTS).format(term)
        asked = asked.replace("What is ", "What are ") if term.endswith("ens") else asked
        return [(wordings.vary(random, asked), random.choice(replies))]
    questions, replies = random.choice(_QUESTIONS)
    return [(wordings.vary(random, random.choice(questions)), random.choice(replies))]


def _json(random: Random, words: Words) -> Exchanges:
    request, answer = records.json_exchange(random, words)
    return [(wordings.vary(random, request), answer)]


def _talk(random: Random, words: Words) -> Exchanges:
    if random.random() < 0.3:
        name, says, answer = small_talk.introduction(random, words)
        exchanges = [(wordings.vary(random, says), answer)]
        if random.random() < 0.6:
            if random.random() < 0.5:
                exchanges += _short_exchange(random, words)
            exchanges.append(("What is my name?", f"Your name is {name}."))
        return exchanges
    if random.random() < 0.25:
        return [_polite(random)]
    asked, answer = small_talk.small_talk(random)
    return [(wordings.vary(random, asked), answer)]


def _short_exchange(random: Random, words: Words) -> Exchanges:
    return random.choice((_question, _json, _beyond, _listing))(random, words)


def _beyond(random: Random, words: Words) -> Exchanges:
    asked, answer = small_talk.beyond(random, words)
    return [(wordings.vary(random, asked), answer)]


def _listing(random: Random, words: Words) -> Exchanges:
    asked, answer = small_talk.listing(random)
    return [(wordings.vary(random, asked), answer)]


def _poem(random: Random, words: Words) -> Exchanges:
    hero = single(random, words)
    slots = {"thing": hero.noun, "a_thing": with_article(hero.noun)}
    asked = random.choice(wordings.POEMS).format(with_article(hero.noun))
    return [(wordings.vary(random, asked), random.choice(plots_of_things.POEMS).format_map(slots))]


_KINDS: tuple[Callable[[Random, Words], Exchanges], ...] = (
    _story_exchanges,
    _question,
    _json,
    _talk,
    _beyond,
    _listing,
    _poem,
)
_WEIGHTS = (50, 16, 15, 7, 7, 3, 2)
_TOOL_DIALOGUES = 1 / 6


def conversation(random: Random, words: Words) -> Conversation:
    """Return a conversation of one or more exchanges; one in five has a system message.

    In one of six, tools are offered.
    """
    if random.random() < _TOOL_DIALOGUES:
        return tool_dialogue(random, words)
    special = random.random()
    if special < 0.02:
        return _with_system(random, wordings.JSON_SYSTEMS, [records.bare_exchange(random, words)])
    if special < 0.05:
        story = write_story(random, words)
        request = wordings.vary(random, random.choice(wordings.STORY_REQUESTS).format(story.asked))
        return _with_system(random, wordings.SHORT_SYSTEMS, [(request, story.short)])
    exchanges: Exchanges = []
    for _ in range(random.choice((1, 1, 1, 1, 1, 1, 2, 3, 5, 7))):
        exchanges += random.choices(_KINDS, _WEIGHTS)[0](random, words)
    systems = wordings.PLAIN_SYSTEMS if random.random() < 0.15 else ()
    return _with_system(random, systems, exchanges)


def _with_system(random: Random, systems: tuple[str, ...], turns: Exchanges) -> Conversation:
    messages = [Message("system", random.choice(systems))] if systems else []
    for asked, answer in turns:
        messages += [Message("user", asked), Message("assistant", answer)]
    return messages


def conversations(seed: int, invented: float = 0.4) -> Iterator[Conversation]:
    """Yield endless training conversations, the same ones for the same seed.

    invented: fraction (0..1) of the subjects and names in requests that are made up.
    """
    random, words = Random(seed), training_words(invented)  # noqa: S311 - not a secret
    while True:
        yield conversation(random, words)
