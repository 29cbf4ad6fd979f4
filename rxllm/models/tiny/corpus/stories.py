"""Stories: a plot strings together one sentence from each of its pools."""

from dataclasses import dataclass, replace
from random import Random

from rxllm.models.tiny.corpus import names, plots, plots_of_things, tellings
from rxllm.models.tiny.corpus.heroes import Hero, Slots, Words, finder, pair, single
from rxllm.models.tiny.corpus.tellings import Told


@dataclass(frozen=True)
class Story:
    """A story and what a conversation may say about it.

    asked: the subject as a request names it; noun: a word that every version contains;
    text: paragraphs separated by an empty line; short: a version of two or three sentences;
    sequel: what happened next; hero: "the robot"; helper: "an old owl"; name: a name or "".
    """

    asked: str
    noun: str
    text: str
    short: str
    sequel: str
    hero: str
    helper: str
    name: str


def write_story(random: Random, words: Words) -> Story:
    """Return a story about a random subject: a character, a pair, a thing or a theme."""
    kind = random.random()
    if kind < 0.62:
        return _story_of_hero(random, single(random, words))
    if kind < 0.74:
        return _story_of_hero(random, pair(random, words))
    return _story_of_thing(random, words, theme=kind > 0.92)


_FOR_ONE = {tellings.skill: 50, tellings.fear: 12, tellings.loss: 12, tellings.journey: 14}
_FOR_SEVERAL = {
    tellings.skill: 15,
    tellings.fear: 5,
    tellings.loss: 5,
    tellings.journey: 10,
    tellings.two: 30,
}


def _story_of_hero(random: Random, hero: Hero) -> Story:
    tellers = _FOR_SEVERAL if hero.pronouns[0] == "they" else _FOR_ONE
    told = random.choices(list(tellers), list(tellers.values()))[0](random, hero)
    clause = "" if random.random() < 0.35 or told.clause == "" else f" {told.clause}"
    if hero.asked.startswith("my "):
        clause = ""
    return _finish(random, replace(hero, asked=hero.asked + clause), told)


def _story_of_thing(random: Random, words: Words, theme: bool) -> Story:
    hero = finder(random, words)
    if theme:
        noun = asked = words.noun(random, words.themes)
        told = tellings.theme(random, hero, noun)
    else:
        noun = words.noun(random, words.objects)
        look = f"{random.choice(names.LOOKS)} {noun}" if random.random() < 0.4 else noun
        asked = _asked_thing(random, hero, look)
        told = tellings.thing(random, hero, noun, look)
    return _finish(random, replace(hero, asked=asked, noun=noun, the=hero.name), told)


def _asked_thing(random: Random, finder: Hero, look: str) -> str:
    thing = names.with_article(look)
    named = f"{finder.first} named {finder.name}"
    return random.choice(
        (
            *(6 * [thing]),
            f"the {look}",
            f"{finder.first} and {thing}",
            f"{finder.first} who finds {thing}",
            f"{named} and {thing}",
        )
    )


def _finish(random: Random, hero: Hero, told: Told) -> Story:
    """Fill in the slots of every sentence of a plot."""
    fill = told.slots
    fill["opening"] = random.choice(plots.OPENINGS[:4]).format_map(fill)
    text = "\n\n".join(
        " ".join(random.choice(pool).format_map(fill) for pool in paragraph)
        for paragraph in told.paragraphs
    )
    sequel_fill = Slots(random, hero)
    helper, surprise = random.choice(names.HELPERS), random.choice(names.SURPRISES)
    sequel_fill.update(helper=helper, surprise=surprise)
    pools = (plots_of_things.SEQUELS, plots_of_things.SEQUEL_EVENTS, plots_of_things.SEQUEL_ENDINGS)
    sequel = " ".join(random.choice(pool).format_map(sequel_fill) for pool in pools)
    short = told.short.format_map(fill)
    return Story(hero.asked, hero.noun, text, short, sequel, hero.the, fill["helper"], hero.name)
