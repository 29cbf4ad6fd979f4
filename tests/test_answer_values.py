"""`Result.value`: the answer as the type that was asked for, whichever way it takes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

import pytest
import reactivex as rx
from msgspec import Meta
from reactivex import Observable
from reactivex import operators as rxo

import rxllm
from rxllm import Chunk, Result, Stream, sinks
from rxllm import operators as ops
from rxllm.errors import BadRequestError, InvalidAnswerError, MalformedStreamError
from rxllm.models.local.model import LocalModel
from rxllm.models.scripted import ScriptedModel
from rxllm.operators import MemoryStore, cache_key
from rxllm.router import Router
from rxllm.settings import Settings
from rxllm.testing import no_leaks
from tests.answer_types import Bird, Cat, Circle, Dog, Owner, Square

MIA = '{"name": "Mia", "age": 3}'
ASKED = "Give me a JSON record of a cat named Mia"


def mia(*scripts: Any, **options: Any) -> ScriptedModel:
    return ScriptedModel(*(scripts or (MIA,)), by="character", **options)


# What it is


async def test_the_answer_is_an_instance_of_the_type_asked_for() -> None:
    async with no_leaks():
        result = await mia().stream(ASKED, response_format=Cat)
    assert result.value == Cat("Mia", 3)
    assert result.text == MIA
    assert result.value is result.value


async def test_without_a_format_it_is_the_value_of_parse_json() -> None:
    stream = mia().stream(ASKED)
    assert (await stream).value is None
    assert (await stream.pipe(ops.parse_json())).value == {"name": "Mia", "age": 3}


@pytest.mark.parametrize("form", ["json", {"type": "object"}, {"required": ["name"]}])
async def test_of_a_schema_or_of_json_it_is_the_json_value(form: Any) -> None:
    stream = mia().stream(ASKED, response_format=form)
    assert (await stream).value == {"name": "Mia", "age": 3}
    assert (await stream.pipe(ops.parse_json())).value == {"name": "Mia", "age": 3}


async def test_a_value_that_does_not_follow_its_schema_raises_where_it_is_read() -> None:
    schema = {"properties": {"age": {"type": "string"}}}
    result = await mia().stream(ASKED, response_format=schema)
    with pytest.raises(InvalidAnswerError, match="is not of type 'string'") as raised:
        print(result.value)
    assert (raised.value.path, raised.value.partial) == ("$.age", result.text)
    with pytest.raises(InvalidAnswerError, match="isn't valid JSON"):
        print((await mia("Mia is three.").stream(ASKED, response_format="json")).value)


async def test_without_jsonschema_a_value_is_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rxllm.answer_schema.find_spec", lambda _: None)
    result = await mia().stream(ASKED, response_format={"type": "string"})
    assert result.value == {"name": "Mia", "age": 3}


async def test_a_wrong_answer_raises_where_it_is_read_and_keeps_the_rest() -> None:
    result = await mia('{"name": "Mia", "age": "x"}').stream(ASKED, response_format=Cat)
    assert result.finish_reason == "stop"
    assert result.usage is not None
    for _ in range(2):
        with pytest.raises(InvalidAnswerError, match="Expected `int`, got `str`") as raised:
            print(result.value)
        assert (raised.value.path, raised.value.partial) == ("$.age", result.text)


async def test_an_answer_that_is_cut_off_says_so() -> None:
    result = await mia().stream(ASKED, response_format=Cat, max_tokens=9)
    with pytest.raises(InvalidAnswerError, match=r"maximum length \(raise max_tokens\)"):
        print(result.value)


async def test_an_answer_of_tool_calls_says_so() -> None:
    call = rxllm.ToolCall("c", "weather", "{}", complete=True)
    model = ScriptedModel([call], finish_reason="tool_calls")
    result = await model.stream(ASKED, response_format=Cat, tools=[rxllm.Tool("weather")])
    with pytest.raises(InvalidAnswerError, match="ended with 'tool_calls', and is empty"):
        print(result.value)


def test_a_type_that_cannot_be_read_is_an_error_before_anything_is_sent() -> None:
    model = mia()
    with pytest.raises(BadRequestError, match="object"):
        model.stream(ASKED, response_format=object)
    assert model.requests == []


async def test_the_request_that_a_model_gets_has_the_schema() -> None:
    model = mia()
    await model.stream(ASKED, response_format=Cat)
    (request,) = model.requests
    assert isinstance(request.response_format, dict)
    assert request.response_format["required"] == ["name", "age"]


# Which ways it takes


@pytest.mark.parametrize("sink", [sinks.collect, sinks.console, sinks.callbacks])
async def test_a_sink_returns_it(sink: Callable[..., Any]) -> None:
    result: Result = await sink(mia().stream(ASKED, response_format=Cat))
    assert result.value == Cat("Mia", 3)


async def test_a_web_sink_reports_it_and_sends_no_schema() -> None:
    reports: list[sinks.DeliveryReport] = []
    stream = mia().stream(ASKED, response_format=Cat)
    body = rxllm.web.events(stream, on_end=reports.append)
    sent = b"".join([data async for data in body])
    assert b"additionalProperties" not in sent
    (report,) = reports
    assert report.result.value == Cat("Mia", 3)


def test_run_returns_it() -> None:
    assert rxllm.run(mia().stream(ASKED, response_format=Cat)).value == Cat("Mia", 3)


PIPES: dict[str, list[Any]] = {
    "ours": [ops.timeouts(10, 5), ops.stop_on("\n\n"), ops.smooth(by="word"), ops.batch(3, 0.01)],
    "those of RxPY": [rxo.filter(lambda _: True), rxo.map(lambda chunk: chunk), rxo.share()],
    "recovery": [ops.retry_with_backoff(2), ops.fallback_to(lambda: mia("no").stream("Hi"))],
    "progress": [ops.progress(1)],
    "shared": [ops.multiplex()],
    "cached": [ops.cache(MemoryStore(), "key")],
    "of one's own": [lambda source: rx.concat(source, rx.empty())],
}


@pytest.mark.parametrize("name", PIPES)
async def test_it_passes_through_a_pipe(name: str) -> None:
    stream = mia().stream(ASKED, response_format=Cat).pipe(*PIPES[name])
    assert (await stream).value == Cat("Mia", 3)


async def test_our_operator_behind_one_of_rxpy_keeps_it() -> None:
    stream = mia().stream(ASKED, response_format=Cat)
    piped = stream.pipe(rxo.map(lambda chunk: chunk), ops.price(), ops.measure(lambda _: None))
    assert (await piped).value == Cat("Mia", 3)


async def test_a_stream_of_another_type_in_the_pipe_keeps_its_own() -> None:
    dog = mia('{"name": "Rex", "owner": null}').stream("A dog", response_format=Dog)
    stream = mia().stream(ASKED, response_format=Cat)
    assert (await stream.pipe(lambda _: dog)).value == Dog("Rex")


async def test_a_retry_and_a_fallback_have_it() -> None:
    model = mia([ConnectionResetError()], [MIA])
    stream = model.stream(ASKED, response_format=Cat)
    assert (await stream.pipe(ops.retry_with_backoff(2, initial=0.01))).value == Cat("Mia", 3)
    broken = mia([ConnectionResetError()]).stream(ASKED, response_format=Cat)
    other = mia().stream(ASKED, response_format=Cat)
    assert (await broken.pipe(ops.fallback_to(other))).value == Cat("Mia", 3)


async def test_a_restarted_answer_is_the_one_that_is_read() -> None:
    model = mia(['{"name": "Le', ConnectionResetError()], [MIA])
    stream = model.stream(ASKED, response_format=Cat)
    stream = stream.pipe(ops.retry_with_backoff(2, initial=0.01, after_output="restart"))
    assert (await stream).value == Cat("Mia", 3)


async def test_a_router_passes_it_to_its_models() -> None:
    broken, good = mia([ConnectionRefusedError()], name="broken"), mia(name="good")
    router = Router([broken, good], settings=Settings(attempts=1))
    assert (await router.stream(ASKED, response_format=Cat)).value == Cat("Mia", 3)
    assert good.requests[0].answer_schema is not None


async def test_a_model_with_settings_has_it() -> None:
    model = rxllm.model(f"scripted/{MIA}", settings=Settings(piece_size=3))
    assert (await model.stream(ASKED, response_format=Cat)).value == Cat("Mia", 3)


async def test_a_chat_has_it_for_each_question() -> None:
    chat = rxllm.Chat(mia(MIA, MIA, "Purr"), response_format=Cat)
    assert (await chat.ask(ASKED)).value == Cat("Mia", 3)
    assert (await chat.ask(ASKED, response_format=dict[str, Any])).value == {
        "name": "Mia",
        "age": 3,
    }
    assert (await chat.ask("And?", response_format=None)).value is None
    assert [exchange.text for exchange in chat.history] == [MIA, MIA, "Purr"]


async def test_degraded_requests_have_it() -> None:
    model = mia([ConnectionResetError()], [MIA])
    result = await ops.degrade(model, ASKED, max_tokens=100, response_format=Cat)
    assert result.value == Cat("Mia", 3)


async def test_the_winner_of_a_race_has_it_if_all_were_asked_for_the_same() -> None:
    def stream(answer_type: Any) -> Stream[Chunk]:
        return mia().stream(ASKED, response_format=answer_type)

    assert (await ops.race(stream(Cat), stream(Cat))).value == Cat("Mia", 3)
    hedged = stream(Cat).pipe(ops.hedge_with(stream(Cat), 1))
    assert (await hedged).value == Cat("Mia", 3)
    assert (await ops.race(stream(Cat), stream(None))).value is None


async def test_requests_are_counted_and_have_a_key_with_a_type() -> None:
    model = mia()
    assert (await model.count_tokens(ASKED, response_format=Cat)).tokens == 10
    assert (await Router([model]).count_tokens(ASKED, response_format=Cat)).tokens == 10
    keys = [cache_key(model, ASKED, response_format=each) for each in (Cat, Cat, list[Cat], None)]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


async def test_a_stream_can_be_awaited_by_several_tasks_at_once() -> None:
    stream = mia(delay=0.001).stream(ASKED, response_format=Cat)

    async def value() -> Any:
        return (await stream).value

    first, second = await asyncio.gather(value(), value())
    assert first == second == Cat("Mia", 3)


# With parse_json


@pytest.mark.parametrize("schema", [None, Cat, dict])
async def test_with_parse_json_the_value_is_an_instance_all_the_same(schema: Any) -> None:
    result = await mia().stream(ASKED, response_format=Cat).pipe(ops.parse_json(schema))
    assert result.value == Cat("Mia", 3)
    assert result.json == (Cat("Mia", 3) if schema is Cat else {"name": "Mia", "age": 3})


@pytest.mark.parametrize(
    ("answer_type", "text", "value"),
    [
        (list[Cat], f"[{MIA}]", [Cat("Mia", 3)]),
        (Dog, '{"name": "Rex", "owner": {"name": "Ann"}}', Dog("Rex", Owner("Ann"))),
        (Circle | Square, '{"type": "Square", "side": 2}', Square(2)),
        (Bird, '{"name": "Tit", "chicks": []}', Bird(name="Tit")),
        (list[Bird], '[{"name": "Tit", "chicks": []}]', [Bird(name="Tit")]),
    ],
)
async def test_parse_json_takes_the_same_types(answer_type: Any, text: str, value: object) -> None:
    stream = mia(text).stream(ASKED, response_format=answer_type)
    assert (await stream).value == value
    result = await stream.pipe(ops.parse_json(answer_type))
    assert result.value == value
    assert result.json == value


async def test_items_of_a_list_come_one_after_another() -> None:
    stream = mia(f"[{MIA}, {MIA}]").stream(ASKED, response_format=list[Cat])
    items = [
        chunk.value
        async for chunk in stream.pipe(ops.json_items(Cat, path=""))
        if isinstance(chunk, rxllm.Json)
    ]
    assert items == [Cat("Mia", 3), Cat("Mia", 3)]


async def test_a_value_of_parse_json_that_does_not_match_raises_where_it_is_read() -> None:
    result = await mia('{"name": 3}').stream(ASKED, response_format=Cat).pipe(ops.parse_json())
    with pytest.raises(InvalidAnswerError, match=r"Expected `str`, got `int` - at `\$\.name`"):
        print(result.value)


async def test_parse_json_of_a_model_of_pydantic_says_what_is_wrong() -> None:
    stream = mia('{"name": ""}').stream(ASKED).pipe(ops.parse_json(Bird))
    with pytest.raises(MalformedStreamError, match="at least 1 character"):
        await stream


# The bundled model


@pytest.mark.parametrize("answer_type", [Cat, dict[str, int | str]])
async def test_the_bundled_model_follows_a_type(answer_type: Any) -> None:
    model = rxllm.model("tiny")
    stream = model.stream(ASKED, response_format=answer_type, temperature=0, max_tokens=60)
    result = await stream
    assert result.finish_reason == "stop"
    if answer_type is Cat:
        assert isinstance(result.value, Cat)
        assert result.value.name == "Mia"
        assert 0 <= result.value.age <= 30
    else:
        assert isinstance(result.value, dict)


async def test_the_bundled_model_follows_a_list_of_a_union_and_a_model_of_pydantic() -> None:
    model = rxllm.model("tiny")
    shape = await model.stream("A shape", response_format=Circle | Square, seed=1)
    assert isinstance(shape.value, Circle | Square)
    few = Annotated[int, Meta(ge=0, le=20)]
    count = await model.stream("How many cats?", response_format=few, seed=1)
    assert 0 <= count.value <= 20
    assert isinstance(model, LocalModel)
    assert (await model.count_tokens(ASKED, response_format=Bird)).tokens > 0
    kept: Observable[Chunk] = model.stream(ASKED, response_format=Bird, max_tokens=3)
    with pytest.raises(InvalidAnswerError, match="cut off"):
        print((await sinks.collect(kept)).value)
