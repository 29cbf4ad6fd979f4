"""Chat completions in forms that no reference documents, and what they mean."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from rxllm.chunks import Citation, End, FileOutput, Notice, Reasoning, Token, ToolCall
from rxllm.errors import AbortedStreamError, ServerError, TruncatedStreamError
from rxllm.testing.provider_streams import openai_event

Hear = Callable[..., Awaitable[Any]]

DONE = b"data: [DONE]\n\n"


def data(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def choice(delta: Any = None, **fields: Any) -> bytes:
    return openai_event(choices=[{"index": 0, "delta": {} if delta is None else delta, **fields}])


HALF, STOP = choice({"content": "half"}), choice(finish_reason="stop")
ZERO = {"prompt_tokens": 0, "completion_tokens": 0}
SILENT = [{"index": 0, "delta": {}, "finish_reason": "stop"}]


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ({"type": "error", "message": "oom", "usage": ZERO}, "oom"),
        ({"errors": ["oom"], "usage": ZERO, "choices": []}, "oom"),
        ({"detail": "oom", "usage": {}}, "oom"),
        ({"errors": "oom", "choices": SILENT}, "oom"),
        ({"type": "error", "message": "oom", "choices": SILENT}, "oom"),
        ({"code": 500, "message": "oom", "choices": SILENT}, "oom"),
        ({"error": "server_error", "message": "CUDA oom"}, "CUDA oom"),
        ({"status": 500, "error": "Internal Server Error", "message": "CUDA oom"}, "CUDA oom"),
        ({"error": "500", "message": "CUDA oom"}, "CUDA oom"),
        ({"error": "Bad Request", "detail": "too long"}, "too long"),
        ({"choices": [{"index": 0, "delta": {}, "error": True}], "message": "oom"}, "oom"),
        ({"choices": [{"index": 0, "delta": {"error": {"message": "oom"}}}]}, "oom"),
        ({"choices": [{"index": 0, "message": {"error": "oom"}}]}, "oom"),
        ("error: out of memory", "out of memory"),
        ("Internal Server Error", "Internal Server Error"),
        ({"error_message": "oom", "error_code": 500}, "oom"),
        ({"error_code": 336003, "error_msg": "oom"}, "oom"),
        ({"title": "oom", "status": 500}, "oom"),
        ({"id": "a", "success": False, "message": "oom"}, "oom"),
        ({"Message": "oom"}, "oom"),
        ({"fault": {"faultstring": "oom"}}, "oom"),
        ({"internalServerException": {"message": "oom"}}, "oom"),
        ({"event": "error", "data": {"text": "oom"}}, "oom"),
    ],
)
async def test_an_error_in_any_form_has_its_words(hear: Hear, event: Any, words: str) -> None:
    heard = await hear([HALF, data(event), DONE])
    assert isinstance(heard.error, ServerError)
    assert words in str(heard.error)
    assert heard.text == "half"


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b'  {"error": {"message": "oom"}}\n\n', "oom"),
        (b'{"error": {"message": "oom"}}\n', "oom"),
        (b"Internal Server Error\n\n", "Internal Server Error"),
        (b"RuntimeError: CUDA oom\n\n", "CUDA oom"),
        (b"event: stream_error\ndata: oom\n\n", "oom"),
        (b'data: {"error": {"message": "oom", "x": NaN}}', "oom"),
    ],
)
async def test_an_error_without_data_is_one_too(hear: Hear, raw: bytes, words: str) -> None:
    is_last = not raw.endswith(b"\n")
    heard = await hear([HALF, raw, *([] if is_last else [DONE])])
    assert isinstance(heard.error, ServerError)
    assert words in str(heard.error)


@pytest.mark.parametrize(
    "raw",
    [
        b"data: CUDA out of memory\n\n",
        b"data: upstream request timeout\n\n",
        b"data: <html>502\n\n",
        b"<html>502</html>\n\n",
        b"no more capacity\n\n",
        b'data: {"object": "x", "failure": {"why": "no more capacity"}}\n\n',
    ],
)
async def test_what_cannot_be_read_is_in_the_message_of_an_unclean_end(
    hear: Hear, raw: bytes
) -> None:
    heard = await hear([HALF, raw, DONE])
    assert isinstance(heard.error, TruncatedStreamError)
    said = raw.removeprefix(b"data: ").strip().decode()
    assert said in str(heard.error)


@pytest.mark.parametrize(
    "event",
    [
        {"status": "in_progress", "message": "loading", "choices": []},
        {"status": "queued", "message": "position 3"},
        {"object": "chat.completion.chunk", "status": "running", "message": "m", "choices": []},
        {"code": "Success", "message": "fine"},
        {"event": "ping", "message": "x"},
        {"choices": [], "detail": [], "errors": {}},
        {"choices": [{"delta": {"role": "assistant", "content": ""}}], "detail": "cached"},
        {"choices": [{"delta": {}}], "error": {"code": 0, "message": "success"}},
        {"choices": [{"delta": {}}], "error": "null"},
    ],
)
async def test_what_only_looks_like_an_error_is_none(hear: Hear, event: Any) -> None:
    heard = await hear([HALF, data(event), STOP, DONE])
    assert (heard.error, heard.chunks[-1]) == (None, End("stop"))


@pytest.mark.parametrize("ping", [b"event: ping\ndata: ping\n\n", b"data: keep-alive\n\n"])
async def test_heartbeats_may_be_words(hear: Hear, ping: bytes) -> None:
    heard = await hear([HALF, *[ping] * 4, STOP, DONE])
    assert (heard.error, heard.of(Notice)) == (None, [])


@pytest.mark.parametrize(
    ("reason", "end"),
    [
        ("weird reason.", End("stop", native_reason="weird reason.")),
        (["length"], End("length")),
        ("MAX_LENGTH", End("length")),
        ("content-filter", End("content_filter")),
        ("guardrail_intervened", End("content_filter")),
        ("tool-calls", End("tool_calls")),
        ({"type": {"reason": "length"}}, End("length")),
    ],
)
async def test_finish_reasons(hear: Hear, reason: Any, end: End) -> None:
    assert (await hear([HALF, choice(finish_reason=reason), DONE])).chunks[-1] == end


@pytest.mark.parametrize("reason", ["abort", "network_error", "canceled", "system-error"])
async def test_reasons_that_give_up_are_errors(hear: Hear, reason: str) -> None:
    heard = await hear([HALF, choice(finish_reason=reason), DONE])
    assert isinstance(heard.error, AbortedStreamError)


def message(**fields: Any) -> bytes:
    return openai_event(choices=[{"index": 0, "message": fields, "finish_reason": "stop"}])


WHOLE = [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}]


async def test_a_message_adds_what_no_delta_has_said(hear: Hear) -> None:
    both = openai_event(choices=[{"index": 0, "delta": {}, "message": {"content": "whole"}}])
    assert (await hear([both, STOP, DONE])).text == "whole"
    heard = await hear([choice({"reasoning_content": "hm"}), message(content="Yes"), DONE])
    assert heard.text == "Yes"
    heard = await hear(
        [HALF, message(content="half", tool_calls=WHOLE, annotations=["https://a.example"]), DONE]
    )
    assert (heard.text, heard.of(ToolCall)[-1].complete) == ("half", True)
    assert heard.of(Citation) == [Citation("https://a.example")]


async def test_a_message_repeats_nothing(hear: Hear) -> None:
    said = [choice({"reasoning": "hm"}), HALF, choice({"tool_calls": [{"index": 0, **WHOLE[0]}]})]
    heard = await hear([*said, message(reasoning="hm", content="half", tool_calls=WHOLE), DONE])
    assert heard.text == "half"
    assert [each.text for each in heard.of(Reasoning) if each.text] == ["hm"]
    assert {call.id for call in heard.of(ToolCall)} == {"a"}
    grown = [message(reasoning="h", refusal="N"), message(reasoning="hm", refusal="No")]
    heard = await hear([*grown, DONE])
    assert [each.text for each in heard.of(Reasoning) if each.text] == ["h", "m"]
    assert heard.text == "No"


async def test_parts_of_a_content_stay_in_order(hear: Hear) -> None:
    parts = [
        {"type": "text", "text": "a"},
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "text", "text": "b", "annotations": [{"url": "https://a.example"}]},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    ]
    heard = await hear([choice({"content": parts}, finish_reason="stop"), DONE])
    said = [
        each for each in heard.chunks if getattr(each, "text", "") and type(each) is not Citation
    ]
    assert said == [Token("a"), Reasoning("hm"), Token("b")]
    assert heard.of(Citation) == [Citation("https://a.example")]
    assert heard.of(FileOutput) == [FileOutput("audio/wav", "AAAA")]


async def test_a_refusal_may_be_a_part(hear: Hear) -> None:
    parts = [{"type": "refusal", "refusal": "No."}]
    heard = await hear([choice({"content": parts}), STOP, DONE])
    assert (heard.text, heard.chunks[-1]) == ("No.", End("content_filter"))


CITED = [Citation("https://a.example")]
CITES = [{"url": "https://a.example"}]


@pytest.mark.parametrize(
    "event",
    [
        {"choices": [{"index": 0, "delta": {"citations": CITES}}]},
        {"choices": [{"index": 0, "delta": {}, "citations": CITES}]},
        {"choices": [{"index": 0, "delta": {"context": {"citations": CITES}}}]},
        {"choices": [], "sources": CITES},
        {"choices": [{"index": 0, "delta": {
            "annotations": [{"type": "url_citation", "url_citation": "https://a.example"}]}}]},
    ],
)  # fmt: skip
async def test_sources_stand_in_many_places(hear: Hear, event: Any) -> None:
    assert (await hear([HALF, data(event), STOP, DONE])).of(Citation) == CITED


@pytest.mark.parametrize(
    ("delta", "expected"),
    [
        (
            {"image": "https://a.example/b.png"},
            FileOutput("image/*", url="https://a.example/b.png"),
        ),
        (
            {"video": "https://a.example/b.mp4"},
            FileOutput("video/*", url="https://a.example/b.mp4"),
        ),
        ({"audio": "AAAA"}, FileOutput("audio/*", "AAAA")),
        ({"reasoning": {"summary": "hm"}}, Reasoning("hm")),
        ({"reasoning_text": "hm"}, Reasoning("hm")),
        ([{"content": "a"}, {"content": "b"}], Token("b")),
    ],
)
async def test_output_stands_in_many_fields(hear: Hear, delta: Any, expected: Any) -> None:
    assert expected in (await hear([choice(delta), STOP, DONE])).chunks


@pytest.mark.parametrize("kind", ["file_path", "something_new"])
async def test_an_unknown_annotation_is_a_notice(hear: Hear, kind: str) -> None:
    annotation = {"type": kind, kind: {"file_id": "f"}}
    heard = await hear([choice({"annotations": [annotation]}), STOP, DONE])
    assert [notice.kind for notice in heard.of(Notice)] == ["unsupported"]


async def test_reasoning_that_comes_only_as_details_is_text_before_the_answer(hear: Hear) -> None:
    detail = {"type": "reasoning.text", "text": "hm"}
    heard = await hear([choice({"reasoning_details": [detail]}), HALF, STOP, DONE])
    thought, state, token = heard.chunks[1:4]
    assert (thought, token) == (Reasoning("hm"), Token("half"))
    assert state.state.data == {"reasoning_details": [detail]}


async def test_encrypted_details_with_ids_of_their_own_stay_apart(hear: Hear) -> None:
    details = [
        {"type": "reasoning.encrypted", "data": name, "id": name, "index": 0} for name in "AB"
    ]
    heard = await hear([choice({"reasoning_details": [each]}) for each in details] + [STOP, DONE])
    (kept,) = [each.state for each in heard.of(Reasoning) if each.state]
    assert kept.data == {"reasoning_details": details}


def call(index: int | None, call_id: str | None, name: str | None, arguments: str) -> bytes:
    function = {"name": name, "arguments": arguments}
    return choice({"tool_calls": [{"index": index, "id": call_id, "function": function}]})


@pytest.mark.parametrize(
    ("deltas", "expected"),
    [
        ([(0, None, "f", ""), (0, "a", "f", '{"x": 1}')], [("f", '{"x": 1}')]),
        ([(0, "a", None, '{"x": 1}'), (0, "a", "f", None)], [("f", '{"x": 1}')]),
        ([(0, "a", None, '{"x"'), (0, "a", "f", ": 1}")], [("f", '{"x": 1}')]),
        ([(0, "a", "get_", ""), (0, "a", "bud", ""), (0, "a", "get", "{}")],
         [("get_budget", "{}")]),
        ([(0, "a", "f", '{"x"'), (0, "b", "g", '{"y"'), (0, "a", None, ": 1}"),
          (0, "b", None, ": 2}")], [("f", '{"x": 1}'), ("g", '{"y": 2}')]),
        ([(0, "x", "f", "{}"), (1, "x", "g", "{}")], [("f", "{}"), ("g", "{}")]),
    ],
)  # fmt: skip
async def test_which_call_a_delta_belongs_to(
    hear: Hear, deltas: list[Any], expected: list[Any]
) -> None:
    heard = await hear(
        [*(call(*each) for each in deltas), choice(finish_reason="tool_calls"), DONE]
    )
    whole = [each for each in heard.of(ToolCall) if each.complete]
    assert [(each.name, each.arguments) for each in whole] == expected
    assert len({each.id for each in heard.of(ToolCall)}) == len(expected)


async def test_arguments_cut_inside_of_a_character_are_joined(hear: Hear) -> None:
    first = b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{\\"x\\": \\"\\ud83e"}}]}}]}\n\n'  # noqa: E501
    second = b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\\udd8a\\"}"}}]}}]}\n\n'  # noqa: E501
    heard = await hear([first, second, choice(finish_reason="tool_calls"), DONE])
    assert heard.of(ToolCall)[-1] == ToolCall("a", "f", '{"x": "🦊"}', complete=True)


async def test_a_call_in_both_of_its_forms_is_one(hear: Hear) -> None:
    function = {"name": "f", "arguments": "{}"}
    both = {
        "function_call": function,
        "tool_calls": [{"index": 0, "id": "a", "function": function}],
    }
    heard = await hear([choice(both), choice(finish_reason="tool_calls"), DONE])
    assert {each.id for each in heard.of(ToolCall)} == {"a"}
    flat = {"tool_calls": [{"index": 0, "id": "a", "function": "f", "arguments": "{}"}]}
    heard = await hear([choice(flat), choice(finish_reason="tool_calls"), DONE])
    assert heard.of(ToolCall)[-1] == ToolCall("a", "f", "{}", complete=True)
