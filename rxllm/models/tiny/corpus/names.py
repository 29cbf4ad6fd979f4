"""Word lists of names, places and traits, and a seeded generator of new names."""

from random import Random

from rxllm.models.tiny.corpus.tables import entries, words

HER_NAMES = words(
    """
    Ada Alma Amira Anna Aria Astrid Bella Bianca Bonnie Cara Carla Chloé Clara Daisy Dora Edith
    Elena Ella Elsa Emma Esme Eva Fatima Fern Flora Frida Gemma Grace Greta Hanna Hazel Heidi
    Helen Ida Ines Ingrid Iris Isla Ivy Jade Jana June Kaja Kira Layla Lena Lily Lina Lola Lotte
    Lucy Luna Maja Mara Maya Mia Mila Mina Mira Molly Nadia Nina Nora Olga Olive Paula Petra Pia
    Poppy Renée Rita Rosa Ruby Ruth Sana Sara Selma Sofia Stella Suki Tara Tessa Thea Tilda Uma
    Vera Violet Wanda Willa Yara Yuki Zara Zelda Zoë
    """
)

HIS_NAMES = words(
    """
    Adam Alan Alfie Amir Anton Arlo Arthur Ben Bernard Boris Bruno Carlos Caspar Dan Dario Diego
    Edgar Eli Emil Erik Ezra Felix Finn Frank Fred George Gus Hans Harold Hassan Henry Hugo Igor
    Ivan Jack Jakob Jan Jasper Joel Jonas José Jules Jürgen Karim Kasper Kofi Lars Leo Levi Liam
    Linus Louis Luca Malik Marco Mateo Max Miles Milo Mohan Nico Nils Noah Noël Oleg Omar Oscar
    Otis Otto Owen Paul Pedro Percy Peter Quentin Ravi Remy Rocco Rolf Rufus Sam Samir Sven Søren
    Tariq Theo Tim Toby Tom Ugo Victor Viktor Walter Wilbur Yusuf Zeno
    """
)

PLACES = entries(
    """
    in a quiet village by the sea|at the edge of a green forest|in a small town full of bridges|
    on a windy hill|beside a slow river|in a valley between two mountains|on a tiny island|
    near an old stone mill|in a busy harbour|at the end of a long dusty road|
    in a city of tall towers|under the roots of an old oak|on the sunny side of a lake|
    in a house with a crooked chimney|behind the bakery on Market Street|
    at the foot of a sleeping volcano|in a land where it rained every morning|
    on the last street of a little town|far away in the north|near a field of sunflowers
    """,
    "|",
)

TRAITS = words(
    """
    shy brave curious clumsy clever sleepy cheerful patient stubborn gentle grumpy tiny lonely
    proud polite young old kind quiet restless careful hungry hopeful little forgetful friendly
    lazy nervous honest wise lucky playful bold silent merry
    """
)

LOOKS = words(
    """
    red blue green golden silver old little broken magic rusty tiny shiny wooden lost strange
    forgotten yellow white heavy beautiful dusty secret crooked
    """
)

HELPERS = entries(
    """
    an old owl|a wise tortoise|a kind baker|a travelling musician|a friendly crow|
    a retired sailor|a little girl with a red scarf|an old gardener|a cheerful mouse|
    a tall heron|a librarian with round glasses|a sleepy badger|a young shepherd|a clockmaker|
    a patient snail|a grandmother with silver hair|a boy with muddy boots|a fisherman|
    a white goose|a grey wolf
    """,
    "|",
)

SURPRISES = entries(
    """
    a silver key|a warm lantern|a paper map|a red balloon|a box of cookies|an old song|
    a handful of seeds|a small brass bell|a blue feather|a jar of honey|a woollen scarf|
    a pocketful of pebbles|a kite with a long tail|a cup of hot chocolate|a basket of apples
    """,
    "|",
)

_STARTS = words("b br c ch d dr f fl g gl h j k kl l m n p pr qu r s sh st t tr v w y z")
_VOWELS = words("a e i o u a e i o ai ee oo")
_ENDS = words("n l r s m x ck nd lin ro la na mo ri ta bo n l r")


def made_up_name(random: Random, kept_out: frozenset[str] = frozenset()) -> str:
    """Return a pronounceable, most likely new name such as "Brolin" that isn't `kept_out`."""
    while True:
        if random.random() < 0.5:
            name = blend(random, HER_NAMES + HIS_NAMES)
        else:
            middle = random.choice(_STARTS) + random.choice(_VOWELS)
            start = random.choice(_STARTS) + random.choice(_VOWELS)
            name = start + random.choice(("", middle)) + random.choice(_ENDS)
        if name.lower() not in kept_out:
            return name.capitalize()


def blend(random: Random, pool: tuple[str, ...]) -> str:
    """Return a new word: the beginning of one word of `pool` and the end of another."""
    one, other = random.sample([word for word in pool if word.isalpha()], 2)
    return one[: random.randint(2, 5)].lower() + other[-random.randint(2, 5) :].lower()


def made_up_noun(random: Random, pool: tuple[str, ...], kept_out: frozenset[str]) -> str:
    """Return a noun that is in no list, such as "pengoose", and isn't `kept_out`."""
    while True:
        noun = blend(random, pool)
        if noun not in kept_out:
            return noun


def with_article(phrase: str) -> str:
    """Return `phrase` after "a" or "an", chosen by its first sound, not just its first letter."""
    vowel = phrase[0].lower() in "aeiou" and not phrase.lower().startswith(
        ("uni", "use", "eu", "one")
    )
    silent = phrase.lower().startswith(("hour", "honest"))
    return f"{'an' if vowel or silent else 'a'} {phrase}"


def plural(noun: str) -> str:
    """Return the plural of a noun from the word lists, including irregular ones."""
    irregular = {
        "child": "children", "deer": "deer", "dwarf": "dwarves", "elf": "elves", "fish": "fish",
        "goose": "geese", "mouse": "mice", "ox": "oxen", "sheep": "sheep", "thief": "thieves",
        "wolf": "wolves", "salmon": "salmon", "moose": "moose", "trout": "trout", "squid": "squid",
        "shrimp": "shrimp", "bison": "bison", "ferryman": "ferrymen", "postman": "postmen",
        "snowman": "snowmen", "reindeer": "reindeer",
    }  # fmt: skip
    if noun in irregular:
        return irregular[noun]
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")
