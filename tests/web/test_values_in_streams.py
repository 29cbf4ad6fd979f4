"""What every wire of others makes of JSON values, and of calls that change their arguments."""

from __future__ import annotations

import json

import pytest

from rxllm.chunks import Chunk, End, Json, Start, Token, ToolCall
from rxllm.web.wires import WIRE_NAMES, wire_format
from tests.web.streams import Sent, frames_of
from tests.web.test_read_back import READERS, read_back

WIRES = [wire for wire in WIRE_NAMES if wire not in ("sse", "ndjson")]
VALUE = {"name": "Mia", "age": 3}
GROWING: list[Chunk] = [
    Start("r", "m"),
    Json({}),
    Json({"name": "Mi"}),
    Json(VALUE, complete=True),
    End("stop"),
]


def written(wire: str, chunks: list[Chunk]) -> str:
    writer = wire_format(wire).writer("s")
    return b"".join(map(writer, frames_of(Sent(chunks, None)))).decode()


@pytest.mark.parametrize("wire", WIRES)
def test_a_json_value_is_text_when_it_is_complete(wire: str) -> None:
    assert json.dumps('"age":3')[1:-1] in written(wire, GROWING)
    assert json.dumps('"Mi"}')[1:-1] not in written(wire, GROWING)


@pytest.mark.parametrize("wire", READERS)
def test_a_json_value_comes_back_as_text(wire: str) -> None:
    read = read_back(wire, Sent(GROWING, None), [])
    text = "".join([chunk.text for chunk in read if isinstance(chunk, Token)])
    assert json.loads(text) == VALUE


def test_interfaces_see_a_json_value_grow() -> None:
    parts = written("ui_messages", GROWING).split("\n\n")
    assert [part for part in parts if "data-json" in part][1] == (
        'data: {"type":"data-json","id":"json","data":{"name":"Mi"},"transient":true}'
    )
    assert written("ag_ui", GROWING).count('"name":"json"') == 3


@pytest.mark.parametrize("wire", [wire for wire in WIRES if wire != "ollama"])
def test_arguments_that_change_are_an_error_not_glued(wire: str) -> None:
    calls: list[Chunk] = [
        ToolCall("c", "look", '{"a": 1', 0),
        ToolCall("c", "look", '{"b": 2}', 0, complete=True),
    ]
    text = written(wire, [Start("r", "m"), *calls, End("tool_calls")])
    assert "the arguments of look restarted after part of them had been sent" in text
    assert '{\\"a\\": 1{' not in text
    assert text.count("restarted") >= 1
