"""A budget for each API key: its streams end, and then it may begin no more."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rxllm.chunks import Chunk, End, Start, Token, Usage
from rxllm.errors import BadRequestError
from rxllm.models.scripted import ScriptedModel
from rxllm.requests import Model, ModelInfo
from rxllm.router.router import Router
from rxllm.server import create_app
from rxllm.server.config import read_config
from rxllm.server.keys import Key, KeyBudget
from rxllm.server.messages import Complete
from rxllm.settings import Settings
from tests.server.serving import Stepwise, all_events, said, serving, take, until
from tests.server.websocket_client import talking

PROMPT = 5  # tokens of "Hi", as they are estimated
STREAM = {"prompt": "Hi"}
CHAT = {"messages": [{"role": "user", "content": "Hi"}]}
TABLE = '[models."test/priced"]\nprice = { input = 1e6, output = 1e6 }\n'


def keys(tokens: int | None = None, usd: float | None = None) -> list[Key]:
    budget = KeyBudget(usd=usd, tokens=tokens)
    return [Key(name="ada", key="a1", budget=budget), Key(name="bob", key="b1")]


def by(key: str) -> dict[str, Any]:
    return {"headers": {"X-API-Key": key}}


def endless(count: int = 1000) -> Stepwise:
    return Stepwise(Start("r", "m"), *[Token("x")] * count, Usage(2, count), End("stop"))


async def spend(client: Any, path: str = "/generate") -> None:
    async with client.post(path, json=STREAM, **by("a1")) as response:
        assert response.status == 200
        await response.read()


async def test_a_stream_ends_when_the_budget_of_its_key_is_spent_and_others_go_on() -> None:
    model = Stepwise()
    async with serving(create_app({"tiny": model}, keys=keys(PROMPT + 2))) as client:
        model.let(2)
        ada = await client.post("/stream", json=STREAM, **by("a1"))
        seen = await take(ada, 1)
        model.let(2)
        bob = await client.post("/stream", json=STREAM, **by("b1"))
        await take(bob, 1)
        model.let()
        seen += await all_events(ada)
        last = seen[-1].message
        assert isinstance(last, Complete)
        assert (said(seen), last.finish_reason) == ("ab", "limit")
        assert last.usage == Usage(PROMPT, 2, estimated=True)
        assert said(await all_events(bob)) == "abcdef"
        assert model.active == 0
        async with client.post("/stream", json=STREAM, **by("a1")) as response:
            assert response.status == 402
        async with client.post("/generate", json=STREAM, **by("b1")) as response:
            assert (await response.json())["text"] == "abcdef"


async def test_the_streams_of_a_key_share_its_budget() -> None:
    model = endless()
    async with serving(create_app({"tiny": model}, keys=keys(2 * PROMPT + 20))) as client:
        streams = [client.post("/generate", json=STREAM, **by("a1")) for _ in range(2)]
        asking = [asyncio.ensure_future(each) for each in streams]
        await until(lambda: model.active == 2)
        model.let(40)
        answers = [await (await each).json() for each in asking]
        assert {answer["finishReason"] for answer in answers} == {"limit"}
        assert sum(len(answer["text"]) for answer in answers) in (20, 21)


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/generate", STREAM, '"finishReason":"limit"'),
        ("/stream", STREAM, '"finishReason":"limit"'),
        ("/api/stream", STREAM, '"finishReason":"limit"'),
        ("/v1/chat/completions", CHAT, '"finish_reason":"length"'),
        ("/v1/chat/completions", {**CHAT, "stream": True}, '"native_finish_reason":"limit"'),
        ("/v1/responses", {"input": "Hi"}, '"reason":"max_output_tokens"'),
        ("/v1/responses", {"input": "Hi", "stream": True}, '"reason":"max_output_tokens"'),
        ("/v1/messages", {**CHAT, "max_tokens": 50}, '"stop_reason":"max_tokens"'),
        ("/v1/messages", {**CHAT, "max_tokens": 50, "stream": True}, '"stop_reason":"max_tokens"'),
        ("/api/chat", {**CHAT, "stream": False}, '"done_reason":"length"'),
        ("/api/chat", CHAT, '"done_reason":"length"'),
        ("/agui", CHAT, '"RUN_FINISHED"'),
    ],
)
async def test_each_wire_says_in_its_own_words_that_the_answer_was_cut(
    path: str, body: Any, words: str
) -> None:
    app = create_app({"tiny": ScriptedModel([*"abcdef"])}, keys=keys(PROMPT + 3))
    async with serving(app) as client:
        async with client.post(path, json=body, **by("a1")) as response:
            assert response.status == 200
            text = await response.text()
        assert words in text.replace(": ", ":")
        assert "abc" in text or '"c"' in text
        assert '"d"' not in text


WIRES: list[tuple[str, Any, dict[str, Any]]] = [
    ("/stream", STREAM, {"type": "error", "code": "budget_spent"}),
    ("/api/stream", STREAM, {"type": "error", "code": "budget_spent"}),
    ("/generate", STREAM, {"type": "error", "code": "budget_spent"}),
    ("/v1/chat/completions", CHAT, {"type": "insufficient_quota", "code": "insufficient_quota"}),
    ("/v1/responses", {"input": "Hi"}, {"type": "insufficient_quota"}),
    ("/v1/messages", {**CHAT, "max_tokens": 5}, {"type": "billing_error"}),
    ("/api/chat", CHAT, {}),
    ("/api/generate", STREAM, {}),
    ("/agui", CHAT, {"code": "budget_spent"}),
]


async def test_a_key_without_money_is_refused_by_each_wire_in_its_own_form() -> None:
    model = ScriptedModel("Hello")
    async with serving(create_app({"tiny": model}, keys=keys(1))) as client:
        await spend(client)
        for path, body, fields in WIRES:
            for asked in (body, {**body, "stream": True} if "v1" in path else body):
                async with client.post(path, json=asked, **by("a1")) as response:
                    assert response.status == 402, path
                    assert "Retry-After" not in response.headers
                    assert response.headers.get("x-should-retry", "false") == "false"
                    error = await response.json()
            nested = error.get("error", error)
            if isinstance(nested, str):
                nested = {"message": nested}
            assert fields.items() <= nested.items(), path
            assert nested["message"].startswith("this key has spent its budget of 1 tokens: ")
        assert len(model.requests) == 1
        async with client.get("/models", **by("a1")) as response:
            assert response.status == 200


async def test_a_web_socket_of_a_key_without_money_gets_an_error() -> None:
    app = create_app({"tiny": ScriptedModel("Hello")}, keys=keys(1))
    async with serving(app) as client, talking(client, **by("a1")) as ada:
        await ada.send("start", id="one", prompt="Hi")
        assert (await ada.until("complete", id="one"))["finishReason"] == "limit"
        await ada.send("start", id="two", prompt="Hi")
        error = await ada.until("error", id="two")
        assert (error["code"], error.get("retryable", False)) == ("budget_spent", False)
        await ada.send("chat", id="three", text="Hi")
        assert (await ada.until("error", id="three"))["code"] == "budget_spent"


async def test_who_asks_in_a_room_pays_for_the_answer() -> None:
    model = Stepwise()
    app = create_app({"tiny": model}, keys=keys(1))
    async with (
        serving(app) as client,
        talking(client, **by("b1")) as bob,
        talking(client, **by("a1")) as ada,
    ):
        await bob.join("r", "Bob")
        await ada.join("r", "Ada")
        await bob.send("say", room="r", text="why?")
        await until(lambda: model.active == 1)
        await ada.send("say", room="r", text="how?")
        await ada.until("room_message", text="how?")
        model.let()
        first = await ada.until("complete")
        second = await ada.until("complete")
        assert [first["finishReason"], second["finishReason"]] == ["stop", "limit"]
        await ada.send("say", room="r", text="what?")
        assert (await bob.until("error"))["code"] == "budget_spent"


async def test_a_stream_whose_turn_comes_when_the_budget_is_spent_asks_nothing() -> None:
    model = endless()
    settings = Settings(remote_streams=1)
    app = create_app({"tiny": model}, keys=keys(PROMPT + 2), settings=settings)
    async with serving(app) as client:
        first = asyncio.ensure_future(client.post("/generate", json=STREAM, **by("a1")))
        await until(lambda: model.active == 1)
        bodies = (STREAM, {**CHAT, "stream": True})
        paths = ("/generate", "/v1/chat/completions")
        waiting = [
            asyncio.ensure_future(client.post(path, json=body, **by("a1")))
            for path, body in zip(paths, bodies, strict=True)
        ]
        await until(lambda: len(model.requests) == 3)
        model.let()
        answer = await (await first).json()
        assert (answer["text"], answer["finishReason"]) == ("xx", "limit")
        whole = await (await waiting[0]).json()
        assert (whole["text"], whole["finishReason"]) == ("", "limit")
        assert '"finish_reason":"length"' in await (await waiting[1]).text()
        assert model.said == 3  # its start and two tokens, of the first stream


async def test_the_prompt_of_a_client_that_leaves_is_paid_for() -> None:
    model = endless()
    async with serving(create_app({"tiny": model}, keys=keys(2 * PROMPT))) as client:
        for _ in range(2):
            model.let(1)
            response = await client.post("/api/stream", json=STREAM, **by("a1"))
            await until(lambda: model.said == 1)
            response.close()
            await until(lambda: model.active == 0)
            model.said = 0
        async with client.post("/generate", json=STREAM, **by("a1")) as response:
            assert response.status == 402


class Priced(Stepwise):
    """A model whose price is in `TABLE`."""

    def __init__(self, *chunks: Chunk, name: str = "test/priced") -> None:
        super().__init__(*(chunks or (Start("r", name), *map(Token, "abcdef"), End("stop"))))
        self.info = ModelInfo(name, "test")


@pytest.fixture
def prices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "models.toml"
    path.write_text(TABLE)
    monkeypatch.setenv("RXLLM_MODELS", str(path))


@pytest.mark.usefixtures("prices")
async def test_dollars_are_counted_at_the_prices_of_the_table() -> None:
    model = Priced()
    model.let()
    async with serving(create_app({"a": model}, keys=keys(usd=PROMPT + 3))) as client:
        async with client.post("/generate", json=STREAM, **by("a1")) as response:
            answer = await response.json()
        assert (answer["text"], answer["finishReason"]) == ("abc", "limit")
        assert answer["usage"]["cost"] == PROMPT + 3
        async with client.post("/generate", json=STREAM, **by("a1")) as response:
            assert "spent its budget of 8 USD:" in (await response.json())["message"]


@pytest.mark.usefixtures("prices")
@pytest.mark.parametrize("model", [Priced(name="test/other"), Router([Priced(name="test/other")])])
def test_a_budget_in_dollars_needs_the_price_of_each_model(model: Model) -> None:
    words = "budget of the key 'ada' is in USD, but the price of 'test/other' isn't known"
    with pytest.raises(BadRequestError, match=words):
        create_app({"known": Priced(), "x": model}, keys=keys(usd=1))
    create_app({"x": model}, keys=keys(tokens=1))
    nested = Router([Router([Priced()]), ScriptedModel("free")])
    create_app({"known": Priced(), "x": nested, "free": ScriptedModel("x")}, keys=keys(usd=1))


def config(folder: Path, budget: str) -> Sequence[Key]:
    path = folder / "rxllm.toml"
    path.write_text(f'[[keys]]\nname = "a"\nkey = "x"\nbudget = {budget}\n')
    return read_config(path).keys


def test_the_configuration_file_has_the_budget_of_a_key(tmp_path: Path) -> None:
    [key] = config(tmp_path, "{ usd = 5, tokens = 100_000 }")
    assert key.budget == KeyBudget(usd=5.0, tokens=100_000)
    [key] = config(tmp_path, "{ usd = 0.5 }")
    assert key.budget == KeyBudget(usd=0.5)


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ("{}", ":4: keys.0.budget: a budget needs usd, tokens or both"),
        ("{ usd = 0 }", ":4: keys.0.budget.usd: usd must be a finite number above 0"),
        ("{ usd = inf }", ":4: keys.0.budget.usd: usd must be a finite number above 0"),
        ("{ tokens = 0 }", ":4: keys.0.budget.tokens: tokens must be 1 or more"),
        ("{ tokens = 1.5 }", ":4: keys.0.budget.tokens: expected `int"),
        ("{ dollars = 5 }", ":4: keys.0.budget.dollars: object contains unknown field"),
        ("5", ":4: keys.0.budget: expected `object"),
    ],
)
def test_a_budget_that_makes_no_sense_is_named_with_its_line(
    tmp_path: Path, budget: str, words: str
) -> None:
    with pytest.raises(BadRequestError) as raised:
        config(tmp_path, budget)
    assert words in str(raised.value)
