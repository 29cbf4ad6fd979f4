"""A model in a process of its own: the same streams, and only they end if the process does."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import rxllm
from rxllm import operators as ops
from rxllm.chunks import Chunk, End, Start, Token, Usage
from rxllm.errors import (
    CircuitOpenError,
    ContextLengthError,
    ModelCrashedError,
    ModelError,
    ModelLoadError,
    UnsupportedError,
    classify_error,
)
from rxllm.models import tiny
from rxllm.models.local import worker
from rxllm.models.local.job import LEAD
from rxllm.models.local.model import LocalModel
from rxllm.server import create_app
from rxllm.testing import no_leaks
from rxllm.valve import StreamScheduler, Valve
from tests.server.serving import Event, all_events, serving

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends signals")

STORY = "Tell me a story about a robot who learns to paint"


@pytest.fixture
async def model() -> AsyncIterator[LocalModel]:
    made = rxllm.model("tiny", isolate=True)
    assert isinstance(made, LocalModel)
    yield made
    made.close()


def process_of(model: Any) -> int:
    pid: int | None = model._runner.pid
    assert pid is not None
    return pid


async def until_gone(pid: int) -> None:
    async with asyncio.timeout(10):
        while is_running(pid):
            await asyncio.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def said(chunks: list[Chunk]) -> list[Chunk]:
    """Without what differs from stream to stream: the start's id, and how much was cached."""
    return [chunk for chunk in chunks if not isinstance(chunk, Start | Usage)]


@pytest.mark.parametrize("name", ["tiny", "tiny/llama"])
async def test_its_answers_are_the_same(name: str) -> None:
    if name == "tiny/llama":
        pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    isolated: Any = rxllm.model(name, isolate=True)
    usual: Any = rxllm.model(name)
    await isolated.load()
    await usual.load()
    async with no_leaks():
        for options in (
            {"temperature": 0},
            {"seed": 3, "confidence": True},
            {"stop": ".", "temperature": 0},
        ):
            expected = [chunk async for chunk in usual.stream(STORY, **options)]
            assert said([chunk async for chunk in isolated.stream(STORY, **options)]) == said(
                expected
            )
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    answer = await isolated.stream("JSON", response_format=schema, max_tokens=60)
    assert answer.text.replace(" ", "").startswith('{"a":')
    assert await isolated.count_tokens("Hello!") == await usual.count_tokens("Hello!")
    isolated.close()


async def test_errors_keep_their_classes(model: LocalModel, tmp_path: Path) -> None:
    with pytest.raises(ContextLengthError, match="6005 tokens"):
        await model.stream("Hi " * 3000)
    with pytest.raises(UnsupportedError, match="can't be held to the JSON Schema") as caught:
        await model.stream("Hi", response_format={"type": "string", "pattern": "^(?=a)"})
    assert caught.value.field == "response_format"
    missing = rxllm.model(f"onnx/{tmp_path / 'missing'}", isolate=True)
    with pytest.raises(ModelLoadError, match="does not exist"):
        await missing.stream("Hi")
    assert model.active == 0


async def test_if_the_process_ends_its_streams_fail_and_the_next_one_starts_it_again(
    model: LocalModel, caplog: pytest.LogCaptureFixture
) -> None:
    begun = asyncio.Event()

    async def read(seed: int) -> None:
        async for chunk in model.stream(STORY, seed=seed):
            if isinstance(chunk, Token):
                begun.set()

    reading = [asyncio.ensure_future(read(seed)) for seed in range(8)]
    await begun.wait()
    first = process_of(model)
    with caplog.at_level(logging.ERROR, "rxllm.worker"):
        os.kill(first, signal.SIGSEGV)
        outcomes = await asyncio.gather(*reading, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {ModelCrashedError}
    assert {classify_error(outcome) for outcome in outcomes if isinstance(outcome, Exception)} == {
        "retry"
    }
    assert str(tiny.directory) in caplog.text
    assert "was ended by SIGSEGV" in caplog.text
    assert (await model.stream("Hello!", temperature=0)).text
    assert process_of(model) != first
    assert model.active == 0


async def test_a_process_that_cannot_be_started_fails_its_streams(
    monkeypatch: pytest.MonkeyPatch, model: LocalModel
) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(ModelCrashedError, match=r"can't be started: .*No such file"):
        await model.stream("Hi")


async def test_a_process_that_ends_again_and_again_is_left_alone_for_a_while(
    monkeypatch: pytest.MonkeyPatch, model: LocalModel
) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    for _ in range(3):
        with pytest.raises(ModelCrashedError):
            await model.stream("Hi")
    with pytest.raises(CircuitOpenError, match=r"3 times within 60 s: .* again in (60|59) s"):
        await model.stream("Hi")
    monkeypatch.undo()
    monkeypatch.setattr(worker, "CRASH_SECONDS", 0.0)
    assert (await model.stream("Hello!", temperature=0)).text


async def test_a_process_that_writes_something_else_is_ended(
    monkeypatch: pytest.MonkeyPatch, model: LocalModel, tmp_path: Path
) -> None:
    babbler = tmp_path / "babbler"
    babbler.write_text("#!/bin/sh\nprintf '\\003\\000\\000\\000abc'; exec sleep 60\n")
    babbler.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(babbler))
    with pytest.raises(ModelCrashedError, match="was ended by SIGKILL"):
        await model.stream("Hi")


async def test_a_retry_answers_from_the_new_process(model: LocalModel) -> None:
    await model.stream("Hi", max_tokens=1)
    first = process_of(model)

    def end_once(text: str) -> str:
        if process_of(model) == first:
            os.kill(first, signal.SIGKILL)
        return text

    stream = model.stream(STORY, temperature=0).pipe(
        ops.map_text(end_once), ops.retry_with_backoff(initial=0.01, after_output="restart")
    )
    answer = await stream
    assert process_of(model) != first
    assert answer.text == (await rxllm.model("tiny").stream(STORY, temperature=0)).text


async def test_demand_goes_to_the_process(model: LocalModel) -> None:
    valve = Valve()
    scheduler = StreamScheduler(asyncio.get_running_loop(), valve)
    chunks: list[Chunk] = []
    paused, ended = asyncio.Event(), asyncio.Event()

    def on_next(chunk: Chunk) -> None:
        chunks.append(chunk)
        if len(chunks) == 3:
            valve.close()
            paused.set()

    model.stream(STORY, temperature=0).subscribe(
        on_next, on_completed=ended.set, scheduler=scheduler
    )
    await paused.wait()
    other = await model.stream(STORY, temperature=0)  # far longer than the lead of the paused one
    assert len(chunks) < 3 + LEAD + LEAD
    valve.open()
    await ended.wait()
    assert "".join([chunk.text for chunk in chunks if isinstance(chunk, Token)]) == other.text
    assert isinstance(chunks[-1], End)


async def test_disposal_frees_the_slot(model: LocalModel) -> None:
    scheduler = StreamScheduler(asyncio.get_running_loop(), Valve())
    begun = asyncio.Event()
    subscription = model.stream(STORY).subscribe(lambda _: begun.set(), scheduler=scheduler)
    await begun.wait()
    subscription.dispose()
    await scheduler.settle()
    assert model.active == 0
    assert not scheduler.tasks


async def test_closing_ends_the_process_and_its_streams(model: LocalModel) -> None:
    await model.stream("Hi", max_tokens=1)
    pid = process_of(model)
    reading = asyncio.ensure_future(rxllm.sinks.collect(model.stream(STORY)))
    while not model.active:
        await asyncio.sleep(0)
    model.close()
    with pytest.raises(ModelError, match=r"was closed|has been closed"):
        await reading
    await until_gone(pid)
    with pytest.raises(ModelError, match="has been closed"):
        await model.stream("Hi")


async def test_an_unreferenced_model_ends_its_process() -> None:
    model = rxllm.model("tiny", isolate=True)
    await model.stream("Hi", max_tokens=1)
    pid = process_of(model)
    del model
    gc.collect()
    await until_gone(pid)


async def test_a_server_outlives_the_process_of_a_model() -> None:
    settings = rxllm.Settings(local_streams=8, attempts=1)
    app = create_app([f"onnx/{tiny.directory}"], settings=settings)
    async with serving(app) as client:
        params = {"prompt": STORY, "temperature": "0"}
        streams = await asyncio.gather(*(client.get("/stream", params=params) for _ in range(8)))
        (model,) = app_models(app)
        os.kill(process_of(model), signal.SIGABRT)
        ends = [(await all_events(stream))[-1] for stream in streams]
        assert {message_of(end) for end in ends} == {("model_crashed", True)}
        again = await all_events(await client.get("/stream", params={"prompt": "Hello!"}))
        assert again[-1].kind == "complete"
        assert (await client.get("/healthz")).status == 200
    model.close()


def app_models(app: Any) -> list[Any]:
    from rxllm.server.app_keys import MODELS

    return list(app[MODELS]._models.values())


def message_of(event: Event) -> tuple[str, bool]:
    message: Any = event.message
    return message.code, message.retryable
