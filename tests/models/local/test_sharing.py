"""Sharing the machine: slots of paused streams, long prompts, and loading."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

import rxllm
from rxllm import Notice, Progress, Start, Valve
from rxllm import operators as ops
from rxllm.chunks import Chunk
from rxllm.errors import FirstTokenTimeoutError, ModelError, ModelLoadError
from rxllm.models.local import model as local_model
from rxllm.models.local import runner
from rxllm.models.local.model import LocalModel
from rxllm.models.local.prompt_pace import PromptPace
from rxllm.requests import ModelInfo
from rxllm.testing import Marbles
from rxllm.valve import StreamScheduler
from tests.models.local.counting_engine import (
    CountingEngine,
    collect,
    counting,
    engine_threads,
    text,
    until,
)


@pytest.fixture(autouse=True)
async def no_thread_outlives_its_streams() -> AsyncIterator[None]:
    yield
    await until(lambda: not engine_threads())


class Reader:
    """A subscriber that pauses its stream after some chunks."""

    def __init__(self, model: LocalModel, length: int, pause_after: int) -> None:
        self.valve = Valve()
        self.received: list[Chunk] = []
        self.failures: list[Exception] = []
        self.done = asyncio.Event()
        self._pause_after = pause_after
        scheduler = StreamScheduler(asyncio.get_running_loop(), self.valve)
        self.subscription = model.stream(str(length)).subscribe(
            self._on_next, self.failures.append, self.done.set, scheduler=scheduler
        )

    def _on_next(self, chunk: Chunk) -> None:
        self.received.append(chunk)
        if len(self.received) == self._pause_after:
            self.valve.close()

    async def paused(self) -> None:
        await until(lambda: not self.valve.is_open)


class TestPausedStreams:
    @pytest.fixture(autouse=True)
    def soon(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(runner, "PAUSED_SECONDS", 0.1)

    async def test_streams_paused_by_one_client_leave_their_slots_to_others(self) -> None:
        model = counting(CountingEngine(slots=2))
        paused = [Reader(model, 40, pause_after=4) for _ in range(2)]
        for reader in paused:
            await reader.paused()
        assert text(await collect(model, 30)).split()[-1] == "29"
        for reader in paused:
            reader.valve.open()
            await reader.done.wait()
            assert text(reader.received) == "".join(f"{number} " for number in range(40))

    async def test_without_others_a_paused_stream_keeps_its_slot(self) -> None:
        engine = CountingEngine(slots=1)
        model = counting(engine)
        reader = Reader(model, 40, pause_after=4)
        await reader.paused()
        reader.valve.open()
        await reader.done.wait()
        assert engine.resumed == 0

    async def test_a_resumed_stream_queues_behind_those_that_waited_before(self) -> None:
        engine = CountingEngine(slots=1)
        model = counting(engine)
        reader = Reader(model, 40, pause_after=4)
        await reader.paused()
        others = [asyncio.create_task(collect(model, length)) for length in (5000, 7)]
        await until(lambda: engine.opened == 2)
        reader.valve.open()
        await asyncio.gather(reader.done.wait(), *others)
        lengths = [step[0].length for step in engine.steps]
        order = [length for length, before in zip(lengths, [0, *lengths], strict=False)
                 if length != before]  # fmt: skip
        assert order[:4] == [40, 5000, 7, 40]  # the long one may be parked on a busy machine

    async def test_streams_of_one_slot_that_pause_and_resume_in_turn_all_end(self) -> None:
        engine = CountingEngine(slots=1)
        model = counting(engine)
        readers = []
        for _ in range(3):  # each one parks the one before it
            readers.append(Reader(model, 60, pause_after=4))
            await readers[-1].paused()
        for reader in readers:
            reader.valve.open()
        for reader in readers:
            await asyncio.wait_for(reader.done.wait(), 10)
            assert text(reader.received) == "".join(f"{number} " for number in range(60))
        assert engine.resumed <= 3

    async def test_a_resumed_stream_is_not_parked_for_the_pause_before(self) -> None:
        engine = CountingEngine(slots=1)
        model = counting(engine)
        reader = Reader(model, 60, pause_after=4)
        await reader.paused()
        await collect(model, 5)
        reader.valve.open()
        later = [asyncio.create_task(collect(model, 5)) for _ in range(3)]
        await asyncio.gather(reader.done.wait(), *later)
        lengths = [step[0].length for step in engine.steps]
        assert engine.resumed == 1
        assert lengths.index(5) > lengths.index(60)

    async def test_a_parked_stream_can_be_disposed(self) -> None:
        engine = CountingEngine(slots=1)
        model = counting(engine)
        reader = Reader(model, 1000, pause_after=4)
        await reader.paused()
        await collect(model, 5)
        reader.subscription.dispose()
        await until(lambda: model.active == 0)

    async def test_closing_the_model_fails_a_parked_stream(self) -> None:
        engine = CountingEngine(slots=1)
        model = counting(engine)
        reader = Reader(model, 1000, pause_after=4)
        await collect(model, 5)
        model.close()
        reader.valve.open()
        await until(lambda: bool(reader.failures))
        assert isinstance(reader.failures[0], ModelError)


class TestLongPrompts:
    async def test_reading_one_is_reported(self) -> None:
        model = counting(CountingEngine(prompt_tokens=1025))
        chunks = await collect(model, 2)
        progress = [chunk for chunk in chunks if isinstance(chunk, Progress)]
        assert {(chunk.stage, chunk.tokens) for chunk in progress} == {("prompt", 0)}
        assert [round(chunk.percentage or 0) for chunk in progress] == [25, 50, 75, 100]
        starts = [chunk for chunk in chunks if isinstance(chunk, Start)]
        assert chunks.index(starts[0]) < chunks.index(progress[0])
        assert text(chunks) == "0 1 "

    async def test_short_ones_are_not(self) -> None:
        model = counting(CountingEngine(prompt_tokens=500))
        assert not any(isinstance(chunk, Progress) for chunk in await collect(model, 2))

    def test_alone_a_prompt_is_read_in_large_pieces(self) -> None:
        assert PromptPace(512).room(is_shared=False) == 512

    def test_beside_answers_a_piece_takes_a_twentyfifth_of_a_second(self) -> None:
        pace = PromptPace(512)
        first = pace.room(is_shared=True)
        assert 8 <= first < 512
        pace.note(first, first / 1000)
        assert pace.room(is_shared=True) == 40
        pace.note(40, 40 / 3000)
        assert pace.room(is_shared=True) == 80
        pace.note(0, 100.0)
        assert pace.room(is_shared=True) == 80, "nothing was read"

    def test_a_slow_model_still_goes_on(self) -> None:
        pace = PromptPace(512)
        pace.note(64, 60.0)
        assert pace.room(is_shared=True) == 2


class TestLoading:
    async def test_a_stream_is_told_if_it_takes_a_while(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(local_model, "LOADING_SECONDS", 0.01)
        told = threading.Event()

        def load() -> CountingEngine:
            assert told.wait(10)
            return CountingEngine()

        model = LocalModel(ModelInfo("count/1", "count"), load)
        received: list[Chunk] = []
        async for chunk in model.stream("1"):
            received.append(chunk)
            told.set()
        assert received[0] == Notice("loading")
        assert [type(chunk) for chunk in received[1:]] == [
            type(chunk) for chunk in await collect(model, 1)
        ]

    async def test_a_short_one_is_not_worth_a_notice(self) -> None:
        assert isinstance((await collect(counting(CountingEngine()), 1))[0], Start)

    async def test_it_can_be_done_beforehand(self) -> None:
        loads: list[int] = []

        def load() -> CountingEngine:
            loads.append(1)
            return CountingEngine()

        model = LocalModel(ModelInfo("count/1", "count"), load)
        await asyncio.gather(model.load(), model.load())
        await model.load()
        assert loads == [1]
        assert isinstance((await collect(model, 1))[0], Start)

    async def test_it_does_not_wait_for_a_slot(self) -> None:
        model = counting(CountingEngine(slots=1))
        reader = Reader(model, 100, pause_after=4)
        await reader.paused()
        await asyncio.wait_for(model.load(), 5)
        reader.subscription.dispose()

    async def test_its_failure_is_an_error(self) -> None:
        def load() -> Any:
            raise LookupError("no file")

        model = LocalModel(ModelInfo("count/1", "count"), load)
        with pytest.raises(ModelLoadError, match="no file"):
            await model.load()
        with pytest.raises(ModelLoadError, match="no file"):
            await collect(model, 1)

    def test_time_limits_do_not_count_it(self) -> None:
        marbles = Marbles()
        stream = marbles.cold("L---------S------a", lookup={"L": Notice("loading")})
        events = marbles.run(stream.pipe(ops.timeouts(first=3)))
        assert [time for time, _ in events] == [0.0, 10.0, 13.0]
        assert isinstance(events[-1][1], FirstTokenTimeoutError)

    def test_nor_does_what_is_measured(self) -> None:
        marbles = Marbles()
        measured: list[ops.Measurement] = []
        stream = marbles.cold("-L------S--a-E|", lookup={"L": Notice("loading")})
        marbles.run(stream.pipe(ops.measure(measured.append)))
        assert (measured[0].time_to_first_token, measured[0].loading) == (4.0, 7.0)

    def test_a_load_after_the_first_token_is_not_subtracted(self) -> None:
        marbles = Marbles()
        measured: list[ops.Measurement] = []
        lookup = {"L": Notice("loading"), "r": Notice("restart")}
        stream = marbles.cold("-a-rL------S-b-E|", lookup=lookup)
        marbles.run(stream.pipe(ops.measure(measured.append)))
        assert measured[0].time_to_first_token == 1.0

    @pytest.mark.parametrize("name", ["tiny/onnx", "tiny/llama"])
    async def test_in_a_process_of_its_own_too(self, name: str) -> None:
        if name == "tiny/llama":
            pytest.importorskip("llama_cpp")
        model = rxllm.model(name, isolate=True)
        assert isinstance(model, LocalModel)
        await model.load()
        chunks = await collect(model, "Hello", max_tokens=2)
        model.close()
        assert isinstance(chunks[0], Start)
