"""The words held out of training, to measure copying of subjects and names never seen.

They were drawn once at random from the entries of the word lists that no sentence of the grammar
contains, and are written down here so that later changes to the grammar don't affect them.
"""

from rxllm.models.tiny.corpus import names, nouns, tools
from rxllm.models.tiny.corpus.heroes import Words
from rxllm.models.tiny.corpus.tables import words

CHARACTERS = words(
    """
    beaver blackbird bluebird camel canary clam dove eagle firefly grasshopper iguana jackdaw
    jellyfish leopard lynx mammoth moose orca rhino salmon starfish tiger toad worm astronomer
    barber beekeeper bookseller clown dancer detective glassblower inventor jester juggler pianist
    potter waiter watchmaker weaver android comet cyborg dwarf griffin imp raindrop scarecrow
    shadow snowman sorcerer teapot
    """
)
OBJECTS = words(
    """
    blanket cart chest desk fountain gate jewel oar pen radio suitcase sword tent thimble tunnel
    wagon
    """
)
THEMES = ("forgiveness", "happiness", "kindness", "laughter", "peace", "silence")
_NOUNS = CHARACTERS + OBJECTS + THEMES
HER_NAMES = words(
    """
    Astrid Cara Edith Emma Eva Jana Layla Lena Maya Nadia Olive Paula Pia Ruth Sara Selma Stella
    Suki Wanda Yuki
    """
)
HIS_NAMES = words(
    """
    Alfie Ben Bernard Carlos Jack Jan Jonas Kasper Kofi Liam Miles Mohan Nico Peter Sven Theo Tom
    Victor Walter Yusuf
    """
)
PLACES = words(
    """
    Adelmar Barrowen Bellisk Corvala Danmere Duskwell Elorin Fenwick Gorlanda Havelin Ironby
    Jalmora Kelvast Lorimer Mossgard Nerida Orvalle Pelagor Quenby Rosmark Sandrel Thornley
    Undermoor Vellamo Wexholm Yorvik Zephira
    """
)


def _without(pool: tuple[str, ...], kept_out: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(word for word in pool if word not in kept_out)


def held_out_words() -> Words:
    """Return the nouns, names and places that no training text contains."""
    return Words(CHARACTERS, OBJECTS, THEMES, HER_NAMES, HIS_NAMES, PLACES, is_held_out=True)


def training_words(invented: float = 0.4) -> Words:
    """Return all other nouns, names and places, with a fraction (0..1) of made-up ones."""
    return Words(
        characters=_without(nouns.ANIMALS + nouns.PEOPLE + nouns.CREATURES, CHARACTERS),
        objects=_without(nouns.OBJECTS, OBJECTS),
        themes=_without(nouns.THEMES, THEMES),
        her_names=_without(names.HER_NAMES, HER_NAMES),
        his_names=_without(names.HIS_NAMES, HIS_NAMES),
        places=tools.PLACES,
        kept_out=frozenset(word.lower() for word in _NOUNS + HER_NAMES + HIS_NAMES + PLACES),
        invented=invented,
    )
