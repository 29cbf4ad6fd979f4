"""Settings: each field has an effect on a model, a router or a server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

import rxllm
from rxllm import operators as ops
from rxllm.chunks import Progress, Token
from rxllm.errors import (
    BadRequestError,
    ConnectionFailedError,
    FirstTokenTimeoutError,
    PoolFullError,
    RxLLMError,
    StallTimeoutError,
    TotalTimeoutError,
)
from rxllm.models import registry
from rxllm.models.scripted import Script, ScriptedModel
from rxllm.server import create_app
from rxllm.settings import Settings
from rxllm.testing import Marbles, run_virtual
from tests.server.serving import serving


def settled(model: ScriptedModel, settings: Settings, monkeypatch: Any) -> rxllm.Model:
    """A model that is made by name with settings."""
    monkeypatch.setitem(registry._registered, "settled", (lambda _: model, model.info))
    return rxllm.model("settled/x", settings=settings)


def routed(model: ScriptedModel, settings: Settings, _: Any) -> rxllm.Model:
    return rxllm.Router([model], settings=settings)


Making = Callable[[ScriptedModel, Settings, Any], rxllm.Model]
either = pytest.mark.parametrize("making", [settled, routed])


def cause_of(error: Exception) -> Exception:
    """What the only model of a router failed with."""
    while isinstance(error, rxllm.errors.AllModelsFailedError):
        [error] = error.errors
    return error


@either
@pytest.mark.parametrize(
    ("script", "delay", "settings", "error"),
    [
        ("one", 3.0, Settings(first_token=2), FirstTokenTimeoutError),
        (["one", "two"], 3.0, Settings(between_tokens=2), StallTimeoutError),
        (["one", "two"], 3.0, Settings(total=4), TotalTimeoutError),
    ],
)
def test_limits_to_first_token_between_tokens_and_in_total_have_an_effect(
    making: Making,
    script: Script,
    delay: float,
    settings: Settings,
    error: type[Exception],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = making(ScriptedModel(script, delay=delay), settings, monkeypatch)
    with pytest.raises(RxLLMError) as caught:
        run_virtual(rxllm.sinks.collect(model.stream("Hi")))
    assert isinstance(cause_of(caught.value), error)


@either
@pytest.mark.parametrize("attempts", [1, 2, 3])
def test_attempts(making: Making, attempts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted = ScriptedModel([ConnectionFailedError("refused")])
    model = making(scripted, Settings(attempts=attempts), monkeypatch)
    with pytest.raises(RxLLMError):
        run_virtual(rxllm.sinks.collect(model.stream("Hi")))
    assert len(scripted.requests) == attempts


@either
def test_the_delay_before_another_attempt(making: Making, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted = ScriptedModel([ConnectionFailedError("refused")], "fine")
    monkeypatch.setattr("random.uniform", lambda _, longest: longest)
    model = making(scripted, Settings(attempts=2, retry_delay=40), monkeypatch)
    answer = run_virtual(rxllm.sinks.collect(model.stream("Hi")))
    assert (answer.text, [notice.delay for notice in answer.notices]) == ("fine", [40])


@either
@pytest.mark.parametrize("is_local", [False, True])
def test_the_limit_of_streams_and_of_their_queue_has_an_effect(
    making: Making, is_local: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two run, one waits without being measured, and the fourth is refused."""
    name = "tiny" if is_local else "scripted"
    few: dict[str, int] = {"local_streams": 2} if is_local else {"remote_streams": 2}
    settings = Settings(**few, queue=1, first_token=4, attempts=1)
    scripted = ScriptedModel("one", delay=3.0)
    scripted._info = rxllm.ModelInfo("x", name)
    if is_local:
        monkeypatch.setattr(registry, "_tiny", lambda _: scripted)
        model = (
            rxllm.model("tiny", settings=settings)
            if making is settled
            else routed(scripted, settings, None)
        )
    else:
        model = making(scripted, settings, monkeypatch)

    async def ask() -> Any:
        asked = [rxllm.sinks.collect(model.stream("Hi")) for _ in range(4)]
        return await asyncio.gather(*asked, return_exceptions=True)

    *answered, refused = run_virtual(ask())
    assert [each.text for each in answered] == ["one"] * 3
    assert [round(each.timings.elapsed) for each in answered] == [3, 3, 6]
    assert isinstance(cause_of(refused), PoolFullError)


@either
def test_a_stream_waits_for_its_slot_no_longer_than_the_limit(
    making: Making, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(remote_streams=1, queue_wait=2, attempts=1)
    model = making(ScriptedModel("one", delay=3.0), settings, monkeypatch)

    async def ask() -> Any:
        asked = [rxllm.sinks.collect(model.stream("Hi")) for _ in range(2)]
        return await asyncio.gather(*asked, return_exceptions=True)

    answered, refused = run_virtual(ask())
    assert answered.text == "one"
    assert isinstance(cause_of(refused), PoolFullError)


@either
def test_the_size_of_pieces(making: Making, monkeypatch: pytest.MonkeyPatch) -> None:
    model = making(ScriptedModel("abcdefgh"), Settings(piece_size=3), monkeypatch)
    chunks = list(model.stream("Hi"))
    assert [chunk.text for chunk in chunks if isinstance(chunk, Token)] == ["abc", "def", "gh"]


@either
@pytest.mark.parametrize("size", [1, 1000])
def test_the_size_of_pieces_does_not_change_how_many_tokens_are_counted(
    making: Making, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = making(ScriptedModel(["one", " two", " three"]), Settings(piece_size=size), monkeypatch)
    stream = model.stream("Hi", max_tokens=3).pipe(ops.progress(), ops.words())
    reports = [chunk for chunk in stream.pipe(ops.progress()) if isinstance(chunk, Progress)]
    assert [(each.tokens, each.percentage) for each in reports] == [(3, 100.0)] * 2


def test_a_router_without_settings_has_no_limit_of_streams() -> None:
    model = rxllm.Router([ScriptedModel("one", delay=3.0)])

    async def ask() -> Any:
        return await asyncio.gather(*[rxllm.sinks.collect(model.stream("Hi")) for _ in range(30)])

    assert {round(each.timings.elapsed) for each in run_virtual(ask())} == {3}


def test_the_time_to_connect_is_that_of_remote_models_made_by_name() -> None:
    settings = Settings(connect=3.5)
    remote = rxllm.model("openai/gpt-5", settings=settings)
    assert remote._model._client._connect_timeout == 3.5  # type: ignore[attr-defined]
    given = rxllm.model("openai/gpt-5", settings=settings, connect_timeout=1.0)
    assert given._model._client._connect_timeout == 1.0  # type: ignore[attr-defined]


def test_a_settled_model_is_otherwise_the_model() -> None:
    model = rxllm.model("tiny", settings=Settings())
    assert model.info == rxllm.model("tiny").info
    assert repr(model) == repr(rxllm.model("tiny"))
    assert isinstance(model, rxllm.requests.Loadable)
    with pytest.raises(BadRequestError, match=r"settings must be an rxllm\.Settings"):
        rxllm.model("tiny", settings={"total": 1})  # type: ignore[arg-type]


async def events_of(settings: Settings | None, *scripts: Script, **options: Any) -> list[Any]:
    """The chunks that a server sends."""
    model = ScriptedModel(*scripts, **options)
    async with (
        serving(create_app({"m": model}, settings=settings)) as client,
        client.post("/api/stream", json={"prompt": "Hi"}) as response,
    ):
        return [json.loads(line) for line in (await response.text()).splitlines()]


def texts(lines: list[Any]) -> list[str]:
    chunks = [line["chunk"] for line in lines if line["type"] == "chunk"]
    return [each["text"] for each in chunks if each["type"] in ("token", "batch")]


async def test_a_server_packs_text_and_cuts_it_in_pieces() -> None:
    script = ["ab", "cd", "ef", "gh"]
    assert texts(await events_of(None, script)) == script
    assert texts(await events_of(Settings(batch_size=3), script)) == ["abcdef", "gh"]
    assert texts(await events_of(Settings(piece_size=3), script)) == ["abc", "def", "gh"]
    slow = Settings(batch_size=100, batch_seconds=0.01)
    assert texts(await events_of(slow, ["ab", "cd"], delay=0.1)) == ["ab", "cd"]


async def test_a_server_asks_again_only_if_it_is_told_to() -> None:
    scripts: list[Script] = [[ConnectionFailedError("refused")], "fine"]
    *_, failed = await events_of(None, *scripts)
    assert failed["code"] == "connection_failed"
    settings = Settings(attempts=2, retry_delay=0.01)
    lines = await events_of(settings, *scripts)
    assert texts(lines) == ["fine"]
    [notice] = [each["chunk"] for each in lines if each.get("chunk", {}).get("type") == "notice"]
    assert notice["delay"] <= 0.01


async def test_a_server_has_time_limits() -> None:
    for settings in (Settings(first_token=0.05), Settings(total=0.05)):
        *_, failed = await events_of(settings, "one", delay=10.0)
        assert failed["type"] == "error"


def test_default_time_limits_attempts_sizes_and_3_local_and_10_remote_streams() -> None:
    settings = Settings()
    assert settings.timeouts == {"first": 10, "between": 5, "total": 600}
    assert (settings.connect, settings.attempts, settings.buffer_size) == (10, 3, 1024)
    assert settings.retry == {"attempts": 3, "initial": 1}
    assert settings.batch == {"size": 1, "seconds": 0.1}
    assert settings.local_pool == {"limit": 3, "queue": 100, "wait": 30}
    assert settings.remote_pool == {"limit": 10, "queue": 100, "wait": 30}


def test_operators_take_a_group_as_their_arguments() -> None:
    settings = Settings(batch_size=2, batch_seconds=9, local_streams=1, queue=0)
    marbles, pool = Marbles(), ops.Pool(**settings.local_pool)
    packed = marbles.cold("a-b-c|").pipe(ops.batch(**settings.batch), ops.limit_concurrency(pool))
    assert [getattr(event, "text", event) for _, event in marbles.run(packed)][:2] == ["ab", "c"]
    assert (pool.limit, pool.queue, pool.wait) == (1, 0, 30)


def test_settings_can_be_replaced_and_decoded() -> None:
    assert msgspec.structs.replace(Settings(), total=60).timeouts["total"] == 60
    assert msgspec.json.decode(b'{"total": 60, "queue": 0}', type=Settings).queue == 0
    with pytest.raises(msgspec.ValidationError, match="totl"):
        msgspec.toml.decode("totl = 60", type=Settings)
    with pytest.raises(msgspec.ValidationError, match="total must be a number of seconds above 0"):
        msgspec.json.decode(b'{"total": -1}', type=Settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 0),
        ("batch_size", 1.5),
        ("batch_size", None),
        ("piece_size", 0),
        ("piece_size", 1.5),
        ("local_streams", True),
        ("queue", -1),
        ("total", 0),
        ("connect", float("nan")),
        ("between_tokens", float("inf")),
        ("first_token", "10"),
        ("shutdown", -0.5),
    ],
)
def test_a_value_out_of_range_is_rejected_by_name(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        Settings(**{name: value})


def test_queue_and_shutdown_may_be_zero() -> None:
    assert Settings(queue=0, shutdown=0).remote_pool["queue"] == 0
