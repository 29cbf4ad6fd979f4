"""Responses in the form of OpenAI's chat completions."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from rxllm.chunks import (
    End,
    Notice,
    ProviderState,
    Reasoning,
    Start,
    Token,
    TokenLogprob,
    ToolCall,
    Usage,
)
from rxllm.errors import (
    AbortedStreamError,
    EmptyStreamError,
    MalformedStreamError,
    OverloadedError,
    RateLimitError,
    ServerError,
    TruncatedStreamError,
    classify_error,
)
from rxllm.testing.fault_server import FaultServer, Reply
from rxllm.testing.provider_streams import openai_event, openai_events

Hear = Callable[..., Awaitable[Any]]
DONE = b"data: [DONE]\n\n"


def delta(finish_reason: str | None = None, **fields: Any) -> bytes:
    choice = {"index": 0, "delta": fields, "finish_reason": finish_reason}
    return openai_event(choices=[choice])


def call(index: int | None, id: str | None, name: str | None, arguments: str) -> bytes:  # noqa: A002
    call: dict[str, Any] = {"function": {"name": name, "arguments": arguments}}
    call |= {"index": index} if index is not None else {}
    call |= {"id": id, "type": "function"} if id is not None else {}
    return delta(tool_calls=[call])


async def test_a_stream_is_start_text_usage_end(hear: Hear) -> None:
    heard = await hear(openai_events("Hello", " world"))
    assert heard.error is None
    assert heard.chunks == [
        Start("chatcmpl-1", "openai/gpt", "openai", 1_700_000_000.0),
        Token("Hello"),
        Token(" world"),
        Usage(5, 2),
        End("stop"),
    ]


@pytest.mark.parametrize("pieces", [1, 7, "random"])
async def test_the_chunks_do_not_depend_on_how_the_bytes_are_split(hear: Hear, pieces: Any) -> None:
    events = openai_events("Hé", "llo 🦊", "中文")
    assert (await hear(events, pieces=pieces)).chunks == (await hear(events)).chunks


@pytest.mark.parametrize(
    ("finish_reason", "reason"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("tool_calls", "tool_calls"),
        ("function_call", "tool_calls"),
        ("content_filter", "content_filter"),
        ("max_tokens", "length"),
        ("MAX_TOKENS", "length"),
        ("model_length", "length"),
        ("tool_use", "tool_calls"),
        ("SAFETY", "content_filter"),
        ("sensitive", "content_filter"),
        ("refusal", "content_filter"),
        ("STOP", "stop"),
    ],
)
async def test_finish_reasons(hear: Hear, finish_reason: str, reason: str) -> None:
    heard = await hear(openai_events("a", finish_reason=finish_reason))
    assert heard.chunks[-1] == End(reason)  # type: ignore[arg-type]


async def test_an_unknown_finish_reason_is_kept(hear: Hear) -> None:
    heard = await hear(openai_events("a", finish_reason="Something_New"))
    assert heard.chunks[-1] == End("stop", native_reason="Something_New")


@pytest.mark.parametrize(
    "reason", ["abort", "network_error", "insufficient_system_resource", "ERROR", "timeout"]
)
async def test_an_answer_that_the_provider_gave_up_is_an_error(hear: Hear, reason: str) -> None:
    heard = await hear(openai_events("a", finish_reason=reason))
    assert type(heard.error) is AbortedStreamError
    assert (heard.text, classify_error(heard.error)) == ("a", "retry")


async def test_usage_counts_before_or_after_the_finish_reason(hear: Hear) -> None:
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 4,
        "prompt_tokens_details": {"cached_tokens": 8},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    counted = openai_event(choices=[], usage=usage)
    before, after = [counted, delta("stop")], [delta("stop"), counted]
    expected = [Usage(9, 4, cached_tokens=8, reasoning_tokens=3)]
    for events in (before, after):
        assert (await hear([delta(content="a"), *events, DONE])).of(Usage) == expected


async def test_the_last_usage_counts(hear: Hear) -> None:
    each = [
        openai_event(
            choices=[{"index": 0, "delta": {"content": "a"}}],
            usage={"prompt_tokens": 2, "completion_tokens": count},
        )
        for count in (1, 2)
    ]
    assert (await hear([*each, delta("stop"), DONE])).of(Usage)[-1] == Usage(2, 2)


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
async def test_reasoning_is_separate_from_text(hear: Hear, field: str) -> None:
    heard = await hear([delta(**{field: "hm"}), delta(content="Yes"), delta("stop"), DONE])
    state = ProviderState("openai", "gpt", {"field": field})
    assert heard.chunks[1:4] == [Reasoning("hm"), Reasoning("", state), Token("Yes")]


async def test_a_refusal_is_text_and_ends_with_content_filter(hear: Hear) -> None:
    heard = await hear([delta(refusal="I "), delta(refusal="won't"), delta("stop"), DONE])
    assert heard.text == "I won't"
    assert heard.chunks[-1] == End("content_filter")


async def test_the_confidence_of_a_delta_is_the_product_of_its_tokens(hear: Hear) -> None:
    logprobs = {"content": [{"token": "a", "logprob": math.log(0.5)}, {"logprob": math.log(0.5)}]}
    event = openai_event(choices=[{"index": 0, "delta": {"content": "ab"}, "logprobs": logprobs}])
    (token,) = (await hear([event, delta("stop"), DONE])).of(Token)
    assert token.confidence == pytest.approx(0.25)


async def test_a_call_that_was_cut_off_is_not_complete(hear: Hear) -> None:
    heard = await hear([call(0, "call-1", "add", '{"a": '), delta("length"), DONE])
    calls = [chunk for chunk in heard.chunks if isinstance(chunk, ToolCall)]
    assert [chunk.complete for chunk in calls] == [False, False]
    assert heard.chunks[-1] == End("length")


async def test_tool_calls_grow_and_are_complete_at_the_end(hear: Hear) -> None:
    heard = await hear(
        [
            call(0, "a", "add", ""),
            call(0, None, None, '{"x":'),
            call(1, "b", "now", "{}"),
            call(0, None, None, "1}"),
            delta("tool_calls"),
            DONE,
        ]
    )
    assert heard.of(ToolCall) == [
        ToolCall("a", "add", ""),
        ToolCall("a", "add", '{"x":'),
        ToolCall("b", "now", "{}", 1),
        ToolCall("a", "add", '{"x":1}'),
        ToolCall("a", "add", '{"x":1}', 0, complete=True),
        ToolCall("b", "now", "{}", 1, complete=True),
    ]
    assert heard.chunks[-1] == End("tool_calls")


@pytest.mark.parametrize(
    "events",
    [
        [call(0, "a", "add", "{}"), call(0, "b", "now", "{"), call(0, None, None, "}")],
        [call(None, "a", "add", "{}"), call(None, "b", "now", "{"), call(None, None, None, "}")],
        [call(0, "a", "add", ""), call(1, "b", "now", "{}"), call(0, "a", None, "{}")],
        [call(7, "a", "add", "{}"), call(9, "b", "now", "{}")],
    ],
    ids=["index 0 repeated", "no index", "id repeated", "indices with gaps"],
)
async def test_calls_are_distinguished_by_id_and_index(hear: Hear, events: list[bytes]) -> None:
    heard = await hear([*events, delta("tool_calls"), DONE])
    assert [call for call in heard.of(ToolCall) if call.complete] == [
        ToolCall("a", "add", "{}", 0, complete=True),
        ToolCall("b", "now", "{}", 1, complete=True),
    ]


async def test_calls_without_an_id_get_one_that_no_other_answer_has(hear: Hear) -> None:
    events = [call(0, None, "add", "{}"), call(1, None, "now", "{}"), delta("tool_calls"), DONE]
    ids = [each.id for _ in range(2) for each in (await hear(events)).of(ToolCall)]
    assert len(set(ids)) == 4
    assert all(len(each) > 20 for each in ids)


def whole(chunks: list[ToolCall]) -> list[tuple[str, str]]:
    """The name and the arguments of the complete calls, whose ids must differ."""
    calls = [each for each in chunks if each.complete]
    assert len({each.id for each in calls}) == len(calls)
    assert [each.index for each in calls] == list(range(len(calls)))
    return [(each.name, each.arguments) for each in calls]


@pytest.mark.parametrize(
    ("events", "calls"),
    [
        (
            [call(0, "a", "add", '{"x"'), call(0, "b", None, ": 1"), call(0, "c", None, "}")],
            [("add", '{"x": 1}')],
        ),
        (
            [call(0, "a", "add", "{}"), call(1, "a", "now", "{}")],
            [("add", "{}"), ("now", "{}")],
        ),
        (
            [call(None, None, "add", '{"x": 1}')] * 3,
            [("add", '{"x": 1}')] * 3,
        ),
        (
            [call(0, None, "add", '{"x": 1}'), call(0, None, "now", "{}")],
            [("add", '{"x": 1}'), ("now", "{}")],
        ),
        (
            [call(0, None, "add", "{}"), call(0, None, "add", ""), call(0, None, None, '{"x": 1}')],
            [("add", "{}"), ("add", '{"x": 1}')],
        ),
        (
            [call(0, "a", "ad", ""), call(0, None, "d_two", ""), call(0, None, None, "{}")],
            [("add_two", "{}")],
        ),
        (
            [call(0, "a", "add", '{"x"'), call(0, "a", "add", ": 1}"), call(0, "a", "add", "")],
            [("add", '{"x": 1}')],
        ),
        (
            [call(0, "a", "ad", ""), call(0, None, "add", ""), call(0, None, None, "{}")],
            [("add", "{}")],
        ),
        ([call(0, "a", "now", "")], [("now", "{}")]),
        ([call(0, "a", "add", '{"x": ')], []),
    ],
    ids=[
        *("the id changes", "two indices share an id", "whole calls without ids"),
        *("one index for all", "the name before the arguments", "a name in pieces"),
        *("the name in each delta", "a name that grows", "no arguments", "cut off"),
    ],
)
async def test_deltas_are_assigned_to_their_call(
    hear: Hear, events: list[bytes], calls: list[tuple[str, str]]
) -> None:
    heard = await hear([*events, delta("tool_calls"), DONE])
    assert whole(heard.of(ToolCall)) == calls


async def test_a_call_whose_arguments_are_not_json_is_not_complete(hear: Hear) -> None:
    """Whatever the finish reason says."""
    events = [call(0, "a", "add", "{}}"), call(1, "b", "now", "{}"), delta("tool_calls"), DONE]
    broken, good = (await hear(events)).of(ToolCall)[-2:]
    assert (broken.complete, good.complete) == (False, True)


@pytest.mark.parametrize("done", [True, False])
async def test_done_is_optional_after_a_finish_reason(hear: Hear, done: bool) -> None:
    assert (await hear(openai_events("a", done=done))).chunks[-1] == End("stop")


async def test_done_ends_the_stream_without_a_finish_reason(hear: Hear) -> None:
    assert (await hear([delta(content="a"), DONE])).chunks[-1] == End("stop")


async def test_a_stream_without_either_is_truncated(hear: Hear) -> None:
    heard = await hear(openai_events("a", finish_reason=None, usage=False, done=False))
    assert heard.text == "a"
    assert isinstance(heard.error, TruncatedStreamError)


@pytest.mark.parametrize(
    "body", [[], [DONE], [b": comment\n\n"]], ids=["nothing", "done", "comment"]
)
async def test_a_stream_without_content_is_empty(hear: Hear, body: list[bytes]) -> None:
    heard = await hear(body)
    assert (heard.chunks, type(heard.error)) == ([], EmptyStreamError)


@pytest.mark.parametrize(
    ("error", "kind", "status"),
    [
        ({"message": "slow down", "code": "rate_limit_exceeded"}, RateLimitError, None),
        ({"message": "busy", "type": "overloaded_error"}, OverloadedError, None),
        ({"message": "bad gateway", "code": 502}, ServerError, 502),
        ({"message": "who knows"}, ServerError, None),
        ("who knows", ServerError, None),
        ({}, ServerError, None),
    ],
)
async def test_an_error_in_the_stream_is_an_error(
    hear: Hear, error: Any, kind: type[Exception], status: int | None
) -> None:
    heard = await hear([delta(content="a"), openai_event(error=error, choices=[])])
    assert heard.text == "a"
    assert type(heard.error) is kind
    assert getattr(heard.error, "status", None) == status


async def test_an_error_may_be_at_the_top_level_of_an_event(hear: Hear) -> None:
    """As older vLLM servers send it."""
    fields = {"object": "error", "message": "boom", "type": "InternalServerError", "code": "429"}
    heard = await hear([delta(content="a"), openai_event(**fields), b"data: [DONE]\n\n"])
    assert isinstance(heard.error, RateLimitError)
    assert "boom" in str(heard.error)


async def test_groq_reports_errors_in_its_own_block(hear: Hear) -> None:
    heard = await hear(
        [delta(content="a"), openai_event(choices=[], x_groq={"error": "overloaded"})]
    )
    assert isinstance(heard.error, ServerError)
    assert "overloaded" in str(heard.error)


async def test_an_error_as_json_in_place_of_a_stream_is_raised(hear: Hear) -> None:
    body = b'{"error": {"message": "slow down", "code": 429}}'
    heard = await hear([body], headers={"Content-Type": "application/json"})
    assert isinstance(heard.error, RateLimitError)


async def test_only_the_first_choice_is_read(hear: Hear) -> None:
    other = openai_event(choices=[{"index": 1, "delta": {"content": "b"}}])
    assert (await hear([delta(content="a"), other, delta("stop"), DONE])).text == "a"


async def test_malformed_events_are_skipped_with_a_notice(hear: Hear) -> None:
    heard = await hear(
        [b"data: {\n\n", delta(content="a"), b'data: {"choices": 3}\n\n', delta("stop"), DONE]
    )
    assert heard.text == "a"
    kinds = ["malformed", "unsupported"]
    assert [(n.kind, n.skipped) for n in heard.of(Notice)] == [(kind, 1) for kind in kinds]
    assert heard.error is None


async def test_three_malformed_events_in_a_row_are_an_error(hear: Hear) -> None:
    heard = await hear([delta(content="a"), *[b"data: {\n\n"] * 3, delta("stop"), DONE])
    assert heard.text == "a"
    assert len(heard.of(Notice)) == 2
    assert isinstance(heard.error, MalformedStreamError)
    assert heard.error.__cause__ is not None


async def test_with_strict_one_malformed_event_is_an_error(hear: Hear) -> None:
    heard = await hear([b"data: {\n\n", *openai_events("a")], strict=True)
    assert isinstance(heard.error, MalformedStreamError)
    assert not heard.chunks


def escaped(text: str) -> bytes:
    return (
        b'data: {"id":"1","choices":[{"index":0,"delta":{"content":"' + text.encode() + b'"}}]}\n\n'
    )


@pytest.mark.parametrize(
    ("deltas", "text"),
    [
        (["a \\ud83e", "\\udd8a!"], "a 🦊!"),
        (["\\ud83e", "\\udd8a"], "🦊"),
        (["\\ud83e\\udd8a"], "🦊"),
        (["\\ud83e", "no"], "\ufffdno"),
        (["\\udd8a no"], "\ufffd no"),
        (["a", "\\ud83e"], "a\ufffd"),
        (["\\ud83e", "\\ud83e", "\\udd8a"], "\ufffd🦊"),
    ],
)
async def test_a_surrogate_is_joined_with_its_pair_in_the_next_delta(
    hear: Hear, deltas: list[str], text: str
) -> None:
    heard = await hear([*map(escaped, deltas), delta("stop"), DONE])
    assert (heard.text, heard.of(Notice), heard.error) == (text, [], None)


async def test_the_log_probabilities_of_tokens_if_requested(listen: Any, model_on: Any) -> None:
    top = [{"token": "a", "logprob": -0.5}, {"token": "x", "logprob": -2.0}]
    tokens = [{"token": "a", "logprob": -0.5, "top_logprobs": top}, {"token": "b", "logprob": -1}]
    event = openai_event(
        choices=[{"index": 0, "delta": {"content": "ab"}, "logprobs": {"content": tokens}}]
    )
    async with FaultServer(Reply([event, delta("stop"), DONE])) as server:
        heard = await listen(model_on(server), top_logprobs=2)
        plain = await listen(model_on(server), confidence=True)
    likeliest = (TokenLogprob("a", -0.5), TokenLogprob("x", -2.0))
    assert heard.of(Token) == [
        Token("ab", math.exp(-1.5), logprobs=(TokenLogprob("a", -0.5, likeliest),
                                              TokenLogprob("b", -1.0)))
    ]  # fmt: skip
    assert plain.of(Token) == [Token("ab", math.exp(-1.5))]
    assert server.requests[0].json()["top_logprobs"] == 2
