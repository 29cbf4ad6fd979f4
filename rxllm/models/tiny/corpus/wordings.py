"""Wordings of requests and system messages."""

from random import Random

from rxllm.models.tiny.corpus.tables import entries

STORY_REQUESTS = (
    *(["Tell me a story about {}"] * 6),
    *(["Write a story about {}", "Tell a story about {}", "Tell me about {}"] * 2),
    "Tell me a tale about {}",
    "Tell me a tale of {}",
    "Write me a story about {}",
    "I would like a story about {}",
    "I want to hear a story about {}",
    "Can you tell me a story about {}?",
    "Could you tell me a story about {}?",
    "Would you write a story about {}?",
    "Please tell me a story about {}",
    "Please write a story about {}",
    "A story about {}, please",
    "A tale of {}, please",
    "A story about {}",
    "Story about {}",
    "Write about {}",
    "Do you know a story about {}?",
    "Give me a story about {}",
    "Make up a story about {}",
    "Invent a story about {}",
    "Let me hear a story about {}",
    "How about a story about {}?",
    "Tell me a bedtime story about {}",
    "Tell me a nice story about {}",
)
SHORT_REQUESTS = (
    "Tell me a short story about {}",
    "Write a short story about {}",
    "A short story about {}, please",
    "Tell me a very short story about {}",
    "Write a few sentences about {}",
)
LONG_REQUESTS = (
    "Tell me a long story about {}",
    "Write a long story about {}",
    "A long story about {}, please",
)
OPEN_REQUESTS = entries(
    """
    Tell me a story/Tell me a story, please/Write a story/A story, please/Can you tell a story?/
    I want a story/Tell me something nice/Please tell me a bedtime story/Surprise me
    """,
    "/",
)
ANOTHER = entries(
    """
    Tell me another one/Another one, please/Another story, please/One more/One more story/
    Can I hear another one?/Tell me a different story/Again, please/More!
    """,
    "/",
)
SHORTER = entries(
    """
    Make it shorter/Can you make it shorter?/Shorter, please/Sum it up/Tell it in a few words/
    Summarise it/That was long. Make it shorter/Give me the short version
    """,
    "/",
)
SEQUEL = entries(
    """
    What happened next?/What happened then?/And then?/Go on/Continue/Tell me more/
    How does it go on?/What happened after that?/Please go on/More about that
    """,
    "/",
)
PLAIN_SYSTEMS = entries(
    """
    You are a helpful storyteller./You are tiny, a small and friendly model./
    You are a friendly assistant./You are a helpful assistant./Be kind and clear./
    You tell stories to children./You are a poet and a storyteller./Answer in plain English./
    You help with streaming and rxllm.
    """,
    "/",
)
SHORT_SYSTEMS = entries(
    """
    Keep your stories very short./Be brief./Answer briefly./Write short stories only./
    You are a storyteller of few words.
    """,
    "/",
)
JSON_SYSTEMS = entries(
    """
    Reply only with JSON./Answer with a JSON object and nothing else./You write JSON records./
    Always answer in JSON.
    """,
    "/",
)
POEMS = entries(
    """
    Write a poem about {}/A poem about {}, please/Can you write a poem about {}?
    """,
    "/",
)
TERM_REQUESTS = (
    *(["What is {}?"] * 4),
    "What's {}?",
    "Explain {}",
    "Can you explain {}?",
    "What does {} mean?",
    "Define {}",
    "What do you mean by {}?",
    "Tell me what {} is",
    "Can you tell me what {} is?",
    "Please explain {}",
    "I don't know what {} is",
)


def vary(random: Random, request: str) -> str:
    """Return a request with varied punctuation, politeness and case, as people type them."""
    if request[-1] not in ".?!" and random.random() < 0.35:
        if "lease" not in request and random.random() < 0.3:
            request += random.choice((", please", " please"))
        request += random.choice((".", ".", "!")) if random.random() < 0.6 else ""
    if request.endswith("?") and random.random() < 0.2:
        request = request[:-1]
    if random.random() < 0.12:
        request = request[0].lower() + request[1:]
    return request
