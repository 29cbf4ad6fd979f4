"""Approvals of tool calls over our own protocol: HTTP, a WebSocket and its chat."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession

import rxllm
from rxllm import Settings
from rxllm.chunks import Chunk, End, ToolCall
from rxllm.errors import ContextLengthError, ServerError
from rxllm.models.scripted import ScriptedModel
from rxllm.server import Limits, create_app
from tests.server.serving import serving
from tests.server.websocket_client import Client, talking

PAY: list[Chunk] = [ToolCall("1", "pay", '{"usd": 5}', complete=True), End("tool_calls")]


class Shop:
    """An agent that pays once somebody has allowed it."""

    def __init__(self, *scripts: Any) -> None:
        self.paid: list[int] = []
        self.model = ScriptedModel(*(scripts or (PAY, "Thanks.")))

        @rxllm.tool(approval="ask")
        def pay(usd: int) -> str:
            self.paid.append(usd)
            return "paid"

        self.agent = rxllm.Agent(self.model, [pay], secret=b"k")

    @property
    def last_said(self) -> list[tuple[str, str]]:
        return [(message.role, message.text) for message in self.model.requests[-1].messages]


async def lines(session: ClientSession, **body: Any) -> list[Any]:
    response = await session.post("/api/stream", json=body)
    assert response.status == 200, await response.text()
    return [msgspec.json.decode(line) for line in (await response.read()).splitlines()]


def token_in(messages: list[Any]) -> str:
    [token] = [
        message["chunk"]["token"]
        for message in messages
        if message["type"] == "chunk" and message["chunk"]["type"] == "approval_request"
    ]
    assert isinstance(token, str)
    return token


def call_message() -> dict[str, Any]:
    call = {"type": "tool_call", "id": "1", "name": "pay", "arguments": '{"usd": 5}'}
    return {"role": "assistant", "content": "", "tool_calls": [{**call, "complete": True}]}


ASKED = [{"role": "user", "content": "Pay."}]


@pytest.mark.parametrize(
    ("decision", "paid", "told"),
    [
        (True, [5], "paid"),
        (False, [], "DeniedError: the user has not allowed this"),
        ("too dear", [], "DeniedError: the user has not allowed this: too dear"),
    ],
)
async def test_a_request_over_http_decides(
    decision: bool | str, paid: list[int], told: str
) -> None:
    shop = Shop()
    async with serving(create_app({"shop": shop.agent})) as session:
        token = token_in(await lines(session, messages=ASKED))
        said = await lines(session, messages=[*ASKED, call_message()], approvals={token: decision})
    assert (shop.paid, said[-1]["text"]) == (paid, "Thanks.")
    assert shop.last_said == [("user", "Pay."), ("assistant", ""), ("tool", told)]


async def test_a_request_for_a_whole_answer_decides() -> None:
    shop = Shop()
    async with serving(create_app({"shop": shop.agent})) as session:
        token = token_in(await lines(session, messages=ASKED))
        body = {"messages": [*ASKED, call_message()], "approvals": {token: True}}
        answer = await (await session.post("/generate", json=body)).json()
    assert (shop.paid, answer["text"]) == ([5], "Thanks.")


async def test_a_stream_over_a_websocket_decides() -> None:
    shop = Shop()
    app = create_app({"shop": shop.agent})
    async with serving(app) as session, talking(session) as client:
        await client.send("start", id="a", messages=ASKED)
        await client.until("complete", id="a")
        approvals = {token_in(client.got): True}
        messages = [*ASKED, call_message()]
        await client.send("start", id="b", messages=messages, approvals=approvals)
        await client.until("complete", id="b")
        assert client.text("b") == "Thanks."
    assert shop.paid == [5]


async def test_an_approved_tool_may_take_longer_than_the_first_token() -> None:
    released = asyncio.Event()

    @rxllm.tool(approval="ask")
    async def pay(usd: int) -> str:
        await released.wait()
        return "paid"

    agent = rxllm.Agent(ScriptedModel(PAY, "Thanks."), [pay])
    settings = Settings(first_token=0.05, between_tokens=0.05)
    async with serving(create_app({"shop": agent}, settings=settings)) as session:
        token = token_in(await lines(session, messages=ASKED))
        asyncio.get_running_loop().call_later(0.3, released.set)
        said = await lines(session, messages=[*ASKED, call_message()], approvals={token: True})
    assert said[-1]["text"] == "Thanks."


@pytest.mark.parametrize("path", ["/stream", "/api/stream", "/generate"])
async def test_a_model_that_runs_no_tools_takes_no_approvals(path: str) -> None:
    async with serving(create_app({"plain": ScriptedModel("x")})) as session:
        response = await session.post(path, json={"prompt": "Hi", "approvals": {"t": True}})
        error = await response.json()
    assert (response.status, error["code"], error["field"]) == (400, "bad_request", "approvals")
    assert error["message"] == "approvals are for agents: 'scripted' runs no tools"


async def test_an_approval_of_a_call_that_does_not_wait_is_refused() -> None:
    shop = Shop()
    async with serving(create_app({"shop": shop.agent})) as session:
        body = {"messages": [*ASKED, call_message()], "approvals": {"made-up": True}}
        response = await session.post("/api/stream", json=body)
        error = await response.json()
    assert (response.status, error["code"], error["field"]) == (400, "bad_request", "approvals")
    assert shop.paid == []


@pytest.mark.parametrize(
    "approvals",
    [
        *({"t": 1}, {"t": None}, ["t"], {"t": "w" * 2001}, {"t" * 201: True}),
        {str(number): True for number in range(201)},
    ],
)
async def test_what_is_no_decision_is_refused(approvals: Any) -> None:
    async with serving(create_app({"shop": Shop().agent})) as session:
        response = await session.post("/stream", json={"prompt": "Hi", "approvals": approvals})
        error = await response.json()
    assert (response.status, error["code"]) == (400, "invalid_message")
    assert "approvals" in error["message"]


# The chat


async def chat(client: Client, message_id: str, **fields: Any) -> Any:
    await client.send("chat", id=message_id, **fields)
    return await client.until("chat_message", id=message_id)


async def test_a_chat_keeps_the_calls_of_an_agent_and_takes_decisions_about_them() -> None:
    shop = Shop(PAY, "Thanks.", "Five dollars.")
    async with serving(create_app({"shop": shop.agent})) as session, talking(session) as client:
        first = await chat(client, "a", text="Pay.")
        assert (first["text"], first["history"]) == ("", 1)
        second = await chat(client, "b", approvals={token_in(client.got): True})
        assert (second["text"], second["history"]) == ("Thanks.", 1)
        third = await chat(client, "c", text="How much was it?")
        assert (third["text"], third["history"]) == ("Five dollars.", 2)
    assert shop.paid == [5]
    assert shop.last_said == [
        *(("user", "Pay."), ("assistant", ""), ("tool", "paid"), ("assistant", "Thanks.")),
        ("user", "How much was it?"),
    ]


async def test_two_calls_may_be_decided_one_after_the_other() -> None:
    second = ToolCall("2", "pay", '{"usd": 7}', 1, complete=True)
    shop = Shop([PAY[0], second, End("tool_calls")], "Thanks.")
    async with serving(create_app({"shop": shop.agent})) as session, talking(session) as client:
        await chat(client, "a", text="Pay.")
        tokens = [
            each["chunk"]["token"]
            for each in client.got
            if each["type"] == "chunk" and each["chunk"]["type"] == "approval_request"
        ]
        assert (await chat(client, "b", approvals={tokens[1]: True}))["text"] == ""
        assert (await chat(client, "c", approvals={tokens[0]: False}))["text"] == "Thanks."
    assert shop.paid == [7]
    assert [role for role, _ in shop.last_said] == ["user", "assistant", "tool", "tool"]


async def test_a_message_in_place_of_a_decision_leaves_the_call_undone() -> None:
    shop = Shop(PAY, "As you like.")
    async with serving(create_app({"shop": shop.agent})) as session, talking(session) as client:
        await chat(client, "a", text="Pay.")
        await chat(client, "b", text="Rather not.")
        late = await client.ask("chat", id="c", approvals={token_in(client.got): True})
        assert (late["type"], late["code"], late["field"]) == ("error", "bad_request", "approvals")
    assert shop.paid == []
    assert [role for role, _ in shop.last_said] == ["user", "assistant", "tool", "user"]


@pytest.mark.parametrize("error", [ServerError("broken"), ContextLengthError("too long")])
async def test_what_an_approved_tool_has_done_stays_when_the_answer_fails(
    error: Exception,
) -> None:
    """So that nothing is paid twice."""
    shop = Shop("Hello.", PAY, [error], "Thanks.")
    async with serving(create_app({"shop": shop.agent})) as session, talking(session) as client:
        await chat(client, "0", text="Hi.")
        await chat(client, "a", text="Pay.")
        token = token_in(client.got)
        await client.send("chat", id="b", approvals={token: True})
        await client.until("error", id="b")
        await client.send("chat", id="c", approvals={token: True})
        assert (await client.until("error", id="c"))["code"] == "bad_request"
        await chat(client, "d", text="And?")
    assert shop.paid == [5]
    assert ("tool", "paid") in shop.last_said


async def test_a_call_that_waits_outlives_the_limit_of_the_history() -> None:
    shop = Shop()
    app = create_app({"shop": shop.agent}, limits=Limits(history_characters=10))
    async with serving(app) as session, talking(session) as client:
        await chat(client, "a", text="Pay what I owe to the shop.")
        answer = await chat(client, "b", approvals={token_in(client.got): True})
        assert answer["text"] == "Thanks."


async def test_another_model_of_the_chat_gets_the_texts_alone() -> None:
    shop, plain = Shop(PAY, "Thanks."), ScriptedModel("Sure.")
    app = create_app({"shop": shop.agent, "plain": plain})
    async with serving(app) as session, talking(session) as client:
        await chat(client, "a", text="Pay.")
        await chat(client, "b", approvals={token_in(client.got): True})
        await chat(client, "c", text="Right?", options={"model": "plain"})
    [asked] = plain.requests
    said = [(each.role, each.text) for each in asked.messages]
    assert said == [("user", "Pay."), ("assistant", "Thanks."), ("user", "Right?")]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "text"),
        ({"text": "Hi", "approvals": {"t": True}}, "text"),
        ({"approvals": {"t": True}}, "approvals"),
    ],
)
async def test_a_chat_message_has_a_text_or_decisions_about_an_answer(
    fields: dict[str, Any], field: str
) -> None:
    async with (
        serving(create_app({"shop": Shop().agent})) as session,
        talking(session) as client,
    ):
        error = await client.ask("chat", id="a", **fields)
    assert (error["type"], error["code"], error["field"]) == ("error", "invalid_message", field)
