"""The behaviour that all sinks share."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import reactivex
from reactivex import operators as rx
from rich.console import Console

from rxllm import End, RxLLMError, Token, sinks
from rxllm import operators as ops
from rxllm.chunks import Chunk
from rxllm.sinks import Streams, callbacks, collect
from rxllm.sinks.printable import figures_of
from rxllm.testing import no_leaks

Sink = Callable[[Any], Awaitable[Any]]


def _terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=40)


@pytest.fixture(params=["collect", "console", "terminal", "file", "dispatch", "callbacks"])
def sink(request: pytest.FixtureRequest, tmp_path: Path) -> Sink:
    kinds: dict[str, Sink] = {
        "collect": sinks.collect,
        "console": sinks.console,
        "terminal": lambda stream: sinks.console(stream, console=_terminal()),
        "file": lambda stream: sinks.file(stream, tmp_path / "answer.txt"),
        "dispatch": lambda stream: sinks.dispatch(stream, {}),
        "callbacks": sinks.callbacks,
    }
    return kinds[request.param]


async def test_nothing_is_subscribed_before_the_await(sink: Sink, source: Any) -> None:
    awaitable = sink(source.stream(Token("a")))
    await asyncio.sleep(0)
    assert source.subscriptions == 0
    await awaitable
    assert source.subscriptions == 1


async def test_the_clean_up_of_the_source_is_awaited(sink: Sink, source: Any) -> None:
    async with no_leaks():
        await sink(source.stream(Token("a")))
        assert source.cleaned_up == 1


async def test_an_error_is_raised_with_the_partial_text(sink: Sink, source: Any) -> None:
    async with no_leaks():
        with pytest.raises(RxLLMError, match="lost") as caught:
            await sink(source.stream(Token("so "), Token("far"), RxLLMError("lost")))
    assert caught.value.partial == "so far"
    assert source.cleaned_up == 1


async def test_an_errors_own_partial_text_is_kept(sink: Sink, source: Any) -> None:
    error = RxLLMError("lost")
    error.partial = "all that was said"
    with pytest.raises(RxLLMError):
        await sink(source.stream(Token("said"), error))
    assert error.partial == "all that was said"


async def test_foreign_errors_are_raised_unchanged(sink: Sink, source: Any) -> None:
    error = ConnectionResetError("reset")
    with pytest.raises(ConnectionResetError) as caught:
        await sink(source.stream(Token("a"), error))
    assert caught.value is error


@pytest.mark.parametrize("emitted", [[], [Token("a"), Token("b")]], ids=["before", "after"])
async def test_cancelling_before_or_after_a_token_stops_the_source(
    sink: Sink, source: Any, emitted: list[Chunk]
) -> None:
    async with no_leaks():
        task = asyncio.ensure_future(sink(source.stream(*emitted, waits=True)))
        await source.emitted_all.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert source.cleaned_up == 1


async def test_a_non_stream_is_rejected_at_the_call(sink: Sink) -> None:
    with pytest.raises(TypeError, match=r"takes a stream, such as model\.stream\(prompt\)"):
        sink("a prompt")


async def test_an_item_that_is_not_a_chunk_is_an_error_without_retry(sink: Sink) -> None:
    subscriptions = 0

    def words(*_: Any) -> Any:
        nonlocal subscriptions
        subscriptions += 1
        return reactivex.of("just", "strings")

    message = "^a sink takes a stream of chunks, but got 'just': read a stream of other items with"
    with pytest.raises(TypeError, match=message):
        await sink(reactivex.defer(words).pipe(rx.retry(3)))
    assert subscriptions == 1


def test_the_export_list() -> None:
    assert sorted(sinks.__all__) == [
        "CallbackStream",
        "DeliveryReport",
        "Result",
        "Status",
        "Streams",
        "Timings",
        "TokenEvent",
        "ag_ui",
        "anthropic",
        "asgi",
        "callbacks",
        "collect",
        "console",
        "dispatch",
        "file",
        "ndjson",
        "openai_chat",
        "openai_responses",
        "sse",
        "ui_messages",
        "websocket",
    ]
    assert all(hasattr(sinks, name) for name in sinks.__all__)


async def test_a_callback_that_raises_on_disposal_does_not_prevent_clean_up(
    source: Any,
) -> None:
    reports: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: reports.append(str(context["exception"])))

    def report(_: object) -> None:
        raise ValueError("the report failed")

    async with Streams() as streams:
        for name in ("a", "b"):
            stream = source.stream(Token("x"), waits=True).pipe(ops.measure(report))
            streams.add(name, callbacks(stream)).start()
        await source.emitted_all.wait()
    assert streams.states() == {"a": "cancelled", "b": "cancelled"}
    assert source.cleaned_up == source.subscriptions
    assert reports == ["the report failed"] * 2


@pytest.mark.parametrize(
    ("reason", "words"),
    [("length", ", cut at the token limit"), ("content_filter", ", cut by a content filter")],
)
async def test_figures_mention_that_an_answer_was_cut(reason: Any, words: str) -> None:
    result = await collect(reactivex.of(Token("x"), End(reason)))
    assert words in figures_of(result)
    assert "cut" not in figures_of(await collect(reactivex.of(Token("x"), End("stop"))))
