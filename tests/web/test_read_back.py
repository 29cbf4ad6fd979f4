"""Streams that go out by the wires of others come in again by our own readers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given

from rxllm.chunks import Chunk
from rxllm.messages import ReasoningPart, TextPart
from rxllm.models.remote.anthropic import AnthropicReader
from rxllm.models.remote.body_reader import BodyReader
from rxllm.models.remote.history import Target
from rxllm.models.remote.ollama import OllamaReader
from rxllm.models.remote.responses import ResponsesReader
from rxllm.transcript import Transcript
from rxllm.web.wires import wire_format
from tests.web.streams import PLAIN, Sent, frames_of
from tests.web.test_lossless import CUTS, cut

TARGET = Target("openai_compatible", "model")
READERS: dict[str, Callable[[], Any]] = {
    "anthropic": lambda: AnthropicReader(TARGET, {}, True),
    "openai_responses": lambda: ResponsesReader(TARGET, {}, True),
    "ollama": lambda: OllamaReader(TARGET, {}, True),
}


def read_back(wire: str, sent: Sent, places: list[int]) -> list[Chunk]:
    """What our reader makes of the bytes, cut anywhere."""
    form = wire_format(wire)
    writer = form.writer("s")
    data = b"".join(map(writer, frames_of(sent)))
    reader = BodyReader(READERS[wire](), lines=wire == "ollama")
    read: list[Chunk] = []
    for part in [*cut(data, places), b""]:
        more, error = reader.read(part)
        assert error is None
        read += more
    return read


def calls_in(parts: Iterable[Any], *, with_ids: bool) -> list[Any]:
    called = [part for part in parts if hasattr(part, "arguments")]
    return [
        (call.id if with_ids else None, call.name, json.loads(call.arguments)) for call in called
    ]


def transcript_of(chunks: list[Chunk]) -> Transcript:
    transcript = Transcript()
    for chunk in chunks:
        transcript.add(chunk)
    return transcript


def in_order(chunks: list[Chunk]) -> list[tuple[type, str]]:
    """Text and reasoning as they follow each other."""
    order: list[tuple[type, str]] = []
    for part in transcript_of(chunks).parts:
        if isinstance(part, TextPart | ReasoningPart) and part.text:
            if order and order[-1][0] is type(part):
                order[-1] = type(part), order[-1][1] + part.text
            else:
                order.append((type(part), part.text))
    return order


@pytest.mark.parametrize("wire", READERS)
@given(sent=PLAIN, places=CUTS)
def test_a_stream_comes_back(wire: str, sent: Sent, places: list[int]) -> None:
    read = read_back(wire, sent, places)
    before, after = transcript_of(sent.chunks), transcript_of(read)
    assert in_order(read) == in_order(sent.chunks)
    with_ids = wire != "ollama"  # which has none
    expected = sorted(calls_in(before.parts, with_ids=with_ids), key=str)
    assert sorted(calls_in(after.parts, with_ids=with_ids), key=str) == expected
    assert before.end is not None
    assert after.end is not None
    reason = before.end.finish_reason
    is_unknown = wire == "ollama" and reason == "content_filter"
    assert after.end.finish_reason == ("stop" if is_unknown else reason)
    if before.usage is not None:
        assert after.usage is not None
        counts = (after.usage.input_tokens, after.usage.output_tokens)
        assert counts == (before.usage.input_tokens, before.usage.output_tokens)
