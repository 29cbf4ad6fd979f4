"""Each fault before the first token, in the middle and at the end, with each provider.

`rxllm/models/README.md` shows `EXPECTED` as a table.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import rxllm
from rxllm.chunks import End, Notice, Token
from rxllm.testing.fault_server import Reply
from rxllm.testing.faults import FAULTS, PLACES, Place, faulty_reply
from rxllm.testing.provider_streams import openai_event

Hear = Callable[..., Awaitable[Any]]

PROVIDERS = ["openai", "anthropic", "openrouter", "groq", "openai_compatible"]

# How the stream ends for the subscriber: with an error, or as if nothing had happened.
NOTHING = "no error"
ERRORS = {
    "status 401": "AuthenticationError",
    "status 429": "RateLimitError",
    "status 500": "ServerError",
    "status 529": "OverloadedError",
    "an HTML page with status 200": "MalformedStreamError",
    "JSON in place of a stream": "MalformedStreamError",
    "closed before the headers": "ConnectionFailedError",
    "reset before the headers": "ConnectionFailedError",
    "connection closed": "ConnectionFailedError",
    "connection reset": "ConnectionFailedError",
    "the body ends": "TruncatedStreamError",
    "an error in the stream": "OverloadedError",
    "an error as plain text": "ServerError",
    "an error as JSON without `data:`": "ServerError",
    "an error before `[DONE]`": "ServerError",
    "a finish reason that gives up": "AbortedStreamError",
    "three malformed events": "MalformedStreamError",
    "an event without end": "MalformedStreamError",
    "half a character": "ConnectionFailedError",
}
EXPECTED = {
    fault: dict.fromkeys(kind.places, ERRORS[fault] if kind.is_wrong else NOTHING)
    for fault, kind in FAULTS.items()
}
EXPECTED["the body ends"][PLACES[0]] = "EmptyStreamError"
CASES = [
    (fault, place, provider)
    for fault, outcomes in EXPECTED.items()
    for place in outcomes
    for provider in PROVIDERS
]


def reply(fault: str, place: Place, provider: str) -> Reply:
    if provider == "openrouter" and fault == "an error in the stream":
        choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "error"}
        error = {"code": 503, "message": "Overloaded"}
        plain = faulty_reply("the body ends", place)
        return Reply([*plain.body, openai_event(choices=[choice], error=error)])
    return faulty_reply(fault, place, "anthropic" if provider == "anthropic" else "openai_chat")


@pytest.mark.parametrize(("fault", "place", "provider"), CASES)
async def test_a_fault_gives_its_error_and_loses_no_text_before_it(
    hear: Hear, fault: str, place: Place, provider: str
) -> None:
    sent = reply(fault, place, provider)
    heard = await hear(
        sent.body,
        provider,
        status=sent.status,
        headers=sent.headers,
        before=sent.before,
        pieces=sent.pieces,
    )
    expected = EXPECTED[fault][place]
    if expected == NOTHING:
        assert (heard.text, heard.error) == ("Héllo", None)
        assert heard.chunks[-1] == End("stop")
        assert len(heard.of(Notice)) == (fault == "one malformed event")
        return
    assert type(heard.error).__name__ == expected, heard.error
    assert heard.error.retryable == (rxllm.classify_error(heard.error) == "retry")
    if "reset" not in fault:  # a reset discards data in transit
        texts = ["Hé", "llo"][: PLACES.index(place)]
        assert heard.of(Token) == [Token(text) for text in texts]


def test_every_fault_has_an_expected_outcome() -> None:
    assert ERRORS.keys() == {fault for fault, kind in FAULTS.items() if kind.is_wrong}
    with pytest.raises(ValueError, match="there is no fault 'status 401' at the end"):
        faulty_reply("status 401", "at the end")
