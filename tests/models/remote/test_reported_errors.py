"""Errors that providers report inside a stream, and streams that end in unusual ways."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxllm.chunks import End, Notice, Start, Token, ToolCall
from rxllm.errors import (
    BadRequestError,
    EmptyStreamError,
    MalformedStreamError,
    OverloadedError,
    ProviderError,
    RateLimitError,
    RxLLMError,
    ServerError,
    TruncatedStreamError,
)
from rxllm.models.remote.reported_error import ErrorObject, error_in_json, error_in_text
from rxllm.testing.provider_streams import anthropic_events, openai_event, openai_events

Hear = Callable[..., Awaitable[Any]]
DONE = b"data: [DONE]\n\n"
HALF = openai_event(choices=[{"index": 0, "delta": {"content": "half"}}])


def data(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


FORMS: dict[str, tuple[bytes, str]] = {
    "an error event with JSON": (
        b'event: error\ndata: {"message": "out of memory"}\n\n',
        "out of memory",
    ),
    "an error event with text": (b"event: error\ndata: out of memory\n\n", "out of memory"),
    "an error event with an error": (
        b'event: error\ndata: {"error": {"message": "out of memory"}}\n\n',
        "out of memory",
    ),
    "an error event without data that says anything": (b"event: error\ndata: {}\n\n", "no reason"),
    "error: object": (data({"error": {"message": "out of memory", "type": "x"}}), "out of memory"),
    "error: object in an event": (
        openai_event(choices=[], error={"message": "out of memory"}),
        "out of memory",
    ),
    "error: unknown fields": (data({"error": {"cause": "out of memory"}}), "out of memory"),
    "error: text": (data({"error": "out of memory"}), "out of memory"),
    "error: true": (data({"error": True, "message": "out of memory"}), "out of memory"),
    "error: number": (data({"error": 503, "message": "out of memory"}), "out of memory"),
    "error: list": (data({"error": ["out of", {"msg": "memory"}]}), "out of; memory"),
    "error: message is an object": (
        data({"error": {"message": {"text": "out of memory"}}}),
        "out of memory",
    ),
    "error: message is a list": (
        data({"error": {"message": ["out of", "memory"], "code": 500}}),
        "out of; memory",
    ),
    "errors": (data({"errors": [{"message": "out of memory"}]}), "out of memory"),
    "detail": (data({"detail": "out of memory"}), "out of memory"),
    "detail: list": (data({"detail": [{"loc": ["a"], "msg": "out of memory"}]}), "out of memory"),
    "type: error": (data({"type": "error", "message": "out of memory"}), "out of memory"),
    "object: error": (data({"object": "error", "message": "out of memory"}), "out of memory"),
    "code and message": (data({"code": 500, "message": "out of memory"}), "out of memory"),
    "an error of a choice": (
        openai_event(
            choices=[{"index": 0, "delta": {}, "error": {"code": 502, "message": "out of memory"}}]
        ),
        "out of memory",
    ),
    "msg and code": (data({"code": 500, "msg": "out of memory"}), "out of memory"),
    "message alone": (data({"message": "out of memory"}), "out of memory"),
    "statusCode": (data({"statusCode": 500, "message": "out of memory"}), "out of memory"),
    "status: error": (data({"status": "error", "message": "out of memory"}), "out of memory"),
    "a type that is an error": (
        data({"type": "server_error", "message": "out of memory"}),
        "out of memory",
    ),
    "base_resp": (
        data({"id": "x", "base_resp": {"status_code": 1004, "status_msg": "out of memory"}}),
        "out of memory",
    ),
    "an error within an error": (
        data({"error": {"error": {"message": "out of memory", "code": 500}}}),
        "out of memory",
    ),
    "an empty delta beside it": (
        openai_event(type="error", message="out of memory", choices=[{"index": 0, "delta": {}}]),
        "out of memory",
    ),
    "the field error of an event": (
        b'error: {"code": 500, "message": "out of memory"}\n\n',
        "out of memory",
    ),
    "an error event without data": (b"event: error\n\n", "no reason"),
    "an error event with the end marker": (b"event: error\ndata: [DONE]\n\n", "[DONE]"),
    "an exception event": (b"event: exception\ndata: out of memory\n\n", "out of memory"),
    "the name of an event in capitals": (b"event: Error\ndata: out of memory\n\n", "out of memory"),
    "an exception of Python": (b"data: RuntimeError: CUDA out of memory\n\n", "out of memory"),
    "a traceback": (b"data: Traceback (most recent call last):\n\n", "Traceback"),
    "an array": (data([{"error": {"code": 500, "message": "out of memory"}}]), "out of memory"),
    "plain text": (b"data: error: CUDA out of memory\n\n", "error: CUDA out of memory"),
    "plain text of a server": (b"data: Internal Server Error\n\n", "Internal Server Error"),
    "JSON without data:": (b'{"error": {"message": "out of memory"}}\n\n', "out of memory"),
    "JSON without data:, indented": (
        b'{\n  "error": {\n    "message": "out of memory"\n  }\n}\n\n',
        "out of memory",
    ),
    "an array without data:": (
        b'[{"error": {"code": 500, "message": "out of memory"}}]\n\n',
        "out of memory",
    ),
}


@pytest.mark.parametrize("pieces", [None, 1])
@pytest.mark.parametrize("form", FORMS)
async def test_an_error_of_any_form_ends_the_stream_with_the_providers_words(
    hear: Hear, form: str, pieces: int | None
) -> None:
    event, words = FORMS[form]
    heard = await hear([HALF, event, DONE], pieces=pieces)
    assert heard.text == "half"
    assert isinstance(heard.error, ProviderError)
    assert words in str(heard.error)
    assert not heard.of(End)


FAULT: dict[str, Any] = {"code": 502, "message": "out of memory"}
WORDS: dict[str, Any] = {"index": 0, "delta": {"content": " more"}}
BESIDE_TEXT = {
    "of the event": openai_event(choices=[WORDS], error=FAULT),
    "of the event, with a finish reason": openai_event(
        choices=[{**WORDS, "finish_reason": "error"}], error=FAULT
    ),
    "of the choice": openai_event(choices=[{**WORDS, "error": FAULT}]),
    "of Groq's block": openai_event(choices=[WORDS], x_groq={"error": "out of memory"}),
}


@pytest.mark.parametrize("event", BESIDE_TEXT.values(), ids=BESIDE_TEXT)
@pytest.mark.parametrize("before", [[], [HALF]], ids=["at first", "later"])
async def test_the_text_beside_an_error_comes_before_it(
    hear: Hear, before: list[bytes], event: bytes
) -> None:
    heard = await hear([*before, event, DONE])
    assert heard.text == "half" * len(before) + " more"
    assert len(heard.of(Start)) == 1
    assert isinstance(heard.error, ProviderError)
    assert "out of memory" in str(heard.error)


async def test_an_event_with_an_error_alone_starts_nothing(hear: Hear) -> None:
    heard = await hear([openai_event(choices=[{**WORDS, "delta": {}}], error=FAULT)])
    assert not heard.of(Start)
    assert "out of memory" in str(heard.error)


@pytest.mark.parametrize("form", FORMS)
async def test_it_is_the_error_also_before_the_first_token(hear: Hear, form: str) -> None:
    event, words = FORMS[form]
    heard = await hear([event, DONE])
    assert words in str(heard.error)


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ({"error": 503, "message": "busy"}, OverloadedError),
        ({"error": {"code": "429", "message": "slow down"}}, RateLimitError),
        ({"error": {"code": 529.0, "message": "busy"}}, OverloadedError),
        ({"error": [{"type": "rate_limit_error", "message": "slow down"}]}, RateLimitError),
        ({"code": 400, "message": "bad"}, BadRequestError),
        ({"type": "error", "error": {"type": "overloaded_error"}}, OverloadedError),
    ],
)
async def test_its_code_and_type_are_found_in_any_form(
    hear: Hear, event: Any, kind: type[Exception]
) -> None:
    assert type((await hear([HALF, data(event), DONE])).error) is kind


@pytest.mark.parametrize(
    "event",
    [
        {"error": None},
        {"error": False},
        {"error": ""},
        {"error": [], "errors": []},
        {"detail": None, "code": None, "message": None},
        {"type": "chat.completion.chunk", "message": "just words"},
        {"error": {"message": "", "type": "", "param": "", "code": None}},
        {"code": 200, "message": "success"},
        {"code": "0", "msg": "ok", "base_resp": {"status_code": 0, "status_msg": ""}},
    ],
)
async def test_an_empty_error_is_none(hear: Hear, event: Any) -> None:
    more = openai_event(choices=[{"index": 0, "delta": {"content": " more"}}], **event)
    heard = await hear([HALF, more, *openai_events("!")])
    assert (heard.error, heard.text) == (None, "half more!")


async def test_a_detail_beside_an_answer_is_not_an_error(hear: Hear) -> None:
    more = openai_event(choices=[{"index": 0, "delta": {"content": " more"}}], detail="cached")
    heard = await hear([HALF, more, *openai_events("!")])
    assert (heard.error, heard.text) == (None, "half more!")


@pytest.mark.parametrize(
    "fields",
    [
        {"code": 200, "message": "success", "choices": [], "usage": {"prompt_tokens": 3}},
        {"detail": {"cost": 1}, "choices": [], "usage": {"prompt_tokens": 3}},
        {"error": {"message": "", "code": None}, "choices": []},
    ],
)
async def test_harmless_fields_after_an_answer_are_not_an_error(hear: Hear, fields: Any) -> None:
    heard = await hear([*openai_events("a", done=False, usage=False), openai_event(**fields), DONE])
    assert (heard.error, heard.text) == (None, "a")


@pytest.mark.parametrize("field", ["error", "code", "status"])
@pytest.mark.parametrize("number", ["1" + "0" * 400, '"' + "9" * 5000 + '"', "-1", "0.5"])
async def test_no_code_is_an_exception_of_another_kind(hear: Hear, field: str, number: str) -> None:
    text = b'{"error": {"message": "x", "%b": %b}}' % (field.encode(), number.encode())
    for body, status in ((b"data: " + text + b"\n\n", 200), (text, 500)):
        assert isinstance((await hear([body], status=status)).error, RxLLMError)


async def test_a_known_name_alone_is_the_kind_of_the_error(hear: Hear) -> None:
    assert type((await hear([data({"error": "overloaded_error"})])).error) is OverloadedError


async def test_the_words_of_the_provider_behind_another_are_kept(hear: Hear) -> None:
    error = {"message": "Provider returned error", "metadata": {"raw": "context is full"}}
    assert "context is full" in str((await hear([data({"error": error})])).error)


async def test_json_in_place_of_a_stream_is_not_quoted_as_an_error(hear: Hear) -> None:
    body = json.dumps({"id": "x", "choice": {"message": {"content": "secret"}}}).encode()
    heard = await hear([body], headers={"Content-Type": "application/json"})
    assert type(heard.error) is MalformedStreamError
    assert "secret" not in str(heard.error)


CLAUDE = anthropic_events("half")[:-3]


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (b'event: error\ndata: {"type": "error", "error": {"message": "busy"}}\n\n', "busy"),
        (b'event: error\ndata: {"type": "error", "error": "busy"}\n\n', "busy"),
        (b'event: error\ndata: {"type": "error", "error": ["busy"]}\n\n', "busy"),
        (b'event: error\ndata: {"type": "error", "message": "busy"}\n\n', "busy"),
        (b"event: error\ndata: busy\n\n", "busy"),
        (b'data: {"type": "error", "error": {"details": {"reason": "busy"}}}\n\n', "busy"),
        (b'data: {"error": true, "message": "busy"}\n\n', "busy"),
        (b'{"error": {"message": "busy"}}\n\n', "busy"),
        (b"data: error: busy\n\n", "busy"),
        (b'data: {"detail": "busy"}\n\n', "busy"),
        (b'data: {"errors": ["busy"]}\n\n', "busy"),
        (b'data: {"code": 500, "msg": "busy"}\n\n', "busy"),
        (b'data: {"message": "busy"}\n\n', "busy"),
        (b"event: error\n\n", "no reason"),
    ],
)
async def test_an_odd_error_of_anthropic_keeps_its_reason(
    hear: Hear, event: bytes, words: str
) -> None:
    heard = await hear([*CLAUDE, event], "anthropic")
    assert heard.text == "half"
    assert isinstance(heard.error, ServerError)
    assert words in str(heard.error)


@pytest.mark.parametrize(
    "event",
    [
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": " more"}},
        {"type": "content_block_start", "content_block": {"type": "text", "text": " more"}},
    ],
)
async def test_the_text_beside_an_error_of_anthropic_comes_before_it(
    hear: Hear, event: dict[str, Any]
) -> None:
    heard = await hear([*CLAUDE, data({"index": 0, **event, "error": FAULT})], "anthropic")
    assert heard.text == "half more"
    assert isinstance(heard.error, ServerError)
    assert "out of memory" in str(heard.error)


async def test_done_after_an_unreadable_event_is_not_a_clean_end(hear: Hear) -> None:
    heard = await hear([HALF, b"data: {\n\n", DONE])
    assert isinstance(heard.error, TruncatedStreamError)
    assert len(heard.of(Notice)) == 1


async def test_with_a_finish_reason_it_is(hear: Hear) -> None:
    heard = await hear([b"data: {\n\n", *openai_events("whole")])
    assert (heard.error, heard.text) == (None, "whole")


@pytest.mark.parametrize(
    "marker", [b"data: [DONE] \n\n", b"data:[DONE]\n\n", b"data: [DONE]\t\n\n"]
)
async def test_the_end_marker_may_have_spaces_around_it(hear: Hear, marker: bytes) -> None:
    events = [*openai_events("a", done=False), marker]
    assert (await hear(events)).chunks[-1] == End("stop")


@pytest.mark.parametrize("beat", [b"data:\n\n", b"data: \n\n", b"data: : PROCESSING\n\n"])
@pytest.mark.parametrize("provider", ["openai", "anthropic"])
async def test_a_heartbeat_in_data_is_ignored(hear: Hear, provider: str, beat: bytes) -> None:
    make = openai_events if provider == "openai" else anthropic_events
    events = [part for event in make("a", "b") for part in (beat, event)]
    heard = await hear(events, provider)
    assert (heard.error, heard.text, heard.of(Notice)) == (None, "ab", [])


async def test_only_heartbeats_are_an_empty_stream(hear: Hear) -> None:
    assert type((await hear([b"data:\n\n", DONE])).error) is EmptyStreamError


@pytest.mark.parametrize("ending", [b"\n\n", b"\n", b"", b"\r\n", b"\r"])
async def test_the_last_event_may_lack_its_empty_line(hear: Hear, ending: bytes) -> None:
    *events, last = openai_events("a", usage=False, done=False)
    heard = await hear([*events, last.rstrip() + ending])
    assert heard.chunks[-1] == End("stop")


async def test_an_error_may_lack_its_empty_line(hear: Hear) -> None:
    for event, words in FORMS.values():
        heard = await hear([HALF, event.rstrip()])
        assert words in str(heard.error)


async def test_a_last_event_that_was_cut_off_is_not_read(hear: Hear) -> None:
    *events, last = openai_events("a", usage=False, done=False)
    heard = await hear([*events, last[:-20]])
    assert (heard.text, type(heard.error)) == ("a", TruncatedStreamError)


async def test_a_call_cut_off_in_its_last_event_is_not_complete(hear: Hear) -> None:
    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"a"'}}
    event = openai_event(choices=[{"index": 0, "delta": {"tool_calls": [call]}}])
    heard = await hear([event, event[:-30]])
    assert [call.complete for call in heard.of(ToolCall)] == [False]
    assert type(heard.error) is TruncatedStreamError


@pytest.mark.parametrize("status", [200, 201, 202, 206])
async def test_any_successful_status_starts_a_stream(hear: Hear, status: int) -> None:
    heard = await hear(openai_events("a"), status=status)
    assert (heard.error, heard.of(Token)) == (None, [Token("a")])


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'[{"error": {"code": 400, "message": "API key not valid"}}]', "API key not valid"),
        (b"upstream connect error", "upstream connect error"),
        (b'{"error": {"message": {"detail": "deep"}}}', "deep"),
        (b'{"error": true, "message": "words"}', "words"),
        (b"<html><body>Bad Gateway</body></html>", "Bad Request"),
        (b"x" * 20_000, "Bad Request"),
    ],
)
async def test_the_body_of_a_refusal_keeps_its_message_in_any_form(
    hear: Hear, body: bytes, words: str
) -> None:
    heard = await hear([body], status=400)
    assert type(heard.error) is BadRequestError
    assert str(heard.error).endswith(words)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "errors", "detail", "message", "type", "code", "text", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_json_is_an_error_or_none(value: Any) -> None:
    found = error_in_json(value)
    assert found is None or isinstance(found, ErrorObject)
    assert isinstance(error_in_text(json.dumps(value)), ErrorObject)


@given(st.text())
def test_any_text_is_an_error_when_it_must_be_one(text: str) -> None:
    assert isinstance(error_in_text(text), ErrorObject)


async def test_the_error_of_a_provider_is_one_of_ours(hear: Hear) -> None:
    for event, _ in FORMS.values():
        assert isinstance((await hear([event])).error, RxLLMError)
