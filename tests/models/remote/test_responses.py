"""OpenAI's Responses API: its events, built with the types of the SDK, and its requests."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from openai.types.responses import (
    ResponseAudioDeltaEvent,
    ResponseAudioTranscriptDeltaEvent,
    ResponseCompletedEvent,
    ResponseContentPartAddedEvent,
    ResponseContentPartDoneEvent,
    ResponseCreatedEvent,
    ResponseCustomToolCallInputDeltaEvent,
    ResponseCustomToolCallInputDoneEvent,
    ResponseErrorEvent,
    ResponseFailedEvent,
    ResponseFunctionCallArgumentsDeltaEvent,
    ResponseFunctionCallArgumentsDoneEvent,
    ResponseIncompleteEvent,
    ResponseOutputItemAddedEvent,
    ResponseOutputItemDoneEvent,
    ResponseOutputTextAnnotationAddedEvent,
    ResponseReasoningSummaryPartAddedEvent,
    ResponseReasoningSummaryTextDeltaEvent,
    ResponseReasoningSummaryTextDoneEvent,
    ResponseReasoningTextDeltaEvent,
    ResponseReasoningTextDoneEvent,
    ResponseRefusalDeltaEvent,
    ResponseTextDeltaEvent,
    ResponseTextDoneEvent,
)
from openai.types.responses.response_create_params import ResponseCreateParamsStreaming
from pydantic import TypeAdapter

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
    TokenLogprob,
    ToolCall,
    Usage,
)
from rxllm.errors import (
    AbortedStreamError,
    BadRequestError,
    ContextLengthError,
    EmptyStreamError,
    MalformedStreamError,
    RateLimitError,
    ServerError,
    TruncatedStreamError,
    UnsupportedError,
)
from rxllm.messages import FilePart, ImagePart, Message, ReasoningPart, TextPart, Tool
from rxllm.models.remote.providers import PROVIDERS
from rxllm.models.remote.responses_request import responses_body
from rxllm.requests import as_request
from rxllm.testing.fault_server import FaultServer, Reply
from tests import strict_native_providers
from tests.strict_providers import StrictServer

Listen = Callable[..., Awaitable[Any]]

NAME = "openai/gpt-5.2-pro"
RESPONSE: dict[str, Any] = {
    "id": "resp_1", "object": "response", "created_at": 1.5, "model": "gpt-5.2-pro-2025-12-11",
    "output": [], "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
    "status": "in_progress",
}  # fmt: skip
USAGE: dict[str, Any] = {
    "input_tokens": 9, "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
    "output_tokens": 7, "output_tokens_details": {"reasoning_tokens": 3}, "total_tokens": 16,
}  # fmt: skip
MESSAGE: dict[str, Any] = {
    "id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": [],
}  # fmt: skip
CALL: dict[str, Any] = {
    "id": "fc_1", "type": "function_call", "call_id": "call_1", "name": "look", "arguments": "",
}  # fmt: skip
THOUGHT: dict[str, Any] = {
    "id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}],
    "encrypted_content": "encrypted rs_1",
}  # fmt: skip


def sse(event: Any) -> bytes:
    """An event of the SDK as OpenAI sends it."""
    data = event.to_json(indent=None, exclude_unset=False)
    return b"event: %b\ndata: %b\n\n" % (event.type.encode(), data.encode())


def build(kind: Any, name: str, **fields: Any) -> bytes:
    """An event, checked by the SDK's type."""
    return sse(kind.model_validate({"type": name, "sequence_number": 0, **fields}, strict=False))


CREATED = build(ResponseCreatedEvent, "response.created", response=RESPONSE)
COMPLETED = build(
    ResponseCompletedEvent,
    "response.completed",
    response={**RESPONSE, "status": "completed", "usage": USAGE},
)


def added(item: dict[str, Any], index: int = 0) -> bytes:
    return build(
        ResponseOutputItemAddedEvent, "response.output_item.added", item=item, output_index=index
    )


def done(item: dict[str, Any], index: int = 0) -> bytes:
    item = {**item, "status": "completed"}
    return build(
        ResponseOutputItemDoneEvent, "response.output_item.done", item=item, output_index=index
    )


def text(delta: str, logprobs: list[Any] | None = None) -> bytes:
    return build(
        ResponseTextDeltaEvent, "response.output_text.delta", item_id="msg_1", output_index=0,
        content_index=0, delta=delta, logprobs=logprobs or [],
    )  # fmt: skip


def arguments(delta: str, index: int = 0) -> bytes:
    return build(
        ResponseFunctionCallArgumentsDeltaEvent, "response.function_call_arguments.delta",
        item_id="fc_1", output_index=index, delta=delta,
    )  # fmt: skip


def summary(delta: str) -> bytes:
    return build(
        ResponseReasoningSummaryTextDeltaEvent, "response.reasoning_summary_text.delta",
        item_id="rs_1", output_index=0, summary_index=0, delta=delta,
    )  # fmt: skip


def state(**data: Any) -> ProviderState:
    return ProviderState("openai", "gpt-5.2-pro", data)


@pytest.fixture
def hear(listen: Listen) -> Listen:
    async def heard(*events: bytes, **options: Any) -> Any:
        async with FaultServer(Reply(events)) as server:
            model = rxllm.model(NAME, api_key="k", base_url=server.url)
            return await listen(model, **options)

    return heard


async def test_the_table_of_models_chooses_this_api(listen: Listen) -> None:
    async with FaultServer(Reply([CREATED, added(MESSAGE), text("Hi"), COMPLETED])) as server:
        model = rxllm.model(NAME, api_key="k", base_url=server.url)
        assert (await listen(model)).text == "Hi"
    assert server.requests[0].path == "/v1/responses"


async def test_it_may_be_chosen_by_name(listen: Listen) -> None:
    async with FaultServer(Reply([CREATED, added(MESSAGE), text("Hi"), COMPLETED])) as server:
        model = rxllm.model("openai_compatible/any", base_url=server.url, wire="openai_responses")
        assert (await listen(model)).text == "Hi"
    assert server.requests[0].path == "/v1/responses"


async def test_a_text_answer(hear: Listen) -> None:
    heard = await hear(
        CREATED, added(MESSAGE), text("Once "), text("upon"), done(MESSAGE), COMPLETED
    )
    assert heard.error is None
    assert heard.chunks == [
        Start("resp_1", "openai/gpt-5.2-pro-2025-12-11", "openai", 1.5),
        Token("Once "),
        Token("upon"),
        Usage(9, 7, cached_tokens=4, reasoning_tokens=3, cache_write_tokens=2),
        End("stop"),
    ]


async def test_a_text_without_deltas(hear: Listen) -> None:
    whole = build(
        ResponseTextDoneEvent, "response.output_text.done", item_id="msg_1", output_index=0,
        content_index=0, text="Once upon", logprobs=[],
    )  # fmt: skip
    assert (await hear(CREATED, added(MESSAGE), whole, COMPLETED)).text == "Once upon"
    assert (await hear(CREATED, added(MESSAGE), text("Once upon"), whole, COMPLETED)).text == (
        "Once upon"
    )


async def test_reasoning_has_its_item_as_the_state(hear: Listen) -> None:
    second = build(
        ResponseReasoningSummaryPartAddedEvent, "response.reasoning_summary_part.added",
        item_id="rs_1", output_index=0, summary_index=1, part={"type": "summary_text", "text": ""},
    )  # fmt: skip
    raw = build(
        ResponseReasoningTextDeltaEvent, "response.reasoning_text.delta", item_id="rs_1",
        output_index=0, content_index=0, delta="raw",
    )  # fmt: skip
    heard = await hear(
        CREATED, added({**THOUGHT, "summary": []}), summary("Hm"), summary("."), second, raw,
        done(THOUGHT), added(MESSAGE, 1), text("Yes."), COMPLETED,
    )  # fmt: skip
    assert heard.of(Reasoning) == [
        Reasoning("Hm"), Reasoning("."), Reasoning("\n\n"), Reasoning("raw"),
        Reasoning("", state(item=THOUGHT)),
    ]  # fmt: skip


async def test_tool_calls(hear: Listen) -> None:
    other = {**CALL, "call_id": "call_2"}
    heard = await hear(
        CREATED, added(CALL), arguments('{"at"'), arguments(": 1}"),
        done({**CALL, "arguments": '{"at": 1}'}), added(other, 1),
        done({**other, "arguments": ""}, 1), COMPLETED,
    )  # fmt: skip
    first = ToolCall("call_1", "look")
    assert heard.of(ToolCall) == [
        first,
        msgspec.structs.replace(first, arguments='{"at"'),
        msgspec.structs.replace(first, arguments='{"at": 1}'),
        msgspec.structs.replace(first, arguments='{"at": 1}', complete=True),
        ToolCall("call_2", "look", index=1),
        ToolCall("call_2", "look", "{}", 1, True),
    ]
    assert heard.chunks[-1] == End("tool_calls")


async def test_arguments_that_are_not_json_are_not_complete(hear: Listen) -> None:
    heard = await hear(CREATED, added(CALL), done({**CALL, "arguments": '{"at"'}), COMPLETED)
    assert heard.of(ToolCall)[-1] == ToolCall("call_1", "look", '{"at"')


async def test_phases_and_borders_of_messages(hear: Listen) -> None:
    heard = await hear(
        CREATED, added(MESSAGE), text("One."), done({**MESSAGE, "phase": "commentary"}),
        added(MESSAGE, 1), text("Two."), done(MESSAGE, 1), added(MESSAGE, 2), text("Three."),
        COMPLETED,
    )  # fmt: skip
    assert heard.of(Token) == [
        Token("One."), Token("", state=state(message={"phase": "commentary"})), Token("Two."),
        Token("", state=state(message={})), Token("Three."),
    ]  # fmt: skip


async def test_a_refusal_a_citation_and_an_image(hear: Listen) -> None:
    refusal = build(
        ResponseRefusalDeltaEvent, "response.refusal.delta", item_id="msg_1", output_index=0,
        content_index=0, delta="I won't.",
    )  # fmt: skip
    annotation = {
        "type": "url_citation", "url": "https://a.example", "title": "A", "start_index": 1,
        "end_index": 4,
    }  # fmt: skip
    cited = build(
        ResponseOutputTextAnnotationAddedEvent, "response.output_text.annotation.added",
        item_id="msg_1", output_index=0, content_index=0, annotation_index=0,
        annotation=annotation,
    )  # fmt: skip
    image = {"id": "ig_1", "type": "image_generation_call", "result": "iVBO", "status": "completed"}
    heard = await hear(CREATED, added(MESSAGE), refusal, cited, done(image, 1), COMPLETED)
    assert heard.text == "I won't."
    assert heard.of(Citation) == [Citation("https://a.example", "A", None, 1, 4)]
    assert heard.of(FileOutput) == [FileOutput("image/png", "iVBO")]
    assert heard.chunks[-1] == End("content_filter")


async def test_an_item_of_a_tool_of_the_provider_is_kept_for_the_next_request(hear: Listen) -> None:
    search = {"id": "ws_1", "type": "web_search_call", "action": {"type": "search", "query": "a"}}
    heard = await hear(CREATED, done({**search, "status": "completed"}), COMPLETED)
    (kept,) = heard.of(Reasoning)
    assert kept.state.data["item"]["id"] == "ws_1"
    assert heard.chunks[-1] == End("stop")


async def test_probabilities(hear: Listen) -> None:
    logprobs = [{"token": "Hi", "logprob": -0.5, "bytes": [], "top_logprobs": []}]
    events = (CREATED, added(MESSAGE), text("Hi", logprobs), COMPLETED)
    heard = await hear(*events, top_logprobs=1)
    assert heard.of(Token) == [Token("Hi", math.exp(-0.5), logprobs=(TokenLogprob("Hi", -0.5),))]
    assert (await hear(*events, confidence=True)).of(Token) == [Token("Hi", math.exp(-0.5))]


@pytest.mark.parametrize(
    ("reason", "end"),
    [
        ("max_output_tokens", End("length")),
        ("content_filter", End("content_filter")),
        ("steered", End("stop", native_reason="steered")),
    ],
)
async def test_an_incomplete_response(hear: Listen, reason: str, end: End) -> None:
    last = build(
        ResponseIncompleteEvent, "response.incomplete",
        response={**RESPONSE, "status": "incomplete", "incomplete_details": {"reason": reason}},
    )  # fmt: skip
    heard = await hear(CREATED, added(MESSAGE), text("Once"), last)
    assert (heard.text, heard.chunks[-1]) == ("Once", end)


FAILED = build(
    ResponseFailedEvent, "response.failed",
    response={**RESPONSE, "status": "failed",
              "error": {"code": "server_error", "message": "the model crashed"}},
)  # fmt: skip


def error(code: str, message: str) -> bytes:
    return build(ResponseErrorEvent, "error", code=code, message=message, param=None)


@pytest.mark.parametrize(
    ("events", "kind", "words"),
    [
        ([FAILED], ServerError, "the model crashed"),
        ([error("rate_limit_exceeded", "slow down")], RateLimitError, "slow down"),
        ([error("context_length_exceeded", "too long")], ContextLengthError, "too long"),
        ([b'data: {"error": {"message": "bad", "type": "server_error"}}\n\n'], ServerError, "bad"),
        ([b"event: error\ndata: the server is down\n\n"], ServerError, "the server is down"),
        ([b"data: [DONE]\n\n"], TruncatedStreamError, "ended early"),
        ([], TruncatedStreamError, "ended early"),
        ([b"data: {\n\n"] * 3, MalformedStreamError, "malformed"),
    ],
)
async def test_failures(hear: Listen, events: list[bytes], kind: type, words: str) -> None:
    heard = await hear(CREATED, added(MESSAGE), text("Once"), *events)
    assert heard.text == "Once"
    assert isinstance(heard.error, kind)
    assert words in str(heard.error)


async def test_an_empty_body_and_a_cancelled_response(hear: Listen) -> None:
    assert isinstance((await hear()).error, EmptyStreamError)
    cancelled = COMPLETED.replace(b'"status":"completed"', b'"status":"cancelled"')
    assert isinstance((await hear(CREATED, cancelled)).error, AbortedStreamError)


async def test_events_of_unknown_types_and_of_other_forms(hear: Listen) -> None:
    heard = await hear(
        CREATED, b'data: {"type": "response.something.new", "delta": "x"}\n\n', b"data: [1]\n\n",
        b'data: {"type": "response.output_text.delta", "delta": ["a", 1], "output_index": "0"}\n\n',
        COMPLETED,
    )  # fmt: skip
    assert (heard.text, heard.error) == ("a1", None)


def body_of(prompt: Any = "Hi", name: str = "openai", **options: Any) -> dict[str, Any]:
    body = responses_body(as_request(prompt, **options), "gpt", PROVIDERS[name])
    TypeAdapter(ResponseCreateParamsStreaming).validate_python(
        msgspec.json.decode(msgspec.json.encode(body))
    )
    return body


def test_a_minimal_request() -> None:
    assert body_of() == {
        "model": "gpt",
        "input": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "store": False,
        "include": ["reasoning.encrypted_content"],
    }


def test_all_options() -> None:
    body = body_of(
        max_tokens=5, temperature=0, top_p=0.5, top_logprobs=2, reasoning="high", cache="mine",
        tools=[Tool("look", "Look.", {"type": "object", "properties": {}})], tool_choice="look",
        parallel_tool_calls=False, response_format={"type": "object"},
        extra={"service_tier": "flex"},
    )  # fmt: skip
    assert (body["max_output_tokens"], body["temperature"], body["top_p"]) == (5, 0, 0.5)
    assert body["include"] == ["reasoning.encrypted_content", "message.output_text.logprobs"]
    assert body["reasoning"] == {"effort": "high", "summary": "auto"}
    assert (body["prompt_cache_key"], body["service_tier"]) == ("mine", "flex")
    assert body["tool_choice"] == {"type": "function", "name": "look"}
    assert body["tools"][0]["name"] == "look"
    assert body["text"]["format"]["schema"] == {"type": "object"}
    assert body["parallel_tool_calls"] is False
    assert body_of(reasoning="none")["reasoning"] == {"effort": "none"}
    assert body_of(response_format="json")["text"] == {"format": {"type": "json_object"}}


def test_a_model_that_does_not_reason_is_not_asked_for_its_reasoning() -> None:
    plain = msgspec.structs.replace(PROVIDERS["openai"], reasoning=False)
    assert "include" not in responses_body(as_request("Hi"), "gpt-4o", plain)


def test_a_history() -> None:
    known = ProviderState("openai", "gpt", {"item": THOUGHT})
    spoken = ProviderState("openai", "gpt", {"message": {"phase": "commentary"}})
    call = ToolCall("call_1", "look", '{"at": 1}', complete=True)
    parts = (ReasoningPart("Hm.", known), TextPart("Wait.", spoken), TextPart("Look."))
    history = [
        Message("system", "Be brief."),
        Message("user", (
            TextPart("What is it?"), ImagePart(url="https://a.example/b.png"),
            FilePart(data=b"%PDF", name="a.pdf"), FilePart(url="https://a.example/c.pdf"),
        )),
        Message("assistant", parts, tool_calls=(call,)),
        Message("tool", "snow", tool_call_id="call_1"),
    ]  # fmt: skip
    assert body_of(history)["input"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [
            {"type": "input_text", "text": "What is it?"},
            {"type": "input_image", "image_url": "https://a.example/b.png", "detail": "auto"},
            {"type": "input_file", "filename": "a.pdf",
             "file_data": "data:application/pdf;base64,JVBERg=="},
            {"type": "input_file", "file_url": "https://a.example/c.pdf"},
        ]},
        THOUGHT,
        {"role": "assistant", "content": "Wait.", "phase": "commentary"},
        {"role": "assistant", "content": "Look."},
        {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": '{"at": 1}'},
        {"type": "function_call_output", "call_id": "call_1", "output": "snow"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("prompt", "options", "field"),
    [
        ("Hi", {"stop": ["a"]}, "stop"),
        ("Hi", {"seed": 1}, "seed"),
        ("Hi", {"frequency_penalty": 1}, "frequency_penalty"),
        ("Hi", {"logit_bias": {"1": 1}}, "logit_bias"),
        ([Message("user", "Hi", name="Ann")], {}, None),
        ([Message("user", "Hi"), Message("assistant", "Once")], {}, "messages"),
        ([Message("user", (FilePart(data=b"OggS"),))], {}, None),
    ],
)
def test_what_this_api_does_not_support(prompt: Any, options: Any, field: str | None) -> None:
    with pytest.raises(UnsupportedError) as caught:
        body_of(prompt, **options)
    assert caught.value.field == field
    with pytest.raises(BadRequestError, match="tool_call_id"):
        body_of([Message("tool", "a")])


LOOKS: list[bytes] = [
    CREATED, added(THOUGHT), summary("Hm."), done(THOUGHT), added(CALL, 1),
    done({**CALL, "arguments": "{}"}, 1), COMPLETED,
]  # fmt: skip
TELLS: list[bytes] = [CREATED, added(MESSAGE), text("It snows."), done(MESSAGE), COMPLETED]


async def test_the_reasoning_of_an_answer_comes_back_with_the_next_request() -> None:
    async with StrictServer(strict_native_providers.responses, LOOKS, TELLS) as server:
        model = rxllm.model(NAME, api_key="k", base_url=server.url)
        said = (await model.stream("Go", tools=[Tool("look")])).message
        result = Message("tool", "snow", tool_call_id="call_1")
        assert (await model.stream([Message("user", "Go"), said, result])).text == "It snows."
    assert server.refused == []
    sent = server.bodies[1]["input"]
    assert [item.get("type") for item in sent] == [
        None, "reasoning", "function_call", "function_call_output",
    ]  # fmt: skip
    assert sent[1] == THOUGHT


async def test_reasoning_that_was_cut_off_or_is_of_another_model_would_be_refused() -> None:
    cut = [CREATED, added(THOUGHT), summary("Hm."), done(THOUGHT), COMPLETED]
    rules = strict_native_providers.responses
    async with StrictServer(rules, LOOKS, cut, TELLS, TELLS) as server:
        model = rxllm.model(NAME, api_key="k", base_url=server.url)
        history = [Message("user", "Go"), (await model.stream("Go", tools=[Tool("look")])).message]
        history.append(Message("tool", "snow", tool_call_id="call_1"))
        history.append((await model.stream(history)).message)
        again = [*history, Message("user", "Well?")]
        assert (await model.stream(again)).text == "It snows."
        other = rxllm.model(
            "openai/gpt-other", api_key="k", base_url=server.url, wire="openai_responses"
        )
        assert (await other.stream(again)).text == "It snows."
    assert server.refused == []
    assert "encrypted_content" not in str(server.bodies[3]["input"])


async def test_tokens_are_counted_by_openai_itself() -> None:
    reply = Reply([b'{"object": "response.input_tokens", "input_tokens": 11}'])
    async with FaultServer(reply) as server:
        model: Any = rxllm.model(NAME, api_key="k", base_url=server.url)
        assert await model.count_tokens("Hi") == rxllm.TokenCount(11)
    (request,) = server.requests
    assert request.path == "/v1/responses/input_tokens"
    assert set(request.json()) == {"model", "input"}


async def test_an_answer_that_comes_only_with_the_last_event(hear: Listen) -> None:
    message = {**MESSAGE, "content": [{"type": "output_text", "text": "Yes.", "annotations": []}]}
    output = [THOUGHT, message, {**CALL, "arguments": "{}"}]
    response = {**RESPONSE, "status": "completed", "usage": USAGE, "output": output}
    last = build(ResponseCompletedEvent, "response.completed", response=response)
    heard = await hear(CREATED, last)
    assert (heard.text, heard.of(ToolCall)[-1].complete) == ("Yes.", True)
    assert heard.of(Reasoning)[0] == Reasoning("Hm.")
    assert heard.chunks[-1] == End("tool_calls")
    seen = await hear(CREATED, added(MESSAGE), text("Yes."), done(message), last)
    assert (seen.text, seen.of(ToolCall)) == ("Yes.", heard.of(ToolCall))


async def test_a_refusal_and_arguments_without_deltas(hear: Listen) -> None:
    refusal = b'data: {"type": "response.refusal.done", "refusal": "No."}\n\n'
    heard = await hear(CREATED, added(MESSAGE), refusal, COMPLETED)
    assert (heard.text, heard.chunks[-1]) == ("No.", End("content_filter"))
    given = (
        b'data: {"type": "response.function_call_arguments.done", "output_index": 0, '
        b'"arguments": "{}"}\n\n'
    )
    heard = await hear(CREATED, added(CALL), given, COMPLETED)
    assert heard.of(ToolCall)[-1] == ToolCall("call_1", "look", "{}", complete=True)
    heard = await hear(CREATED, added(CALL), arguments("{}"), COMPLETED)
    assert heard.of(ToolCall)[-1].complete


async def test_items_of_built_in_tools_come_back_as_they_came(hear: Listen) -> None:
    search = {
        "id": "ws_1", "type": "web_search_call", "status": "completed",
        "action": {"type": "search", "query": "a"},
    }  # fmt: skip
    raw = {"type": "response.output_item.done", "output_index": 0, "item": search}
    heard = await hear(CREATED, b"data: " + msgspec.json.encode(raw) + b"\n\n", COMPLETED)
    (kept,) = heard.of(Reasoning)
    known = ProviderState("openai", "gpt", kept.state.data)
    said = Message("assistant", (ReasoningPart("", known), TextPart("Yes.")))
    sent = body_of([Message("user", "Hi"), said, Message("user", "On")])["input"]
    assert sent[1]["status"] == "completed"


def test_reasoning_without_what_follows_it_is_left_out() -> None:
    known = ProviderState("openai", "gpt", {"item": THOUGHT})
    cut = Message("assistant", (ReasoningPart("Hm.", known),))
    sent = body_of([Message("user", "Hi"), cut, Message("user", "On")])["input"]
    assert [item["role"] for item in sent] == ["user", "user"]


def raw(kind: str, **fields: Any) -> bytes:
    """An event that the SDK's types don't allow."""
    data = msgspec.json.encode({"type": kind, **fields})
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)


def completed(*output: dict[str, Any], **fields: Any) -> bytes:
    response = {**RESPONSE, "status": "completed", "output": list(output), **fields}
    return build(ResponseCompletedEvent, "response.completed", response=response)


def incomplete(details: Any = None, **fields: Any) -> bytes:
    response = {**RESPONSE, "status": "incomplete", "incomplete_details": details, **fields}
    return raw("response.incomplete", response=response)


def ended(given: str, index: int = 0) -> bytes:
    return build(
        ResponseFunctionCallArgumentsDoneEvent, "response.function_call_arguments.done",
        item_id="fc_1", output_index=index, arguments=given,
    )  # fmt: skip


CUT = incomplete({"reason": "max_output_tokens"})
CALLED = {**CALL, "arguments": '{"at": 1}'}
WHOLE_CALL = ToolCall("call_1", "look", '{"at": 1}', complete=True)
DELTAS = "response.function_call_arguments.delta"


@pytest.mark.parametrize(
    "events",
    [
        [added(CALL), raw(DELTAS, output_index=0, delta={"at": 1})],
        [added(CALL), raw(DELTAS, item_id="fc_1", delta='{"at": 1}')],
        [added(CALLED), arguments('{"at"'), arguments(": 1}")],
        [added(CALLED), arguments('{"at": 1}'), ended('{"at": 1}'), done(CALLED)],
        [added({**CALL, "arguments": "{}"}), arguments('{"at": 1}')],
        [added({**CALL, "arguments": '{"at"'}), arguments(": 1}")],
        [added(CALLED)],
        [added(CALL), ended(""), done(CALLED)],
        [added({**CALL, "name": ""}), arguments('{"at": 1}'), done(CALLED)],
        [arguments('{"at"'), arguments(": 1}"), done(CALLED)],
        [arguments('{"at"'), added(CALL), arguments(": 1}")],
        [arguments('{"at"'), added(CALLED), arguments(": 1}")],
        [added(CALL, 1), raw(DELTAS, delta='{"at": 1}')],
        [done(CALLED)],
        [done(CALLED), done(CALLED)],
        [added(CALL), added(CALL), done(CALLED)],
        [raw("response.output_item.done", item=CALLED)],
        [added(CALL), raw("response.output_item.done", item=CALLED)],
        [added(CALL, 1), arguments('{"at"'), done(CALLED, 1)],
        [added(MESSAGE, 0), added(CALL, 1), arguments('{"at": 1}'), done(CALLED, 1)],
    ],
)
@pytest.mark.parametrize("output", [[], [CALLED]])
async def test_arguments_count_once(
    hear: Listen, events: list[bytes], output: list[dict[str, Any]]
) -> None:
    heard = await hear(CREATED, *events, completed(*output))
    assert [each for each in heard.of(ToolCall) if each.complete] == [WHOLE_CALL]
    assert {(each.id, each.index) for each in heard.of(ToolCall)} == {("call_1", 0)}
    assert (heard.chunks[-1], heard.error) == (End("tool_calls"), None)


async def test_arguments_may_come_at_their_end_alone(hear: Listen) -> None:
    heard = await hear(CREATED, added(CALL), completed(CALLED))
    assert heard.of(ToolCall) == [ToolCall("call_1", "look"), WHOLE_CALL]
    heard = await hear(CREATED, added(CALL), ended('{"at": 1}'), CUT)
    assert heard.of(ToolCall)[-1] == WHOLE_CALL


@pytest.mark.parametrize(
    ("events", "given"),
    [
        ([added(CALL), CUT], ""),
        ([added(CALL), arguments('{"at"'), CUT], '{"at"'),
        ([added(CALL), ended(""), CUT], ""),
        ([added({**CALL, "arguments": "{}"}), CUT], "{}"),
        ([added(CALL), COMPLETED], ""),
        ([added(CALL), incomplete({"reason": "max_output_tokens"}, output=[
            {**CALL, "status": "incomplete"}])], ""),
        ([arguments("{}"), COMPLETED], "{}"),
    ],
)  # fmt: skip
async def test_a_call_that_was_cut_off_is_not_complete(
    hear: Listen, events: list[bytes], given: str
) -> None:
    heard = await hear(CREATED, *events)
    assert not any(each.complete for each in heard.of(ToolCall))
    assert len({each.id for each in heard.of(ToolCall)}) == 1
    assert heard.of(ToolCall)[-1].arguments == given
    assert heard.chunks[-1] == End("length" if events[-1] != COMPLETED else "tool_calls")


@pytest.mark.parametrize(
    "events",
    [
        [added(CALL), done(CALL), CUT],
        [added(CALL), ended(""), COMPLETED],
        [added(CALL), completed({**CALL, "status": "completed"})],
        [done(CALL), COMPLETED],
    ],
)
async def test_arguments_that_ended_empty_are_complete(hear: Listen, events: list[bytes]) -> None:
    heard = await hear(CREATED, *events)
    assert heard.of(ToolCall)[-1] == ToolCall("call_1", "look", "{}", complete=True)


@pytest.mark.parametrize("index", [{}, {"output_index": 0}])
@pytest.mark.parametrize("given", [None, "", "null"])
async def test_calls_without_an_id_get_one(hear: Listen, given: Any, index: Any) -> None:
    call = {"type": "function_call", "call_id": given, "name": "look", "arguments": "{}"}
    begins = raw("response.output_item.added", item={**call, "arguments": ""}, **index)
    ends = raw("response.output_item.done", item=call, **index)
    heard = await hear(CREATED, begins, ends, begins, ends, COMPLETED)
    first, second = (each for each in heard.of(ToolCall) if each.complete)
    assert first.id.startswith("call_")
    assert len({each.id for each in heard.of(ToolCall)}) == 2
    assert (first.index, second.index, second.id[:5]) == (0, 1, "call_")


@pytest.mark.parametrize("with_start", [False, True])
async def test_calls_with_the_same_id_are_told_apart(hear: Listen, with_start: bool) -> None:
    starts = [added(CALL), added(CALL, 1)] if with_start else []
    other = {**CALLED, "arguments": "[]"}
    heard = await hear(CREATED, *starts, done(CALLED), done(other, 1), completed(CALLED, other))
    first, second = (each for each in heard.of(ToolCall) if each.complete)
    assert first == WHOLE_CALL
    assert (second.arguments, second.index) == ("[]", 1)
    assert second.id.startswith("call_")
    assert second.id != "call_1"


async def test_calls_whose_events_have_no_index_are_told_apart_by_their_ids(hear: Listen) -> None:
    other = {**CALLED, "id": "fc_2", "call_id": "call_2"}
    heard = await hear(
        CREATED, *(raw("response.output_item.added", item={**each, "arguments": ""})
                   for each in (CALLED, other)),
        raw(DELTAS, item_id="fc_1", delta='{"at": 1}'), raw(DELTAS, item_id="fc_2", delta="[]"),
        raw("response.output_item.done", item={**CALLED, "arguments": ""}),
        raw("response.output_item.done", item={**other, "arguments": ""}), COMPLETED,
    )  # fmt: skip
    assert [each for each in heard.of(ToolCall) if each.complete] == [
        WHOLE_CALL, ToolCall("call_2", "look", "[]", 1, True),
    ]  # fmt: skip


CITED = {
    "type": "url_citation", "url": "https://a.example", "title": "A", "start_index": 0,
    "end_index": 4,
}  # fmt: skip
PART: dict[str, Any] = {"type": "output_text", "text": "Once upon", "annotations": [CITED]}
TOLD = {**MESSAGE, "content": [PART]}
CITATION = Citation("https://a.example", "A", None, 0, 4)


def part(name: str, fields: dict[str, Any], index: int = 0) -> bytes:
    kind = {"added": ResponseContentPartAddedEvent, "done": ResponseContentPartDoneEvent}[name]
    return build(
        kind, f"response.content_part.{name}", item_id="msg_1", output_index=0,
        content_index=index, part=fields,
    )  # fmt: skip


def cite(annotation: Any) -> bytes:
    return build(
        ResponseOutputTextAnnotationAddedEvent, "response.output_text.annotation.added",
        item_id="msg_1", output_index=0, content_index=0, annotation_index=0,
        annotation=annotation,
    )  # fmt: skip


def unnamed(item: dict[str, Any], index: int = 0) -> bytes:
    """The end of an item that has no id."""
    item = {name: value for name, value in item.items() if name != "id"}
    return raw("response.output_item.done", item=item, output_index=index)


TEXT_DELTA = "response.output_text.delta"
EMPTY_PART = {**PART, "text": "", "annotations": []}
TEXT_DONE = build(
    ResponseTextDoneEvent, "response.output_text.done", item_id="msg_1", output_index=0,
    content_index=0, text="Once upon", logprobs=[],
)  # fmt: skip


@pytest.mark.parametrize(
    "events",
    [
        [done(TOLD)],
        [added(MESSAGE), done(TOLD)],
        [added(TOLD)],
        [added(TOLD), text("Once "), text("upon")],
        [added(TOLD), text("Once "), text("upon"), done(TOLD)],
        [added(MESSAGE), part("done", PART)],
        [added(MESSAGE), part("added", PART)],
        [added(MESSAGE), part("added", PART), text("Once "), text("upon"), TEXT_DONE],
        [added(MESSAGE), part("added", {**PART, "text": "Once "}), text("upon"), done(TOLD)],
        [added(MESSAGE), part("added", PART), TEXT_DONE, part("done", PART), done(TOLD)],
        [added(MESSAGE), part("added", EMPTY_PART), text("Once "), text("upon"), cite(CITED),
         TEXT_DONE, part("done", PART), done(TOLD)],
        [added(MESSAGE), text("Once upon"), done(TOLD)],
        [added(MESSAGE), raw(TEXT_DELTA, delta="Once upon"), done(TOLD)],
        [raw(TEXT_DELTA, delta="Once upon")],
        [raw(TEXT_DELTA, delta="Once upon"), unnamed(TOLD), unnamed(TOLD)],
        [text("Once upon"), done(TOLD, 1)],
        [text("Once upon"), raw("response.output_item.done", item=TOLD)],
        [raw(TEXT_DELTA, delta="Once upon"), done(TOLD)],
        [raw("response.output_item.done", item={**MESSAGE, "content": PART})],
        [added(THOUGHT), done(THOUGHT), added(MESSAGE, 1), text("Once upon"), done(TOLD, 1)],
    ],
)  # fmt: skip
@pytest.mark.parametrize("output", [[], [TOLD], [THOUGHT, TOLD]])
async def test_text_and_citations_count_once(
    hear: Listen, events: list[bytes], output: list[dict[str, Any]]
) -> None:
    events = [*events, *([] if output else [cite(CITED), cite(CITED)])]
    heard = await hear(CREATED, *events, completed(*output))
    assert (heard.text, heard.error) == ("Once upon", None)
    assert heard.of(Citation) == [CITATION]
    assert [each for each in heard.of(Token) if each.state] == []
    assert heard.chunks[-1] == End("stop")


async def test_text_at_the_index_of_the_reasoning_counts_once(hear: Listen) -> None:
    astray = raw(TEXT_DELTA, output_index=0, delta="Once upon")
    heard = await hear(CREATED, added(THOUGHT), astray, unnamed(TOLD, 1), COMPLETED)
    assert (heard.text, heard.of(Citation)) == ("Once upon", [CITATION])


async def test_annotations_may_come_with_the_start_of_an_item(hear: Listen) -> None:
    heard = await hear(CREATED, added(TOLD), text("Once upon"), COMPLETED)
    assert (heard.text, heard.of(Citation)) == ("Once upon", [CITATION])


async def test_text_in_a_part_of_an_unknown_type_is_read(hear: Listen) -> None:
    new = raw("response.content_part.done", part={"type": "new", "text": "Once"})
    heard = await hear(CREATED, added(MESSAGE), new, COMPLETED)
    assert (heard.text, heard.of(Notice)) == ("Once", [])


async def test_the_second_part_of_a_message_may_come_without_deltas(hear: Listen) -> None:
    refusal = {"type": "refusal", "refusal": " No."}
    heard = await hear(
        CREATED, added(MESSAGE), text("Once upon"), done({**MESSAGE, "content": [PART, refusal]}),
        COMPLETED,
    )  # fmt: skip
    assert (heard.text, heard.chunks[-1]) == ("Once upon No.", End("content_filter"))
    plain = raw("response.output_item.done", item={**MESSAGE, "content": "Once"})
    assert (await hear(CREATED, plain, COMPLETED)).text == "Once"


async def test_messages_without_an_index_are_told_apart(hear: Listen) -> None:
    begins = raw("response.output_item.added", item=MESSAGE)
    ends = raw("response.output_item.done", item=TOLD)
    whole = raw("response.output_item.done", item={**TOLD, "id": "msg_2"})
    heard = await hear(CREATED, begins, text("Once upon"), ends, whole, COMPLETED)
    assert [each.text for each in heard.of(Token)] == ["Once upon", "", "Once upon"]
    assert len(heard.of(Citation)) == 2


def told(name: str, given: str) -> dict[str, Any]:
    return {**MESSAGE, "id": name, "content": [{**PART, "text": given, "annotations": []}]}


ONE, TWO = told("m_1", "One."), told("m_2", "Two.")


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([done(ONE), done(TWO)], ["One.", "Two."]),
        ([added(told("m_1", "")), raw(TEXT_DELTA, item_id="m_1", output_index=0, delta="One."),
          added(told("m_2", "")), raw(TEXT_DELTA, item_id="m_2", output_index=0, delta="Two.")],
         ["One.", "Two."]),
        ([done(TWO), completed(ONE, TWO)], ["Two.", "One."]),
        ([unnamed(TWO, 1), raw("response.completed", response={"output": [
            {"type": "message", "content": "One."}, {"type": "message", "content": "Two."}]})],
         ["Two.", "One."]),
    ],
)  # fmt: skip
async def test_messages_with_wrong_indices_are_told_apart(
    hear: Listen, events: list[bytes], said: list[str]
) -> None:
    heard = await hear(CREATED, *events, COMPLETED)
    assert [each.text for each in heard.of(Token)] == [said[0], "", said[1]]


async def test_calls_with_the_same_index_are_told_apart(hear: Listen) -> None:
    other = {**CALL, "id": "fc_2", "call_id": "call_2"}
    there = {**other, "arguments": "[]"}
    second = ToolCall("call_2", "look", "[]", 1, True)
    heard = await hear(CREATED, added(CALL), added(other), done(CALLED), done(there), COMPLETED)
    assert [each for each in heard.of(ToolCall) if each.complete] == [WHOLE_CALL, second]
    assert len({each.id for each in heard.of(ToolCall)}) == 2
    heard = await hear(CREATED, added(CALL), done(there), COMPLETED)
    assert heard.of(ToolCall)[-2:] == [second, ToolCall("call_1", "look")]
    heard = await hear(CREATED, done(CALLED), completed({**there, "status": "completed"}))
    assert [each for each in heard.of(ToolCall) if each.complete] == [WHOLE_CALL, second]


async def test_text_that_is_whole_has_probabilities(hear: Listen) -> None:
    logprobs = [{"token": "Hi", "logprob": -0.5, "bytes": [], "top_logprobs": []}]
    whole = {"type": "output_text", "text": "Hi", "annotations": [], "logprobs": logprobs}
    heard = await hear(CREATED, done({**MESSAGE, "content": [whole]}), COMPLETED, top_logprobs=1)
    assert heard.of(Token) == [Token("Hi", math.exp(-0.5), logprobs=(TokenLogprob("Hi", -0.5),))]


THINKS = {**THOUGHT, "summary": [{"type": "summary_text", "text": each} for each in ("Hm.", "Ah.")]}


SUMMARY_DELTA = "response.reasoning_summary_text.delta"


def summed(given: str, index: int = 0) -> bytes:
    return build(
        ResponseReasoningSummaryTextDoneEvent, "response.reasoning_summary_text.done",
        item_id="rs_1", output_index=0, summary_index=index, text=given,
    )  # fmt: skip


def paragraph(given: str, index: int = 0) -> bytes:
    return build(
        ResponseReasoningSummaryPartAddedEvent, "response.reasoning_summary_part.added",
        item_id="rs_1", output_index=0, summary_index=index,
        part={"type": "summary_text", "text": given},
    )  # fmt: skip


@pytest.mark.parametrize(
    "events",
    [
        [],
        [done(THINKS)],
        [added(THINKS)],
        [added(THINKS), done(THINKS)],
        [added(THOUGHT), summed("Hm."), summed("Ah.", 1)],
        [paragraph("Hm."), paragraph("Ah.", 1)],
        [paragraph(""), summary("Hm."), summed("Hm."), paragraph("", 1), summed("Ah.", 1),
         done(THINKS)],
        [summary("Hm."), done(THINKS)],
        [summary("Hm."), raw(SUMMARY_DELTA, summary_index=1, delta="Ah."), done(THINKS)],
    ],
)  # fmt: skip
async def test_the_summary_of_reasoning_counts_once(hear: Listen, events: list[bytes]) -> None:
    heard = await hear(CREATED, *events, completed(THINKS))
    assert heard.of(Reasoning) == [
        Reasoning("Hm."), Reasoning("\n\n"), Reasoning("Ah."), Reasoning("", state(item=THINKS)),
    ]  # fmt: skip


async def test_the_text_of_reasoning_counts_once(hear: Listen) -> None:
    item = {**THOUGHT, "summary": [], "content": [{"type": "reasoning_text", "text": "raw"}]}
    whole = build(
        ResponseReasoningTextDoneEvent, "response.reasoning_text.done", item_id="rs_1",
        output_index=0, content_index=0, text="raw",
    )  # fmt: skip
    ends = part("done", {"type": "reasoning_text", "text": "raw"})
    begins = part("added", {"type": "reasoning_text", "text": "raw"})
    for events in ([whole], [ends], [begins], [done(item)], [whole, ends, done(item)]):
        heard = await hear(CREATED, *events, completed(item))
        assert heard.of(Reasoning) == [Reasoning("raw"), Reasoning("", state(item=item))]
        assert heard.text == ""


async def test_surrogates_are_joined_in_what_comes_whole(hear: Listen) -> None:
    half = b'data: {"type": "response.output_text.done", "text": "a\\ud83e"}\n\n'
    assert (await hear(CREATED, half, COMPLETED)).text == "a\ufffd"


def json_error(data: bytes, kind: bytes = b"error") -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind, data)


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (json_error(b"{}"), "openai"),
        (json_error(b'{"cause": "oom"}'), "oom"),
        (json_error(b'{"type": "response.output_text.delta", "delta": "oom"}'), "openai"),
        (json_error(b" "), "openai"),
        (raw("response.error", message="oom"), "oom"),
        (raw("exception", message="oom"), "oom"),
        (raw("response.something.new", code=500, message="oom"), "oom"),
        (raw("response.completed", response={**RESPONSE, "status": "FAILED"}), "failed"),
        (raw("response.completed", response={"error": {"code": "x", "message": "oom"}}), "oom"),
        (raw("response.completed", response={"error": "oom"}), "oom"),
        (raw("response.completed", error={"message": "oom"}), "oom"),
        (raw("response.incomplete", response={"error": {"message": "oom"}}), "oom"),
        (raw("response.in_progress", response={"error": {"message": "oom"}}), "oom"),
        (raw("response.failed", error={"message": "oom"}), "oom"),
        (raw("response.failed", error=True, message="oom"), "oom"),
        (raw("response.failed", message="oom"), "oom"),
        (raw("response.failed", response={"error": True, "message": "oom"}), "oom"),
        (raw("response.failed", response={"error": True}, message="oom"), "oom"),
        (raw("response.failed", response={"error": None, "status": "failed"}), "failed"),
        (raw("response.failed"), "the response failed"),
    ],
)
@pytest.mark.parametrize("has_begun", [True, False])
async def test_reported_errors(hear: Listen, event: bytes, words: str, has_begun: bool) -> None:
    begins = [CREATED, added(MESSAGE), text("Once")] if has_begun else []
    heard = await hear(*begins, event, COMPLETED)
    assert isinstance(heard.error, ServerError)
    assert words in str(heard.error)
    assert heard.of(End) == []
    assert len(heard.of(Start)) == has_begun


async def test_an_error_beside_text(hear: Listen) -> None:
    both = raw("response.output_text.delta", delta=" upon", error={"message": "oom"})
    heard = await hear(CREATED, text("Once"), both, COMPLETED)
    assert (heard.text, str(heard.error)[-3:]) == ("Once upon", "oom")
    plain = raw("response.output_text.delta", delta=" upon", error={})
    assert (await hear(CREATED, text("Once"), plain, COMPLETED)).text == "Once upon"


LIMIT: dict[str, Any] = {"max_output_tokens": 7, "usage": USAGE}
UNKNOWN = End("stop", native_reason="incomplete")


@pytest.mark.parametrize(
    ("last", "end"),
    [
        (incomplete({"reason": "MAX_OUTPUT_TOKENS"}), End("length")),
        (incomplete({"reason": "Content_Filter"}), End("content_filter")),
        (incomplete("max_output_tokens"), End("length")),
        (incomplete(), UNKNOWN),
        (incomplete({"reason": None}), UNKNOWN),
        (incomplete(**LIMIT), End("length")),
        (incomplete(**{**LIMIT, "max_output_tokens": 8}), UNKNOWN),
        (incomplete(usage=USAGE), UNKNOWN),
        (completed(status="incomplete"), UNKNOWN),
        (raw("response.incomplete"), UNKNOWN),
        (completed(**LIMIT), End("stop")),
    ],
)
async def test_the_reasons_of_an_end(hear: Listen, last: bytes, end: End) -> None:
    assert (await hear(CREATED, text("Once"), last)).chunks[-1] == end


async def test_the_limit_of_the_request_is_known(hear: Listen) -> None:
    last = incomplete(usage=USAGE)
    assert (await hear(CREATED, text("Once"), last, max_tokens=7)).chunks[-1] == End("length")
    assert (await hear(CREATED, text("Once"), last, max_tokens=8)).chunks[-1] == UNKNOWN


@pytest.mark.parametrize("reason", ["error", "SERVER_ERROR"])
async def test_a_response_that_was_given_up(hear: Listen, reason: str) -> None:
    heard = await hear(CREATED, text("Once"), incomplete({"reason": reason}))
    assert isinstance(heard.error, AbortedStreamError)
    assert heard.text == "Once"


@pytest.mark.parametrize(
    ("annotation", "citation"),
    [
        ({"type": "file_citation", "file_id": "f_1", "filename": "a.pdf", "index": 3},
         Citation(title="a.pdf")),
        ({"type": "file_path", "file_id": "f_1", "index": 3}, Citation(title="f_1")),
        ({"type": "container_file_citation", "container_id": "c_1", "file_id": "f_1",
          "filename": "a.csv", "start_index": 1, "end_index": 4},
         Citation(title="a.csv", start=1, end=4)),
    ],
)  # fmt: skip
async def test_files_are_cited(hear: Listen, annotation: Any, citation: Citation) -> None:
    heard = await hear(CREATED, added(MESSAGE), text("Once"), cite(annotation), COMPLETED)
    assert heard.of(Citation) == [citation]
    content = [{**PART, "text": "Once", "annotations": [annotation]}]
    heard = await hear(CREATED, done({**MESSAGE, "content": content}), COMPLETED)
    assert heard.of(Citation) == [citation]


async def test_annotations_of_other_forms(hear: Listen) -> None:
    name = "response.output_text.annotation.added"
    for annotation in (
        {"type": "url_citation", "url_citation": "http://a"},
        {"type": "url_citation", "url_citation": {"url": "http://a"}},
        {"type": "new", "url": "http://a"},
        "http://a",
    ):
        heard = await hear(CREATED, text("Once"), raw(name, annotation=annotation), COMPLETED)
        assert heard.of(Citation) == [Citation("http://a")]
    unknown = raw(name, annotation={"type": "new", "place": 4})
    heard = await hear(CREATED, text("Once"), unknown, raw(name, annotation=None), COMPLETED)
    assert (heard.of(Citation), len(heard.of(Notice))) == ([], 1)
    assert heard.of(Notice)[0].kind == "unsupported"
    assert "'new'" in heard.of(Notice)[0].error.message


CUSTOM: dict[str, Any] = {
    "id": "ctc_1", "type": "custom_tool_call", "call_id": "call_1", "name": "patch", "input": "",
}  # fmt: skip
PATCH = 'say "hi"\n'


def typed(delta: str) -> bytes:
    return build(
        ResponseCustomToolCallInputDeltaEvent, "response.custom_tool_call_input.delta",
        item_id="ctc_1", output_index=0, delta=delta,
    )  # fmt: skip


@pytest.mark.parametrize(
    "events",
    [
        [added(CUSTOM), typed("say "), typed('"hi"\n'), done({**CUSTOM, "input": PATCH})],
        [added(CUSTOM), typed(PATCH), build(
            ResponseCustomToolCallInputDoneEvent, "response.custom_tool_call_input.done",
            item_id="ctc_1", output_index=0, input=PATCH)],
        [done({**CUSTOM, "input": PATCH})],
        [added({**CUSTOM, "input": PATCH}), typed(PATCH), done({**CUSTOM, "input": ""})],
    ],
)  # fmt: skip
async def test_a_call_of_a_custom_tool(hear: Listen, events: list[bytes]) -> None:
    heard = await hear(CREATED, *events, COMPLETED)
    last = heard.of(ToolCall)[-1]
    assert msgspec.json.decode(last.arguments) == {"input": PATCH}
    assert last.complete
    assert (last.id, last.name, last.index) == ("call_1", "patch", 0)
    assert last.state == state(type="custom_tool_call")
    assert sum(each.complete for each in heard.of(ToolCall)) == 1
    for each in heard.of(ToolCall)[:-1]:
        assert last.arguments.startswith(each.arguments)
    assert heard.chunks[-1] == End("tool_calls")


async def test_a_call_of_a_custom_tool_may_be_empty_or_cut_off(hear: Listen) -> None:
    heard = await hear(CREATED, added(CUSTOM), done(CUSTOM), COMPLETED)
    assert heard.of(ToolCall)[-1].arguments == '{"input": ""}'
    assert heard.of(ToolCall)[-1].complete
    cut = raw("response.output_item.done", item={**CUSTOM, "status": "incomplete"})
    for ends in ([], [cut]):
        heard = await hear(CREATED, added(CUSTOM), typed("say"), *ends, CUT)
        assert heard.of(ToolCall)[-1].arguments == '{"input": "say'
        assert not heard.of(ToolCall)[-1].complete


async def test_the_call_of_a_custom_tool_comes_back_as_one(hear: Listen) -> None:
    heard = await hear(CREATED, done({**CUSTOM, "input": PATCH}), COMPLETED)
    known = ProviderState("openai", "gpt", heard.of(ToolCall)[-1].state.data)
    call = msgspec.structs.replace(heard.of(ToolCall)[-1], state=known)
    plain = ToolCall("call_2", "look", "{}", complete=True)
    history = [
        Message("user", "Go"), Message("assistant", "", tool_calls=(call, plain)),
        Message("tool", "done", tool_call_id="call_1"),
        Message("tool", "snow", tool_call_id="call_2"),
    ]  # fmt: skip
    assert body_of(history)["input"][1:] == [
        {"type": "custom_tool_call", "call_id": "call_1", "name": "patch", "input": PATCH},
        {"type": "function_call", "call_id": "call_2", "name": "look", "arguments": "{}"},
        {"type": "custom_tool_call_output", "call_id": "call_1", "output": "done"},
        {"type": "function_call_output", "call_id": "call_2", "output": "snow"},
    ]


async def test_audio_is_not_supported_but_its_transcript_is_read(hear: Listen) -> None:
    sound = build(ResponseAudioDeltaEvent, "response.audio.delta", delta="AAAA")
    words = build(
        ResponseAudioTranscriptDeltaEvent, "response.audio.transcript.delta", delta="Once"
    )
    heard = await hear(CREATED, added(MESSAGE), sound, words, sound, COMPLETED)
    assert heard.text == "Once"
    assert [each.kind for each in heard.of(Notice)] == ["unsupported"]
    content = [{"type": "output_audio", "data": "AAAA", "transcript": "Once"}, {"type": "video"}]
    whole = raw("response.output_item.done", item={**MESSAGE, "content": content})
    heard = await hear(CREATED, whole, COMPLETED)
    assert (heard.text, len(heard.of(Notice))) == ("Once", 2)
    ends = raw("response.output_audio_transcript.done", transcript="Once")
    assert (await hear(CREATED, ends, COMPLETED)).text == "Once"


@pytest.mark.parametrize(
    ("first", "start"),
    [
        (text("Once"), Start("", NAME, "openai")),
        (raw("response.output_text.delta", delta="Once", response_id="resp_2"),
         Start("resp_2", NAME, "openai")),
        (done({**MESSAGE, "content": [{**PART, "text": "Once"}]}), Start("", NAME, "openai")),
    ],
)  # fmt: skip
async def test_a_stream_without_its_first_event_starts(
    hear: Listen, first: bytes, start: Start
) -> None:
    heard = await hear(first, CREATED, COMPLETED)
    assert heard.chunks[:2] == [start, Token("Once")]
    assert len(heard.of(Start)) == 1


def test_tools_in_extra_are_added_to_those_of_the_request() -> None:
    search = {"type": "web_search"}
    look = Tool("look")
    (own,) = body_of(tools=[look])["tools"]
    assert body_of(tools=[look], extra={"tools": [search]})["tools"] == [own, search]
    assert body_of(tools=[look], extra={"tools": (search,)})["tools"] == [own, search]
    assert body_of(extra={"tools": [search]})["tools"] == [search]
    plain = responses_body(
        as_request("Hi", tools=[look], extra={"tools": search}), "m", PROVIDERS["openai"]
    )
    assert plain["tools"] == [own, search]


def test_parallel_tool_calls_are_left_out_without_tools() -> None:
    search = {"tools": [{"type": "web_search"}]}
    for parallel in (True, False):
        assert "parallel_tool_calls" not in body_of(parallel_tool_calls=parallel)
        body = body_of(parallel_tool_calls=parallel, tools=[Tool("look")])
        assert body["parallel_tool_calls"] is parallel
        assert (
            body_of(parallel_tool_calls=parallel, extra=search)["parallel_tool_calls"] is parallel
        )


@pytest.mark.parametrize("given", ["{", "snow"])
def test_a_call_with_broken_arguments_is_refused(given: str) -> None:
    history = [
        Message("user", "Go"), Message("assistant", "", tool_calls=(ToolCall("c", "f", given),)),
        Message("tool", "snow", tool_call_id="c"),
    ]  # fmt: skip
    with pytest.raises(BadRequestError, match="arguments of tool call c"):
        body_of(history)
