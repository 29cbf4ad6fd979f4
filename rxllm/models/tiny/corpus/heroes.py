"""Heroes of stories, and the words that sentences use for them."""

from dataclasses import dataclass
from random import Random

from rxllm.models.tiny.corpus import names, nouns, wishes

Pronouns = tuple[str, str, str, str, str, str, str]
"""The forms behind the keys they, them, their, were, I, me and my of `Slots`."""

_SHE: Pronouns = ("she", "her", "her", "was", "I", "me", "my")
_HE: Pronouns = ("he", "him", "his", "was", "I", "me", "my")
_IT: Pronouns = ("it", "it", "its", "was", "I", "me", "my")
_THEY: Pronouns = ("they", "them", "their", "were", "we", "us", "our")
_WOMEN = {"girl", "grandmother", "princess", "queen", "mermaid", "witch", "sister", "fairy"}
_MEN = {"boy", "grandfather", "king", "prince", "emperor", "monk", "wizard", "brother", "cowboy"}
_KIN = ("brothers", "sisters", "friends", "neighbours", "children", "strangers", "twins")


@dataclass(frozen=True)
class Words:
    """The nouns and names that one part of the corpus may use.

    kept_out: words, in lower case, that it must not use; invented: fraction (0..1) of the subjects
    and names in requests that are made up. Made-up words teach copying, as they can't be
    memorized. is_held_out: these are the words of the part that is held out of training.
    """

    characters: tuple[str, ...]
    objects: tuple[str, ...]
    themes: tuple[str, ...]
    her_names: tuple[str, ...]
    his_names: tuple[str, ...]
    places: tuple[str, ...]
    kept_out: frozenset[str] = frozenset()
    invented: float = 0.0
    is_held_out: bool = False

    def noun(self, random: Random, pool: tuple[str, ...]) -> str:
        """Return a noun from `pool`, one of the lists above, or a made-up one."""
        if random.random() < self.invented:
            return names.made_up_noun(random, pool, self.kept_out)
        return random.choice(pool)


@dataclass(frozen=True)
class Hero:
    """The hero of a story.

    asked: how a request names the hero ("a shy dragon"); first: how the story does at first;
    the: how it does later ("the dragon"); noun: the word that a story must contain;
    name: a name or ""; pronouns: as in the tables above.
    """

    asked: str
    first: str
    the: str
    noun: str
    name: str = ""
    named_in_request: bool = False
    pronouns: Pronouns = _IT


def choose_name(
    random: Random,
    words: Words,
    pronouns: Pronouns | None = None,
    given: bool = False,
) -> str:
    """Return a name that fits the pronouns; one `given` in a request may be made up."""
    if given and random.random() < words.invented:
        return names.made_up_name(random, words.kept_out)
    both = words.her_names + words.his_names
    pool = {_SHE: words.her_names, _HE: words.his_names}.get(pronouns or _IT, both)
    return random.choice(pool)


def _pronouns_for(random: Random, noun: str) -> Pronouns:
    if noun in _WOMEN:
        return _SHE
    if noun in _MEN:
        return _HE
    return random.choice((_SHE, _HE)) if noun in nouns.PEOPLE else _IT


def _described(random: Random, noun: str) -> str:
    """Return the noun, in one case of three after one or two adjectives."""
    looks = names.TRAITS + names.LOOKS[:8]
    count = random.choices((0, 1, 2), (64, 30, 6))[0]
    return " ".join([*random.sample(looks, count), noun])


def single(random: Random, words: Words) -> Hero:
    """Return one character, sometimes with a trait or with a name given in the request."""
    noun = words.noun(random, words.characters)
    phrase = _described(random, noun)
    pronouns = _pronouns_for(random, noun)
    asked = first = names.with_article(phrase)
    name, given = "", random.random() < 0.25
    if given or random.random() < 0.5:
        if pronouns == _IT:
            pronouns = random.choice((_SHE, _HE))
        name = choose_name(random, words, pronouns, given)
    if given:
        asked += random.choice((" named ", " called ")) + name
        if random.random() < 0.1:
            asked = f"my {noun} {name}"
    return Hero(asked, first, f"the {noun}", noun, name, given, pronouns)


def pair(random: Random, words: Words) -> Hero:
    """Return two characters: "a fox and a hare", "two foxes", "two sisters"."""
    one, other = (words.noun(random, words.characters) for _ in range(2))
    style = random.random()
    if style < 0.65:
        phrase = f"{names.with_article(one)} and {names.with_article(other)}"
        return Hero(phrase, phrase, f"the {one} and the {other}", one, pronouns=_THEY)
    many = names.plural(one) if style < 0.85 else random.choice(_KIN)
    count = random.choice(("two", "two", "three"))
    asked = many if style < 0.75 else f"{count} {many}"
    return Hero(asked, f"{count} {many}", f"the {count} {many}", many, pronouns=_THEY)


def finder(random: Random, words: Words) -> Hero:
    """Return the named person in a story about a thing or a theme."""
    noun = random.choice([noun for noun in nouns.PEOPLE if noun in words.characters])
    pronouns = _pronouns_for(random, noun)
    first = names.with_article(f"{random.choice(names.TRAITS)} {noun}")
    name = choose_name(random, words, pronouns)
    return Hero(first, first, f"the {noun}", noun, name, pronouns=pronouns)


class Slots(dict[str, str]):
    """The values of a sentence's slots; `{who}` varies between the name and the noun.

    Keys: first, the, they, them, their, were, I, me, my, who, and any extra. A capitalized key
    gives the value capitalized, for the beginning of a sentence.
    """

    def __init__(self, random: Random, hero: Hero, **extra: str) -> None:
        keys = ("they", "them", "their", "were", "I", "me", "my")
        super().__init__(zip(keys, hero.pronouns, strict=True), **extra)
        self.update(first=hero.first, the=hero.the)
        self._random, self._hero = random, hero

    def __missing__(self, key: str) -> str:
        if key == "who":
            named = self._hero.name and self._random.random() < 0.5
            return self._hero.name if named else self._hero.the
        if key[0].isupper() and key.lower() != key:
            value = self[key[0].lower() + key[1:]]
            return value[0].upper() + value[1:]
        raise KeyError(key)


def random_verb(random: Random) -> wishes.Skill:
    """Return a skill, often one with its own sentences, else a plain verb with general ones."""
    if random.random() < 0.6:
        return random.choice(wishes.SKILLS)
    verb = random.choice(wishes.PLAIN_VERBS)
    return wishes.Skill(verb, *random.choice(_GENERAL))


_GENERAL = (
    (
        "The first try went wrong from beginning to end",
        "Nobody is good at anything on the first day",
        "did it without one mistake, and then did it once more for fun",
    ),
    (
        "The first try made the neighbours close their windows",
        "Start small, and start again tomorrow",
        "did it so well that the neighbours came out to clap",
    ),
    (
        "It went badly, and then it went a little worse",
        "The trick is to go on after it stops being easy",
        "did it as if it had always been easy",
    ),
    (
        "It was much harder than it looked",
        "Do the hard part slowly, and the easy part will wait",
        "did it from the first step to the last with a smile",
    ),
    (
        "The first day brought nothing but a sore head",
        "Every master was once a beginner who did not stop",
        "did it in front of everyone and bowed",
    ),
)
