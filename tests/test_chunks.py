"""Chunks: what flows, and how it looks on the wire."""

from __future__ import annotations

import msgspec
import pytest

from rxllm.chunks import (
    Batch,
    Chunk,
    End,
    ErrorInfo,
    Json,
    Notice,
    Progress,
    Reasoning,
    Start,
    Token,
    ToolCall,
    Usage,
    decode,
    encode,
    is_content,
    is_restart,
    text_of,
)

WIRE: list[tuple[Chunk, bytes]] = [
    (Start("r1", "m"), b'{"type":"start","requestId":"r1","model":"m"}'),
    (Token(" hé"), '{"type":"token","text":" hé"}'.encode()),
    (Token("x", 0.5, source="a"), b'{"type":"token","text":"x","confidence":0.5,"source":"a"}'),
    (Reasoning("so"), b'{"type":"reasoning","text":"so"}'),
    (
        ToolCall("c1", "look", '{"q"', index=1),
        b'{"type":"tool_call","id":"c1","name":"look","arguments":"{\\"q\\"","index":1}',
    ),
    (Json({"a": 1}, complete=True), b'{"type":"json","value":{"a":1},"complete":true}'),
    (
        Batch((Token("a"), Token("b")), "ab"),
        b'{"type":"batch","chunks":[{"type":"token","text":"a"},{"type":"token","text":"b"}],'
        b'"text":"ab"}',
    ),
    (Usage(3, 4, cost=0.0), b'{"type":"usage","inputTokens":3,"outputTokens":4,"cost":0.0}'),
    (
        Progress(10, 0.5, 20.0, max_tokens=40, percentage=25.0, remaining=1.5),
        b'{"type":"progress","tokens":10,"elapsed":0.5,"tokensPerSecond":20.0,"maxTokens":40,'
        b'"percentage":25.0,"remaining":1.5}',
    ),
    (
        Notice("retry", attempt=2, delay=1.0, error=ErrorInfo("ServerError", "503")),
        b'{"type":"notice","kind":"retry","attempt":2,"delay":1.0,'
        b'"error":{"type":"ServerError","message":"503"}}',
    ),
    (End("stop"), b'{"type":"end","finishReason":"stop"}'),
    (
        End("stop", stop_sequence="\n"),
        b'{"type":"end","finishReason":"stop","stopSequence":"\\n"}',
    ),
]


@pytest.mark.parametrize(("chunk", "wire"), WIRE, ids=[type(chunk).__name__ for chunk, _ in WIRE])
def test_each_chunk_has_one_form_on_the_wire(chunk: Chunk, wire: bytes) -> None:
    assert encode(chunk) == wire
    assert decode(wire) == chunk


def test_zero_is_a_value_and_stays_on_the_wire() -> None:
    assert b'"confidence":0.0' in encode(Token("x", confidence=0.0))


def test_unknown_fields_are_ignored_and_what_is_no_chunk_is_refused() -> None:
    assert decode(b'{"type":"token","text":"x","more":1}') == Token("x")
    for bad in (b'{"type":"tokens","text":"x"}', b'{"type":"end"}', b'{"type":"notice"}'):
        with pytest.raises(msgspec.ValidationError):
            decode(bad)
    with pytest.raises(msgspec.DecodeError):
        decode(b"{")


def test_chunks_can_not_be_changed() -> None:
    with pytest.raises(AttributeError):
        Token("x").text = "y"  # type: ignore[misc]


def test_text_is_the_answers_text_alone() -> None:
    assert text_of(Token("a")) == "a"
    assert text_of(Batch((Token("a"), Reasoning("b")), "a")) == "a"
    for chunk, _ in WIRE:
        if not isinstance(chunk, Token | Batch):
            assert text_of(chunk) == ""


def test_a_start_is_no_content_and_only_one_notice_is_a_restart() -> None:
    assert not is_content(Start("r", "m"))
    assert not is_content(End("stop"))
    assert all(map(is_content, (Token(""), Reasoning(""), ToolCall("i", "n"), Json(1))))
    assert is_restart(Notice("restart"))
    assert not is_restart(Notice("retry"))
