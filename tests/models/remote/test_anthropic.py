"""Responses in the form of Anthropic's Messages API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from json import dumps
from typing import Any

import pytest

import rxllm
from rxllm.chunks import (
    Citation,
    End,
    FileOutput,
    Notice,
    ProviderState,
    Reasoning,
    Start,
    Token,
    ToolCall,
    Usage,
)
from rxllm.errors import (
    EmptyStreamError,
    MalformedStreamError,
    OverloadedError,
    RateLimitError,
    ServerError,
    TruncatedStreamError,
)
from rxllm.models.remote.providers import PROVIDERS
from rxllm.testing.fault_server import FaultServer, Reply
from rxllm.testing.provider_streams import anthropic_event, anthropic_events

Hear = Callable[..., Awaitable[Any]]
ModelOn = Callable[..., rxllm.Model]
FIRST, *_ = anthropic_events("a")


def block(index: int, kind: str, *deltas: dict[str, Any], **fields: Any) -> list[bytes]:
    return [
        anthropic_event("content_block_start", index=index, content_block={"type": kind, **fields}),
        *(anthropic_event("content_block_delta", index=index, delta=delta) for delta in deltas),
        anthropic_event("content_block_stop", index=index),
    ]


def text(content: str) -> dict[str, Any]:
    return {"type": "text_delta", "text": content}


def json(partial: str) -> dict[str, Any]:
    return {"type": "input_json_delta", "partial_json": partial}


def last(reason: str | None = "end_turn", **usage: Any) -> list[bytes]:
    delta = {"stop_reason": reason, "stop_sequence": None}
    return [
        anthropic_event("message_delta", delta=delta, usage=usage),
        anthropic_event("message_stop"),
    ]


@pytest.fixture
def hear_claude(hear: Hear) -> Hear:
    def hear_it(body: Any, **options: Any) -> Awaitable[Any]:
        return hear(body, "anthropic", **options)

    return hear_it


async def test_a_stream_is_start_text_usage_end(hear_claude: Hear) -> None:
    heard = await hear_claude(anthropic_events("Hello", " world"))
    assert heard.error is None
    assert heard.chunks[0] == Start(
        "msg_1", "anthropic/claude", "anthropic", heard.chunks[0].created
    )
    assert heard.chunks[1:] == [Token("Hello"), Token(" world"), Usage(5, 2), End("stop")]


@pytest.mark.parametrize("pieces", [1, 7, "random"])
async def test_the_chunks_do_not_depend_on_how_the_bytes_are_split(
    hear_claude: Hear, pieces: Any
) -> None:
    events = anthropic_events("Hé", "llo 🦊", "中文")
    cut, whole = await hear_claude(events, pieces=pieces), await hear_claude(events)
    assert cut.chunks[1:] == whole.chunks[1:]


@pytest.mark.parametrize(
    ("stop_reason", "reason"),
    [
        ("end_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
    ],
)
async def test_stop_reasons(hear_claude: Hear, stop_reason: str, reason: str) -> None:
    heard = await hear_claude(anthropic_events("a", stop_reason=stop_reason))
    assert heard.chunks[-1] == End(reason)  # type: ignore[arg-type]


@pytest.mark.parametrize("reason", ["pause_turn", "something_new"])
async def test_an_unknown_stop_reason_is_kept(hear_claude: Hear, reason: str) -> None:
    heard = await hear_claude(anthropic_events("a", stop_reason=reason))
    assert heard.chunks[-1] == End("stop", native_reason=reason)


async def test_the_stop_sequence_is_reported(hear_claude: Hear) -> None:
    delta = {"stop_reason": "stop_sequence", "stop_sequence": "###"}
    events = [anthropic_event("message_delta", delta=delta), anthropic_event("message_stop")]
    heard = await hear_claude([FIRST, *block(0, "text", text("a")), *events])
    assert heard.chunks[-1] == End("stop", "###")


async def test_thinking_is_reasoning(hear_claude: Hear) -> None:
    thinking = [{"type": "thinking_delta", "thinking": "hm"}, {"type": "signature_delta"}]
    blocks = [*block(0, "thinking", *thinking), *block(1, "text", text("Yes"))]
    heard = await hear_claude([FIRST, *blocks, *last()])
    assert heard.chunks[1:3] == [Reasoning("hm"), Token("Yes")]


async def test_tool_calls_grow_and_are_complete_at_the_end_of_their_block(
    hear_claude: Hear,
) -> None:
    heard = await hear_claude(
        [
            FIRST,
            *block(0, "text", text("I'll add")),
            *block(1, "tool_use", json(""), json('{"x":'), json("1}"), id="a", name="add"),
            *block(2, "tool_use", id="b", name="now"),
            *last("tool_use"),
        ]
    )
    assert heard.of(ToolCall) == [
        ToolCall("a", "add", ""),
        ToolCall("a", "add", '{"x":'),
        ToolCall("a", "add", '{"x":1}'),
        ToolCall("a", "add", '{"x":1}', 0, complete=True),
        ToolCall("b", "now", "", 1),
        ToolCall("b", "now", "{}", 1, complete=True),
    ]
    assert heard.chunks[-1] == End("tool_calls")


async def test_tools_called_by_the_provider_itself_are_ignored(hear_claude: Hear) -> None:
    search = block(0, "server_tool_use", json('{"query":"x"}'), id="s", name="web_search")
    heard = await hear_claude([FIRST, *search, *block(1, "text", text("a")), *last()])
    assert (heard.of(ToolCall), heard.text) == ([], "a")


async def test_usage_is_merged_and_input_tokens_include_cached_ones(hear_claude: Hear) -> None:
    usage = {"input_tokens": 3, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 100}
    first = anthropic_event("message_start", message={"id": "m", "usage": usage})
    details = {"thinking_tokens": 4}
    end = last(output_tokens=7, output_tokens_details=details)
    heard = await hear_claude([first, *block(0, "text", text("a")), *end])
    assert heard.of(Usage) == [
        Usage(123, 7, cached_tokens=100, reasoning_tokens=4, cache_write_tokens=20)
    ]


async def test_pings_and_unknown_types_are_ignored(hear_claude: Hear) -> None:
    events = anthropic_events("a")
    new = [anthropic_event("ping"), anthropic_event("something_new", delta=None)]
    assert (await hear_claude([*events[:4], *new, *events[4:]])).text == "a"


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("overloaded_error", OverloadedError),
        ("rate_limit_error", RateLimitError),
        ("api_error", ServerError),
        ("something_new", ServerError),
    ],
)
async def test_an_error_in_the_stream_is_an_error(
    hear_claude: Hear, kind: str, expected: type[Exception]
) -> None:
    error = anthropic_event("error", error={"type": kind, "message": "Overloaded"})
    heard = await hear_claude([*anthropic_events("a", stop_reason=None), error])
    assert heard.text == "a"
    assert type(heard.error) is expected
    assert "Overloaded" in str(heard.error)


async def test_a_stream_without_message_stop_is_truncated(hear_claude: Hear) -> None:
    heard = await hear_claude(anthropic_events("a")[:-1])
    assert heard.text == "a"
    assert isinstance(heard.error, TruncatedStreamError)


@pytest.mark.parametrize("body", [[], [anthropic_event("ping")], [anthropic_event("message_stop")]])
async def test_a_stream_without_content_is_empty(hear_claude: Hear, body: list[bytes]) -> None:
    assert type((await hear_claude(body)).error) is EmptyStreamError


async def test_malformed_events_are_skipped_and_the_third_in_a_row_is_an_error(
    hear_claude: Hear,
) -> None:
    first, *rest = anthropic_events("a")
    broken = b"event: ping\ndata: {\n\n"
    heard = await hear_claude([first, broken, broken, *rest])
    assert (heard.text, len(heard.of(Notice)), heard.error) == ("a", 2, None)
    heard = await hear_claude([first, broken, broken, broken, *rest])
    assert isinstance(heard.error, MalformedStreamError)


async def test_a_surrogate_is_joined_with_its_pair_in_the_next_delta(hear_claude: Hear) -> None:
    halves = [
        b'data: {"type":"content_block_delta","delta":{"text":"' + half + b'"}}\n\n'
        for half in (b"a\\ud83e", b"\\udd8a")
    ]
    heard = await hear_claude([FIRST, *halves, *last()])
    assert heard.text == "a🦊"


def halves(kind: str, field: str, text: str) -> list[bytes]:
    """Return the events of a block that ends in the middle of a surrogate pair."""
    delta = rf'"type":"content_block_delta","index":0,"delta":{{"{field}":"{text}\ud83e"}}'
    start, stop = block(0, kind, id="a", name="add")
    return [start, b"data: {" + delta.encode() + b"}\n\n", stop]


async def test_a_lone_surrogate_is_replaced_at_the_end_of_its_block(hear_claude: Hear) -> None:
    blocks = [
        *halves("thinking", "thinking", "hm"),
        *halves("text", "text", "a"),
        *block(0, "text", text("b")),
        *halves("tool_use", "partial_json", "1"),
        *block(1, "tool_use", json("2"), id="c", name="add"),
    ]
    heard = await hear_claude([FIRST, *blocks, *last("tool_use")])
    content = [chunk for chunk in heard.chunks if isinstance(chunk, Token | Reasoning)]
    border = Token("", state=ProviderState("anthropic", "claude", {"type": "text"}))
    assert content == [
        Reasoning("hm"), Reasoning("\ufffd"), Token("a"), Token("\ufffd"), border, Token("b"),
    ]  # fmt: skip
    last_of = {call.index: call for call in heard.of(ToolCall)}
    assert [call.arguments for call in last_of.values()] == ["1\ufffd", "2"]


async def test_a_block_start_without_a_block_is_ignored(hear_claude: Hear) -> None:
    first, *rest = anthropic_events("a")
    empty = anthropic_event("content_block_start", index=0)
    heard = await hear_claude([first, empty, *rest])
    assert (heard.text, heard.error) == ("a", None)


async def test_the_request_has_the_key_the_version_and_the_body(
    listen: Hear, model_on: ModelOn
) -> None:
    async with FaultServer(Reply(anthropic_events("a"))) as server:
        model = model_on(server, "anthropic", api_key="k1")
        messages = [rxllm.Message("system", "Be kind"), rxllm.Message("user", "Hi")]
        await listen(model, messages, temperature=0, max_tokens=5)
    (request,) = server.requests
    assert request.path == "/v1/messages"
    assert request.headers["x-api-key"] == "k1"
    assert request.headers["anthropic-version"] == "2023-06-01"
    assert "authorization" not in request.headers
    assert request.json() == {
        "model": "claude",
        "max_tokens": 5,
        "messages": [{"role": "user", "content": "Hi"}],
        "system": [{"type": "text", "text": "Be kind"}],
        "temperature": 0,
        "stream": True,
    }


def test_without_a_key_there_is_no_key_header() -> None:
    assert PROVIDERS["anthropic"].headers_with(None) == {"anthropic-version": "2023-06-01"}


async def test_a_tool_input_that_is_not_json_is_not_complete(hear_claude: Hear) -> None:
    """With `eager_input_streaming` the provider doesn't check it."""
    delta = {"type": "input_json_delta", "partial_json": '{"a": '}
    use = {"type": "tool_use", "id": "c", "name": "add", "input": {}}
    events = [
        FIRST,
        anthropic_event("content_block_start", index=0, content_block=use),
        anthropic_event("content_block_delta", index=0, delta=delta),
        anthropic_event("content_block_stop", index=0),
        *anthropic_events("x")[-2:],
    ]
    assert [call.complete for call in (await hear_claude(events)).of(ToolCall)] == [False] * 3


def use(index: int = 0, *deltas: dict[str, Any], **fields: Any) -> list[bytes]:
    return block(index, "tool_use", *deltas, **{"id": f"c{index}", "name": "add", **fields})


def ends(heard: Any) -> list[tuple[str, bool]]:
    """Return the arguments of each call at its end, and whether it is complete."""
    calls = {call.index: call for call in heard.of(ToolCall)}
    return [(call.arguments, call.complete) for call in calls.values()]


def said(heard: Any) -> list[Any]:
    """Return the chunks but for the start, the usage and the end."""
    return [each for each in heard.chunks if not isinstance(each, Start | Usage | End)]


def raw(delta: str, index: int = 0) -> bytes:
    fields = f'"type":"content_block_delta","index":{index},"delta":{delta}'
    return b"data: {" + fields.encode() + b"}\n\n"


@pytest.mark.parametrize(
    ("pieces", "arguments"),
    [
        ([r"{\"x\": \"\ud83e", r"\udd8a\"}"], '{"x": "🦊"}'),
        ([r"{\"x\": \"\ud83e", r"\"}"], '{"x": "\ufffd"}'),
        ([r"{\"x\": \"", r"\udd8a\"}"], '{"x": "\ufffd"}'),
    ],
)
async def test_a_surrogate_of_arguments_is_joined_with_its_pair(
    hear_claude: Hear, pieces: list[str], arguments: str
) -> None:
    start, stop = use()
    deltas = [raw(f'{{"partial_json":"{piece}"}}') for piece in pieces]
    assert ends(await hear_claude([FIRST, start, *deltas, stop, *last()])) == [(arguments, True)]


async def test_surrogates_of_two_calls_are_apart(hear_claude: Hear) -> None:
    (first, _), (second, _) = use(0), use(1)
    deltas = [
        raw(r'{"partial_json":"[\"\ud83e"}'), raw(r'{"partial_json":"[\"\ud83d"}', 1),
        raw(r'{"partial_json":"\udd8a\"]"}'), raw(r'{"partial_json":"\ude00\"]"}', 1),
    ]  # fmt: skip
    heard = await hear_claude([FIRST, first, second, *deltas, *last()])
    assert ends(heard) == [('["🦊"]', True), ('["😀"]', True)]


@pytest.mark.parametrize(
    ("delta", "arguments"),
    [
        ({"partial_json": {"a": 1}}, '{"a": 1}'),
        ({"partial_json": [1]}, "[1]"),
        ({"partial_json": 1}, "1"),
        ({"input": {"a": 1}}, '{"a": 1}'),
        ({"input": '{"a":1}'}, '{"a":1}'),
    ],
)
async def test_arguments_may_be_json_and_not_text(
    hear_claude: Hear, delta: Any, arguments: str
) -> None:
    delta = {"type": "input_json_delta", **delta}
    heard = await hear_claude([FIRST, *use(0, delta), *last()])
    assert (ends(heard), heard.of(Notice)) == ([(arguments, True)], [])


async def test_arguments_that_come_whole_replace_those_before_and_are_replaced(
    hear_claude: Hear,
) -> None:
    whole = {"partial_json": {"a": 1}}
    heard = await hear_claude([FIRST, *use(0, json("{"), whole, json("["), json("2]")), *last()])
    grown = [call.arguments for call in heard.of(ToolCall)]
    assert grown == ["", "{", '{"a": 1}', "[", "[2]", "[2]"]


@pytest.mark.parametrize("index", [{}, {"index": None}, {"index": 7}, {"index": "x"}])
async def test_a_delta_of_no_known_index_belongs_to_the_open_call(
    hear_claude: Hear, index: Any
) -> None:
    start, stop = use(1)
    delta = anthropic_event("content_block_delta", delta=json('{"a":1}'), **index)
    heard = await hear_claude([FIRST, *block(0, "text", text("a")), start, delta, stop, *last()])
    assert ends(heard) == [('{"a":1}', True)]


@pytest.mark.parametrize("index", [{}, {"index": 7}, {"index": "x"}])
async def test_of_two_open_calls_it_belongs_to_the_newest(hear_claude: Hear, index: Any) -> None:
    (first, _), (second, _) = use(0), use(1)
    delta = anthropic_event("content_block_delta", delta=json("[]"), **index)
    heard = await hear_claude([FIRST, first, second, delta, *last("max_tokens")])
    assert ends(heard) == [("", False), ("[]", True)]


async def test_blocks_without_an_index_are_blocks_of_their_own(hear_claude: Hear) -> None:
    def of(kind: str, **fields: Any) -> bytes:
        return anthropic_event(f"content_block_{kind}", **fields)

    events = [
        event
        for piece in ("[1]", "[2]")
        for event in (
            of("start", content_block={"type": "tool_use", "id": "c", "name": "add"}),
            of("delta", delta=json(piece)),
        )
    ]
    assert ends(await hear_claude([FIRST, *events, *last()])) == [("[1]", True), ("[2]", True)]
    stop = of("stop")
    heard = await hear_claude([FIRST, *events[:2], stop, *events[2:], stop, *last("max_tokens")])
    assert ends(heard) == [("[1]", True), ("[2]", True)]


async def test_the_input_of_a_server_tool_is_not_that_of_an_open_call(hear_claude: Hear) -> None:
    start, _ = use()
    search = block(1, "server_tool_use", json('{"q":1}'), id="s", name="web_search")

    def more(piece: str, **index: Any) -> bytes:
        return anthropic_event("content_block_delta", delta=json(piece), **index)

    late = [more('{"q":1}'), more('{"q":1}', index=7), more("[", index=0), search[2]]
    heard = await hear_claude([FIRST, start, *search[:2], *late, more("]", index=7), *last()])
    assert ends(heard) == [("[]", True)]


@pytest.mark.parametrize("reason", ["max_tokens", "refusal"])
@pytest.mark.parametrize("is_closed", [True, False])
@pytest.mark.parametrize("given", [{}, "", " {} ", None])
async def test_a_call_that_is_cut_off_before_its_arguments_is_not_complete(
    hear_claude: Hear, reason: str, is_closed: bool, given: Any
) -> None:
    events = use(input=given)[: 1 + is_closed]
    assert ends(await hear_claude([FIRST, *events, *last(reason)])) == [("", False)]


@pytest.mark.parametrize("reason", ["tool_use", "end_turn", None])
async def test_a_call_may_have_no_arguments(hear_claude: Hear, reason: Any) -> None:
    for events in (use(input={}), use(input={})[:1], use(0, json(" "), input=None)):
        assert ends(await hear_claude([FIRST, *events, *last(reason)])) == [("{}", True)]


async def test_a_call_that_another_block_follows_was_not_cut_off(hear_claude: Hear) -> None:
    heard = await hear_claude([FIRST, *use(0), *use(1), *last("max_tokens")])
    assert ends(heard) == [("{}", True), ("", False)]
    assert [call.index for call in heard.of(ToolCall)] == [0, 0, 1, 1]
    heard = await hear_claude([FIRST, *use(0), *block(1, "text", text("a")), *last("max_tokens")])
    assert (ends(heard), heard.text) == ([("{}", True)], "a")


async def test_a_call_left_open_is_closed_by_the_next_block_of_its_index(hear_claude: Hear) -> None:
    (first, delta, _), second = use(0, json("[1]")), use(0, json("[2]"), id="d")
    heard = await hear_claude([FIRST, first, delta, *second, *last("max_tokens")])
    assert ends(heard) == [("[1]", True), ("[2]", True)]


async def test_a_start_that_is_repeated_is_one_call(hear_claude: Hear) -> None:
    (first, stop), (again, _) = use(), use(input={"a": 1})
    heard = await hear_claude([FIRST, first, first, stop, *last()])
    assert ends(heard) == [("{}", True)]
    heard = await hear_claude([FIRST, first, again, stop, *last()])
    assert ends(heard) == [('{"a": 1}', True)]


async def test_the_ids_of_calls_are_distinct(hear_claude: Hear) -> None:
    given = ["a", "a", "b", "", None, "null", "None"]
    calls = [event for at, each in enumerate(given) for event in use(at, id=each)]
    heard = await hear_claude([FIRST, *calls, *last("tool_use")])
    ids = [call.id for call in heard.of(ToolCall) if call.complete]
    assert (ids[0], ids[2], len(set(ids))) == ("a", "b", len(given))
    assert all(each.startswith("toolu_") for each in (ids[1], *ids[3:]))


@pytest.mark.parametrize("name", ["", None])
async def test_a_call_without_a_name_is_not_complete(hear_claude: Hear, name: Any) -> None:
    heard = await hear_claude([FIRST, *use(0, json("{}"), name=name), *last("tool_use")])
    assert ends(heard) == [("{}", False)]


async def test_the_input_of_a_tool_may_be_json_as_text(hear_claude: Hear) -> None:
    said = [json('{"a"'), json(":1}")]
    assert ends(await hear_claude([FIRST, *use(input='{"a":1}'), *last()])) == [('{"a":1}', True)]
    for begun in ('{"a":1}', " {} ", "null"):
        heard = await hear_claude([FIRST, *use(0, *said, input=begun), *last()])
        assert ends(heard) == [('{"a":1}', True)]
    heard = await hear_claude([FIRST, *use(0, said[1], input='{"a"'), *last()])
    assert ends(heard) == [('{"a":1}', True)]


async def test_inputs_that_come_whole_are_those_of_their_blocks(hear_claude: Hear) -> None:
    (first, *_), (second, *_) = use(0, input={"a": 1}), use(1, input={"b": 1})
    deltas = [
        anthropic_event("content_block_delta", index=index, delta=json(piece))
        for index, piece in enumerate(('{"a":', '{"b":'))
    ]
    more = [anthropic_event("content_block_delta", index=at, delta=json("2}")) for at in (0, 1)]
    heard = await hear_claude([FIRST, first, second, *deltas, *more, *last()])
    assert ends(heard) == [('{"a":2}', True), ('{"b":2}', True)]


async def test_a_lone_surrogate_in_an_input_is_replaced(hear_claude: Hear) -> None:
    content_block = r'{"type":"tool_use","id":"c","name":"f","input":{"x":"\ud83e"}}'
    fields = f'"type":"content_block_start","index":0,"content_block":{content_block}'
    start = b"data: {" + fields.encode() + b"}\n\n"
    assert ends(await hear_claude([FIRST, start, *last()])) == [('{"x": "\ufffd"}', True)]


DONE = b"data: [DONE]\n\n"


async def test_done_after_a_stop_reason_is_the_end(hear_claude: Hear) -> None:
    heard = await hear_claude([*anthropic_events("a")[:-1], DONE, b"data: {\n\n"])
    assert (heard.error, heard.of(Notice)) == (None, [])
    assert heard.chunks[-3:] == [Token("a"), Usage(5, 1), End("stop")]


async def test_done_without_a_stop_reason_is_not_a_clean_end(hear_claude: Hear) -> None:
    heard = await hear_claude([*anthropic_events("a", stop_reason=None), DONE])
    assert isinstance(heard.error, TruncatedStreamError)
    assert (heard.text, heard.of(End)) == ("a", [])
    assert type((await hear_claude([DONE])).error) is EmptyStreamError


@pytest.mark.parametrize("at", [0, 1])
async def test_an_answer_without_message_start_has_a_start(hear_claude: Hear, at: int) -> None:
    events = [*block(0, "text", text("a")), *last()][at:]
    heard = await hear_claude(events, headers={"request-id": "r1"})
    start = Start("r1", "anthropic/claude", "anthropic", heard.chunks[0].created)
    assert heard.chunks == [start, Token("a"), Usage(), End("stop")]


async def test_a_block_that_comes_whole_has_a_start_before_it(hear_claude: Hear) -> None:
    heard = await hear_claude([*block(0, "text", text="a"), *last()])
    assert [type(each) for each in heard.chunks] == [Start, Token, Usage, End]


async def test_a_second_message_start_is_ignored(hear_claude: Hear) -> None:
    first, *rest = anthropic_events("a")
    usage = {"input_tokens": 9}
    late = anthropic_event("message_start", message={"content": [text("b")], "usage": usage})
    for events in ([first, late, *rest], [first, *rest[:-1], late, rest[-1]]):
        heard = await hear_claude(events)
        assert (heard.text, heard.of(Usage)) == ("a", [Usage(9, 1)])
        assert [start.request_id for start in heard.of(Start)] == ["msg_1"]


async def test_the_content_of_message_start_is_read(hear_claude: Hear) -> None:
    content = [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "text", "text": "a", "citations": [{"url": "https://a.example"}]},
        "b",
        {"type": "tool_use", "id": "c", "name": "add", "input": {"a": 1}},
    ]
    first = anthropic_event("message_start", message={"id": "m", "content": content})
    heard = await hear_claude([first, *block(0, "text", text("c")), *last("tool_use")])
    data = {"type": "thinking", "signature": "s"}
    border = Token("", state=ProviderState("anthropic", "claude", {"type": "text"}))
    call = ToolCall("c", "add", '{"a": 1}')
    assert said(heard) == [
        Reasoning("hm"), Reasoning("", ProviderState("anthropic", "claude", data)),
        Token("a"), Citation("https://a.example"), border, Token("b"),
        call, ToolCall("c", "add", '{"a": 1}', complete=True), Token("c"),
    ]  # fmt: skip


@pytest.mark.parametrize(("broken", "error"), [(b"data: {\n\n", TruncatedStreamError), (b"", None)])
async def test_without_a_stop_reason_an_unreadable_event_leaves_no_clean_end(
    hear_claude: Hear, broken: bytes, error: Any
) -> None:
    events = [*anthropic_events("a", stop_reason=None), broken, anthropic_event("message_stop")]
    heard = await hear_claude(events)
    assert heard.text == "a"
    assert isinstance(heard.error, error) if error else heard.chunks[-1] == End("stop")


async def test_a_delta_of_an_unknown_type_is_a_notice(hear_claude: Hear) -> None:
    new = {"type": "poem_delta", "poem": "a"}
    known: list[dict[str, Any]] = [{"type": "text_delta"}, {"type": "signature_delta"}, {}]
    blocks = [
        *block(0, "text", new, *known, new, {"type": "new_text", "text": "b"}),
        *block(1, "text", new),
        *block(2, "poem", new),
    ]
    heard = await hear_claude([FIRST, *blocks, *last()])
    words = [notice.error.message for notice in heard.of(Notice) if notice.kind == "unsupported"]
    assert [each.split("'")[1] for each in words] == ["poem_delta", "poem_delta", "poem"]
    assert heard.text == "b"


async def test_thinking_and_text_in_one_delta_are_both_read(hear_claude: Hear) -> None:
    heard = await hear_claude([FIRST, *block(0, "text", {"thinking": "hm", "text": "a"}), *last()])
    assert said(heard) == [Reasoning("hm"), Token("a")]


@pytest.mark.parametrize(
    ("kind", "chunk"),
    [
        ("text", Token("[]")),
        ("thinking", Reasoning("[]")),
        ("tool_use", ToolCall("c", "add", "[]", complete=True)),
    ],
)
async def test_a_delta_may_be_a_text_alone(hear_claude: Hear, kind: str, chunk: Any) -> None:
    start, stop = block(0, kind, id="c", name="add")
    heard = await hear_claude([FIRST, start, raw('"[]"'), stop, *last()])
    assert said(heard)[-1] == chunk


async def test_a_surrogate_in_a_delta_that_is_a_text_alone_is_joined(hear_claude: Hear) -> None:
    heard = await hear_claude([FIRST, raw(r'"\ud83e"'), raw(r'"\udd8a"'), *last()])
    assert heard.text == "🦊"


async def test_a_list_of_events_is_read(hear_claude: Hear) -> None:
    deltas = [{"type": "content_block_delta", "index": 0, "delta": text(each)} for each in "ab"]
    events: list[Any] = [{"type": "ping"}, *deltas, None, 3, "x", []]
    end = {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}}
    stop = {"type": "message_stop"}
    for groups in ([[*events, end, stop, *deltas]], [events, [end], [stop]]):
        lines = [f"data:  {dumps(each)}\n\n".encode() for each in groups]
        heard = await hear_claude([FIRST, *lines])
        assert (heard.error, heard.text, heard.chunks[-1]) == (None, "ab", End("length"))


async def test_an_error_in_a_list_of_events_comes_after_what_is_before_it(
    hear_claude: Hear,
) -> None:
    fault = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}
    events = [{"type": "content_block_delta", "delta": text("a")}, fault]
    heard = await hear_claude([FIRST, f"data: {dumps(events)}\n\n".encode()])
    assert (heard.text, type(heard.error)) == ("a", OverloadedError)


async def test_a_list_that_is_not_json_is_malformed(hear_claude: Hear) -> None:
    first, *rest = anthropic_events("a")
    heard = await hear_claude([first, b"data: [{]\n\n", *rest])
    assert (heard.text, [each.kind for each in heard.of(Notice)]) == ("a", ["malformed"])


@pytest.mark.parametrize(
    ("kind", "source", "file"),
    [
        (
            "image",
            {"type": "base64", "media_type": "image/gif", "data": "R0"},
            FileOutput("image/gif", "R0"),
        ),
        (
            "image",
            {"type": "url", "url": "https://a.example/b.png"},
            FileOutput("image/*", url="https://a.example/b.png"),
        ),
        (
            "document",
            {"type": "base64", "media_type": "application/pdf", "data": "JV"},
            FileOutput("application/pdf", "JV"),
        ),
        (
            "document",
            {"type": "url", "url": "https://a.example/b"},
            FileOutput("application/octet-stream", url="https://a.example/b"),
        ),
        ("document", {"type": "text", "media_type": "text/plain", "data": "a"}, None),
        ("image", None, None),
    ],
)
async def test_an_image_is_a_file(hear_claude: Hear, kind: str, source: Any, file: Any) -> None:
    heard = await hear_claude([FIRST, *block(0, kind, source=source), *last()])
    assert heard.of(FileOutput) == ([file] if file else [])
    assert [each.kind for each in heard.of(Notice)] == ([] if file else ["unsupported"])


A, B = Citation("https://a.example"), Citation("http://b.example", "B", "so it is")


@pytest.mark.parametrize(
    ("citation", "expected"),
    [
        ([{"url": A.url}, {"url": B.url, "document_title": "B", "cited_text": "so it is"}], [A, B]),
        ({"type": "search_result_location", "source": A.url}, [A]),
        ({"source": A.url, "url": B.url, "title": "B", "cited_text": "so it is"}, [B]),
        ("https://a.example", [A]),
        (["https://a.example", None, {}, "http://b.example"], [A, Citation("http://b.example")]),
        ("page 3", ["citation"]),
        (3, ["citation"]),
        ([3, {"url": A.url}], ["citation", A]),
        ({"type": "new_location"}, ["new_location"]),
    ],
)
async def test_citations_come_in_many_forms(
    hear_claude: Hear, citation: Any, expected: list[Any]
) -> None:
    delta = {"type": "citations_delta", "citation": citation}
    heard = await hear_claude([FIRST, *block(0, "text", text("a"), delta), *last()])
    found = [
        each.error.message.split("'")[1] if isinstance(each, Notice) and each.error else each
        for each in said(heard)[1:]
    ]
    assert found == expected


async def test_citations_in_the_start_of_a_block_are_read(hear_claude: Hear) -> None:
    events = block(0, "text", text="a", citations=[{"url": A.url}])
    heard = await hear_claude([FIRST, *events, *last()])
    assert said(heard) == [Token("a"), A]


@pytest.mark.parametrize("depth", [700, 5000])
async def test_an_event_that_is_nested_too_deeply_is_malformed(
    hear_claude: Hear, depth: int
) -> None:
    content = '[{"text":' + "[" * depth + "]" * depth + "}]"
    start = f'data: {{"type":"message_start","message":{{"content":{content}}}}}\n\n'.encode()
    heard = await hear_claude([start, *block(0, "text", text("a")), *last()])
    assert (heard.text, heard.error) == ("a", None)
    assert [each.kind for each in heard.of(Notice)] == ["malformed"]
    heard = await hear_claude([start, *anthropic_events("a", stop_reason=None), *last(None)])
    assert isinstance(heard.error, TruncatedStreamError)
