"""OpenAI's Responses API: its events, built with the types of the SDK, and its requests."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from openai.types.responses import (
    ResponseCompletedEvent,
    ResponseCreatedEvent,
    ResponseErrorEvent,
    ResponseFailedEvent,
    ResponseFunctionCallArgumentsDeltaEvent,
    ResponseIncompleteEvent,
    ResponseOutputItemAddedEvent,
    ResponseOutputItemDoneEvent,
    ResponseOutputTextAnnotationAddedEvent,
    ResponseReasoningSummaryPartAddedEvent,
    ResponseReasoningSummaryTextDeltaEvent,
    ResponseReasoningTextDeltaEvent,
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
    assert (seen.text, seen.of(ToolCall)) == ("Yes.", [])


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
