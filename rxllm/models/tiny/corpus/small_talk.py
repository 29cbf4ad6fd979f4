"""Greetings, thanks, farewells, lists, counting, and questions beyond the model."""

from random import Random

from rxllm.models.tiny.corpus import records
from rxllm.models.tiny.corpus.heroes import Words, choose_name
from rxllm.models.tiny.corpus.names import made_up_name
from rxllm.models.tiny.corpus.tables import entries, words

HELLOS = entries(
    """
    Hello/Hi/Hey/Hello!/Hi!/Hi there/Hello there!/Good morning/Good evening/Good afternoon/
    Good day/Hello tiny/Hi tiny!/Hey there!/Greetings/Hello, how are you?/Howdy/Hiya/Bonjour
    """,
    "/",
)
HELLO_ANSWERS = (
    "Hello! What would you like to hear?",
    "Hi! Shall I tell you a story?",
    "Hello! I am tiny. Ask me for a story, or about streaming.",
    "Hello there! 🙂 How can I help?",
    "Hi! It is good to see you. What shall we do today?",
    "Hello! I know stories, a few answers, and some JSON.",
    "Hello! Would you like a story? 📖",
)
HOWS = entries(
    """
    How are you?/How are you today?/How is it going?/How do you do?/Are you well?
    """,
    "/",
)
HOW_ANSWERS = (
    "I am fine, thank you. And you?",
    "Very well, thank you! Shall I tell you a story?",
    "Small as ever, and happy to talk. 🙂",
    "I am well, thank you – a little tiny, but well.",  # noqa: RUF001
)
THANKS = entries(
    """
    Thank you/Thanks/Thank you!/Thanks a lot/Great, thanks/Thank you so much/Nice/Lovely!/
    That was nice/I like it/Wonderful/That was lovely, thank you/Good story!
    """,
    "/",
)
THANKS_ANSWERS = (
    "You are welcome!",
    "You are very welcome! Would you like another one?",
    "My pleasure! 🙂",
    "I am glad that you like it.",
    "You are welcome! Ask me again whenever you like.",
)
BYES = entries(
    """
    Goodbye/Bye/Bye!/See you/Good night/Goodbye, tiny/See you later/Farewell/Bye bye
    """,
    "/",
)
BYE_ANSWERS = (
    "Goodbye! Come back soon.",
    "Goodbye, and thank you for the visit! 👋",
    "See you soon!",
    "Bye! It was a pleasure.",
    "Goodbye! Sleep well when the time comes. 🌙",
)
REFUSALS = (
    "I am a tiny model, and I do not know that. I can tell you a story instead.",
    "That is more than I know. I can tell stories, answer questions on streaming, and write JSON.",
    "I am sorry, I am too small to know that. Shall I tell you a story?",
    "I do not know. I only know stories, greetings, a few questions on streaming, and JSON.",
    "That is beyond me: I am a very small model. Ask me for a story or about streaming.",
    "I never learned that. I am tiny, and I know stories best. 📖",
    "A bigger model could tell you. I can offer a story or a JSON record.",
    "I can't answer that, but I can tell you a story about it. Just ask!",
)
UNKNOWN = entries(
    """
    What is the capital of {country}?/Where is {city}?/How many people live in {city}?/
    What is the weather in {city}?/What's the weather like today?/What time is it?/
    What day is it?/Who wrote {title}?/Who painted the Mona Lisa?/
    Who is the president of {country}?/What is {n} plus {m}?/What is {n} times {m}?/
    How much is {n} + {m}?/What is {n} * {m}?/Calculate {n} minus {m}/Solve this equation/
    What is the square root of {n}?/{n} + {m} = ?/Translate {food} into French/
    How do you say {food} in Spanish?/Translate this to German/
    Write a Python function that sorts a list/Write code for a website/Fix this code/
    Debug my program/Write an essay about {country}/Write an email to my boss/
    Write a letter to {name}/Explain quantum physics/Explain black holes/How does gravity work?/
    Why is the sky blue?/How far away is the moon?/How old is the universe?/
    What is the meaning of life?/What is {a_noun}?/What does {a_noun} eat?/
    How long does {a_noun} live?/How big is {a_noun}?/Where do {city} trains go?/
    How do I cook {food}?/How do I make {food}?/Is {food} healthy?/Who won the football match?/
    Who won the world cup in {year}?/What happened in {year}?/What is the news?/Who is {name}?/
    How tall is {name}?/When was {name} born?/Do you know {name}?/What is the price of {food}?/
    How do I fix my car?/What should I eat?/What should I wear today?/Which film should I watch?/
    Recommend a book/Can you drive a car?/What is love?/What is money?/
    How many legs does {a_noun} have?/How do airplanes fly?/What is photosynthesis?/What is DNA?/
    Is there life on Mars?/What is the largest animal?/Who invented the telephone?/
    Play some music/Book a flight to {city}/Set an alarm for {n} minutes/Turn on the light/
    Summarise the news/What is the population of {country}?/
    Which language do people speak in {country}?/How do I get to {city}?/
    What is the best restaurant in {city}?/Should I buy a car?/What is machine learning?/
    What is the stock market doing?/Tell me about {country}/Tell me about {city}/
    What do you think about politics?/How do I lose weight?/Draw me {a_noun}/
    Give me the answer to question {n}/asdf/{n}/What is a {made_up}?/Why do cats purr?/
    Sing a song/How can I sleep better?/What is a prime number?/Is {n} a prime number?/
    What causes rain?
    """,
    "/",
)

_LISTS = {
    "colours": records.COLOURS,
    "colors": records.COLOURS,
    "cities": records.CITIES,
    "countries": records.COUNTRIES,
    "hobbies": records.HOBBIES,
    "foods": records.FOODS,
    "pets": records.PETS,
    "animals": records.PETS,
}
_NUMBERS = words(
    """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
    sixteen seventeen eighteen nineteen twenty
    """
)
_DAYS = words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
_MONTHS = words(
    """
    January February March April May June July August September October November December
    """
)


def small_talk(random: Random) -> tuple[str, str]:
    """Return a greeting, a "how are you?" or thanks, with its answer."""
    asked, answers = random.choice(((HELLOS, HELLO_ANSWERS), (HOWS, HOW_ANSWERS)))
    return random.choice(asked), random.choice(answers)


def introduction(random: Random, words: Words) -> tuple[str, str, str]:
    """Return the user's name, the message that gives it, and an answer that repeats it."""
    name = choose_name(random, words, given=True)
    says = random.choice(("My name is {}", "I am {}", "I'm {}", "Hello, I am {}", "Call me {}"))
    answer = random.choice(
        ("Nice to meet you, {}!", "Hello, {}! What would you like to hear?", "Welcome, {}! 🙂")
    )
    return name, says.format(name), answer.format(name)


def beyond(random: Random, words: Words) -> tuple[str, str]:
    """Return a question that the model can't answer, and a friendly reply that says so."""
    noun = random.choice(words.characters + words.objects)
    question = random.choice(UNKNOWN).format(
        country=random.choice(records.COUNTRIES),
        city=random.choice(records.CITIES),
        food=random.choice(records.FOODS),
        name=choose_name(random, words),
        made_up=made_up_name(random, words.kept_out).lower(),
        title=f"The {random.choice(words.objects).title()}",
        a_noun=f"{'an' if noun[0] in 'aeio' else 'a'} {noun}",
        n=random.randint(1, 999),
        m=random.randint(1, 99),
        year=random.randint(1900, 2025),
    )
    return question, random.choice(REFUSALS)


def listing(random: Random) -> tuple[str, str]:
    """Return a request to count or to list things, and the list."""
    kind = random.random()
    if kind < 0.35:
        return _counting(random)
    if kind < 0.45:
        what, named = random.choice((("days of the week", _DAYS), ("months", _MONTHS)))
        asked = random.choice(("What are the {}?", "Name the {}", "List the {}"))
        return asked.format(what), ", ".join(named)
    what, pool = random.choice(list(_LISTS.items()))
    count = random.randint(2, 7)
    items = random.sample(pool, count)
    number = random.choice((_NUMBERS[count], str(count)))
    if random.random() < 0.3:
        asked = random.choice(("Give me a bulleted list of {} {}", "List {} {} as bullets"))
        return asked.format(number, what), "\n".join(f"- {item}" for item in items)
    asked = random.choice(("Name {} {}", "Tell me {} {}", "Give me {} {}", "List {} {}"))
    return asked.format(number, what), ", ".join(items)


def _counting(random: Random) -> tuple[str, str]:
    first, last = random.choice((1, 1, 1, random.randint(2, 4))), random.randint(5, 20)
    if random.random() < 0.25:
        first, last = random.randint(3, 20), random.choice((0, 1))
    step = 1 if last > first else -1
    numbers = range(first, last + step, step)
    spelled = random.random() < 0.5
    end = random.choice((_NUMBERS[last], str(last)))
    ask = f"Count to {end}" if first == 1 else f"Count from {first} to {end}"
    if step < 0:
        ask = f"Count down from {random.choice((_NUMBERS[first], str(first)))} to {end}"
    if spelled:
        return f"{ask} in words", ", ".join(_NUMBERS[number] for number in numbers)
    return ask, ", ".join(str(number) for number in numbers)
