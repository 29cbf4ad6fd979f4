"""Agents behind a server: on our own wires all chunks of a run, resumed anywhere, approved, and
treated as any other model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
import pytest

from rxllm import operators as ops
from rxllm.agents import Agent
from rxllm.chunks import End, Start, Token, ToolResult, Usage
from rxllm.errors import BadRequestError
from rxllm.messages import Message
from rxllm.models.scripted import ScriptedModel
from rxllm.piped_model import piped
from rxllm.requests import Model, ModelInfo
from rxllm.server import Limits, create_app
from rxllm.server.keys import Key, KeyBudget
from rxllm.server.messages import Complete, Generated, StreamChunk
from rxllm.settings import Settings
from rxllm.transcript import Transcript
from tests.agents.runs import calling, play
from tests.server.agents import WEATHER, delete, deleted, everything
from tests.server.serving import (
    Calls,
    Stepwise,
    all_events,
    decode,
    serving,
    take,
    until,
)
from tests.server.test_access_log import Log
from tests.server.websocket_client import talking

GO = {"prompt": "Go"}


def fold(messages: Iterable[Any]) -> Transcript:
    """What a client makes of the messages of a stream."""
    calls, transcript = Calls(), Transcript()
    for message in messages:
        whole = calls.whole(message)
        if isinstance(whole, StreamChunk):
            transcript.add(whole.chunk)
    return transcript


def deleting(*scripts: Any) -> Agent:
    asking = calling(("e", "delete", '{"path": "/x"}'), text=["May I?"])
    return Agent(ScriptedModel(asking, *(scripts or ("Gone.",))), [delete], secret=b"s")


async def test_server_sent_events_have_the_whole_run_after_any_of_them() -> None:
    _, expected = await play(everything().stream("Go"))
    async with serving(create_app({"agent": everything()})) as client:
        response = await client.post("/stream", json=GO)
        got = [event.message for event in await all_events(response)]
        seen = fold(got)
        assert seen.messages == expected.messages
        assert seen.pending == expected.pending
        assert seen.steps == 2
        path = f"/stream/{response.headers['X-Stream-Id']}"
        for count in range(len(got)):
            after = got[count - 1].position if count else 0
            again = await client.get(path, headers={"Last-Event-ID": str(after)})
            rest = [event.message for event in await all_events(again)]
            assert fold([*got[:count], *rest]).messages == expected.messages
            assert isinstance(rest[-1], Complete)


async def test_a_reader_that_joins_amid_the_second_answer_has_the_first_one() -> None:
    model = Stepwise(Start("r", "m"), *map(Token, "abc"), End("stop"))
    first_answer = ScriptedModel(calling(("a", "one", "{}"), text=["First."]))
    answers: Iterator[Any] = iter([first_answer, model])

    class InTurn:
        info = ModelInfo("turns", "test")

        def stream(self, prompt: Any, **options: Any) -> Any:
            return next(answers).stream(prompt, **options)

    def one() -> int:
        """Return a number."""
        return 1

    async with serving(create_app({"agent": Agent(InTurn(), [one])})) as client:
        first = await client.post("/stream", json=GO)
        await until(lambda: model.active)
        model.let(2)
        await until(lambda: model.said == 2)
        late = await client.get(f"/stream/{first.headers['X-Stream-Id']}")
        model.let()
        got = [event.message for event in await all_events(late)]
        first.close()
    transcript = fold(got)
    assert [message.text for message in transcript.messages] == ["First.", "1", "abc"]


async def test_lines_and_a_websocket_have_the_whole_run() -> None:
    _, expected = await play(everything().stream("Go"))
    async with (
        serving(create_app({"agent": everything()})) as client,
        client.post("/api/stream", json=GO) as response,
    ):
        lines = [decode(line) for line in (await response.read()).splitlines()]
    assert fold(lines).messages == expected.messages
    async with serving(create_app({"agent": everything()})) as client, talking(client) as socket:
        await socket.send("start", id="a", **GO)
        await socket.until("complete", id="a")
        found = [decode(json.dumps(message)) for message in socket.of("chunk", id="a")]
    assert fold(found).messages == expected.messages


@pytest.mark.parametrize("wrapped", [deleting, lambda: piped(deleting(), ops.sentences())])
@pytest.mark.parametrize("decision", [True, "too risky"])
async def test_a_whole_answer_says_what_waits_and_continues_with_the_decision(
    decision: bool | str, wrapped: Callable[[], Model]
) -> None:
    deleted.clear()
    async with serving(create_app({"agent": wrapped()})) as client:
        async with client.post("/generate", json=GO) as response:
            first = msgspec.json.decode(await response.read(), type=Generated)
        assert first.finish_reason == "tool_calls"
        history = [Message("user", "Go"), *first.messages]
        (request,) = first.pending
        asked = {
            "messages": msgspec.to_builtins(history),
            "approvals": {request.token: decision},
        }
        async with client.post("/generate", json=asked) as response:
            second = msgspec.json.decode(await response.read(), type=Generated)
    assert second.text == "Gone."
    assert [message.role for message in second.messages] == ["tool", "assistant"]
    assert deleted == (["/x"] if decision is True else [])


async def test_a_run_goes_on_after_an_approval_on_our_own_streams() -> None:
    deleted.clear()
    for wire in ("/stream", "/api/stream", "ws"):
        agent = Agent(ScriptedModel("Gone."), [delete], secret=b"s")
        async with serving(create_app({"agent": agent})) as client:
            _, first = await play(deleting().stream("Go"))
            asked = {
                "messages": msgspec.to_builtins([Message("user", "Go"), *first.messages]),
                "approvals": {first.pending[0].token: True},
            }
            if wire == "ws":
                async with talking(client) as socket:
                    await socket.send("start", id="a", **asked)
                    await socket.until("complete", id="a")
                    got: list[Any] = [decode(json.dumps(each)) for each in socket.of("chunk")]
            elif wire == "/stream":
                response = await client.post(wire, json=asked)
                got = [event.message for event in await all_events(response)]
            else:
                async with client.post(wire, json=asked) as response:
                    got = [decode(line) for line in (await response.read()).splitlines()]
        chunks = [each.chunk for each in got if isinstance(each, StreamChunk)]
        running, result = [chunk for chunk in chunks if isinstance(chunk, ToolResult)]
        assert running.preliminary
        assert (result.id, result.output) == ("e", "deleted /x")
        assert fold(got).text == "Gone."
    assert deleted == ["/x"] * 3


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({**GO, "approvals": {"t": True}}, "no call waits for the approval 't'"),
        ({**GO, "approvals": {"t": True}, "model": "tiny"}, "runs no tools"),
        ({**GO, "approvals": {"t": 1}}, "approvals"),
        ({**GO, "tools": [{"name": 1}]}, "tools"),
    ],
)
async def test_an_approval_of_nothing_is_refused(asked: Any, words: str) -> None:
    app = create_app({"agent": deleting(), "tiny": ScriptedModel("Hi")})
    async with serving(app) as client:
        for path in ("/stream", "/api/stream", "/generate"):
            async with client.post(path, json=asked) as response:
                assert response.status == 400
                assert words in await response.text()


async def test_a_changed_call_has_no_approval() -> None:
    deleted.clear()
    _, first = await play(deleting().stream("Go"))
    history = msgspec.to_builtins([Message("user", "Go"), *first.messages])
    history[1]["tool_calls"][0]["arguments"] = '{"path": "/etc"}'
    asked = {"messages": history, "approvals": {first.pending[0].token: True}}
    async with (
        serving(create_app({"agent": deleting()})) as client,
        client.post("/generate", json=asked) as response,
    ):
        assert response.status == 400
        assert "another one than was asked about" in await response.text()
    assert deleted == []


async def test_tools_of_the_client_are_left_to_it_and_those_of_the_agent_win() -> None:
    def weather(city: str) -> str:
        """The agent's own."""
        return "sun"

    calls = calling(("a", "weather", '{"city": "Oslo"}'), ("b", "time", "{}"))
    model = ScriptedModel(calls)
    async with serving(create_app({"agent": Agent(model, [weather])})) as client:
        asked = {**GO, "tools": [WEATHER, {"name": "time"}]}
        async with client.post("/generate", json=asked) as response:
            found = msgspec.json.decode(await response.read(), type=Generated)
    assert found.finish_reason == "tool_calls"
    answer, result = found.messages
    assert [call.id for call in answer.calls] == ["a", "b"]
    assert (result.tool_call_id, result.text) == ("a", "sun")
    tools = {tool.name: tool.description for tool in model.requests[0].tools}
    assert tools == {"weather": "The agent's own.", "time": ""}


async def test_an_agent_is_listed_as_any_model_and_may_be_given_without_a_name() -> None:
    agent = Agent(ScriptedModel("Hi"), [delete], name="shop")
    async with serving(create_app([agent, "scripted/Hello"])) as client:
        for path in ("/models", "/v1/models", "/api/tags"):
            async with client.get(path) as response:
                text = await response.text()
                assert "shop" in text
                assert "scripted/Hello" in text
        async with client.get("/v1/models/shop") as response:
            assert (await response.json())["owned_by"] == "agent"
        async with client.post("/generate", json=GO) as response:
            assert (await response.json())["text"] == "Hi"
    with pytest.raises(BadRequestError, match="two models have the name 'shop'"):
        create_app([agent, Agent(ScriptedModel("Hi"), name="shop")])


async def test_the_budget_of_a_key_covers_all_answers_of_a_run() -> None:
    def one() -> int:
        """Return a number."""
        return 1

    model = ScriptedModel(*[calling(("a", "one", "{}"), text=["x"] * 20)] * 9)
    keys = [Key(name="ada", key="k", budget=KeyBudget(tokens=60))]
    app = create_app({"agent": Agent(model, [one])}, keys=keys)
    async with serving(app) as client:
        headers = {"X-API-Key": "k"}
        async with client.post("/generate", json=GO, headers=headers) as response:
            assert (await response.json())["finishReason"] == "limit"
        async with client.post("/generate", json=GO, headers=headers) as response:
            assert response.status == 402
    assert 1 < len(model.requests) < 9


async def test_a_budget_in_dollars_needs_the_price_of_the_model_of_an_agent() -> None:
    class Unpriced(ScriptedModel):
        info = ModelInfo("test/unpriced", "test")

    keys = [Key(name="ada", key="k", budget=KeyBudget(usd=1))]
    with pytest.raises(BadRequestError, match="test/unpriced"):
        create_app({"agent": Agent(Agent(Unpriced("Hi")))}, keys=keys)
    create_app({"agent": Agent(ScriptedModel("Hi"))}, keys=keys)


async def test_the_log_has_one_line_for_a_run() -> None:
    log = Log()

    def one() -> int:
        """Return a number."""
        return 1

    model = ScriptedModel(
        calling(("a", "one", "{}"), text=["x"], usage=Usage(1, 4)), ["y", Usage(1, 3)]
    )
    async with serving(create_app({"agent": Agent(model, [one])}, logger=log)) as client:
        async with client.post("/generate", json=GO) as response:
            await response.read()
        await until(lambda: log.lines)
    (line,) = log.lines
    assert (line["model"], line["status"], line["tokens"]) == ("agent", "completed", 7)


async def test_an_agent_of_a_local_model_holds_a_slot_of_local_models() -> None:
    model = Stepwise()
    model.info = ModelInfo("tiny/x", "tiny")
    settings = Settings(local_streams=1, remote_streams=9)
    app = create_app({"agent": Agent(model)}, settings=settings, limits=Limits(streams=9))
    async with serving(app) as client:
        model.let(2)
        first = await client.post("/stream", json=GO)
        await take(first, 2)
        second = await client.post("/stream", json=GO)
        (waiting,) = await take(second, 1)
        assert waiting.message.chunk.stage == "queue"  # type: ignore[union-attr]
        assert model.active == 1
        first.close()
        second.close()
        model.let()


async def test_a_stream_that_is_stopped_amid_a_tool_stops_the_tool() -> None:
    running: list[str] = []

    async def endless() -> str:
        """Never end."""
        running.append("tool")
        try:
            await asyncio.Event().wait()
        finally:
            running.clear()
        return ""

    agent = Agent(ScriptedModel(calling(("a", "endless", "{}"))), [endless])
    async with serving(create_app({"agent": agent})) as client:
        response = await client.post("/stream", json={**GO, "id": "a"})
        await until(lambda: running)
        async with client.delete("/streams/a") as stopped:
            assert stopped.status in (200, 204)
        got = await all_events(response)
        assert running == []
    last = got[-1].message
    assert isinstance(last, Complete)
    assert last.finish_reason == "cancelled"
