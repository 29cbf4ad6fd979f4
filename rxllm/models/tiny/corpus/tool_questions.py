"""Questions that a tool answers: the call, what the tool says, and an answer that repeats it."""

import json
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

from rxllm.models.tiny.corpus import names, tools
from rxllm.models.tiny.corpus.heroes import Words
from rxllm.models.tiny.corpus.tables import entries
from rxllm.models.tiny.corpus.tools import Kind, Offer


class Question(NamedTuple):
    """What a user asks, and what follows.

    asked: the request; after: the request if it follows another of the same kind, or "";
    arguments: those of the call; result: what the tool says; answer: the model's answer;
    facts: the words of the result that a good answer contains.
    """

    asked: str
    after: str
    arguments: dict[str, Any]
    result: str
    answer: str
    facts: tuple[str, ...]


def question(random: Random, words: Words, offer: Offer) -> Question:
    """Return a question for a tool."""
    return _ASK[offer.kind](random, words, offer)


def failed(random: Random, asked: Question) -> Question:
    """Return the same question, with an error in place of the result."""
    reason = random.choice(_REASONS)
    result = random.choice((json.dumps({"error": reason}), f"Error: {reason}", f"error: {reason}"))
    answer = random.choice(_FAILURES).format(reason)
    return asked._replace(result=result, answer=answer, facts=(reason,))


_REASONS = entries(
    """
    not found/unknown place/timeout/the service is down/no such place/connection lost/
    too many requests/invalid input/not allowed/out of order
    """,
    "/",
)
_FAILURES = (
    "That did not work: {}.",
    "I am sorry, the tool failed: {}.",
    "I could not find out: {}.",
    "The tool says: {}.",
)


def _place(random: Random, words: Words) -> str:
    if random.random() < words.invented:
        return names.made_up_name(random, words.kept_out)
    return random.choice(words.places)


def _json(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False)


_TIMES_HERE = entries(
    """
    What time is it?/What's the time?/Tell me the time/What is the time?/What time is it now?/
    Can you tell me the time?/Do you know what time it is?/How late is it?/The time, please/
    What is the time now?/Could you tell me the time?/Is it late?
    """,
    "/",
)
_TIMES_THERE = entries(
    """
    What time is it in {}?/What's the time in {}?/Tell me the time in {}/What is the time in {}?/
    What time is it now in {}?/Can you tell me the time in {}?/Time in {}/
    Do you know what time it is in {}?/How late is it in {}?/The time in {}, please/
    What is the local time in {}?/In {}, what time is it?/I want to know the time in {}
    """,
    "/",
)
_TIME_ANSWERS = ("It is {}{}.", "It is {}{} now.", "The time{1} is {0}.", "The clock{1} says {0}.")


def _clock(random: Random, words: Words, offer: Offer) -> Question:
    place = ""
    if offer.parameter and (offer.is_required or random.random() < 0.7):
        place = _place(random, words)
    hour, minute = random.randint(0, 23), random.randint(0, 59)
    time = f"{hour:02}:{minute:02}"
    if random.random() < 0.15:
        time += f":{random.randint(0, 59):02}"
    result = random.choice(
        (
            time,
            _json({"time": time}),
            _json({"time": time}),
            _json({"place": place, "time": time} if place else {"now": time}),
            f"{random.randint(2024, 2039)}-{random.randint(1, 12):02}-"
            f"{random.randint(1, 28):02}T{time}",
            f"It is {time}.",
        )
    )
    asked = random.choice(_TIMES_THERE if place else _TIMES_HERE).format(place)
    after = random.choice(_AFTER).format(place) if place else random.choice(_AGAIN)
    answer = random.choice(_TIME_ANSWERS).format(time, f" in {place}" if place else "")
    arguments = {offer.parameter: place} if place else {}
    return Question(asked, after, arguments, result, answer, (time,))


_AFTER = ("And in {}?", "What about {}?", "And {}?", "How about {}?", "And in {}, please?")
_AGAIN = ("And now?", "What time is it now?", "Again, please", "Look again", "Check again")


class _Operation(NamedTuple):
    sign: str
    word: str
    asked: tuple[str, ...]
    told: tuple[str, ...]


_OPERATIONS = (
    _Operation("+", "plus", ("Add {} and {}", "What is the sum of {} and {}?"), ()),
    _Operation("-", "minus", ("Subtract {1} from {0}", "Take {1} from {0}"), ()),
    _Operation("*", "times", ("Multiply {} by {}", "What is the product of {} and {}?"), ()),
    _Operation("/", "divided by", ("Divide {} by {}",), ()),
)
_SUMS = (
    *(["What is {} {word} {}?"] * 3),
    "What's {} {word} {}?",
    "How much is {} {word} {}?",
    "Calculate {} {word} {}",
    "Can you calculate {} {word} {}?",
    "Tell me what {} {word} {} is",
    "What is {} {sign} {}?",
    "How much is {} {sign} {}?",
    "Calculate {} {sign} {}",
    "{} {sign} {}",
    "{} {sign} {} = ?",
    "What does {} {sign} {} make?",
    "Please work out {} {sign} {}",
)


def is_kept_out(one: int, other: int) -> bool:
    """Whether a pair of numbers is kept out of training, one pair in ten."""
    return (one + other) % 10 == 3


def _numbers(random: Random, words: Words) -> tuple[int, int]:
    while True:
        most = random.choice((12, 99, 999))
        pair = random.randint(1, most), random.randint(1, random.choice((12, most)))
        if is_kept_out(*pair) == words.is_held_out:
            return pair


def _calculator(random: Random, words: Words, offer: Offer) -> Question:
    one, other = _numbers(random, words)
    operation = random.choice(_OPERATIONS)
    formula = f"{one} {operation.sign} {other}"
    value = {
        "+": one + other,
        "-": one - other,
        "*": one * other,
        "/": round(one / other, random.choice((2, 4))),
    }[operation.sign]
    value = int(value) if value == int(value) else value
    wordings = operation.asked if random.random() < 0.25 else _SUMS
    asked = random.choice(wordings).format(one, other, word=operation.word, sign=operation.sign)
    after = random.choice(("And {}?", "And what is {}?", "What about {}?")).format(
        f"{one} {random.choice((operation.word, operation.sign))} {other}"
    )
    told = f"{one} {operation.word} {other}"
    result = random.choice((str(value), _json({"result": value}), _json({"value": value})))
    answer = random.choice((f"{told} is {value}.", f"{told} is {value}.", f"It is {value}."))
    return Question(asked, after, {offer.parameter: formula}, result, answer, (str(value),))


_WEATHERS = entries(
    """
    What is the weather in {}?/What's the weather in {}?/How is the weather in {}?/
    What is the weather like in {}?/What's the weather like in {} today?/Weather in {}/
    Tell me about the weather in {}/Can you tell me the weather in {}?/Is it cold in {}?/
    Is it raining in {}?/Do I need an umbrella in {}?/How warm is it in {}?/
    The weather report for {}, please/Give me the weather for {}/In {}, what is the weather like?/
    What will I wear in {} today?/Is the sun shining in {}?
    """,
    "/",
)


def _weather(random: Random, words: Words, offer: Offer) -> Question:
    place, degrees = _place(random, words), random.randint(-20, 39)
    is_noun = random.random() < 0.5
    sky = random.choice(tools.SKIES if is_noun else tools.LOOKS_OF_SKIES)
    measured = random.choice(("temperature", "degrees", "celsius"))
    named = random.choice(("weather", "sky", "conditions"))
    record: dict[str, Any] = {named: sky, measured: degrees}
    if random.random() < 0.3:
        record = {random.choice(("place", "city")): place, **record}
    result = _json(record) if random.random() < 0.75 else f"{sky}, {degrees} degrees"
    asked = random.choice(_WEATHERS).format(place)
    after = random.choice(_AFTER).format(place)
    nouns = (
        "In {0} there is {1}, at {2} degrees.",
        "The weather in {0}: {1}, {2} degrees.",
        "{0} has {1} and {2} degrees.",
    )
    looks = (
        "It is {1} in {0}, with {2} degrees.",
        "The weather in {0} is {1}, {2} degrees.",
        "In {0} it is {1} and {2} degrees.",
    )
    answer = random.choice(nouns if is_noun else looks).format(place, sky, degrees)
    return Question(asked, after, {offer.parameter: place}, result, answer, (sky, str(degrees)))


_LOOK_UPS = entries(
    """
    What do you know about {}?/Tell me about {}/What is {} known for?/Look up {}/
    What can you tell me about {}?/I want to know more about {}/Where is {}?/
    How many people live in {}?/What is in the table about {}?/Tell me something about {}/
    What is {} like?/Find {}, please
    """,
    "/",
)


def _places(random: Random, words: Words, offer: Offer) -> Question:
    place, people = _place(random, words), random.randint(2, 99) * random.choice((10, 100))
    sight, river = random.choice(tools.SIGHTS), random.choice(tools.RIVERS)
    both = {"people": people, "known_for": sight, "river": river}
    told = {
        ("people", "known_for"): f"{place} has {people} people and is known for {sight}.",
        ("river", "people"): f"{place} lies on {river} and has {people} people.",
        ("known_for", "river"): f"{place} lies on {river} and is known for {sight}.",
        ("people",): f"{people} people live in {place}.",
        ("known_for",): f"{place} is known for {sight}.",
    }
    keys = random.choice(list(told))
    record = {key: both[key] for key in keys}
    if random.random() < 0.4:
        record = {"name": place, **record}
    asked, after = random.choice(_LOOK_UPS).format(place), random.choice(_AFTER).format(place)
    after = after.replace(" in ", " ")
    facts = tuple(str(both[key]) for key in keys)
    return Question(asked, after, {offer.parameter: place}, _json(record), told[keys], facts)


_ASK: dict[Kind, Callable[[Random, Words, Offer], Question]] = {
    "clock": _clock,
    "calculator": _calculator,
    "weather": _weather,
    "places": _places,
}
