"""Events whose fields have other types than documented are read as far as possible."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rxllm
from rxllm.chunks import (
    Chunk,
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
from rxllm.errors import RxLLMError
from rxllm.models.remote.anthropic import AnthropicReader
from rxllm.models.remote.history import Target
from rxllm.models.remote.openai import OpenAIReader
from rxllm.models.remote.sse import ServerSentEvent
from rxllm.testing.provider_streams import (
    anthropic_event,
    anthropic_events,
    openai_event,
    openai_events,
)

Hear = Callable[..., Awaitable[Any]]
DONE = b"data: [DONE]\n\n"
STOP = openai_event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])


def delta(**fields: Any) -> bytes:
    return openai_event(choices=[{"index": 0, "delta": fields, "finish_reason": None}])


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"content": 42}, "42"),
        ({"content": 4.5}, "4.5"),
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, "ab"),
        ({"content": ["a", "b"]}, "ab"),
        ({"content": [{"type": "output_text", "text": "a"}, None]}, "a"),
        ({"content": {"type": "text", "text": "a"}}, "a"),
        ({"content": "a", "role": 3, "name": ["x"]}, "a"),
        ({"content": "a", "reasoning_content": {"x": 1}}, "a"),
        ({"content": "a", "tool_calls": {}}, "a"),
    ],
)
async def test_text_is_read_from_any_form(hear: Hear, fields: Any, text: str) -> None:
    heard = await hear([delta(**fields), delta(**fields), STOP, DONE])
    assert (heard.error, heard.text, heard.of(Notice)) == (None, text * 2, [])


async def test_a_delta_may_be_its_text(hear: Hear) -> None:
    event = openai_event(choices=[{"index": 0, "delta": "a"}])
    assert (await hear([event, STOP, DONE])).text == "a"


async def test_the_parts_of_mistral_are_text_and_reasoning(hear: Hear) -> None:
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Hmm."}], "closed": True},
        {"type": "text", "text": "Yes."},
    ]
    heard = await hear([delta(content=parts), delta(content=" Really."), STOP, DONE])
    state = ProviderState("openai", "gpt", {"field": "thinking"})
    thought = [Reasoning("Hmm."), Reasoning("", state)]
    assert heard.chunks[1:-1] == [*thought, Token("Yes."), Token(" Really.")]


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
async def test_reasoning_may_be_a_list(hear: Hear, name: str) -> None:
    heard = await hear([delta(**{name: [{"text": "Hm"}, "m"]}), STOP, DONE])
    assert heard.of(Reasoning)[0] == Reasoning("Hmm")


@pytest.mark.parametrize(
    "call",
    [
        {"index": "0", "id": "c", "function": {"name": "add", "arguments": '{"a": 1}'}},
        {"index": 0.0, "id": "c", "function": {"name": "add", "arguments": '{"a": 1}'}},
        {"index": 0, "id": "c", "function": {"name": "add", "arguments": {"a": 1}}},
        {"index": 0, "id": "c", "name": "add", "arguments": {"a": 1}},
        {"index": None, "id": "c", "function": {"name": "add", "arguments": {"a": 1}}},
    ],
)
async def test_a_call_is_read_from_any_form(hear: Hear, call: Any) -> None:
    heard = await hear([delta(tool_calls=[call]), STOP, DONE])
    last = heard.of(ToolCall)[-1]
    assert (last.id, last.name, json.loads(last.arguments)) == ("c", "add", {"a": 1})
    assert last.complete


async def test_the_id_of_a_call_may_be_a_number(hear: Hear) -> None:
    call = {"index": 0, "id": 7, "function": {"name": "add", "arguments": "{}"}}
    assert (await hear([delta(tool_calls=[call]), STOP, DONE])).of(ToolCall)[-1].id == "7"


async def test_calls_may_be_a_single_object(hear: Hear) -> None:
    call = {"index": 0, "id": "c", "function": {"name": "add", "arguments": "{}"}}
    assert (await hear([delta(tool_calls=call), STOP, DONE])).of(ToolCall)[-1].name == "add"


async def test_the_legacy_function_call_is_a_tool_call(hear: Hear) -> None:
    heard = await hear(
        [
            delta(function_call={"name": "add", "arguments": '{"a"'}),
            delta(function_call={"arguments": ": 1}"}),
            openai_event(choices=[{"index": 0, "delta": {}, "finish_reason": "function_call"}]),
            DONE,
        ]
    )
    last = heard.of(ToolCall)[-1]
    assert (last.name, last.arguments, last.complete) == ("add", '{"a": 1}', True)
    assert heard.chunks[-1] == End("tool_calls")


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 3.0, "completion_tokens": 2.0},
        {"prompt_tokens": "3", "completion_tokens": "2", "cost": "x"},
        {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": []},
        {"prompt_tokens": 3, "completion_tokens": 2, "completion_tokens_details": {"x": {}}},
    ],
)
async def test_counts_are_read_from_any_form(hear: Hear, usage: Any) -> None:
    heard = await hear(
        [*openai_events("a", usage=False, done=False), openai_event(usage=usage, choices=[]), DONE]
    )
    assert heard.of(Usage) == [Usage(3, 2)]


async def test_a_count_that_is_null_is_0(hear: Hear) -> None:
    usage = {"prompt_tokens": None, "completion_tokens": 2}
    heard = await hear(
        [*openai_events("a", usage=False, done=False), openai_event(usage=usage, choices=[]), DONE]
    )
    assert heard.of(Usage) == [Usage(0, 2)]


async def test_details_of_the_usage_are_read_from_any_form(hear: Hear) -> None:
    usage = {
        "prompt_tokens": "9",
        "completion_tokens": 4,
        "cost": "0.5",
        "prompt_tokens_details": {"cached_tokens": 8.0},
        "completion_tokens_details": {"reasoning_tokens": "3"},
    }
    events = [*openai_events("a", usage=False, done=False), openai_event(usage=usage, choices=[])]
    heard = await hear([*events, DONE])
    assert heard.of(Usage) == [Usage(9, 4, cached_tokens=8, reasoning_tokens=3, cost=0.5)]


async def test_a_null_logprob_loses_the_confidence_only(hear: Hear) -> None:
    choice = {"index": 0, "delta": {"content": "a"}, "logprobs": {"content": [{"logprob": None}]}}
    heard = await hear([openai_event(choices=[choice]), STOP, DONE])
    assert heard.of(Token) == [Token("a")]


@pytest.mark.parametrize("index", ["0", 0.0, None])
async def test_the_index_of_a_choice_has_any_type(hear: Hear, index: Any) -> None:
    event = openai_event(choices=[{"index": index, "delta": {"content": "a"}}])
    assert (await hear([event, STOP, DONE])).text == "a"


@pytest.mark.parametrize("fields", [{"id": 3}, {"created": "now"}, {"model": ["gpt"]}])
async def test_the_head_of_an_event_has_any_type(hear: Hear, fields: Any) -> None:
    event = openai_event(choices=[{"index": 0, "delta": {"content": "a"}}], **fields)
    heard = await hear([event, STOP, DONE])
    assert (heard.error, heard.text, len(heard.of(Start))) == (None, "a", 1)


async def test_a_message_in_place_of_a_delta_is_the_answer(hear: Hear) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}
    assert (await hear([openai_event(choices=[choice]), DONE])).text == "a"


async def test_a_message_after_deltas_is_not_said_again(hear: Hear) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}
    assert (await hear([delta(content="a"), openai_event(choices=[choice]), DONE])).text == "a"


async def test_a_refusal_is_text_with_its_own_finish_reason(hear: Hear) -> None:
    heard = await hear([delta(refusal="I can't."), STOP, DONE])
    assert (heard.text, heard.chunks[-1]) == ("I can't.", End("content_filter"))


async def test_the_first_event_of_azure_is_not_the_start(hear: Hear) -> None:
    filters = openai_event(id="", model="", created=0, choices=[], prompt_filter_results=[{}])
    heard = await hear([filters, *openai_events("a")])
    (start,) = heard.of(Start)
    assert (start.request_id, start.model) == ("chatcmpl-1", "openai/gpt")


@pytest.mark.parametrize(
    "event",
    [b"null", b"3", b'"ping"', b"[]", b"{}", b'{"id": 5, "type": "ping"}', b'{"choices": null}'],
)
async def test_json_that_is_not_an_event_is_ignored(hear: Hear, event: bytes) -> None:
    """Only broken JSON is malformed."""
    pings = [b"data: " + event + b"\n\n"] * 4
    heard = await hear([delta(content="a"), *pings, delta(content="b"), STOP, DONE])
    assert (heard.error, heard.text, heard.of(Notice)) == (None, "ab", [])


async def test_a_list_of_events_is_read_as_one(hear: Hear) -> None:
    events = [{"id": "x", "choices": [{"index": 0, "delta": {"content": text}}]} for text in "ab"]
    heard = await hear([b"data: " + json.dumps(events).encode() + b"\n\n", STOP, DONE])
    assert (heard.error, heard.text) == (None, "ab")


@pytest.mark.parametrize(
    "messages",
    [["Hel", "lo", " you"], ["Hel", "Hello", "Hello you"], ["Hel", "lo you", "Hello you"]],
)
async def test_messages_may_come_in_pieces_or_grow(hear: Hear, messages: list[str]) -> None:
    events = [
        openai_event(choices=[{"index": 0, "message": {"content": text}}]) for text in messages
    ]
    assert (await hear([*events, STOP, DONE])).text == "Hello you"


async def test_an_image_of_some_megabytes_is_read(hear: Hear) -> None:
    image = {"type": "image_url", "image_url": {"url": PNG + "A" * 20_000_000}}
    heard = await hear([delta(images=[image]), STOP, DONE])
    assert (heard.error, len(heard.of(FileOutput)[0].data)) == (None, 20_000_012)


@pytest.mark.parametrize("depth", [400, 5000])
async def test_deep_nesting_is_no_exception_of_another_kind(hear: Hear, depth: int) -> None:
    event = b'data: {"choices": [{"delta": {"content": ' + b"[" * depth + b"]" * depth + b"}}]}\n\n"
    heard = await hear([delta(content="a"), event, STOP, DONE])
    assert (heard.error, heard.text) == (None, "a")


async def test_many_pieces_of_arguments_cost_no_more_each(hear: Hear) -> None:
    """Each that begins with a brace was once parsed with all before it."""
    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": "["}}
    piece = {"index": 0, "function": {"name": "f", "arguments": '{"k": 1},'}}
    end = {"index": 0, "function": {"arguments": "{}]"}}
    events = [delta(tool_calls=[each]) for each in [call, *[piece] * 3000, end]]
    last = (await hear([b"".join(events), STOP, DONE])).of(ToolCall)[-1]
    assert (last.complete, len(json.loads(last.arguments))) == (True, 3001)


def claude(*events: bytes) -> list[bytes]:
    first, *_, message_delta, stop = anthropic_events("x")
    return [first, *events, message_delta, stop]


async def test_events_of_anthropic_are_read_from_any_form(hear: Hear) -> None:
    events = claude(
        anthropic_event(
            "content_block_start", index="0", content_block={"type": "text", "text": 1}
        ),
        anthropic_event("content_block_delta", index=0.0, delta={"type": "text_delta", "text": 2}),
        anthropic_event("content_block_delta", index=None, delta={"text": ["3", {"text": "4"}]}),
        anthropic_event("content_block_stop", index="0"),
        anthropic_event("message_delta", delta={"stop_reason": None}, usage={"output_tokens": 2.0}),
    )
    heard = await hear(events, "anthropic")
    assert (heard.error, heard.text, heard.of(Notice)) == (None, "1234", [])


async def test_the_input_of_a_tool_may_come_whole(hear: Hear) -> None:
    block = {"type": "tool_use", "id": "c", "name": "add", "input": {"a": 1}}
    events = claude(
        anthropic_event("content_block_start", index=0, content_block=block),
        anthropic_event("content_block_stop", index=0),
    )
    last = (await hear(events, "anthropic")).of(ToolCall)[-1]
    assert (last.arguments, last.complete) == ('{"a": 1}', True)


PNG = "data:image/png;base64,iVBORw0KGgo="


@pytest.mark.parametrize(
    ("annotation", "citation"),
    [
        (
            {
                "type": "url_citation",
                "url_citation": {
                    "url": "https://a.example",
                    "title": "A",
                    "start_index": 3,
                    "end_index": 9,
                },
            },
            Citation("https://a.example", "A", None, 3, 9),
        ),
        ({"type": "url_citation", "url": "https://a.example"}, Citation("https://a.example")),
        ({"type": "file_citation", "filename": "a.pdf", "index": 2}, Citation(None, "a.pdf")),
    ],
)
async def test_an_annotation_is_a_citation(hear: Hear, annotation: Any, citation: Citation) -> None:
    heard = await hear([delta(content="a", annotations=[annotation]), STOP, DONE])
    assert heard.of(Citation) == [citation]


async def test_citations_repeated_in_each_event_are_cited_once(hear: Hear) -> None:
    def event(text: str) -> bytes:
        choice = {"index": 0, "delta": {"content": text}}
        return openai_event(choices=[choice], citations=["https://a.example", "https://b.example"])

    heard = await hear([*map(event, "abcdef"), STOP, DONE])
    assert heard.text == "abcdef"
    assert heard.of(Citation) == [Citation("https://a.example"), Citation("https://b.example")]


@pytest.mark.parametrize(
    "fields",
    [
        {"images": [{"type": "image_url", "image_url": {"url": PNG}}]},
        {"images": {"type": "image_url", "image_url": {"url": PNG}}},
        {"content": [{"type": "image_url", "image_url": PNG}]},
    ],
)
async def test_an_image_is_a_file(hear: Hear, fields: Any) -> None:
    heard = await hear([delta(**fields), STOP, DONE])
    assert heard.of(FileOutput) == [FileOutput("image/png", "iVBORw0KGgo=")]


async def test_audio_is_a_file_and_its_transcript_is_text(hear: Hear) -> None:
    heard = await hear([delta(audio={"id": "a", "data": "AAAA", "transcript": "Hi"}), STOP, DONE])
    assert (heard.text, heard.of(FileOutput)) == ("Hi", [FileOutput("audio/*", "AAAA")])


async def test_what_no_chunk_can_carry_is_a_notice(hear: Hear) -> None:
    parts = [{"type": "reference", "reference_ids": [1]}, {"type": "text", "text": "a"}]
    heard = await hear([delta(content=parts), STOP, DONE])
    assert heard.text == "a"
    (notice,) = heard.of(Notice)
    assert (notice.kind, "'reference'" in notice.error.message) == ("unsupported", True)


async def test_a_citation_of_anthropic_has_its_passage(hear: Hear) -> None:
    citation = {
        "type": "web_search_result_location",
        "url": "https://a.example",
        "title": "A",
        "cited_text": "so it is",
    }
    events = claude(
        anthropic_event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        anthropic_event(
            "content_block_delta", index=0, delta={"type": "citations_delta", "citation": citation}
        ),
        anthropic_event("content_block_stop", index=0),
    )
    heard = await hear(events, "anthropic")
    assert heard.of(Citation) == [Citation("https://a.example", "A", "so it is")]


async def test_a_block_of_a_tool_of_the_provider_is_a_notice(hear: Hear) -> None:
    block = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    events = claude(
        anthropic_event("content_block_start", index=0, content_block=block),
        anthropic_event("content_block_stop", index=0),
    )
    heard = await hear(events, "anthropic")
    assert [notice.kind for notice in heard.of(Notice)] == ["unsupported"]
    assert heard.error is None


async def test_a_result_has_citations_and_files() -> None:
    chunks: list[Chunk] = [Token("a"), Citation("https://a.example"), FileOutput("image/png", "AA")]
    result = await rxllm.from_async(lambda: emitted(chunks))
    assert (result.citations, result.files) == ((chunks[1],), (chunks[2],))


async def emitted(chunks: list[Chunk]) -> AsyncIterator[Chunk]:
    for chunk in chunks:
        yield chunk


async def test_an_input_that_is_said_again_in_pieces_is_said_once(hear: Hear) -> None:
    block = {"type": "tool_use", "id": "c", "name": "add", "input": {"a": 1}}
    events = claude(
        anthropic_event("content_block_start", index=0, content_block=block),
        *[
            anthropic_event(
                "content_block_delta",
                index=0,
                delta={"type": "input_json_delta", "partial_json": part},
            )
            for part in ('{"a"', ": 1}")
        ],
        anthropic_event("content_block_stop", index=0),
    )
    last = (await hear(events, "anthropic")).of(ToolCall)[-1]
    assert (last.arguments, last.complete) == ('{"a": 1}', True)


async def test_blocks_of_one_index_without_ids_are_calls_of_their_own(hear: Hear) -> None:
    def call(name: str) -> list[bytes]:
        block = {"type": "tool_use", "id": None, "name": name, "input": {"a": name}}
        return [
            anthropic_event("content_block_start", index=0, content_block=block),
            anthropic_event("content_block_stop", index=0),
        ]

    heard = await hear(claude(*call("f"), *call("g"), *call("h")), "anthropic")
    whole = [each for each in heard.of(ToolCall) if each.complete]
    assert [(each.index, each.name) for each in whole] == [(0, "f"), (1, "g"), (2, "h")]
    assert len({each.id for each in whole}) == 3


async def test_a_block_that_is_left_open_is_closed_at_the_end(hear: Hear) -> None:
    block = {"type": "tool_use", "id": "c", "name": "add", "input": {"a": 1}}
    events = claude(anthropic_event("content_block_start", index=0, content_block=block))
    assert (await hear(events, "anthropic")).of(ToolCall)[-1].complete


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "text", "name", "index", "id", "content", "function", "x"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)
OPENAI = ["id", "model", "created", "choices", "usage", "x_groq"]
CHOICE = ["index", "delta", "message", "finish_reason", "logprobs"]
DELTA = ["content", "reasoning", "refusal", "tool_calls", "function_call"]
ANTHROPIC = ["type", "index", "message", "content_block", "delta", "usage"]


@given(
    st.dictionaries(st.sampled_from(OPENAI), VALUES, max_size=4),
    st.dictionaries(st.sampled_from(CHOICE), VALUES, max_size=4),
    st.dictionaries(st.sampled_from(DELTA), VALUES, max_size=4),
)
def test_no_event_makes_the_reader_of_openai_raise_anything_but_its_errors(
    event: Any, choice: Any, fields: Any
) -> None:
    reader = OpenAIReader(Target("openai", "m"), {}, strict=False)
    for value in (
        event,
        {"choices": [choice], **event},
        {"choices": [{"delta": fields, **choice}]},
    ):
        try:
            reader.read(ServerSentEvent(json.dumps(value)), [])
        except RxLLMError:
            reader = OpenAIReader(Target("openai", "m"), {}, strict=False)


@given(st.dictionaries(st.sampled_from(ANTHROPIC), VALUES, max_size=4), st.text(max_size=3))
def test_no_event_makes_the_reader_of_anthropic_raise_anything_but_its_errors(
    event: Any, kind: str
) -> None:
    reader = AnthropicReader(Target("anthropic", "m"), {}, strict=False)
    for value in (event, {"type": "content_block_delta", "delta": event}, {"type": kind, **event}):
        try:
            reader.read(ServerSentEvent(json.dumps(value)), [])
        except RxLLMError:
            reader = AnthropicReader(Target("anthropic", "m"), {}, strict=False)


@pytest.mark.parametrize(
    ("image", "file"),
    [
        ("data:image/png;base64,iVBO", FileOutput("image/png", "iVBO")),
        ("https://a.example/b.png", FileOutput("image/*", url="https://a.example/b.png")),
        ({"b64_json": "iVBO"}, FileOutput("image/png", "iVBO")),
        ({"type": "image", "source": {"type": "base64", "media_type": "image/gif", "data": "R0"}},
         FileOutput("image/gif", "R0")),
    ],
)  # fmt: skip
async def test_images_come_in_many_forms(hear: Hear, image: Any, file: FileOutput) -> None:
    assert (await hear([delta(images=[image]), STOP, DONE])).of(FileOutput) == [file]
    assert (await hear([delta(images=image, content=1), STOP, DONE])).of(FileOutput) == [file]


async def test_content_in_a_list_of_texts_is_no_image(hear: Hear) -> None:
    assert (await hear([delta(content=["a", "b"]), STOP, DONE])).text == "ab"


async def test_the_completions_before_chat_have_a_text(hear: Hear) -> None:
    events = [openai_event(choices=[{"index": 0, "text": text}]) for text in ("a", "b")]
    assert (await hear([*events, STOP, DONE])).text == "ab"


async def test_search_results_have_titles(hear: Hear) -> None:
    sources = [{"title": "A", "url": "https://a.example", "date": "2026-11-28"}]
    event = openai_event(
        choices=[{"index": 0, "delta": {"content": "a"}}],
        citations=["https://a.example"],
        search_results=sources,
    )
    assert (await hear([event, event, STOP, DONE])).of(Citation) == [
        Citation("https://a.example", "A")
    ]


async def test_a_usage_with_each_token_is_known_if_the_stream_is_left_early(hear: Hear) -> None:
    events = [
        openai_event(
            choices=[{"index": 0, "delta": {"content": "a"}}],
            usage={"prompt_tokens": 5, "completion_tokens": count},
        )
        for count in range(1, 41)
    ]
    heard = await hear([*events, STOP, DONE])
    counts = [(5, 0), (5, 1), (5, 17), (5, 33)]  # not the last ones, as the answer goes on
    assert heard.estimates == [Usage(*each, estimated=True) for each in counts]
    assert heard.of(Usage) == [Usage(5, 40)]
    assert heard.chunks[-1] == End("stop")
