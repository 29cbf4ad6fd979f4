"""Plots: the pools of sentences that make up a story, and the values of their slots."""

from dataclasses import dataclass
from random import Random

from rxllm.models.tiny.corpus import names, plots, wishes
from rxllm.models.tiny.corpus import plots_of_things as of_things
from rxllm.models.tiny.corpus import plots_of_trouble as trouble
from rxllm.models.tiny.corpus.heroes import Hero, Slots, random_verb
from rxllm.models.tiny.corpus.tables import entries

Paragraph = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Told:
    """A plot with its values: paragraphs of pools, slots, the request's clause, a short version."""

    paragraphs: tuple[Paragraph, ...]
    slots: Slots
    clause: str
    short: str


def _slots(random: Random, hero: Hero, **extra: str) -> Slots:
    helper, other = random.sample(names.HELPERS, 2)
    named = ""
    if hero.name:
        named = random.choice((" named ", " called ")) + hero.name
        named = f" whose name was {hero.name}" if random.random() < 0.1 else named
    return Slots(
        random,
        hero,
        named=named,
        name=hero.name,
        place=random.choice(names.PLACES),
        helper=helper,
        the_helper="the " + _short_noun(helper),
        helper_again=other,
        surprise=random.choice(names.SURPRISES),
        habit=random.choice(trouble.HABITS),
        **extra,
    )


def _short_noun(phrase: str) -> str:
    """Return the noun of a helper: "tortoise" for "a wise tortoise"."""
    return phrase.split(" with ")[0].split()[-1]


def skill(random: Random, hero: Hero) -> Told:
    """The hero wants to learn something, fails, gets advice and learns it."""
    skill = random_verb(random)
    extra = {"verb": skill.verb, "first_try": skill.first_try, "advice": skill.advice}
    slots = _slots(random, hero, triumph=skill.triumph, **extra)
    link = random.choice(("who", "who", "who", "that"))
    plain = random.choice(
        ("learns to", "learns to", "learned to", "wants to", "wanted to", "cannot", "loves to")
    )
    they = hero.pronouns[0] == "they"
    present = {"learns to": "learn to", "wants to": "want to", "loves to": "love to"}
    clause = f"{link} {present.get(plain, plain) if they else plain} {skill.verb}"
    if random.random() < 0.15:
        clause = random.choice(("learning to", "trying to")) + " " + skill.verb
    short = (
        "{Opening} {The} wanted to learn to {verb}. {First_try}, but {helper} helped, "
        "and in the end {who} {triumph}."
    )
    return Told(
        (
            (plots.OPENINGS, plots.MOODS, plots.WISHES),
            (plots.TRIES, plots.DOUBTS, plots.MEETINGS, plots.ADVICE),
            (plots.PRACTICE, plots.TRIUMPHS, plots.SKILL_ENDINGS),
        ),
        slots,
        clause,
        short,
    )


def fear(random: Random, hero: Hero) -> Told:
    """The hero is afraid of something and finds out what it is."""
    fear = random.choice(wishes.FEARS)
    slots = _slots(random, hero, fear=fear.name, feeling=fear.feeling, discovery=fear.discovery)
    they = hero.pronouns[0] == "they"
    clause = f"who {'are' if they else 'is'} afraid of {fear.name}"
    if random.random() < 0.2:
        clause = f"afraid of {fear.name}"
    short = (
        "{Opening} {The} {were} afraid of {fear}. Then {helper} came along, and together they "
        "found out that {discovery}."
    )
    return Told(
        (
            (plots.OPENINGS, plots.MOODS, trouble.FEARS),
            (trouble.FEAR_TURNS, trouble.FEAR_STEPS, trouble.FEAR_COMPANY, trouble.FEAR_TRUTHS),
            (trouble.FEAR_ENDINGS,),
        ),
        slots,
        clause,
        short,
    )


def loss(random: Random, hero: Hero) -> Told:
    """The hero loses something and finds it again."""
    thing = random.choice(_CARRIED)
    slots = _slots(random, hero, thing=thing)
    they = hero.pronouns[0] == "they"
    clause = random.choice(
        (
            f"who {'lose' if they else 'loses'} {hero.pronouns[2]} {thing}",
            f"who lost {names.with_article(thing)}",
            f"looking for {names.with_article(thing)}",
            f"and a lost {thing}",
        )
    )
    short = (
        "{Opening} One day {the} lost {their} {thing}. {The} looked everywhere, until {helper} "
        "helped to find it. In the evening they all had soup."
    )
    return Told(
        (
            (plots.OPENINGS, plots.MOODS, trouble.LOSSES),
            (trouble.SEARCHES, trouble.FOUND, trouble.FOUND_ENDINGS),
            (trouble.LESSONS,),
        ),
        slots,
        clause,
        short,
    )


_CARRIED = entries(
    """
    hat,key,umbrella,scarf,ball,book,ring,map,lantern,kite,flute,shoe,coin,button,letter,bell,
    glove,compass,pencil,drum,spoon,whistle,marble,telescope
    """,
    ",",
)


def journey(random: Random, hero: Hero) -> Told:
    """The hero sets out to see something."""
    sight = random.choice(wishes.SIGHTS)
    slots = _slots(random, hero, sight=sight)
    they = hero.pronouns[0] == "they"
    wants = "want" if they else "wants"
    clause = random.choice((f"who {wants} to see {sight}", f"on the way to see {sight}"))
    short = (
        "{Opening} {The} wanted to see {sight}. The road was long, but {helper} showed the way, "
        "and on the third day there it was."
    )
    return Told(
        (
            (plots.OPENINGS, plots.MOODS, trouble.JOURNEYS),
            (trouble.OBSTACLES, trouble.GUIDES, trouble.ARRIVALS),
            (trouble.JOURNEY_ENDINGS,),
        ),
        slots,
        clause,
        short,
    )


def two(random: Random, hero: Hero) -> Told:
    """Two become friends, or stay friends through trouble."""
    clause = random.choice(("", "", "who become friends", "who live together"))
    short = "{Opening} One night a storm came, and {the} helped each other. They are still friends."
    return Told(
        (
            (plots.OPENINGS, plots.MOODS, trouble.MEETINGS_OF_TWO),
            (trouble.TROUBLES_OF_TWO, trouble.TURNS_OF_TWO, trouble.WORK_OF_TWO),
            (trouble.ENDINGS_OF_TWO,),
        ),
        _slots(random, hero),
        clause,
        short,
    )


def thing(random: Random, hero: Hero, noun: str, look: str) -> Told:
    """The hero finds a thing: `noun` with an adjective, such as "old lantern"."""
    things = {"thing": noun, "a_thing": names.with_article(noun)}
    slots = _slots(random, hero, a_look=names.with_article(look), **things)
    short = (
        "{Name}, {first}, found {a_look} {place}. The {thing} began to glow, and {name} "
        "shared it with everyone. It still glows today."
    )
    return Told(
        (
            (of_things.THING_OPENINGS, of_things.THING_MOODS),
            (of_things.THING_WONDERS, of_things.THING_TROUBLES, of_things.THING_HELP),
            (of_things.THING_ANSWERS, of_things.THING_ENDINGS),
        ),
        slots,
        "",
        short,
    )


def theme(random: Random, hero: Hero, noun: str) -> Told:
    """The hero asks what a theme such as "winter" is like."""
    short = (
        "{Name}, {first}, often thought about {theme}. One evening {helper} made room by the "
        "fire, and that was the answer. This is what {theme} is like."
    )
    return Told(
        (
            (of_things.THEME_OPENINGS, of_things.THEME_QUESTIONS),
            (of_things.THEME_SEARCHES, of_things.THEME_TURNS, of_things.THEME_MOMENTS),
            (of_things.THEME_ENDINGS,),
        ),
        _slots(random, hero, theme=noun),
        "",
        short,
    )
