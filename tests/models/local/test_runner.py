"""The engine thread: which streams take part in a decode step, and what they receive."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from rxllm import End, Start, Token, Usage, Valve, to_async
from rxllm.chunks import Chunk
from rxllm.errors import BadRequestError, ContextLengthError, ModelError, ModelLoadError, RxLLMError
from rxllm.models.local.engine import Sampled
from rxllm.models.local.job import LEAD
from rxllm.models.local.model import LocalModel
from rxllm.requests import ModelInfo, as_request
from rxllm.valve import StreamScheduler
from tests.models.local.counting_engine import (
    CRASHES,
    FAILS_ALONE,
    CountingEngine,
    CountingSequence,
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


async def test_a_stream_is_start_tokens_usage_end() -> None:
    model = counting(CountingEngine())
    await model.load()
    chunks = await collect(model, 3)
    assert isinstance(chunks[0], Start)
    assert (chunks[0].model, chunks[0].provider) == ("count/1", "count")
    assert chunks[1:4] == [Token("0 "), Token("1 "), Token("2 ")]
    assert chunks[4:] == [Usage(1, 3, cached_tokens=0), End("stop")]


async def test_nothing_happens_before_the_first_subscription() -> None:
    loaded: list[int] = []

    def load() -> CountingEngine:
        loaded.append(1)
        return CountingEngine()

    model = LocalModel(ModelInfo("count/1", "count"), load)
    model.stream("1")
    assert not loaded
    await collect(model, 1)
    await collect(model, 1)
    assert loaded == [1]


async def test_max_tokens_ends_the_stream_with_length() -> None:
    chunks = await collect(counting(CountingEngine()), 50, max_tokens=2)
    assert text(chunks) == "0 1 "
    assert chunks[-1] == End("length")


async def test_a_full_context_ends_the_stream_with_length() -> None:
    chunks = await collect(counting(CountingEngine(context_length=5)), 50)
    assert text(chunks) == "0 1 2 3 "
    assert chunks[-1] == End("length")


@pytest.mark.parametrize(
    ("context_length", "options"), [(1, {}), (10, {"max_tokens": 10})], ids=["prompt", "max_tokens"]
)
async def test_a_request_that_does_not_fit_fails_before_generation(
    context_length: int, options: dict[str, int]
) -> None:
    engine = CountingEngine(context_length=context_length)
    with pytest.raises(ContextLengthError, match=str(context_length)):
        await collect(counting(engine), 50, **options)
    assert engine.steps == []


async def test_stop_sequences_end_the_stream_at_once_and_are_not_part_of_the_answer() -> None:
    engine = CountingEngine()
    chunks = await collect(counting(engine), 500, stop=["7 8", "12"])
    assert text(chunks) == "0 1 2 3 4 5 6 "
    assert chunks[-1] == End("stop", stop_sequence="7 8")
    assert len(engine.steps) == 9, "the model stops at the stop sequence"


async def test_text_held_for_a_stop_sequence_is_released_at_the_end() -> None:
    chunks = await collect(counting(CountingEngine()), 3, stop=["2 3"])
    assert text(chunks) == "0 1 2 "
    assert chunks[-1] == End("stop")


async def test_live_streams_share_each_step_and_give_the_same_answers_as_alone() -> None:
    engine = CountingEngine(slots=8)
    model = counting(engine)
    answers = await asyncio.gather(*(collect(model, 40) for _ in range(8)))
    assert {text(chunks) for chunks in answers} == {"".join(f"{n} " for n in range(40))}
    assert max(len(step) for step in engine.steps) > 1


async def test_streams_beyond_the_slots_wait_in_order() -> None:
    engine = CountingEngine(slots=1)
    model = counting(engine)
    lengths = [5, 3, 4, 2]
    answers = await asyncio.gather(*(collect(model, length) for length in lengths))
    assert [len(text(chunks).split()) for chunks in answers] == lengths
    order = list(dict.fromkeys(sequence for step in engine.steps for sequence in step))
    assert [sequence.length for sequence in order] == lengths


async def test_a_paused_stream_leaves_the_batch_and_resumes_without_loss() -> None:
    engine = CountingEngine(slots=2)
    model = counting(engine)
    valve = Valve()
    scheduler = StreamScheduler(asyncio.get_running_loop(), valve)
    received: list[Chunk] = []
    done = asyncio.Event()

    def on_next(chunk: Chunk) -> None:
        received.append(chunk)
        if len(received) == 5:
            valve.close()

    subscription = model.stream("40").subscribe(on_next, on_completed=done.set, scheduler=scheduler)
    await until(lambda: len(received) == 5)
    other = await collect(model, 60)  # takes many steps without the paused stream
    paused = next(sequence for sequence in engine.live if sequence.length == 40)
    assert text(other).split()[-1] == "59"
    assert len(received) == 5
    assert paused.count <= 4 + LEAD
    before = paused.count
    await collect(model, 60)
    assert paused.count == before
    valve.open()
    await done.wait()
    assert text(received) == "".join(f"{number} " for number in range(40))
    subscription.dispose()


async def test_a_pause_takes_effect_at_the_next_step() -> None:
    engine = CountingEngine(gated=True)
    model = counting(engine)
    valve = Valve()
    scheduler = StreamScheduler(asyncio.get_running_loop(), valve)
    subscription = model.stream("40").subscribe(scheduler=scheduler)
    engine.permits.release()
    await until(lambda: len(engine.steps) == 1)
    valve.close()
    engine.permits.release()  # for a step that may be running
    runner = model._runner
    await until(lambda: runner._is_idle)  # type: ignore[union-attr]
    assert len(engine.steps) <= 2
    engine.permits.release(20)
    valve.open()
    await until(lambda: len(engine.steps) > 5)
    subscription.dispose()
    engine.permits.release(100)
    await scheduler.settle()


async def test_a_stream_too_far_ahead_of_a_busy_event_loop_waits() -> None:
    engine = CountingEngine()
    model = counting(engine)
    received: list[Chunk] = []
    subscription = model.stream("1000").subscribe(received.append)
    await until(lambda: len(received) > 1)
    threading.Event().wait(0.05)  # the event loop does nothing else
    counted = max(sequence.count for sequence in engine.live)
    assert counted - len(received) <= LEAD
    subscription.dispose()


async def test_disposal_frees_the_slot_for_a_waiting_stream() -> None:
    engine = CountingEngine(slots=1)
    model = counting(engine)
    scheduler = StreamScheduler(asyncio.get_running_loop())
    endless = model.stream("1000000").subscribe(scheduler=scheduler)
    await until(lambda: engine.opened == 1)
    waiting = asyncio.create_task(collect(model, 3))
    await asyncio.sleep(0)
    endless.dispose()
    assert text(await waiting) == "0 1 2 "
    await scheduler.settle()
    assert not engine.live


async def test_a_stream_disposed_while_waiting_never_takes_a_slot() -> None:
    engine = CountingEngine(slots=1)
    model = counting(engine)
    endless = model.stream("1000000").subscribe()
    await until(lambda: engine.opened == 1)
    waiting = model.stream("1").subscribe()
    await asyncio.sleep(0)
    waiting.dispose()
    await until(lambda: model.active == 1)
    endless.dispose()
    await until(lambda: model.active == 0)
    assert engine.opened == 1


async def test_disposal_before_the_first_token_stops_the_model() -> None:
    engine = CountingEngine(gated=True)
    model = counting(engine)
    scheduler = StreamScheduler(asyncio.get_running_loop())
    received: list[Chunk] = []
    subscription = model.stream("1000").subscribe(received.append, scheduler=scheduler)
    await until(lambda: engine.begun == 1)
    subscription.dispose()
    await asyncio.sleep(0)
    engine.permits.release()  # for the running step
    await scheduler.settle()
    assert not engine.live, "settling waits for the slot"
    assert len(engine.steps) == 1
    assert not [chunk for chunk in received if isinstance(chunk, Token)]


async def test_a_rejected_prompt_fails_only_its_own_stream() -> None:
    model = counting(CountingEngine(slots=1))
    good = asyncio.create_task(collect(model, 3))
    with pytest.raises(BadRequestError, match="requires a number"):
        await collect(model, "three")
    assert text(await good) == "0 1 2 "


async def test_a_failed_step_is_an_error_after_the_text_before_it_and_frees_the_slots() -> None:
    engine = CountingEngine(fail_at=4)
    model = counting(engine)
    received: list[Chunk] = []
    with pytest.raises(ModelError, match=r"engine .* failed: a step failed") as caught:
        async for chunk in to_async(model.stream("100")):
            received.append(chunk)
    assert isinstance(caught.value.__cause__, LookupError)
    assert text(received) == "0 1 2 "
    assert not engine.live
    assert text(await collect(model, 2)) == "0 1 "


async def test_a_failed_sequence_does_not_affect_others() -> None:
    model = counting(CountingEngine())
    good = asyncio.create_task(collect(model, 100))
    with pytest.raises(ModelError, match="this one alone"):
        await collect(model, FAILS_ALONE)
    assert len(text(await good).split()) == 100


async def test_a_prompt_without_tokens_is_rejected() -> None:
    with pytest.raises(BadRequestError, match="no tokens"):
        await collect(counting(CountingEngine()), "nothing")


async def test_a_crashed_engine_fails_its_streams_and_is_reloaded() -> None:
    engines: list[CountingEngine] = []

    def load() -> CountingEngine:
        engines.append(CountingEngine())
        return engines[-1]

    model = LocalModel(ModelInfo("count/1", "count"), load)
    await collect(model, 1)
    beside = asyncio.create_task(collect(model, 10**6))
    await until(lambda: bool(engines[0].live))
    answers = await asyncio.gather(beside, collect(model, CRASHES), return_exceptions=True)
    assert isinstance(answers[0], ModelError)
    assert "crashed" in str(answers[0])
    assert text(await collect(model, 2)) == "0 1 "
    assert len(engines) == 2


async def test_a_panic_while_loading_fails_only_waiting_streams() -> None:
    class Panic(BaseException):
        """Like a panic of a library written in Rust."""

    attempts: list[int] = []

    def load() -> CountingEngine:
        attempts.append(1)
        if len(attempts) == 1:
            raise Panic("index out of bounds")
        return CountingEngine()

    model = LocalModel(ModelInfo("count/1", "count"), load)
    with pytest.raises(ModelError, match="index out of bounds"):
        await collect(model, 1)
    assert text(await collect(model, 1)) == "0 "


async def test_disposal_does_not_wait_for_the_model_to_load() -> None:
    may_load = threading.Event()

    def load() -> CountingEngine:
        assert may_load.wait(10)
        return CountingEngine()

    model = LocalModel(ModelInfo("count/1", "count"), load)
    scheduler = StreamScheduler(asyncio.get_running_loop())
    subscription = model.stream("1").subscribe(scheduler=scheduler)
    await until(lambda: model.active == 1)
    subscription.dispose()
    await scheduler.settle()
    assert model.active == 0
    assert not scheduler.tasks
    may_load.set()


async def test_confidence_covers_all_tokens_of_a_chunk_or_is_omitted() -> None:
    class Confident(CountingEngine):
        samples = iter(
            [
                Sampled("a", 0.1, False),
                Sampled("a", 0.9, False),
                Sampled("c", 0.8, False),
                Sampled("", 0.5, False),  # half of a character
                Sampled("é", 0.5, False),
                Sampled("d", 0.7, False),
                Sampled("", None, True),
            ]
        )

        def _sample(self, sequence: CountingSequence) -> Sampled:
            return next(self.samples)

    chunks = await collect(counting(Confident()), 9, stop="ab")
    tokens = [chunk for chunk in chunks if isinstance(chunk, Token)]
    assert tokens == [Token("a"), Token("ac"), Token("é", 0.25), Token("d", 0.7)]


async def test_a_failed_load_fails_all_waiting_streams_and_is_retried_later() -> None:
    attempts: list[int] = []
    all_wait = threading.Event()

    def load() -> CountingEngine:
        assert all_wait.wait(10)
        attempts.append(1)
        if len(attempts) == 1:
            raise ModelLoadError("broken")
        return CountingEngine()

    model = LocalModel(ModelInfo("count/1", "count"), load)
    errors: list[Exception] = []
    for _ in range(3):
        model.stream("1").subscribe(on_error=errors.append)
    await until(lambda: model.active == 3)
    all_wait.set()
    await until(lambda: len(errors) == 3)
    assert {type(error) for error in errors} == {ModelLoadError}
    assert text(await collect(model, 1)) == "0 "
    assert len(attempts) == 2


async def test_loading_never_blocks_the_event_loop() -> None:
    may_load = threading.Event()

    def load() -> CountingEngine:
        assert may_load.wait(10)
        return CountingEngine()

    model = LocalModel(ModelInfo("count/1", "count"), load)
    answers = [asyncio.create_task(collect(model, 2)) for _ in range(2)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # both have been submitted, and this still runs
    may_load.set()
    assert {text(await answer) for answer in answers} == {"0 1 "}


async def test_closing_fails_live_and_waiting_streams_and_frees_the_memory() -> None:
    engine = CountingEngine(slots=1)
    model = counting(engine)
    errors: list[Exception] = []
    for _ in range(2):
        model.stream("1000000").subscribe(on_error=errors.append)
    await until(lambda: engine.opened == 1)
    model.close()
    await until(lambda: engine.unloaded and len(errors) == 2)
    assert {type(error) for error in errors} == {ModelError}
    with pytest.raises(ModelError, match="closed"):
        await collect(model, 1)


async def test_closing_an_idle_model_frees_it_at_once() -> None:
    engine = CountingEngine()
    model = counting(engine)
    await collect(model, 1)
    await until(lambda: not engine_threads())
    model.close()
    assert engine.unloaded


def test_streams_of_several_event_loops_share_one_engine() -> None:
    engine = CountingEngine(slots=4)
    model = counting(engine)
    answers: list[str] = []

    def work() -> None:
        answers.append(text(asyncio.run(collect(model, 200))))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert answers == ["".join(f"{number} " for number in range(200))] * 3


def test_streams_of_a_closed_event_loop_free_their_slots() -> None:
    engine = CountingEngine(slots=1)
    model = counting(engine)
    loop = asyncio.new_event_loop()
    job = model._runner.submit(as_request("1000000"), loop)
    loop.run_until_complete(job.next_events())
    loop.close()
    assert text(asyncio.run(collect(model, 2))) == "0 1 "


async def test_streams_that_fail_together_get_separate_errors() -> None:
    """Each sink adds to its error the partial text that its client has seen."""
    engine = CountingEngine(fail_at=3, gated=True)
    model = counting(engine)
    both = asyncio.gather(model.stream("10"), model.stream("20"), return_exceptions=True)
    await until(lambda: engine.begun == 1)
    engine.permits.release()
    await until(lambda: engine.opened == 2)
    engine.permits.release(2)
    failures = await both
    assert len({id(failure) for failure in failures}) == 2
    assert all(isinstance(failure, ModelError) for failure in failures)
    first, second = [getattr(failure, "partial", "") for failure in failures]
    assert first == "0 1 "
    assert second in ("0 ", "0 1 "), "it may have joined before the first step"


async def test_invalid_options_are_rejected_at_the_call() -> None:
    with pytest.raises(RxLLMError, match="unknown option 'temprature'"):
        counting(CountingEngine()).stream("1", temprature=0)  # type: ignore[call-arg]
