"""The rules of each wire: what a right stream may not lose, repeat or change."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rxllm.doctor.dialects import DIALECTS, Ask
from rxllm.doctor.findings import Sheet
from rxllm.doctor.framing import cut_events, cut_lines
from rxllm.doctor.reading import Reading
from rxllm.doctor.streams import judge_response, judge_stream
from tests.server.serving import scripted, serving


async def blocks_of(wire: str) -> list[bytes]:
    """A right stream of our own server, cut into its events."""
    dialect = DIALECTS[wire]
    async with serving(scripted()) as client:
        body = dialect.body(Ask("tiny", "Hi", 100))
        async with client.post(dialect.path, json=body) as response:
            whole = await response.read()
    end = b"\n" if dialect.is_lines else b"\n\n"
    return [block + end for block in whole.removesuffix(end).split(end)]


def judged(wire: str, blocks: list[bytes]) -> dict[str, tuple[str, ...]]:
    """What is wrong with a stream, by aspect."""
    findings = sheet_of(wire, blocks).findings()
    return {each.aspect: each.details for each in findings if each.verdict == "wrong"}


def sheet_of(wire: str, blocks: list[bytes]) -> Sheet:
    dialect, sheet = DIALECTS[wire], Sheet(wire)
    reading = Reading(
        status=200, headers={"content-type": dialect.media_types[0]}, body=b"".join(blocks)
    )
    assert judge_response(reading, dialect, sheet)
    judge_stream(reading, dialect, sheet)
    return sheet


def index(blocks: list[bytes], word: str) -> int:
    return next(place for place, block in enumerate(blocks) if re.search(word.encode(), block))


# A word in the event that is left out, and what is wrong then.
LEFT_OUT = [
    ("sse", '"complete"', "end"),
    ("sse", '"end"', "order"),
    ("ndjson", '"complete"', "end"),
    ("openai_chat", '"finish_reason":"stop"', "end"),
    ("openai_chat", r"\[DONE\]", "end"),
    ("openai_responses", "response.created", "order"),
    ("openai_responses", "response.output_item.added", "order"),
    ("openai_responses", "event: response.completed", "end"),
    ("anthropic", "message_start", "order"),
    ("anthropic", "content_block_start", "order"),
    ("anthropic", "content_block_stop", "order"),
    ("anthropic", "message_delta", "end"),
    ("anthropic", "message_stop", "end"),
    ("ui_messages", "text-start", "ids"),
    ("ui_messages", '"finish"', "end"),
    ("ag_ui", "RUN_STARTED", "order"),
    ("ag_ui", "TEXT_MESSAGE_START", "ids"),
    ("ag_ui", "TEXT_MESSAGE_END", "order"),
    ("ag_ui", "STEP_STARTED", "order"),
    ("ag_ui", "STEP_FINISHED", "order"),
    ("ag_ui", "RUN_FINISHED", "end"),
    ("ollama", '"done":true', "end"),
]


@pytest.mark.parametrize(("wire", "word", "aspect"), LEFT_OUT)
async def test_an_event_that_is_missing_is_found(wire: str, word: str, aspect: str) -> None:
    blocks = await blocks_of(wire)
    assert judged(wire, blocks) == {}
    del blocks[index(blocks, word)]
    assert aspect in judged(wire, blocks)


REPEATED = [
    ("sse", '"token"', "ids"),
    ("ndjson", '"token"', "ids"),
    ("openai_chat", r"\[DONE\]", "end"),
    ("openai_responses", "output_text.delta", "ids"),
    ("openai_responses", "output_item.added", "order"),
    ("anthropic", "message_start", "order"),
    ("anthropic", "content_block_start", "order"),
    ("anthropic", "message_stop", "order"),
    ("ui_messages", "text-end", "ids"),
    ("ag_ui", "TEXT_MESSAGE_START", "ids"),
    ("ag_ui", "RUN_FINISHED", "order"),
    ("ollama", '"done":true', "order"),
]


@pytest.mark.parametrize(("wire", "word", "aspect"), REPEATED)
async def test_an_event_that_comes_twice_is_found(wire: str, word: str, aspect: str) -> None:
    blocks = await blocks_of(wire)
    at = index(blocks, word)
    assert aspect in judged(wire, [*blocks[: at + 1], blocks[at], *blocks[at + 1 :]])


CHANGED: list[tuple[str, str, Callable[[bytes], bytes], str]] = [
    ("sse", "id: 3", lambda block: block.replace(b"id: 3", b"id: 9"), "ids"),
    ("sse", "id: 3", lambda block: block.replace(b"event: chunk", b"event: odd"), "framing"),
    ("openai_chat", "upon", lambda block: block.replace(b'"choices"', b'"choises"'), "order"),
    ("openai_chat", "upon", lambda block: block.replace(b'"delta"', b'"message"'), "order"),
    ("openai_chat", '"stop"', lambda block: block.replace(b'"stop"', b'"eos"'), "end"),
    ("anthropic", "upon", lambda block: block.partition(b"\n")[2], "framing"),
    ("anthropic", "upon", lambda block: block.replace(b'"index":0', b'"index":1'), "order"),
    ("anthropic", "upon", lambda block: block.replace(b"text_delta", b"thinking_delta"), "order"),
    ("anthropic", "end_turn", lambda block: block.replace(b"end_turn", b"done"), "end"),
    ("ui_messages", "upon", lambda block: block.replace(b'"id":"', b'"id":"x'), "ids"),
    ("ag_ui", "upon", lambda block: block.replace(b'"messageId":"', b'"messageId":"x'), "ids"),
    ("ollama", "upon", lambda block: block.replace(b'"message"', b'"massage"'), "order"),
    ("ollama", "upon", lambda block: block.replace(b'"created_at"', b'"created"'), "order"),
]


@pytest.mark.parametrize(("wire", "word", "change", "aspect"), CHANGED)
async def test_an_event_with_another_field_is_found(
    wire: str, word: str, change: Callable[[bytes], bytes], aspect: str
) -> None:
    blocks = await blocks_of(wire)
    at = index(blocks, word)
    blocks[at] = change(blocks[at])
    assert list(judged(wire, blocks)) == [aspect]


@pytest.mark.parametrize("wire", DIALECTS)
async def test_bytes_that_no_client_can_cut_are_found(wire: str) -> None:
    blocks = await blocks_of(wire)
    assert "framing" in judged(wire, [*blocks[:-1], blocks[-1].rstrip(b"\n")])
    assert "framing" in judged(wire, [blocks[0], b"\xff", *blocks[1:]])
    text = b"busy\n" if DIALECTS[wire].is_lines else b"data: busy\n\n"
    assert "framing" in judged(wire, [blocks[0], text, *blocks[1:]])
    three = [text.replace(b"busy", b"{")] * 3
    assert "framing" in judged(wire, [blocks[0], *three, *blocks[1:]])
    assert judged(wire, [blocks[0], *three[:1], *blocks[1:]]) == {}


ERRORS: dict[str, dict[str, Any]] = {
    "sse": {"type": "error", "code": "x", "message": "busy", "position": 99},
    "ndjson": {"type": "error", "code": "x", "message": "busy", "position": 99},
    "openai_chat": {"error": {"message": "busy"}},
    "openai_responses": {"type": "error", "message": "busy", "sequence_number": 10**9},
    "anthropic": {"type": "error", "error": {"type": "api_error", "message": "busy"}},
    "ui_messages": {"type": "error", "errorText": "busy"},
    "ag_ui": {"type": "RUN_ERROR", "message": "busy"},
    "ollama": {"error": "busy"},
}


@pytest.mark.parametrize("wire", DIALECTS)
async def test_an_error_in_the_stream_is_reported_with_its_words(wire: str) -> None:
    blocks = await blocks_of(wire)
    value = json.dumps(ERRORS[wire]).encode()
    error = value + b"\n" if DIALECTS[wire].is_lines else b"data: " + value + b"\n\n"
    assert "busy" in judged(wire, [*blocks[:2], error])["response"][0]


CALLS = [
    ("openai_chat", {"index": 0, "function": {"name": "f", "arguments": "{}"}}, "without id"),
    ("openai_chat", {"id": "a", "function": {"name": "f", "arguments": "{}"}}, "without index"),
    ("openai_chat", {"index": 2, "id": "a", "function": {"name": "f"}}, "follows 0 others"),
    ("openai_chat", {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{"}}, "JSON"),
    ("ollama", {"function": {"name": "f", "arguments": "{}"}}, "no object"),
    ("ollama", {"function": {"arguments": {}}}, "without function and name"),
]


@pytest.mark.parametrize(("wire", "call", "words"), CALLS)
async def test_broken_tool_calls_are_found(wire: str, call: dict[str, Any], words: str) -> None:
    blocks = await blocks_of(wire)
    at = index(blocks, "upon")
    changed = json.loads(blocks[at].removeprefix(b"data: "))
    message = changed["message"] if wire == "ollama" else changed["choices"][0]["delta"]
    message["tool_calls"] = [call]
    value = json.dumps(changed).encode()
    added = value + b"\n" if wire == "ollama" else b"data: " + value + b"\n\n"
    assert words in judged(wire, [*blocks[:at], added, *blocks[at:]])["tools"][0]


# Left out or changed, these are odd: the clients read on.
ODD = [
    ("openai_responses", "response.output_item.done", "order"),
    ("ui_messages", '"start"', "order"),
    ("ui_messages", "text-end", "order"),
    ("ui_messages", r"\[DONE\]", "end"),
]


@pytest.mark.parametrize(("wire", "word", "aspect"), ODD)
async def test_what_clients_do_without_is_odd(wire: str, word: str, aspect: str) -> None:
    blocks = await blocks_of(wire)
    del blocks[index(blocks, word)]
    sheet = sheet_of(wire, blocks)
    assert [each.aspect for each in sheet.findings() if each.verdict == "odd"] == [aspect]
    assert not sheet.is_wrong


def as_event(value: dict[str, Any]) -> bytes:
    name = b"event: " + value["type"].encode() + b"\n" if "type" in value else b""
    return name + b"data: " + json.dumps(value).encode() + b"\n\n"


# Events of real servers that their clients read.
LEGAL = [
    ("openai_chat", [{"id": "", "object": "", "choices": [], "prompt_filter_results": []}]),
    ("openai_chat", [{"choices": [{"index": 0, "delta": {"refusal": "no"}}]}]),
    ("openai_chat", [{"choices": [{"index": 0, "delta": {}, "finish_reason": ""}]}]),
    ("openai_chat", [{"choices": [], "obfuscation": "abc", "usage": None}]),
    (
        "anthropic",
        [
            {
                "type": "content_block_start",
                "index": 0,
                "content_block": {"type": "server_tool_use", "id": "a", "name": "web_search"},
            },
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "input_json_delta", "partial_json": "{"},
            },
            {"type": "content_block_stop", "index": 0},
        ],
    ),
    ("ui_messages", [{"type": "data-weather", "data": 1}, {"type": "message-metadata"}]),
    ("ui_messages", [{"type": "reasoning-file", "url": "data:", "mediaType": "image/png"}]),
    ("ag_ui", [{"type": "STATE_SNAPSHOT", "snapshot": {}}]),
]


@pytest.mark.parametrize(("wire", "added"), LEGAL)
async def test_what_real_servers_send_is_not_wrong(wire: str, added: list[dict[str, Any]]) -> None:
    blocks = await blocks_of(wire)
    if wire == "anthropic":
        blocks = [each.replace(b'"index":0', b'"index":1') for each in blocks]
    assert judged(wire, [blocks[0], *map(as_event, added), *blocks[1:]]) == {}


VALUES: list[Any] = [None, True, 5, "x", [], [0], {}, {"a": []}, "[" * 1000]


@pytest.mark.parametrize("wire", DIALECTS)
async def test_fields_of_any_type_are_judged(wire: str) -> None:
    """Each field of a right stream in turn, with each value."""
    blocks = await blocks_of(wire)
    end = b"\n" if DIALECTS[wire].is_lines else b"\n\n"
    for place, block in enumerate(blocks):
        head, _, data = block.rpartition(b"data: ")
        if b"[DONE]" in data:
            continue
        for value in VALUES:
            for changed in with_each_field(json.loads(data), value):
                prefix = head + b"data: " if head or not DIALECTS[wire].is_lines else b""
                odd = prefix + json.dumps(changed).encode() + end
                sheet_of(wire, [*blocks[:place], odd, *blocks[place + 1 :]])


def with_each_field(given: Any, value: Any) -> Iterator[Any]:
    items = given.items() if isinstance(given, dict) else enumerate(given)
    for name, inner in items:
        changed = given.copy()
        changed[name] = value
        yield changed
        if isinstance(inner, dict | list):
            for each in with_each_field(inner, value):
                yield {**given, name: each} if isinstance(given, dict) else [each]


def test_comments_are_no_events_and_an_empty_line_behind_them_is_odd() -> None:
    sheet = Sheet("sse")
    assert [event.data for event in cut_events(b": ping\ndata: a\n\n", sheet)] == ["a"]
    assert [(each.aspect, each.verdict) for each in sheet.findings()] == [
        ("framing", "ok"),
        ("heartbeats", "ok"),
    ]
    cut_events(b": ping\n\ndata: a\n\n", sheet)
    assert sheet.findings()[1].verdict == "odd"


def test_all_line_ends_and_fields_are_read() -> None:
    body = b"\xef\xbb\xbfid: 1\r\nevent: e\r\ndata:a\rdata: b\n\ndata\n\n"
    got = cut_events(body, Sheet("sse"))
    assert [(each.data, each.name, each.id) for each in got] == [
        ("a\nb", "e", "1"),
        ("", None, None),
    ]
    assert [each.data for each in cut_lines(b"{}\r\n \n[]\n", Sheet("ndjson"))] == ["{}\r", "[]"]


def test_the_worst_verdict_counts_and_keeps_its_reasons() -> None:
    sheet = Sheet("sse")
    sheet.odd("order", "odd")
    sheet.wrong("order", "first")
    sheet.ok("order")
    for detail in ("first", "second", "third", "fourth", "x" * 1000):
        sheet.wrong("order", detail)
    (finding,) = sheet.findings()
    assert finding.verdict == "wrong"
    assert finding.details == ("first", "second", "third")
