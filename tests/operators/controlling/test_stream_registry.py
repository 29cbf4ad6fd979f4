"""`StreamRegistry.shutdown`: let active streams finish, then cancel them."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from rxllm import operators as ops
from rxllm.bridge import from_async
from rxllm.chunks import Chunk, End, Token, text_of
from rxllm.errors import StreamStateError
from rxllm.iteration import to_async
from rxllm.models.scripted import ScriptedModel
from rxllm.operators import StreamRegistry
from rxllm.testing import no_leaks, run_virtual


async def read(registry: StreamRegistry, words: int) -> list[Chunk]:
    """Read a stream that emits a word each second."""
    model = ScriptedModel(" word" * words, by="word", delay=1)
    stream = model.stream("Hi").pipe(ops.track(registry))
    return [chunk async for chunk in to_async(stream)]


def now() -> float:
    return asyncio.get_running_loop().time()


def test_shutdown_returns_as_soon_as_active_streams_finish() -> None:
    async def main() -> tuple[Any, float]:
        registry = StreamRegistry()
        async with no_leaks():
            reading = asyncio.create_task(read(registry, 4))
            await asyncio.sleep(1.5)
            await registry.shutdown()
            return (await reading)[-1], now()

    assert run_virtual(main()) == (End("stop"), 4.0)


def test_streams_still_active_after_30_s_are_cancelled() -> None:
    async def main() -> tuple[Any, int, float]:
        registry = StreamRegistry()
        async with no_leaks():
            reading = asyncio.create_task(read(registry, 100))
            await asyncio.sleep(0.5)
            await registry.shutdown()
            chunks = await reading
            return chunks[-1], len(chunks), now()

    assert run_virtual(main()) == (End("cancelled"), 32, 30.5)


def test_without_an_active_stream_shutdown_returns_at_once() -> None:
    async def main() -> float:
        async with no_leaks():
            await StreamRegistry().shutdown()
            return now()

    assert run_virtual(main()) == 0.0


def test_new_streams_are_refused_once_a_shutdown_has_started() -> None:
    async def main() -> None:
        registry = StreamRegistry()
        reading = asyncio.create_task(read(registry, 3))
        await asyncio.sleep(1)
        closing = asyncio.create_task(registry.shutdown())
        await asyncio.sleep(1)
        assert registry.refusing
        with pytest.raises(StreamStateError, match="is shutting down"):
            await read(registry, 1)
        await closing
        with pytest.raises(StreamStateError, match="is shutting down"):
            await read(registry, 1)
        assert len(await reading) == 6

    run_virtual(main())


def test_several_calls_are_one_shutdown_whose_timer_is_cleared() -> None:
    async def main() -> float:
        registry = StreamRegistry()
        async with no_leaks():  # no timer is left
            reading = asyncio.create_task(read(registry, 100))
            await asyncio.sleep(1)
            first = asyncio.create_task(registry.shutdown(10))
            await asyncio.sleep(5)
            await asyncio.gather(first, registry.shutdown(1000), registry.shutdown(0))
            await reading
            ended = now()
            await registry.shutdown()
            assert now() == ended
            return ended

    assert run_virtual(main()) == 11.0


def test_shutdown_continues_if_its_caller_is_cancelled() -> None:
    async def main() -> float:
        registry = StreamRegistry()
        async with no_leaks():
            reading = asyncio.create_task(read(registry, 100))
            await asyncio.sleep(1)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(registry.shutdown(10), 2)
            await reading
            return now()

    assert run_virtual(main()) == 11.0


def test_cancel_all_ends_a_shutdown_early() -> None:
    async def main() -> float:
        registry = StreamRegistry()
        async with no_leaks():
            reading = asyncio.create_task(read(registry, 100))
            await asyncio.sleep(1)
            asyncio.get_running_loop().call_later(2, registry.cancel_all)
            await asyncio.gather(registry.shutdown(), reading)
            return now()

    assert run_virtual(main()) == 3.0


def test_a_paused_stream_and_an_unread_one_are_cancelled_too() -> None:
    async def main() -> tuple[list[str], float]:
        registry = StreamRegistry()
        async with no_leaks():
            reading = asyncio.create_task(read(registry, 100))
            model = ScriptedModel("word " * 100, by="word")
            unread = to_async(model.stream("Hi").pipe(ops.track(registry)))
            await anext(unread)
            registry["stream-1"].pause()
            await registry.shutdown(7)
            ended = now()
            await reading
            await unread.aclose()
            return [info.status for info in registry.snapshot()], ended

    assert run_virtual(main()) == (["cancelled", "cancelled"], 7.0)


def test_shutdown_waits_for_the_cleanup_of_cancelled_streams() -> None:
    cleaned: list[float] = []

    async def answer() -> Any:
        try:
            yield Token("a")
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(2)
            cleaned.append(now())

    async def main() -> float:
        registry = StreamRegistry()
        async with no_leaks():
            stream = from_async(answer).pipe(ops.track(registry))
            subscription = stream.subscribe()
            await registry.shutdown(10)
            subscription.dispose()
            return now()

    assert (run_virtual(main()), cleaned) == (12.0, [12.0])


def test_a_subscriber_that_raises_at_the_deadline_does_not_stop_the_shutdown() -> None:
    async def main() -> tuple[float, list[str]]:
        registry, reported = StreamRegistry(), list[str]()
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: reported.append(repr(context.get("exception")))
        )

        def refuse(chunk: Chunk) -> None:
            if type(chunk) is End:
                raise ZeroDivisionError

        stream = ScriptedModel(["a", 1000.0]).stream("Hi").pipe(ops.track(registry))
        subscription = stream.subscribe(refuse)
        with suppress(ZeroDivisionError):
            await registry.shutdown(10)
        subscription.dispose()
        return now(), reported

    assert run_virtual(main()) == (10.0, ["ZeroDivisionError()"])


def test_a_deadline_of_zero_cancels_at_once() -> None:
    async def main() -> tuple[str, float]:
        registry = StreamRegistry()
        reading = asyncio.create_task(read(registry, 100))
        await asyncio.sleep(2.5)
        await registry.shutdown(0)
        return "".join(map(text_of, await reading)), now()

    assert run_virtual(main()) == (" word word", 2.5)


@pytest.mark.parametrize("deadline", [-1, float("inf"), float("nan")])
def test_an_invalid_deadline_raises(deadline: float) -> None:
    with pytest.raises(ValueError, match="deadline"):
        run_virtual(StreamRegistry().shutdown(deadline))
    with pytest.raises(TypeError, match="deadline"):
        run_virtual(StreamRegistry().shutdown("soon"))  # type: ignore[arg-type]
