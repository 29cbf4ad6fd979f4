"""Requests for JSON records, and the valid JSON that answers them."""

import json
from collections.abc import Callable
from random import Random
from typing import Any

from rxllm.models.tiny.corpus import names
from rxllm.models.tiny.corpus.heroes import Words, choose_name
from rxllm.models.tiny.corpus.tables import entries, words

COLOURS = words("red blue green yellow black white brown grey orange purple pink golden")
CITIES = words(
    """
    Athens Berlin Bergen Mumbai Boston Cairo Dakar Dublin Geneva Hanoi Helsinki Kyoto Lagos Lima
    Lisbon London Lyon Madrid Malmö Milan Nairobi Naples Oslo Paris Porto Prague Quito Rome Seoul
    Sydney Tokyo Toronto Turin Vienna Warsaw Zürich
    """
)
COUNTRIES = words(
    """
    Argentina Austria Brazil Canada Chile China Denmark Egypt Finland France Germany Ghana Greece
    Iceland India Ireland Italy Japan Kenya Mexico Morocco Norway Peru Poland Portugal Spain Sweden
    Turkey Vietnam
    """
)
HOBBIES = entries(
    """
    reading,painting,chess,sailing,cooking,singing,running,gardening,photography,dancing,swimming,
    climbing,music,cycling,knitting,fishing
    """,
    ",",
)
FOODS = entries(
    """
    fish,milk,bread,cheese,apples,honey,soup,pancakes,carrots,berries,nuts,rice,tomatoes,butter,
    flour,sugar,eggs,salt,onions,lemons
    """,
    ",",
)
JOBS = ("baker", "doctor", "engineer", "gardener", "musician", "pilot", "sailor", "teacher")
PETS = words("cat dog horse parrot rabbit hamster turtle goldfish pony mouse owl goat")

Record = dict[str, Any]
Maker = Callable[[Random, str], Record]


def _some(random: Random, pool: tuple[str, ...], most: int = 3) -> list[str]:
    return random.sample(pool, random.randint(2, most))


def _pet(random: Random, name: str) -> Record:
    return {
        "name": name,
        "age": random.randint(1, 15),
        "colour": random.choice(COLOURS),
        "likes": _some(random, FOODS),
    }


def _person(random: Random, name: str) -> Record:
    record: Record = {
        "name": name,
        "age": random.randint(18, 80),
        "city": random.choice(CITIES),
        "hobbies": _some(random, HOBBIES),
    }
    if random.random() < 0.3:
        record["address"] = {
            "street": random.choice(("Mill Lane", "Harbour Road", "Oak Street", "Sun Square")),
            "number": random.randint(1, 99),
        }
    return record


def _robot(random: Random, name: str) -> Record:
    return {
        "name": name,
        "model": f"R{random.randint(2, 99)}",
        "battery": random.randint(5, 100),
        "skills": _some(random, HOBBIES),
        "active": random.random() < 0.7,
    }


def _book(random: Random, name: str) -> Record:
    return {
        "title": name,
        "author": f"{random.choice(_AUTHORS)} {random.choice(_FAMILIES)}",
        "year": random.randint(1900, 2025),
        "pages": random.randint(80, 640),
    }


def _city(random: Random, name: str) -> Record:
    return {
        "city": name,
        "country": random.choice(COUNTRIES),
        "population": random.randint(2, 900) * 10_000,
        "rivers": random.randint(0, 3),
    }


def _product(random: Random, name: str) -> Record:
    return {
        "product": name,
        "price": random.randint(1, 99) + random.choice((0.0, 0.25, 0.5, 0.99)),
        "in_stock": random.random() < 0.7,
        "tags": _some(random, COLOURS),
    }


def _recipe(random: Random, name: str) -> Record:
    return {
        "recipe": name,
        "minutes": random.randint(2, 18) * 5,
        "serves": random.randint(1, 8),
        "ingredients": _some(random, FOODS, 5),
    }


_AUTHORS = words("Ada Amira Bruno Chloé Clara Erik Fatima Hugo Ida Mateo Oscar Renée Samir Zoë")
_FAMILIES = words("Baker Berg Costa Fields Lind Marsh Moreau Novak Okoro Rivera Stone Winter")
_FIELDS: dict[str, Callable[[Random], Any]] = {
    "age": lambda random: random.randint(1, 90),
    "city": lambda random: random.choice(CITIES),
    "country": lambda random: random.choice(COUNTRIES),
    "colour": lambda random: random.choice(COLOURS),
    "job": lambda random: random.choice(JOBS),
    "hobbies": lambda random: _some(random, HOBBIES),
    "likes": lambda random: _some(random, FOODS),
    "height": lambda random: random.randint(20, 200),
    "score": lambda random: random.randint(1, 100),
    "active": lambda random: random.random() < 0.5,
    "email": lambda random: f"hello{random.randint(1, 99)}@example.com",
}


def _subject(random: Random, words: Words) -> tuple[str, str, Maker]:
    """Return the subject of a record: its kind with an article, its name, and its fields."""
    kind = random.random()
    if kind < 0.45:
        return (
            names.with_article(random.choice(PETS)),
            choose_name(random, words, given=True),
            _pet,
        )
    if kind < 0.7:
        person = random.choice(("person", "person", "user", "customer", "student", *JOBS))
        return names.with_article(person), choose_name(random, words, given=True), _person
    if kind < 0.78:
        return "a robot", choose_name(random, words, given=True), _robot
    if kind < 0.85:
        title = f"The {random.choice(names.LOOKS).title()} {random.choice(words.objects).title()}"
        return "a book", title, _book
    if kind < 0.9:
        return "a city", random.choice(CITIES), _city
    if kind < 0.95:
        return "a product", random.choice(words.objects).title(), _product
    return "a recipe", f"{random.choice(FOODS).title()} Soup", _recipe


_REQUESTS = (
    "Give me a JSON record of {kind} named {name}",
    "Give me a JSON record of {kind} called {name}",
    "Give me a JSON object for {kind} named {name}",
    "Return a JSON object for {kind} named {name}",
    "Write a JSON record for {kind} called {name}",
    "Write JSON for {kind} named {name}",
    "Create a JSON record about {kind} called {name}",
    "I need a JSON object describing {kind} named {name}",
    "Make a JSON record: {kind} named {name}",
    "Describe {kind} named {name} in JSON",
    "Describe {kind} called {name} as JSON",
    "JSON record of {kind} named {name}",
    "Please give me {kind} named {name} as JSON",
    "Can you give me a JSON record of {kind} named {name}?",
    "{name} is {kind}. Give me a JSON record",
)
_UNNAMED = (
    "Give me a JSON record of {kind}",
    "Return a JSON object for {kind}",
    "Write a JSON record for {kind}",
    "Describe {kind} as JSON",
    "Give me an example of JSON for {kind}",
)


def _written(random: Random, record: Any) -> tuple[str, str]:
    """Return a phrase that requests a format, and the JSON in that format."""
    form = random.random()
    if form < 0.08:
        compact = json.dumps(record, ensure_ascii=False, separators=(",", ":"))
        return random.choice((", compact", " in compact form", " without spaces")), compact
    if form < 0.16:
        asked = random.choice((", pretty-printed", " with indentation", ", nicely indented"))
        return asked, json.dumps(record, ensure_ascii=False, indent=2)
    return "", json.dumps(record, ensure_ascii=False)


def json_exchange(random: Random, words: Words) -> tuple[str, str]:
    """Return a request for JSON and its answer, which is just valid JSON."""
    style = random.random()
    if style < 0.1:
        return _list_exchange(random)
    kind, name, make = _subject(random, words)
    record = make(random, name)
    request = random.choice(_UNNAMED if style < 0.2 else _REQUESTS)
    if style > 0.8:
        keys = random.sample(list(_FIELDS), random.randint(1, 4))
        record = {"name": name} | {key: _FIELDS[key](random) for key in keys}
        request = random.choice(_REQUESTS[:-1]).rstrip("?")
        listed = ", ".join(["name", *keys[:-1]]) + " and " + keys[-1]
        request += random.choice((" with {listed}", " with the keys {listed}"))
        request = request.replace("{listed}", listed)
    form, text = _written(random, record)
    request = request.format(kind=kind, name=name)
    request = request if request.endswith("?") else request + form
    if request.endswith("?"):
        text = json.dumps(record, ensure_ascii=False)
    return request, text


def bare_exchange(random: Random, words: Words) -> tuple[str, str]:
    """Return "a cat named Mia" and its record, for system messages that request JSON."""
    kind, name, make = _subject(random, words)
    return f"{kind} named {name}", json.dumps(make(random, name), ensure_ascii=False)


_LISTS = {"colours": COLOURS, "cities": CITIES, "hobbies": HOBBIES, "foods": FOODS, "pets": PETS}
_COUNTS = ("two", "three", "four", "five", "six")


def _list_exchange(random: Random) -> tuple[str, str]:
    what, pool = random.choice(list(_LISTS.items()))
    count = random.randint(2, 6)
    asked = f"{random.choice((_COUNTS[count - 2], str(count)))} {what}"
    request = random.choice(
        ("Give me a JSON list of {}", "Return a JSON array of {}", "List {} as JSON")
    )
    return request.format(asked), json.dumps(random.sample(pool, count), ensure_ascii=False)
