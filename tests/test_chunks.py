"""Chunks, in memory and on the wire."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest

from rxllm.chunks import (
    ApprovalRequest,
    Batch,
    Chunk,
    End,
    ErrorInfo,
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
    decode,
    encode,
    has_output,
    is_bare_state,
    is_final_state,
    is_restart,
    state_key,
    text_of,
    tokens_of,
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
    (
        Reasoning("", ProviderState("anthropic", "claude", {"signature": "s"})),
        b'{"type":"reasoning","text":"","state":{"provider":"anthropic","model":"claude",'
        b'"data":{"signature":"s"}}}',
    ),
    (
        ToolResult("c", "f", {"a": 1}),
        b'{"type":"tool_result","id":"c","name":"f","output":{"a":1}}',
    ),
    (
        ToolResult("c", "f", error=ErrorInfo("ToolError", "no")),
        b'{"type":"tool_result","id":"c","name":"f","error":{"type":"ToolError","message":"no"}}',
    ),
    (
        ToolResult("c", "f", 1, preliminary=True),
        b'{"type":"tool_result","id":"c","name":"f","output":1,"preliminary":true}',
    ),
    (
        ApprovalRequest("c", "t", "it costs"),
        b'{"type":"approval_request","id":"c","token":"t","reason":"it costs"}',
    ),
    (Steering("shorter", "m"), b'{"type":"steering","text":"shorter","id":"m"}'),
    (End("tool_calls", more=True), b'{"type":"end","finishReason":"tool_calls","more":true}'),
    (End("limit"), b'{"type":"end","finishReason":"limit"}'),
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


def test_unknown_fields_are_ignored_and_other_json_is_rejected() -> None:
    assert decode(b'{"type":"token","text":"x","more":1}') == Token("x")
    for bad in (b'{"type":"tokens","text":"x"}', b'{"type":"end"}', b'{"type":"notice"}'):
        with pytest.raises(msgspec.ValidationError):
            decode(bad)
    with pytest.raises(msgspec.DecodeError):
        decode(b"{")


def test_tokens_that_say_the_same_are_equal_however_many_a_piece_is_made_of() -> None:
    one, two = Token("a b"), Token("a b", tokens=2)
    assert one == two
    assert not one != two  # noqa: SIM202 - an operator of its own
    assert hash(one) == hash(two)
    assert Token("a") != Token("b")
    assert Token("a") != Token("a", source="x")
    assert Token("a") != Reasoning("a")
    assert encode(two) == b'{"type":"token","text":"a b","tokens":2}'
    assert decode(encode(two)).tokens == 2  # type: ignore[union-attr]


def test_the_tokens_of_text_are_those_of_its_pieces() -> None:
    batch = Batch((Token("a b", tokens=2), Reasoning("c"), Token("d", tokens=0)), "a bd")
    assert [tokens_of(chunk) for chunk in (*batch.chunks, batch, End("stop"))] == [2, 1, 0, 3, 0]
    state = ProviderState("provider", "model", "x")
    assert tokens_of(Token("", state=state)) == tokens_of(Reasoning("", state)) == 0


def test_chunks_are_immutable() -> None:
    with pytest.raises(AttributeError):
        Token("x").text = "y"  # type: ignore[misc]


def test_text_of_returns_only_the_answers_text() -> None:
    assert text_of(Token("a")) == "a"
    assert text_of(Batch((Token("a"), Reasoning("b")), "a")) == "a"
    for chunk, _ in WIRE:
        if not isinstance(chunk, Token | Batch):
            assert text_of(chunk) == ""


def test_only_the_restart_notice_is_a_restart() -> None:
    assert is_restart(Notice("restart"))
    assert not is_restart(Notice("retry"))


def traits(name: str) -> set[str]:
    return {kind.__name__ for kind in get_args(Chunk) if getattr(kind, name)}


def test_traits_are_declared_on_the_classes() -> None:
    text = {"Token", "Reasoning", "Batch"}
    assert traits("is_content") == text | {"ToolCall", "Json", "Citation", "FileOutput"}
    run = {"ApprovalRequest", "Steering"}
    assert traits("is_structure") == {"Start", "Notice", "End"} | run
    assert traits("is_state") == {"ToolCall", "ToolResult", "Json", "Progress"}
    assert traits("is_droppable") == text | {"ToolCall", "ToolResult", "Json", "Progress"}
    lasting = {"Start", "Usage", "Progress", "Notice", "ToolResult"}
    assert traits("survives_restart") == lasting | run


def test_empty_text_is_not_output() -> None:
    output: list[Chunk] = [Token("a"), Reasoning("a"), ToolCall("i", "n"), Json(None)]
    assert all(map(has_output, output))
    assert has_output(Batch((Token(""), Reasoning("so")), ""))
    nothing: list[Chunk] = [Token(""), Reasoning(""), Batch((Token(""),), "")]
    others: list[Chunk] = [Start("r", "m"), Usage(), Notice("retry"), End("stop")]
    assert not any(map(has_output, [*nothing, *others, ToolResult("c", "f", 1)]))


@pytest.mark.parametrize("kind", [Token, Reasoning])
def test_a_state_is_output_even_without_a_text(kind: type[Token] | type[Reasoning]) -> None:
    state = ProviderState("anthropic", "claude", {"signature": "s"})
    assert has_output(kind("", state=state))
    assert is_bare_state(kind("", state=state))
    assert not is_bare_state(kind("a", state=state))
    assert not is_bare_state(kind(""))


def test_the_result_of_a_tool_is_final_unless_it_is_preliminary() -> None:
    assert is_final_state(ToolResult("c", "f", 1))
    assert not is_final_state(ToolResult("c", "f", 1, preliminary=True))
    assert state_key(ToolResult("c", "f")) == state_key(ToolResult("c", "f", preliminary=True))
    assert state_key(ToolResult("c", "f")) != state_key(ToolResult("d", "f"))


def test_usage_adds_up_and_unknown_fields_stay_unknown() -> None:
    total = Usage(1, 2, cost=0.0, source="a") + Usage(3, 4, cached_tokens=5, source="b")
    assert total == Usage(4, 6, cached_tokens=5, cost=0.0)


def test_a_sum_is_estimated_if_a_part_of_it_is() -> None:
    assert (Usage(1) + Usage(2, estimated=True)) == Usage(3, estimated=True)
    assert not (Usage(1) + Usage(2)).estimated


def test_no_field_of_a_usage_is_lost_in_a_sum() -> None:
    names = [name for name in Usage.__struct_fields__ if name not in ("source", "estimated")]
    ones: dict[str, Any] = dict.fromkeys(names, 1)
    twos: dict[str, Any] = dict.fromkeys(names, 2)
    assert Usage(**ones) + Usage(**ones) == Usage(**twos)


def test_states_are_identified_by_source_and_calls_also_by_position() -> None:
    assert state_key(Token("a")) is None
    assert state_key(Progress(1, 0.5)) != state_key(Progress(1, 0.5, source="a"))
    assert state_key(ToolCall("c", "f", index=1)) == state_key(ToolCall("c", "f", "{", index=1))
    assert state_key(ToolCall("c", "f")) != state_key(ToolCall("d", "f"))
    assert is_final_state(Json(1, complete=True))
    assert not is_final_state(ToolCall("c", "f"))
    assert not is_final_state(Progress(1, 0.5))


def test_usage_has_the_total_of_its_tokens() -> None:
    assert Usage(3, 5, cached_tokens=2, reasoning_tokens=4).total_tokens == 8
