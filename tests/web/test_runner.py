"""`Runner`: one stream, recorded once, and ended with one message."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import reactivex as rx
from reactivex.disposable import Disposable
from reactivex.subject import Subject

from rxllm.chunks import Chunk, End, Start, Token, Usage
from rxllm.errors import RateLimitError
from rxllm.testing import run_virtual
from rxllm.web.runner import Runner
from rxllm.web.stream_messages import Complete, StreamFailed

Final = Complete | StreamFailed


class Clients:
    """Records the chunks and final messages of a runner."""

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []
        self.ends: list[Final] = []

    def runner(self, model: str | None = None) -> Runner:
        return Runner("s", self.chunks.append, self.ends.append, model)


async def test_the_final_message_summarizes_the_stream() -> None:
    source, clients = Subject[Chunk](), Clients()
    run = clients.runner()
    run.start(source, None)
    chunks: list[Chunk] = [Start("r", "m"), Token("a"), Token("b"), Usage(3, 2), End("length")]
    for chunk in chunks:
        source.on_next(chunk)
    assert (run.has_ended, run.result.finish_reason) == (False, "cancelled")
    source.on_completed()
    (message,) = clients.ends
    assert isinstance(message, Complete)
    assert (message.id, message.text, message.tokens, message.model) == ("s", "ab", 2, "m")
    assert (message.finish_reason, message.usage) == ("length", Usage(3, 2))
    assert clients.chunks == chunks
    assert run.result.finish_reason == "length"
    assert run.has_ended


async def test_the_requested_model_is_reported_if_no_start_names_one() -> None:
    clients = Clients()
    clients.runner("tiny").start(rx.of(Token("a")), None)
    (message,) = clients.ends
    assert isinstance(message, Complete)
    assert (message.model, message.finish_reason) == ("tiny", None)


@pytest.mark.parametrize("error", [RateLimitError("slow"), ValueError("a bug")])
async def test_a_failure_has_the_partial_text_whatever_raised_it(error: Exception) -> None:
    source, clients = Subject[Chunk](), Clients()
    run = clients.runner()
    run.start(source, None)
    source.on_next(Token("half"))
    source.on_error(error)
    (message,) = clients.ends
    assert isinstance(message, StreamFailed)
    assert (message.partial, message.position) == ("half", None)
    assert run.error is error
    assert (run.result.text, run.result.finish_reason) == ("half", "cancelled")


async def test_an_errors_own_partial_text_is_kept() -> None:
    clients = Clients()
    run = clients.runner()
    error = RateLimitError("slow")
    error.partial = "its own"
    run.start(rx.concat(rx.of(Token("half")), rx.throw(error)), None)
    assert (run.error, error.partial) == (error, "its own")


async def test_a_foreign_error_gets_no_attribute() -> None:
    clients, error = Clients(), ValueError("a bug")
    clients.runner().start(rx.throw(error), None)
    assert not hasattr(error, "partial")


def test_seconds_are_rounded_to_microseconds() -> None:
    async def main() -> None:
        source, clients = Subject[Chunk](), Clients()
        clients.runner().start(source, None)
        await asyncio.sleep(1.23456789)
        source.on_completed()
        (message,) = clients.ends
        assert isinstance(message, Complete)
        assert message.seconds == 1.234568

    run_virtual(main())


@pytest.mark.parametrize("end", ["on_completed", "on_error"])
async def test_an_item_that_is_not_a_chunk_fails_the_stream_and_stops_its_source(end: str) -> None:
    disposed: list[bool] = []

    def subscribe(observer: Any, scheduler: Any = None) -> Any:
        for item in (Token("a"), "not a chunk", Token("b")):
            observer.on_next(item)
        getattr(observer, end)(*([RateLimitError("late")] if end == "on_error" else []))
        return Disposable(lambda: disposed.append(True))

    clients = Clients()
    run = clients.runner()
    run.start(rx.create(subscribe), None)
    assert clients.chunks == [Token("a")]
    assert [type(each) for each in clients.ends] == [StreamFailed]
    assert isinstance(run.error, TypeError)
    assert disposed == [True]


async def test_fail_ends_the_stream_once_and_later_failures_are_reported() -> None:
    reported: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: reported.append(context.get("exception")))

    def broken() -> None:
        raise ZeroDivisionError

    def subscribe(observer: Any, scheduler: Any = None) -> Any:
        return Disposable(broken)

    clients = Clients()
    run = clients.runner()
    run.start(rx.create(subscribe), None)
    first, second = RateLimitError("first"), RateLimitError("second")
    run.fail(first)
    run.fail(second)
    assert len(clients.ends) == 1
    assert [type(each) for each in reported] == [ZeroDivisionError, RateLimitError]
    assert run.error is first
