"""Server-sent events: the rules of the WHATWG standard, however the bytes are split."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxllm.errors import MalformedStreamError
from rxllm.models.remote.sse import EventStreamDecoder, ServerSentEvent

Events = list[ServerSentEvent]


def decode(pieces: Iterable[bytes], decoder: EventStreamDecoder | None = None) -> Events:
    decoder = decoder or EventStreamDecoder()
    return [event for piece in pieces for event in decoder.feed(piece)]


def by_the_standard(stream: bytes) -> tuple[Events, str, int | None]:
    """Apply the standard's algorithm to a whole stream; return events, last event id, retry.

    Beyond it, several words without a colon are data, and so are the lines after them.
    """
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
    lines = re.split(r"\r\n|\r|\n", text)[:-1]
    events: Events = []
    data, kind, buffered_id, last_id, retry = "", "", "", "", None
    has_words = False
    for line in lines:
        if not line:
            last_id = buffered_id
            if data:
                events.append(ServerSentEvent(data[:-1], kind or "message", last_id))
            data = kind = ""
            has_words = False
            continue
        if line.startswith(":"):
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            kind = value
        elif field == "data":
            data += value + "\n"
        elif field == "id" and "\0" not in value:
            buffered_id = value
        elif field == "retry" and re.fullmatch("[0-9]+", value):
            retry = int(value)
        elif has_words or (":" not in line and " " in line.strip()):
            has_words = True
            data += line + "\n"
    return events, last_id, retry


def cut(stream: bytes, places: Iterable[int]) -> list[bytes]:
    ends = sorted({place % (len(stream) + 1) for place in places})
    return [stream[a:b] for a, b in zip([0, *ends], [*ends, len(stream)], strict=True)]


FRAGMENTS = st.sampled_from(
    [
        b"data:", b"data: ", b"data", b"event: ", b"event", b"id: ", b"id", b"retry: ", b": ", b":",
        b" ", b"\r", b"\n", b"\r\n", b"\n\n", b"\r\n\r\n", b"\r\r", b"x", b"42", b"ping", b"\0",
        "é".encode(), "中".encode(), "🦊".encode(), b"\xff", b"\xf0\x9f", b"\xef\xbb\xbf",
        "\u2028".encode(), "\x85".encode(), b"\x0b", b"dat", b"other: y",
    ]
)  # fmt: skip
STREAMS = st.lists(FRAGMENTS, max_size=40).map(b"".join)
PLACES = st.lists(st.integers(0, 10_000), max_size=12)


@given(STREAMS, PLACES)
def test_every_split_gives_the_events_of_the_standard(stream: bytes, places: list[int]) -> None:
    decoder = EventStreamDecoder()
    events = decode(cut(stream, places), decoder)
    assert (events, decoder.last_event_id, decoder.retry) == by_the_standard(stream)


@given(STREAMS)
def test_one_byte_at_a_time_does_too(stream: bytes) -> None:
    assert decode(bytes([byte]) for byte in stream) == by_the_standard(stream)[0]


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: a\n\n", ["a"]),
        (b"data:a\n\n", ["a"]),
        (b"data:  a\n\n", [" a"]),
        (b"data: a\ndata: b\n\n", ["a\nb"]),
        (b"data\n\n", [""]),
        (b"data\ndata\n\n", ["\n"]),
        (b"data: a\r\n\r\ndata: b\r\rdata: c\n\n", ["a", "b", "c"]),
        (b"\xef\xbb\xbfdata: a\n\n", ["a"]),
        (b": a comment\n\ndata: a\n\n", ["a"]),
        (b"event: ping\n\n", []),
        (b"colour: red\ndata: a\n\n", ["a"]),
        (b" data: a\n\n", []),
        (b"data: a\n", []),
        (b"data: a", []),
        (b"", []),
        ("data: 🦊\n\n".encode(), ["🦊"]),
        (b"data: \xff\n\n", ["\ufffd"]),
        ("data: a\u2028b\x85\n\n".encode(), ["a\u2028b\x85"]),
    ],
)
def test_the_data_of_events(stream: bytes, expected: list[str]) -> None:
    assert [event.data for event in decode([stream])] == expected


def test_a_cr_ends_an_event_without_waiting_for_what_follows() -> None:
    decoder = EventStreamDecoder()
    assert [event.data for event in decoder.feed(b"data: a\r\r")] == ["a"]
    assert [event.data for event in decoder.feed(b"\ndata: b\n\n")] == ["b"]


@pytest.mark.parametrize(
    "stream", [b"", b"data: a\n\n", b": a comment\n", b"\r\n", b"data\r\n\r\n"]
)
def test_the_decoder_is_between_events(stream: bytes) -> None:
    decoder = EventStreamDecoder()
    decode([stream], decoder)
    assert decoder.is_between


@pytest.mark.parametrize("stream", [b"d", b"data\n", b"event: a\n", b"\xf0\x9f", b"data: a\r\r"])
def test_the_decoder_is_inside_an_event(stream: bytes) -> None:
    decoder = EventStreamDecoder()
    decode([b"data: a\n\n", stream], decoder)
    assert not decoder.is_between


def test_types_belong_to_one_event_and_ids_persist() -> None:
    stream = b"event: ping\nid: 7\ndata: a\n\ndata: b\n\nid\ndata: c\n\n"
    assert decode([stream]) == [
        ServerSentEvent("a", "ping", "7"),
        ServerSentEvent("b", "message", "7"),
        ServerSentEvent("c", "message", ""),
    ]


def test_an_id_with_nul_and_an_invalid_retry_are_ignored() -> None:
    decoder = EventStreamDecoder()
    decode([b"id: 1\nretry: 250\n\nid: \x002\nretry: 2.5\nretry: \xd9\xa1\n\n"], decoder)
    assert (decoder.last_event_id, decoder.retry) == ("1", 250)


def test_an_id_counts_only_once_its_event_is_complete() -> None:
    decoder = EventStreamDecoder()
    decode([b"id: 1\n\nid: 2\ndata: cut"], decoder)
    assert decoder.last_event_id == "1"


@pytest.mark.parametrize(
    "stream",
    [
        b"data: " + b"x" * 100,
        b"data: " + b"x" * 100 + b"\n\n",
        b"data: xxxxxxxxx\n" * 10,
        b"data\n" * 30,
        b": " + b"x" * 100,
        b"event: " + b"x" * 100 + b"\n",
    ],
    ids=["an unterminated line", "one line", "many lines", "empty lines", "a comment", "a type"],
)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_an_event_that_is_too_long_is_an_error_after_the_events_before_it(
    stream: bytes, size: int
) -> None:
    stream = b"data: first\n\n" + stream
    decoder = EventStreamDecoder(limit=64)
    events: Events = []
    with pytest.raises(MalformedStreamError, match="limit of 64 characters"):
        for start in range(0, len(stream), size):
            for event in decoder.feed(stream[start : start + size]):
                events.append(event)
    assert [event.data for event in events] == ["first"]


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_the_limit_applies_to_each_event_and_comment(size: int) -> None:
    stream = b"data: 0123456789\n\n" * 100 + b": still here\n" * 100 + b"data: a\n\n"
    decoder = EventStreamDecoder(limit=16)
    pieces = (stream[start : start + size] for start in range(0, len(stream), size))
    assert len(decode(pieces, decoder)) == 101


@pytest.mark.parametrize("pause", [[], [b""]], ids=["next", "later"])
def test_a_split_crlf_is_one_line_end(pause: list[bytes]) -> None:
    pieces = [b"data: a\r", *pause, b"\ndata: b\r", *pause, b"\n", b"\r", *pause, b"\n"]
    assert [event.data for event in decode(pieces)] == ["a\nb"]


@pytest.mark.parametrize("field", [b"colour: 42", b"retries: 42", b": 42", b"42", b"data: 42"])
def test_only_the_field_retry_sets_retry(field: bytes) -> None:
    decoder = EventStreamDecoder()
    decode([field + b"\n\n"], decoder)
    assert decoder.retry is None


@pytest.mark.parametrize(
    "lines",
    [
        [b"data: 0123456789"],
        [b"data: 01", b"data: 23"],
        [b"data", b"data"],
        [b"data: 01", b": comment"],
        [b"data", b"event: ping"],
        [b": a comment"],
        [b"event: ping"],
        [b"id: 1"],
        [b"other"],
    ],
    ids=lambda lines: b"/".join(lines).decode(),
)
@pytest.mark.parametrize("size", [1, 1000])
def test_the_limit_is_exact(lines: list[bytes], size: int) -> None:
    stream = b"\n".join(lines) + b"\n\n"
    pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
    limit = sum(map(len, lines))
    decode(pieces, EventStreamDecoder(limit=limit))
    with pytest.raises(MalformedStreamError):
        decode(pieces, EventStreamDecoder(limit=limit - 1))
