"""Schemas of types as providers get them, and the answers to them, unwrapped."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

import rxllm
from rxllm import operators as ops
from rxllm.answer_schema import AnswerSchema
from rxllm.chunks import Batch, Chunk, End, Reasoning, Token, Usage
from rxllm.errors import InvalidAnswerError, TruncatedStreamError
from rxllm.models.remote.anthropic_request import anthropic_body
from rxllm.models.remote.gemini_request import gemini_body
from rxllm.models.remote.ollama_request import ollama_body
from rxllm.models.remote.openai_request import openai_body
from rxllm.models.remote.providers import PROVIDERS
from rxllm.models.remote.responses_request import responses_body
from rxllm.models.remote.sent_schema import ValueReader, is_closed, sent_schema
from rxllm.requests import as_request
from rxllm.testing.fault_server import FaultServer, Reply
from rxllm.testing.provider_streams import anthropic_events, openai_events
from tests.answer_types import Bird, Cat, Circle, Dog, Fish, Square, Tree
from tests.strict_providers import StrictServer, anthropic, openai

MIA = '{"name": "Mia", "age": 3}'
Few = Annotated[list[Cat], Meta(min_length=1, max_length=3)]
Listen = Callable[..., Awaitable[Any]]


def bodies(answer_type: Any) -> dict[str, dict[str, Any]]:
    """The schema in a body of each API."""
    request = as_request("Hi", response_format=answer_type)
    given = {name: ("m", PROVIDERS[name]) for name in ("openai", "anthropic", "gemini", "ollama")}
    chat = openai_body(request, *given["openai"])["response_format"]["json_schema"]
    responses = responses_body(request, *given["openai"])["text"]["format"]
    message = anthropic_body(request, *given["anthropic"])["output_config"]["format"]
    return {
        "openai": chat["schema"],
        "responses": responses["schema"],
        "anthropic": message["schema"],
        "gemini": gemini_body(request, *given["gemini"])["generationConfig"]["responseJsonSchema"],
        "ollama": ollama_body(request, *given["ollama"])["format"],
    }


# What is sent


def test_an_object_is_sent_as_it_is() -> None:
    schema = AnswerSchema(Dog)
    assert all(each == schema for each in bodies(Dog).values())


@pytest.mark.parametrize("answer_type", [list[Cat], Circle | Square, Bird | None, int])
def test_anything_else_is_sent_as_the_value_of_an_object(answer_type: Any) -> None:
    schema = AnswerSchema(answer_type)
    parts = schema.get("$defs", {})
    for name, sent in bodies(answer_type).items():
        assert (sent["type"], sent["required"]) == ("object", ["value"])
        assert sent["additionalProperties"] is False
        assert sent.get("$defs", {}).keys() == parts.keys()
        if name in ("gemini", "ollama"):
            alone = {key: each for key, each in schema.items() if key != "$defs"}
            assert sent["properties"] == {"value": alone}


def test_what_an_api_refuses_is_a_part_of_the_description() -> None:
    sent = bodies(Cat)
    assert sent["gemini"]["properties"]["age"] == {"type": "integer", "minimum": 0, "maximum": 30}
    assert sent["openai"] == sent["responses"] == sent["gemini"]
    age = sent["anthropic"]["properties"]["age"]
    assert age == {"type": "integer", "description": "(minimum: 0, maximum: 30)"}
    name = bodies(Bird)["openai"]["properties"]["name"]
    assert name["description"] == "as it is called (minLength: 1)"
    few = {each: sent["properties"]["value"] for each, sent in bodies(Few).items()}
    assert (few["openai"]["minItems"], few["openai"]["maxItems"]) == (1, 3)
    assert few["anthropic"]["description"] == "(minItems: 1, maxItems: 3)"


def test_a_schema_given_as_a_dictionary_is_never_changed() -> None:
    schema = {"type": "array", "items": {"type": "string", "minLength": 1}}
    assert all(each == schema for each in bodies(schema).values())
    assert is_closed(schema)


@pytest.mark.parametrize("answer_type", [Cat, Dog, Fish, Tree, Bird, list[Cat], Circle | Square])
def test_openai_is_strict_with_what_is_said_completely(answer_type: Any) -> None:
    assert is_closed(AnswerSchema(answer_type))


@pytest.mark.parametrize(
    "answer_type",
    [dict[str, int], list[dict[str, Cat]], Any, list, tuple[int, str], dict[str, Any]],
)
def test_openai_is_not_strict_with_the_rest_which_it_would_refuse(answer_type: Any) -> None:
    request = as_request("Hi", response_format=answer_type)
    body = openai_body(request, "gpt", PROVIDERS["openai"])
    assert body["response_format"]["json_schema"]["strict"] is False
    assert responses_body(request, "gpt", PROVIDERS["openai"])["text"]["format"]["strict"] is False


# What is read


def read(pieces: Sequence[str]) -> str:
    reader = ValueReader()
    return "".join([reader.feed(piece) for piece in pieces])


def cut(text: str, places: Sequence[int]) -> Iterator[str]:
    ends = [*sorted(place % (len(text) + 1) for place in places), len(text)]
    begin = 0
    for end in ends:
        yield text[begin:end]
        begin = end


TEXTS = st.text(st.sampled_from('ab"\\{}[] :,é🦊'), max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "value", "}", '"']), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(VALUES, st.sampled_from([None, 1]), st.booleans(), st.lists(st.integers(0, 200), max_size=9))
def test_the_value_is_the_same_however_the_text_is_cut(
    value: Any, indent: int | None, ascii_only: bool, places: list[int]
) -> None:
    text = "\n" + json.dumps({"value": value}, indent=indent, ensure_ascii=ascii_only) + " \n"
    pieces = list(cut(text, places))
    assert "".join(pieces) == text
    assert json.loads(read(pieces)) == value
    assert read(pieces) == read([text])


@given(VALUES, st.lists(st.integers(0, 200), max_size=9))
def test_an_answer_that_is_not_wrapped_stays_as_it_is(value: Any, places: list[int]) -> None:
    text = json.dumps(value)
    if not text.startswith('{"value":') and text != "{}":
        assert read(list(cut(text, places))) == text


@given(VALUES, st.integers(0, 200))
def test_of_a_cut_answer_the_beginning_of_the_value_is_read(value: Any, end: int) -> None:
    whole = json.dumps({"value": value})
    assert read([whole]).startswith(read([whole[:end]]))
    assert len(read([whole[:end]])) >= min(end, len(whole) - 1) - len('{"value": ')


def test_chunks_keep_what_else_they_have() -> None:
    chunks: list[Chunk] = [
        Reasoning("hm {"),
        Token('{"value"', confidence=0.5),
        Token(": [1", confidence=0.25),
        Usage(3, 2),
        Token("]"),
        Token("}"),
        End("stop"),
    ]
    assert ValueReader().chunks(chunks) == [
        Reasoning("hm {"),
        Token("[1", confidence=0.25),
        Usage(3, 2),
        Token("]"),
        End("stop"),
    ]
    assert not any(isinstance(chunk, Batch) for chunk in chunks)


# Over the network


async def test_openai_is_asked_for_a_type_and_its_answer_is_an_instance() -> None:
    async with StrictServer(openai, openai_events('{"name": "M', 'ia", "age": 3}')) as server:
        model = rxllm.model("openai/gpt", api_key="k", base_url=server.url)
        result = await model.stream("A cat", response_format=Cat)
    assert result.value == Cat("Mia", 3)
    (body,) = server.bodies
    asked = {"name": "answer", "schema": AnswerSchema(Cat), "strict": True}
    assert body["response_format"] == {"type": "json_schema", "json_schema": asked}


async def test_anthropic_is_asked_for_a_type_and_its_answer_is_an_instance() -> None:
    async with StrictServer(anthropic, anthropic_events('{"name": "M', 'ia", "age": 3}')) as server:
        model = rxllm.model("anthropic/claude", api_key="k", base_url=server.url)
        result = await model.stream("A cat", response_format=Cat)
    assert result.value == Cat("Mia", 3)
    (body,) = server.bodies
    assert body["output_config"]["format"]["schema"] == sent_schema(
        AnswerSchema(Cat), ("minimum", "maximum")
    )


WRAPPED = ('{"val', 'ue": [', MIA, ", ", MIA[:9], MIA[9:], "]", "}")


@pytest.mark.parametrize(
    ("name", "rules", "events"),
    [
        ("openai/gpt", openai, openai_events(*WRAPPED)),
        ("anthropic/claude", anthropic, anthropic_events(*WRAPPED)),
    ],
)
async def test_a_list_comes_without_the_object_around_it(
    name: str, rules: Any, events: list[bytes]
) -> None:
    async with StrictServer(rules, events, events, events) as server:
        model = rxllm.model(name, api_key="k", base_url=server.url)
        stream = model.stream("Cats", response_format=list[Cat])
        result = await stream
        items = [
            chunk.value
            async for chunk in stream.pipe(ops.json_items(Cat, path=""))
            if isinstance(chunk, rxllm.Json)
        ]
        parsed = await stream.pipe(ops.parse_json(list[Cat]))
    assert result.text == f"[{MIA}, {MIA}]"
    assert result.value == parsed.value == items == [Cat("Mia", 3)] * 2
    assert not server.refused


async def test_a_cut_list_has_its_text_in_the_error(listen: Listen) -> None:
    body = openai_events(*WRAPPED[:4], finish_reason=None, done=False)
    async with FaultServer(Reply(body)) as server:
        model = rxllm.model("openai/gpt", api_key="k", base_url=server.url)
        heard = await listen(model, "Cats", response_format=list[Cat])
    assert isinstance(heard.error, TruncatedStreamError)
    assert heard.text == f"[{MIA}, "


async def test_an_answer_that_reached_its_limit_says_so() -> None:
    events = openai_events(*WRAPPED[:4], finish_reason="length")
    async with FaultServer(Reply(events)) as server:
        model = rxllm.model("openai/gpt", api_key="k", base_url=server.url)
        result = await model.stream("Cats", response_format=list[Cat], max_tokens=9)
    with pytest.raises(InvalidAnswerError, match="cut off at its maximum length") as raised:
        print(result.value)
    assert raised.value.partial == f"[{MIA}, "


async def test_a_server_that_ignores_schemas_may_send_the_list_itself() -> None:
    async with FaultServer(Reply(openai_events("[", MIA, "]"))) as server:
        model = rxllm.model("openai_compatible/any", base_url=server.url)
        result = await model.stream("Cats", response_format=list[Cat])
    assert result.value == [Cat("Mia", 3)]


async def test_a_type_is_counted_as_it_is_sent() -> None:
    async with FaultServer(Reply([b'{"input_tokens": 9}'])) as server:
        model: Any = rxllm.model("anthropic/claude", api_key="k", base_url=server.url)
        counted = await model.count_tokens("Cats", response_format=list[Cat])
        (request,) = server.requests
    assert counted.tokens == 9
    body = msgspec.json.decode(request.body)
    assert body["output_config"]["format"]["schema"]["required"] == ["value"]
