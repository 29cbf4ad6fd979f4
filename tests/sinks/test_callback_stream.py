"""Starting, pausing and stopping callback streams, one by one and together."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from rxllm import Batch, Chunk, RxLLMError, Token
from rxllm.chunks import text_of
from rxllm.errors import NoEventLoopError, StreamStateError
from rxllm.models.scripted import ScriptedModel
from rxllm.sinks import Result, Streams, callbacks
from rxllm.testing import no_leaks, run_virtual


async def test_it_waits_to_be_started(source: Any) -> None:
    running = callbacks(source.stream(Token("a")))
    await asyncio.sleep(0)
    assert (running.status, source.subscriptions) == ("ready", 0)
    running.start()
    assert (running.status, source.subscriptions) == ("running", 0)
    assert (await running).text == "a"
    assert running.status == "completed"


async def test_starting_twice_is_an_error_before_and_after_the_end(source: Any) -> None:
    running = callbacks(source.stream(Token("a")))
    running.start()
    with pytest.raises(StreamStateError, match="is running: it can't be started twice"):
        running.start()
    await running
    with pytest.raises(StreamStateError, match="is completed: it can't be started twice"):
        running.start()


def test_starting_needs_a_running_loop() -> None:
    with pytest.raises(NoEventLoopError):
        callbacks(ScriptedModel("a").stream("tell")).start()


async def test_the_result_can_be_awaited_repeatedly_and_by_several_tasks(source: Any) -> None:
    running = callbacks(source.stream(Token("a")))
    first, second = await asyncio.gather(running, running)
    assert first is second is await running
    assert source.subscriptions == 1


async def test_a_paused_stream_pulls_at_most_one_more_chunk(source: Any) -> None:
    seen: list[str] = []

    def on_token(event: Any) -> None:
        seen.append(event.text)
        if len(seen) == 3:
            running.pause()

    running = callbacks(source.stream(*[Token("x")] * 100), on_token=on_token)
    running.start()
    for _ in range(50):
        await asyncio.sleep(0)
    assert running.status == "paused"
    assert (len(seen), source.pulled) == (3, 3)
    running.resume()
    assert (await running).text == "x" * 100


async def test_pausing_and_resuming_twice_changes_nothing(source: Any) -> None:
    async with no_leaks():
        running = callbacks(source.stream(Token("a")))
        running.start()
        running.pause()
        running.pause()
        running.resume()
        running.resume()
        assert (await running).text == "a"


def test_a_pause_that_takes_too_long_stops_the_stream() -> None:
    async def main() -> None:
        cancelled: list[Result] = []
        model = ScriptedModel("a b c", by="word", delay=1.0)
        running = callbacks(model.stream("tell"), on_cancel=cancelled.append, max_pause=60.0)
        running.start()
        await asyncio.sleep(1.5)
        running.pause()
        result = await running
        assert asyncio.get_running_loop().time() == 61.5
        assert (result.text, result.finish_reason) == ("a", "cancelled")
        assert (cancelled, model.cancelled) == ([result], 1)

    run_virtual(main())


def test_the_pause_limit_ends_with_the_pause() -> None:
    async def main() -> None:
        model = ScriptedModel("a b", by="word", delay=100.0)
        running = callbacks(model.stream("tell"), max_pause=60.0)
        running.start()
        await asyncio.sleep(1.0)
        running.pause()
        await asyncio.sleep(59.0)
        running.resume()
        assert (await running).text == "a b"

    run_virtual(main())


@pytest.mark.parametrize("sent", [[], [Token("so far")]], ids=["before", "after"])
async def test_stopping_before_or_after_a_token_stops_the_source_at_once(
    source: Any, sent: list[Chunk]
) -> None:
    cancelled: list[Result] = []
    async with no_leaks():
        running = callbacks(
            source.stream(*sent, waits=True),
            on_complete=lambda _: pytest.fail("it did not complete"),
            on_cancel=cancelled.append,
        )
        running.start()
        await source.emitted_all.wait()
        running.stop()
        assert running.status == "cancelled"
        result = await running
        assert (result.finish_reason, result.text) == ("cancelled", "".join(map(text_of, sent)))
        assert (cancelled, source.cleaned_up) == ([result], 1)


async def test_stopping_right_after_the_start_does_not_subscribe(source: Any) -> None:
    running = callbacks(source.stream(Token("a")))
    running.start()
    running.stop()
    assert (await running).finish_reason == "cancelled"
    assert source.subscriptions == 0


async def test_no_chunk_follows_a_stop_inside_a_callback(source: Any) -> None:
    running = callbacks(
        source.stream(Token("a"), Token("b"), waits=True), on_token=lambda _: running.stop()
    )
    assert (await running).text == "a"


async def test_no_piece_follows_a_stop_inside_a_batch(source: Any) -> None:
    received: list[object] = []

    def on_token(event: object) -> None:
        received.append(event)
        running.stop()

    batch = Batch(tuple(Token("x") for _ in range(12)), "x" * 12)
    running = callbacks(
        source.stream(batch, waits=True), on_token=on_token, on_progress=received.append
    )
    await running
    assert len(received) == 1


async def test_operations_that_the_state_does_not_allow_are_errors(source: Any) -> None:
    running = callbacks(source.stream(Token("a")))
    for act in (running.pause, running.resume, running.stop):
        with pytest.raises(StreamStateError, match="a stream that has not started can't be"):
            act()
    await running
    for act in (running.pause, running.resume):
        with pytest.raises(StreamStateError, match="a stream that is completed can't be"):
            act()
    running.stop()
    assert running.status == "completed"


async def test_cancelling_the_awaiting_task_cancels_the_stream(source: Any) -> None:
    running = callbacks(source.stream(waits=True))
    task = asyncio.ensure_future(running)
    await source.emitted_all.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (running.status, source.cleaned_up) == ("cancelled", 1)


async def test_cancelling_a_paused_stream_leaves_no_timer(source: Any) -> None:
    async with no_leaks():
        running = callbacks(source.stream(waits=True))
        task = asyncio.ensure_future(running)
        await source.emitted_all.wait()
        running.pause()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_leaving_the_block_stops_all_streams_and_awaits_their_clean_up(source: Any) -> None:
    async with no_leaks():
        async with Streams() as streams:
            for name in ("one", "two"):
                streams.add(name, callbacks(source.stream(waits=True))).start()
            streams.add("idle", callbacks(source.stream()))
            await source.emitted_all.wait()
            assert streams.states() == {"one": "running", "two": "running", "idle": "ready"}
        assert streams.states() == {"one": "cancelled", "two": "cancelled", "idle": "ready"}
        assert source.cleaned_up == source.subscriptions


async def test_an_exception_in_the_block_stops_the_streams(source: Any) -> None:
    with pytest.raises(ZeroDivisionError):
        async with Streams() as streams:
            streams.add("one", callbacks(source.stream(waits=True))).start()
            await source.emitted_all.wait()
            raise ZeroDivisionError
    assert source.cleaned_up == 1


async def test_a_failing_stream_does_not_affect_the_others_or_the_block(source: Any) -> None:
    errors: list[Exception] = []
    async with Streams() as streams:
        failing = callbacks(source.stream(RxLLMError("lost")), on_error=errors.append)
        streams.add("failing", failing).start()
        streams.add("working", callbacks(source.stream(Token("a")))).start()
        assert (await streams["working"]).text == "a"
        await failing.wait()
        assert streams.states() == {"failing": "failed", "working": "completed"}
    assert [str(error) for error in errors] == ["lost"]


async def test_an_unretrieved_error_reaches_the_exception_handler(source: Any) -> None:
    reports: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
    running = callbacks(source.stream(RxLLMError("lost")))
    running.start()
    await running.wait()
    del running
    gc.collect()
    assert [str(context["exception"]) for context in reports] == ["lost"]


async def test_streams_stay_in_the_mapping_until_removed(source: Any) -> None:
    async with Streams() as streams:
        one = streams.add("one", callbacks(source.stream(Token("a"))))
        with pytest.raises(StreamStateError, match="there is already a stream 'one'"):
            streams.add("one", one)
        one.start()
        with pytest.raises(StreamStateError, match="'one' is running: stop it first"):
            streams.remove("one")
        await one
        assert (list(streams), len(streams), streams["one"]) == (["one"], 1, one)
        assert streams.remove("one") is one
        assert "one" not in streams
    with pytest.raises(StreamStateError, match="the block of these Streams has been left"):
        streams.add("two", one)


def test_only_streams_made_by_callbacks_are_accepted() -> None:
    with pytest.raises(TypeError, match=r"made by sinks\.callbacks\(\.\.\.\), got str"):
        Streams().add("one", "a stream")  # type: ignore[arg-type]
