"""Chunks that go out by a wire and come in again are the same, however the bytes are cut."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby, pairwise
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from rxllm.chunks import (
    ApprovalRequest,
    Chunk,
    Citation,
    End,
    ErrorInfo,
    FileOutput,
    Json,
    Notice,
    Progress,
    ProviderState,
    Reasoning,
    Start,
    Steering,
    Token,
    ToolCall,
    ToolResult,
    Usage,
)
from rxllm.messages import ReasoningPart, TextPart
from rxllm.models.remote.body_reader import BodyReader
from rxllm.models.remote.history import Target
from rxllm.models.remote.openai import OpenAIReader
from rxllm.models.remote.sse import EventStreamDecoder
from rxllm.transcript import Transcript
from rxllm.web.encoding import to_json
from rxllm.web.openai_chat.states import call_state, details_of, parts_in
from rxllm.web.openai_chat.writer import ChatWriter
from rxllm.web.stream_messages import Complete, StreamChunk
from rxllm.web.stream_store import Frame

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=4,
)
STATES = st.builds(ProviderState, st.just("anthropic"), st.just("claude"), JSON)
PIECES = st.one_of(
    st.builds(Token, TEXTS),
    st.builds(Reasoning, TEXTS),
    st.builds(Token, st.just(""), state=STATES),
    st.builds(Reasoning, st.just(""), STATES),
    st.builds(Token, TEXTS, state=STATES),
    st.builds(Reasoning, TEXTS, STATES),
)
COUNTS = st.integers(0, 9)
USAGES = st.builds(
    Usage, COUNTS, COUNTS, cached_tokens=st.none() | COUNTS, reasoning_tokens=st.none() | COUNTS,
    cost=st.none() | st.just(0.5), cache_write_tokens=st.none() | COUNTS,
    estimated=st.booleans(),
)  # fmt: skip


@st.composite
def calls(draw: st.DrawFn) -> list[Chunk]:
    """Complete calls, each of which has grown in pieces."""
    grown: list[Chunk] = []
    for index in range(draw(st.integers(0, 3))):
        arguments = msgspec.json.encode({"at": draw(TEXTS), "day": index}).decode()
        state = draw(st.none() | STATES)
        call = ToolCall(f"call_{index}", draw(st.sampled_from(["look", "go"])), "", index)
        for end in sorted(draw(st.sets(st.integers(0, len(arguments)), max_size=3))):
            grown.append(msgspec.structs.replace(call, arguments=arguments[:end]))
        grown.append(msgspec.structs.replace(call, arguments=arguments, complete=True, state=state))
    return grown


@st.composite
def answers(draw: st.DrawFn) -> list[Chunk]:
    """An answer that chat completions can express."""
    called = draw(calls())
    reasons = ["tool_calls"] if called else ["stop", "length", "content_filter", "limit"]
    reason: Any = draw(st.sampled_from(reasons))
    return [*draw(st.lists(PIECES, max_size=8)), *called, draw(USAGES), End(reason)]


def cut(data: bytes, places: Iterable[int]) -> Iterator[bytes]:
    borders = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return (data[start:end] for start, end in pairwise(borders))


CUTS = st.lists(st.integers(0, 100_000), max_size=12)


def folded(chunks: Iterable[Chunk]) -> list[Any]:
    """Text and reasoning in one piece between states; calls, usage and end as they are at last."""
    newest: dict[int, ToolCall] = {}
    said: list[Chunk] = []
    for chunk in chunks:
        if isinstance(chunk, ToolCall):
            newest[chunk.index] = chunk
        elif isinstance(chunk, Token | Reasoning) and chunk.text and chunk.state is not None:
            same = type(chunk)
            said += [same(chunk.text), same("", state=chunk.state)]
        elif not isinstance(chunk, Start):
            said.append(chunk)
    joined: list[Any] = []
    for kind, run in groupby(said, plain_kind):
        pieces = list(run)
        texts = [chunk.text for chunk in pieces if isinstance(chunk, Token | Reasoning)]
        joined += pieces if kind is None else [kind("".join(texts))]
    return [joined, list(newest.values())]


def plain_kind(chunk: Chunk) -> type[Token] | type[Reasoning] | None:
    is_plain = isinstance(chunk, Token | Reasoning) and chunk.state is None
    return type(chunk) if is_plain else None  # type: ignore[return-value]


def through_chat(chunks: list[Chunk], places: list[int]) -> list[Chunk]:
    events = ChatWriter("chatcmpl-1", model="claude", include_usage=True)
    usage = next(chunk for chunk in chunks if isinstance(chunk, Usage))
    end = next(chunk for chunk in chunks if isinstance(chunk, End))
    messages: list[Any] = [
        StreamChunk(id="a", position=at, timestamp=0.0, chunk=chunk)
        for at, chunk in enumerate(chunks, 1)
    ]
    complete = Complete(
        id="a", tokens=1, seconds=1.0, finish_reason=end.finish_reason, usage=usage, position=99
    )
    data = b"".join([events(Frame(0, message)) for message in [*messages, complete]])
    reader = BodyReader(OpenAIReader(Target("openai_compatible", "claude"), {}, strict=True))
    read: list[Chunk] = []
    for part in cut(data, places):
        more, error = reader.read(part)
        assert error is None
        read += more
    return [unwrapped(chunk) for chunk in read]


def unwrapped(chunk: Chunk) -> Chunk:
    """The chunk with the state as the server of rxllm gets it back."""
    if not isinstance(chunk, Token | Reasoning | ToolCall) or chunk.state is None:
        return chunk
    data = chunk.state.data
    if "reasoning_details" in data:
        (part, *_) = parts_in("", data["reasoning_details"])
        assert isinstance(part, TextPart | ReasoningPart)
        return msgspec.structs.replace(chunk, state=part.state)
    if "extra_content" in data:
        return msgspec.structs.replace(chunk, state=call_state(data["extra_content"]))
    return chunk


def without_fields(chunks: list[Chunk]) -> list[Chunk]:
    """Without the states that only say in which field the reasoning came."""
    return [
        chunk
        for chunk in chunks
        if type(chunk) is not Reasoning or not chunk.state or chunk.state.provider == "anthropic"
    ]


@given(answers(), CUTS)
def test_chat_completions(chunks: list[Chunk], places: list[int]) -> None:
    read = without_fields(through_chat(chunks, places))
    assert folded(read) == folded(chunks)


@given(answers())
def test_what_a_model_wants_back_comes_back_in_its_place(chunks: list[Chunk]) -> None:
    """By a stream and by a whole answer, as an SDK would put it together."""
    said = Transcript()
    for chunk in chunks:
        said.add(chunk)
    kept = [
        part
        for part in said.parts
        if isinstance(part, TextPart) or (isinstance(part, ReasoningPart) and part.state)
    ]
    events = ChatWriter("chatcmpl-1", model="claude")
    data = b"".join([events._of_chunk(chunk) for chunk in chunks]).split(b"\n\n")
    deltas = [msgspec.json.decode(each[6:])["choices"][0]["delta"] for each in data if each]
    text = "".join([delta.get("content", "") for delta in deltas])
    streamed = [detail for delta in deltas for detail in delta.get("reasoning_details", ())]
    assert merged(parts_in(text, streamed)) == merged(kept)
    assert merged(parts_in(said.text, details_of(said.parts))) == merged(kept)


def merged(parts: Iterable[Any]) -> list[Any]:
    """The parts, with plain texts that follow each other in one."""
    joined: list[Any] = []
    for part in parts:
        last = joined[-1] if joined else None
        if isinstance(last, TextPart) and last.state is None and isinstance(part, TextPart):
            joined[-1] = TextPart(last.text + part.text, part.state)
        else:
            joined.append(part)
    return joined


OTHERS = st.one_of(
    st.builds(Json, JSON, complete=st.booleans()),
    st.builds(ToolResult, TEXTS, TEXTS, JSON, st.none() | st.builds(ErrorInfo, TEXTS, TEXTS),
              preliminary=st.booleans()),
    st.builds(ApprovalRequest, TEXTS, TEXTS, st.none() | TEXTS),
    st.builds(Steering, TEXTS, st.none() | TEXTS),
    st.builds(Citation, st.none() | TEXTS, st.none() | TEXTS, start=st.none() | COUNTS),
    st.builds(FileOutput, TEXTS, st.none() | TEXTS),
    st.builds(Progress, COUNTS, st.just(0.5)),
    st.builds(Notice, st.sampled_from(["retry", "restart"]), attempt=COUNTS),
    st.builds(Start, TEXTS, TEXTS),
    st.builds(End, st.sampled_from(["stop", "limit"]), more=st.booleans()),
)  # fmt: skip


def as_events(frames: list[Frame]) -> bytes:
    return b"".join([b"data: %b\n\n" % to_json(frame.message) for frame in frames])


def as_lines(frames: list[Frame]) -> bytes:
    return b"".join([to_json(frame.message) + b"\n" for frame in frames])


def read_events(parts: Iterable[bytes]) -> list[str]:
    decoder = EventStreamDecoder()
    return [event.data for part in parts for event in decoder.feed(part)]


def read_lines(parts: Iterable[bytes]) -> list[bytes]:
    return b"".join(parts).splitlines()


def check_own(
    chunks: list[Chunk],
    places: list[int],
    write: Callable[[list[Frame]], bytes],
    read: Callable[[Iterable[bytes]], Iterable[Any]],
) -> None:
    frames = [
        Frame(at, StreamChunk(id="a", position=at, timestamp=0.5, chunk=chunk))
        for at, chunk in enumerate(chunks, 1)
    ]
    decode = msgspec.json.Decoder(StreamChunk).decode
    assert [decode(each).chunk for each in read(cut(write(frames), places))] == chunks


@given(st.lists(PIECES | OTHERS | USAGES, max_size=8), CUTS)
def test_our_own_events(chunks: list[Chunk], places: list[int]) -> None:
    check_own(chunks, places, as_events, read_events)


@given(st.lists(PIECES | OTHERS | USAGES, max_size=8), CUTS)
def test_our_own_lines(chunks: list[Chunk], places: list[int]) -> None:
    check_own(chunks, places, as_lines, read_lines)
