"""Each fault before the first token, mid-stream and at the end, with each provider.

`rxllm/models/README.md` shows `EXPECTED` as a table.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

import rxllm
from rxllm.chunks import End, Notice, Token
from rxllm.testing.fault_server import CUT, RESET, Reply, Step
from rxllm.testing.provider_streams import (
    anthropic_event,
    anthropic_events,
    openai_event,
    openai_events,
)

Hear = Callable[..., Awaitable[Any]]

PROVIDERS = ["openai", "anthropic", "openrouter", "groq", "openai_compatible"]
PLACES = ["before the first token", "mid-stream", "at the end"]

# How the stream ends for the subscriber: with an error, or as if nothing had happened.
NOTHING = "no error"
EXPECTED: dict[str, dict[str, str]] = {
    "status 401": dict.fromkeys(PLACES[:1], "AuthenticationError"),
    "status 429": dict.fromkeys(PLACES[:1], "RateLimitError"),
    "status 500": dict.fromkeys(PLACES[:1], "ServerError"),
    "status 529": dict.fromkeys(PLACES[:1], "OverloadedError"),
    "an HTML page with status 200": dict.fromkeys(PLACES[:1], "MalformedStreamError"),
    "JSON in place of a stream": dict.fromkeys(PLACES[:1], "MalformedStreamError"),
    "closed before the headers": dict.fromkeys(PLACES[:1], "ConnectionFailedError"),
    "reset before the headers": dict.fromkeys(PLACES[:1], "ConnectionFailedError"),
    "connection closed": dict.fromkeys(PLACES, "ConnectionFailedError"),
    "connection reset": dict.fromkeys(PLACES, "ConnectionFailedError"),
    "the body ends": dict(
        zip(PLACES, ["EmptyStreamError", *["TruncatedStreamError"] * 2], strict=True)
    ),
    "an error in the stream": dict.fromkeys(PLACES, "OverloadedError"),
    "an error as plain text": dict.fromkeys(PLACES, "ServerError"),
    "an error as JSON without `data:`": dict.fromkeys(PLACES, "ServerError"),
    "a finish reason that gives up": dict.fromkeys(PLACES, "AbortedStreamError"),
    "one malformed event": dict.fromkeys(PLACES, NOTHING),
    "three malformed events": dict.fromkeys(PLACES, "MalformedStreamError"),
    "an event without end": dict.fromkeys(PLACES[:1], "MalformedStreamError"),
    "comments": dict.fromkeys(PLACES, NOTHING),
    "heartbeats in `data:`": dict.fromkeys(PLACES, NOTHING),
    "bytes one by one": dict.fromkeys(PLACES, NOTHING),
    "half a character": dict.fromkeys(PLACES, "ConnectionFailedError"),
}
CASES = [
    (fault, place, provider)
    for fault, outcomes in EXPECTED.items()
    for place in outcomes
    for provider in PROVIDERS
]


def halves(provider: str, place: str) -> tuple[list[bytes], list[bytes]]:
    """Return the events of an answer of two tokens, split at the place of the fault."""
    if provider == "anthropic":
        events = anthropic_events("Hé", "llo")
        at = {"before the first token": 0, "mid-stream": 4, "at the end": 6}[place]
    else:
        events = openai_events("Hé", "llo", usage=False)
        at = {"before the first token": 0, "mid-stream": 1, "at the end": 2}[place]
    return events[:at], events[at:]


def in_stream_error(provider: str) -> bytes:
    error = {"type": "overloaded_error", "message": "Overloaded"}
    if provider == "anthropic":
        return anthropic_event("error", error=error)
    if provider == "openrouter":
        choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "error"}
        error = {"code": 503, "message": "Overloaded"}  # type: ignore[dict-item]
        return openai_event(choices=[choice], error=error)
    return openai_event(choices=[], error=error)


def giving_up(provider: str) -> bytes:
    if provider == "anthropic":
        return anthropic_event("message_delta", delta={"stop_reason": "network_error"})
    return openai_event(choices=[{"index": 0, "delta": {}, "finish_reason": "network_error"}])


def reply(fault: str, place: str, provider: str) -> Reply:
    before, after = halves(provider, place)
    if fault.startswith("status "):
        return Reply([b"{}"], status=int(fault.removeprefix("status ")))
    if fault.endswith("before the headers"):
        return Reply(before=[RESET if fault.startswith("reset") else CUT])
    if fault == "an HTML page with status 200":
        return Reply([b"<html>"], headers={"Content-Type": "text/html; charset=utf-8"})
    if fault == "JSON in place of a stream":
        return Reply([b"{}"], headers={"Content-Type": "application/json"})
    if fault == "bytes one by one":
        return Reply([*before, *after], pieces=1)
    between: dict[str, Sequence[Step]] = {
        "connection closed": [CUT],
        "connection reset": [RESET],
        "the body ends": [],
        "an error in the stream": [in_stream_error(provider)],
        "an error as plain text": [b"data: error: CUDA out of memory\n\n"],
        "an error as JSON without `data:`": [b'{"error": {"message": "busy"}}\n\n'],
        "a finish reason that gives up": [giving_up(provider)],
        "one malformed event": [b"data: {\n\n"],
        "three malformed events": [b"data: {\n\n"] * 3,
        "an event without end": [b"data: " + b"x" * 4_300_000],
        "comments": [b": still here\n\n"] * 50,
        "heartbeats in `data:`": [b"data: : PROCESSING\n\n"] * 50,
        "half a character": [b"data: \xc3", CUT],
    }
    ends = fault in {"connection closed", "connection reset", "the body ends", "half a character"}
    return Reply([*before, *between[fault], *([] if ends else after)])


@pytest.mark.parametrize(("fault", "place", "provider"), CASES)
async def test_a_fault_gives_its_error_and_loses_no_text_before_it(
    hear: Hear, fault: str, place: str, provider: str
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
