"""Response bodies give the same chunks with and without templates."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from itertools import chain, pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxllm.chunks import Chunk, Reasoning, Start, Token
from rxllm.errors import RxLLMError
from rxllm.models.remote import body_reader
from rxllm.models.remote.anthropic import AnthropicReader
from rxllm.models.remote.body_reader import BodyReader, _is_whole
from rxllm.models.remote.history import Target
from rxllm.models.remote.openai import OpenAIReader
from rxllm.models.remote.sse import EventStreamDecoder, ServerSentEvent
from rxllm.models.remote.state import Comparable
from rxllm.models.remote.wire import Reader
from rxllm.testing.provider_streams import (
    anthropic_events,
    openai_event,
    openai_events,
)

MakeReader = Callable[[], Reader]
Read = tuple[list[Chunk], str]
"""The chunks of one read, and the error after them."""


@pytest.fixture(autouse=True)
def _ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ids that servers leave out are random; here both readers draw the same."""
    monkeypatch.setattr("rxllm.models.remote.call_ids.token_hex", lambda size: "0" * size)


def openai(*, strict: bool = False) -> OpenAIReader:
    return OpenAIReader(Target("openai", "gpt"), {"x-request-id": "7"}, strict)


def anthropic(*, strict: bool = False) -> AnthropicReader:
    return AnthropicReader(Target("anthropic", "claude"), {}, strict)


def without_time(chunks: list[Chunk]) -> list[Chunk]:
    return [
        msgspec.structs.replace(chunk, created=None) if isinstance(chunk, Start) else chunk
        for chunk in chunks
    ]


def described(error: RxLLMError | None) -> str:
    return "" if error is None else f"{type(error).__name__}: {error}"


def in_full(reader: Reader, reads: Iterable[bytes], limit: int) -> list[Read]:
    """Decode and read each event, without templates."""
    decoder, results = EventStreamDecoder(limit), list[Read]()
    for data in [*reads, b""]:
        chunks: list[Chunk] = []
        failure: RxLLMError | None = None
        try:
            for event in decoder.feed(data):
                reader.read(event, chunks)
                if reader.is_done:
                    break
            if not data and not reader.is_done:
                last = decoder.end()
                if last is not None and _is_whole(last):
                    reader.read(last, chunks)
            if not data and not reader.is_done:
                reader.end(chunks)
        except RxLLMError as error:
            failure = error
        results.append((without_time(chunks), described(failure)))
        if failure is not None or reader.is_done:
            break
    return results


def with_templates(reader: Reader, reads: Iterable[bytes], limit: int) -> list[Read]:
    body, results = BodyReader(reader, limit), list[Read]()
    for data in [*reads, b""]:
        chunks, failure = body.read(data)
        results.append((without_time(chunks), described(failure)))
        if failure is not None or reader.is_done:
            break
    return results


def openai_choice(**choice: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "finish_reason": None, **choice}]}


def openai_delta(**delta: Any) -> dict[str, Any]:
    return openai_choice(delta=delta)


def anthropic_delta(kind: str, **delta: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": {"type": kind, **delta}}


def in_utf_8(value: Any) -> bytes:
    return msgspec.json.encode(value)


def in_ascii(value: Any) -> bytes:
    return json.dumps(value).encode()


def with_spaces(value: Any) -> bytes:
    """Encode with white space around each string, including line ends."""
    return json.dumps(value).encode().replace(b'": "', b'" : \t"').replace(b'"}', b'" \n}')


FRAMES = (
    b"data: %b\n\n",
    b"data:%b\n\n",
    b"data: %b\r\n\r\n",
    b"data: %b\r\r",
    b"id: 7\ndata: %b\n\n",
    b"event: content_block_delta\ndata: %b\n\n",
    b"event: ping\r\nretry: 10\r\ndata: %b\r\n\r\n",
    b": comment\n\ndata: %b\n\n",
    b"data: %b\n: comment\n\n",
    b"\ndata: %b\n\n\n",
)
ENCODINGS = (in_utf_8, in_ascii, with_spaces)
PIECES = st.sampled_from(
    ["a", "Hello", " ", "", '"', "\\", "\n", "\r\n", "\u2028", "é", "中", "🦊", "probe", "gpt",
     "content", "text", "[DONE]", '"}}]}\n\ndata: ', "\x7f", "\0", '","', "null"]
)  # fmt: skip
TEXTS = st.lists(PIECES, max_size=3).map("".join)

OPENAI_FORMS: tuple[Callable[[str], dict[str, Any]], ...] = (
    lambda text: openai_delta(content=text),
    lambda text: openai_delta(content=text),
    lambda text: {"id": "c", "model": "gpt", **openai_delta(role="assistant", content=text)},
    lambda text: openai_delta(reasoning_content=text),
    lambda text: openai_delta(content=text, reasoning="hm"),
    lambda text: openai_delta(content=text, reasoning=text),
    lambda text: openai_delta(refusal=text),
    lambda text: openai_delta(content="said", refusal=text),
    lambda text: {**openai_delta(content=text), "usage": {"prompt_tokens": 3}},
    lambda text: {**openai_delta(content=text), "usage": {"prompt_tokens": len(text)}},
    lambda text: openai_choice(delta={"content": text}, finish_reason="length"),
    lambda text: openai_choice(delta={"content": "x"}, finish_reason=text),
    lambda text: openai_choice(delta={"content": text}, logprobs={"content": [{"logprob": -1}]}),
    lambda text: openai_choice(delta={"content": text}, logprobs={"content": []}),
    lambda text: openai_choice(index=1, delta={"content": text}),
    lambda text: {"choices": [{"delta": {"content": text}}, {"delta": {"content": "two"}}]},
    lambda text: openai_delta(
        tool_calls=[{"index": 0, "id": "c", "function": {"arguments": text}}]
    ),
    lambda text: {"choices": [], "model": text},
)
ANTHROPIC_FORMS: tuple[Callable[[str], dict[str, Any]], ...] = (
    lambda text: anthropic_delta("text_delta", text=text),
    lambda text: anthropic_delta("text_delta", text=text),
    lambda text: anthropic_delta("thinking_delta", thinking=text),
    lambda text: anthropic_delta("text_delta", text=text, thinking="hm"),
    lambda text: anthropic_delta("input_json_delta", partial_json=text),
    lambda text: {**anthropic_delta("text_delta", text=text), "usage": {"output_tokens": 1}},
    lambda text: {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "text", "text": text},
    },
    lambda text: {"type": "message_delta", "delta": {"stop_reason": "end_turn", "text": text}},
    lambda _: {"type": "message_start", "message": {"id": "m"}},
    lambda _: {"type": "content_block_stop", "index": 0},
    lambda _: {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use"}},
)
ODD_EVENTS = (
    b"",
    b"\n",
    b"\r",
    b": comment\n\n",
    b": comment\n",
    b"event: ping\n\n",
    b"id: 8\n\n",
    b"data\n\n",
    b"data:\n\n",
    b"\xef\xbb\xbf",
    b"data: {\n\n",
    b"data: [1]\n\n",
    b"data: [DONE]\n\n",
    b'data: {"error":{"message":"overloaded"}}\n\n',
    b'data: {"choices":\ndata: []}\n\n',
    b'data: {"type":"message_stop"}\n\n',
    b"data: " + b"x" * 300 + b"\n\n",
)
ODD_STRINGS = (
    b'"\\ud83e"',
    b'"\\udd8a"',
    b'"\\ud83e\\udd8a"',
    b'"\\u0000"',
    b'"\\"',
    b'"a',
    b'a"',
    b'"a","b"',
    b'"a" "b"',
    b'"\n"',
    b'"\r"',
    b'"a"\n',
    b'\n"a"',
    b'"a"\r',
    b'\r\n"a"',
    b'\t"a" ',
    b'"a"\x0b',
    b'"\xff"',
    b'"\xed\xa0\xbe"',
    b'"\xf0\x9f',
    b"null",
    b"7",
    b'["a"]',
    b'{"text":"a"}',
    b"",
)
"""Replacements for the string in which events differ."""


def odd_events(event: bytes, string: bytes) -> list[bytes]:
    """Return events that begin or end like a usual event, but differ from it."""
    head, _, tail = event.partition(b'"@"')
    end = tail[len(tail.rstrip(b"\r\n")) :]
    return [
        head + string + tail,
        string + tail,
        head + string + end,
        string + end,
        head + string + tail + head + string + tail,
        head + string + tail + string + tail,
        head + string + tail[:-1],
        end + head + string + tail,
        head + string + tail + end,
    ]


def runs(forms: tuple[Callable[[str], dict[str, Any]], ...]) -> st.SearchStrategy[list[bytes]]:
    """Events of one form, so that there is a template to find."""

    def framed(
        form: Callable[[str], dict[str, Any]],
        frame: bytes,
        encode: Callable[[Any], bytes],
        texts: list[str],
    ) -> list[bytes]:
        return [frame % encode(form(text)) for text in texts]

    frames = st.one_of(st.just(FRAMES[0]), st.sampled_from(FRAMES))
    encodings = st.one_of(st.just(in_utf_8), st.sampled_from(ENCODINGS))
    return st.builds(
        framed, st.sampled_from(forms), frames, encodings, st.lists(TEXTS, min_size=1, max_size=8)
    )


def bodies(forms: tuple[Callable[[str], dict[str, Any]], ...]) -> st.SearchStrategy[list[bytes]]:
    odd = st.sampled_from(ODD_EVENTS).map(lambda event: [event])
    usual = FRAMES[0] % in_utf_8(forms[0]("@"))
    broken = st.sampled_from(ODD_STRINGS).flatmap(
        lambda string: st.sampled_from(odd_events(usual, string)).map(lambda event: [event])
    )
    run = runs(forms)
    return st.lists(st.one_of(run, run, run, odd, broken), max_size=8).map(
        lambda parts: list(chain.from_iterable(parts))
    )


CUTS = st.lists(st.integers(0, 10_000), max_size=8)
GROUPS = st.lists(st.integers(1, 5), max_size=20)
LIMITS = st.sampled_from([1 << 20, 1 << 20, 1 << 20, 400, 150])


def cut(events: list[bytes], groups: list[int], cuts: list[int]) -> list[bytes]:
    """Split events into reads of the given sizes (then one event each), and again at `cuts`."""
    body = b"".join(events)
    ends, position, sizes = set[int](), 0, iter(groups)
    waiting = list(events)
    while waiting:
        size = next(sizes, 1)
        position += sum(map(len, waiting[:size]))
        waiting = waiting[size:]
        ends.add(position)
    ends |= {place % (len(body) + 1) for place in cuts}
    places = sorted(ends | {0, len(body)})
    return [body[a:b] for a, b in pairwise(places)]


@given(bodies(OPENAI_FORMS), GROUPS, CUTS, st.booleans(), LIMITS)
def test_any_openai_body_gives_the_chunks_of_the_reader(
    events: list[bytes], groups: list[int], cuts: list[int], strict: bool, limit: int
) -> None:
    reads = cut(events, groups, cuts)
    expected = in_full(openai(strict=strict), reads, limit)
    assert with_templates(openai(strict=strict), reads, limit) == expected


@given(bodies(ANTHROPIC_FORMS), GROUPS, CUTS, st.booleans(), LIMITS)
def test_any_anthropic_body_gives_the_chunks_of_the_reader(
    events: list[bytes], groups: list[int], cuts: list[int], strict: bool, limit: int
) -> None:
    reads = cut(events, groups, cuts)
    expected = in_full(anthropic(strict=strict), reads, limit)
    assert with_templates(anthropic(strict=strict), reads, limit) == expected


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("encode", ENCODINGS)
def test_an_event_that_differs_from_the_template_is_parsed_in_full(
    frame: bytes, encode: Callable[[Any], bytes]
) -> None:
    usual = [frame % encode(openai_delta(content=f"word {n}")) for n in range(4)]
    event = frame % encode(openai_delta(content="@"))
    broken = chain.from_iterable(odd_events(event, string) for string in ODD_STRINGS)
    for odd in [*ODD_EVENTS, *broken]:
        for reads in ([*usual, odd, *usual], [*usual, odd + usual[0], usual[1] + odd]):
            assert with_templates(openai(), reads, 1 << 20) == in_full(openai(), reads, 1 << 20)


class Calls:
    """Counts the calls of a function, including those of a reader's copies."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str = "read") -> None:
        self.count = 0
        function = getattr(owner, name)

        def counted(*arguments: Any) -> Any:
            self.count += 1
            return function(*arguments)

        monkeypatch.setattr(owner, name, counted)


def texts_of(results: list[Read], kind: type[Any] = Token) -> list[str]:
    return [chunk.text for chunks, _ in results for chunk in chunks if isinstance(chunk, kind)]


WORDS = [f"word {number} 中" for number in range(1_000)]


@pytest.mark.parametrize("size", [1, 16, 997])
def test_a_usual_answer_is_hardly_parsed(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(monkeypatch, OpenAIReader)
    first, *events = openai_events("", *WORDS)
    reads = [first, *(b"".join(events[n : n + size]) for n in range(0, len(events), size))]
    assert texts_of(with_templates(openai(), reads, 1 << 20)) == WORDS
    # The first event, two reads to find the template, two probes, the last read.
    assert calls.count <= 4 * size + 5


def test_an_anthropic_answer_is_hardly_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(monkeypatch, AnthropicReader)
    assert texts_of(with_templates(anthropic(), anthropic_events(*WORDS), 1 << 20)) == WORDS
    assert calls.count <= 12


def test_thinking_is_hardly_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(monkeypatch, OpenAIReader)
    thinking = [openai_event(**openai_delta(reasoning_content=word)) for word in WORDS]
    results = with_templates(openai(), [*thinking, *openai_events(*WORDS)], 1 << 20)
    assert texts_of(results, Reasoning) == [*WORDS, ""]  # the last one has the state
    assert texts_of(results) == WORDS
    assert calls.count <= 16


@pytest.mark.parametrize("frame", [FRAMES[1], FRAMES[2], FRAMES[4]], ids=["tight", "CRLF", "id"])
@pytest.mark.parametrize("encode", [in_utf_8, in_ascii])
def test_other_frames_and_escapes_are_hardly_parsed(
    frame: bytes, encode: Callable[[Any], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Calls(monkeypatch, OpenAIReader)
    events = [frame % encode(openai_delta(content=word)) for word in WORDS]
    assert texts_of(with_templates(openai(), events, 1 << 20)) == WORDS
    assert calls.count <= 6


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("size", [100, 1_000, 5_000])
def test_reads_that_end_inside_events_are_hardly_parsed(
    size: int, end: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["too long to be held " * 500, *WORDS]
    calls = Calls(monkeypatch, OpenAIReader)
    body = b"".join(openai_events(*words)).replace(b"\n\n", end)
    reads = [body[start : start + size] for start in range(0, len(body), size)]
    assert texts_of(with_templates(openai(), reads, 1 << 20)) == words
    assert calls.count <= 200


def test_a_template_is_found_again_after_a_different_event(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(monkeypatch, OpenAIReader)
    half = "data: " + json.dumps(openai_delta(content="\ud83e")) + "\n\n"
    events = [openai_event(**openai_delta(content=word)) for word in WORDS[:100]]
    reads = [*events, half.encode(), *events] * 10
    results = with_templates(openai(), reads, 1 << 20)
    assert "".join(texts_of(results)).count("\ufffd") == 10
    assert len(texts_of(results)) == 2_000
    assert calls.count <= 200


@pytest.mark.parametrize("size", [1, 16])
def test_the_search_for_a_template_stops_after_eight_attempts(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = Calls(monkeypatch, body_reader, "find_template")
    copies = Calls(monkeypatch, body_reader, "deepcopy")
    events = [
        openai_event(obfuscation="x" * (n % 7) + str(n), **openai_delta(content=word))
        for n, word in enumerate(WORDS)
    ]
    reads = [b"".join(events[n : n + size]) for n in range(0, len(events), size)]
    assert texts_of(with_templates(openai(), reads, 1 << 20)) == WORDS
    assert (tries.count, copies.count) == (8, 0)


class Shouting(Comparable):
    """A reader that changes the text."""

    is_done = False

    def read(self, event: ServerSentEvent, chunks: list[Chunk]) -> None:
        if text := json.loads(event.data):
            chunks.append(Token(text.upper()))

    def end(self, chunks: list[Chunk]) -> None:
        self.is_done = True


class Counting(Shouting):
    """A reader whose state changes with each event."""

    count = 0

    def read(self, event: ServerSentEvent, chunks: list[Chunk]) -> None:
        self.count += 1
        chunks.append(Token(json.loads(event.data)))

    def end(self, chunks: list[Chunk]) -> None:
        chunks.append(Token(f"{self.count} events"))
        self.is_done = True


class FillingIn(Shouting):
    """A reader that emits a chunk for an empty text."""

    def read(self, event: ServerSentEvent, chunks: list[Chunk]) -> None:
        chunks.append(Token(json.loads(event.data) or "nothing"))


class Incomparable(FillingIn):
    """A reader that doesn't equal its copies."""

    __eq__ = object.__eq__


class Failing(Shouting):
    """A reader that rejects everything but words in capital letters."""

    def read(self, event: ServerSentEvent, chunks: list[Chunk]) -> None:
        text = json.loads(event.data)
        if not text.isupper():
            raise RxLLMError(f"not in capitals: {text}")
        chunks.append(Token(text))


@pytest.mark.parametrize("make", [Shouting, Counting, FillingIn, Incomparable, Failing])
def test_a_reader_that_does_more_than_pass_text_on_parses_every_event(make: MakeReader) -> None:
    reads = [b'data: "%b"\n\n' % text for text in (b"A", b"B", b"C", b"D", b"", b"e", b"F")]
    assert with_templates(make(), reads, 1 << 20) == in_full(make(), reads, 1 << 20)


@pytest.mark.parametrize(("size", "decoded"), [(4096, 0), (4097, 4097)])
def test_only_a_short_partial_event_is_held(size: int, decoded: int) -> None:
    body = BodyReader(openai())
    body.read(b": comment\n\n" + b"x" * 4000)
    body.read(b"x" * (size - 4000))
    assert body._decoder._begun_size == decoded


def test_an_event_does_not_wait_for_the_next_one() -> None:
    event = openai_event(**openai_delta(content="x" * 5000))
    reads = [event[:-1], event[-1:] + b"data: ", event[6:]]
    assert with_templates(openai(), reads, 1 << 20) == in_full(openai(), reads, 1 << 20)
