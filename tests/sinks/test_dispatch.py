"""`dispatch`: handlers by chunk class."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import reactivex
from reactivex import Observable
from reactivex import operators as rx

from rxllm import Batch, Chunk, End, Reasoning, RxLLMError, Start, Token, run
from rxllm.errors import ServerError
from rxllm.models.scripted import ScriptedModel
from rxllm.sinks import dispatch
from rxllm.testing import run_virtual

BATCH = Batch((Token("a"), Reasoning("hm"), Token("b")), "ab")


def test_each_chunk_goes_to_the_handler_of_its_class_with_the_shared_context() -> None:
    def on_token(token: Token, context: dict[str, Any]) -> None:
        context.setdefault("texts", []).append(token.text)

    def on_end(end: End, context: dict[str, Any]) -> None:
        context["reason"] = end.finish_reason

    stream: Observable[Chunk] = reactivex.of(
        Start("1", "tiny"), Token("a"), Token("b"), End("stop")
    )
    context = run(dispatch(stream, {Token: on_token, End: on_end}))
    assert context == {"texts": ["a", "b"], "reason": "stop"}


def test_the_given_context_is_returned() -> None:
    context: list[object] = []
    stream = reactivex.of(Token("a"))
    assert run(dispatch(stream, {Token: lambda *_: None}, context)) is context


def test_a_batch_without_a_handler_goes_piece_by_piece() -> None:
    handlers: dict[type, Any] = {
        Token: lambda chunk, context: context.append(("token", chunk.text)),
        Reasoning: lambda chunk, context: context.append(("reasoning", chunk.text)),
    }
    pieces: list[tuple[str, str]] = run(dispatch(reactivex.of(BATCH), handlers, []))
    assert pieces == [("token", "a"), ("reasoning", "hm"), ("token", "b")]


def test_a_batch_with_a_handler_goes_only_to_that_handler() -> None:
    handlers: dict[type, Any] = {
        Batch: lambda chunk, context: context.append(chunk),
        Token: lambda chunk, context: context.append(chunk),
    }
    assert run(dispatch(reactivex.of(BATCH), handlers, [])) == [BATCH]


async def test_a_handler_that_raises_stops_the_stream_and_is_not_retried(source: Any) -> None:
    def fail(chunk: Token, context: object) -> None:
        raise ValueError("the handler failed")

    with pytest.raises(ValueError, match="the handler failed"):
        await dispatch(source.stream(Token("a"), waits=True).pipe(rx.retry(3)), {Token: fail})
    assert (source.subscriptions, source.cleaned_up) == (1, 1)


def test_no_chunk_follows_after_a_handler_has_raised() -> None:
    seen: list[str] = []

    def fail(token: Token, context: object) -> None:
        seen.append(token.text)
        raise ValueError("the handler failed")

    def push_all_at_once(observer: Any, _: Any) -> Any:
        observer.on_next(Token("a"))
        observer.on_next(Token("b"))
        observer.on_error(RxLLMError("too late"))

    with pytest.raises(ValueError, match="the handler failed"):
        run(dispatch(reactivex.create(push_all_at_once), {Token: fail}))
    assert seen == ["a"]


def test_async_handlers_are_awaited_in_order_and_hold_the_stream() -> None:
    model = ScriptedModel("a b c", by="word", delay=1.0)
    times: list[tuple[str, float]] = []

    async def slowly(token: Token, _: object) -> None:
        loop = asyncio.get_running_loop()
        times.append((token.text.strip(), loop.time()))
        await asyncio.sleep(10)

    run_virtual(dispatch(model.stream("Hi"), {Token: slowly}))
    begun = times[0][1]
    assert [(text, time - begun) for text, time in times] == [("a", 0), ("b", 11), ("c", 22)]


async def test_an_async_handler_that_raises_stops_the_stream_and_is_not_retried(
    source: Any,
) -> None:
    async def fail(token: Token, _: object) -> None:
        raise ValueError("the handler failed")

    with pytest.raises(ValueError, match="the handler failed"):
        await dispatch(source.stream(Token("a"), waits=True).pipe(rx.retry(3)), {Token: fail})
    assert (source.subscriptions, source.cleaned_up) == (1, 1)


def test_an_async_handler_gets_the_pieces_of_a_batch() -> None:
    async def take(token: Token, texts: list[str]) -> None:
        texts.append(token.text)

    batch = Batch((Token("a"), Token("b")), "ab")
    assert run(dispatch(reactivex.of(batch, Token("c")), {Token: take}, [])) == ["a", "b", "c"]


class _Callable:
    async def __call__(self, token: Token, texts: list[str]) -> None:
        texts.append(token.text)


def test_an_object_with_an_async_call_is_awaited_too() -> None:
    assert run(dispatch(reactivex.of(Token("a")), {Token: _Callable()}, [])) == ["a"]


async def test_a_plain_function_that_returns_a_coroutine_is_an_error_not_lost_work() -> None:
    async def save(token: Token) -> None:
        raise AssertionError("never reached")

    handlers = {Token: lambda token, _: save(token)}
    with pytest.raises(TypeError, match="returned a coroutine, which nothing awaits: give"):
        await dispatch(ScriptedModel("a").stream("Hi"), handlers)


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("kind", [Exception, RxLLMError, ServerError])
def test_an_error_goes_to_the_handler_of_its_class(kind: type[Exception], is_async: bool) -> None:
    def take(error: RxLLMError, seen: list[str]) -> None:
        seen.append(f"{error}: {error.partial}")

    async def take_async(error: RxLLMError, seen: list[str]) -> None:
        take(error, seen)

    stream = ScriptedModel(["Once", ServerError("down")]).stream("Hi")
    handlers: dict[type, Any] = {kind: take_async if is_async else take, ValueError: print}
    handlers[Token] = (lambda *_: asyncio.sleep(0)) if is_async else (lambda *_: None)
    assert run(dispatch(stream, handlers, [])) == ["down: Once"]


def test_an_error_without_a_handler_is_raised() -> None:
    stream = ScriptedModel([ServerError("down")]).stream("Hi")
    with pytest.raises(ServerError):
        run(dispatch(stream, {ValueError: lambda *_: None}))


@pytest.mark.parametrize("is_async", [False, True])
def test_what_a_handler_raises_is_no_error_of_the_stream(is_async: bool) -> None:
    def fail(token: Token, _: object) -> None:
        raise ServerError("mine")

    async def fail_async(token: Token, _: object) -> None:
        raise ServerError("mine")

    handlers = {Token: fail_async if is_async else fail, ServerError: lambda *_: None}
    with pytest.raises(ServerError, match="mine"):
        run(dispatch(reactivex.of(Token("a")), handlers))


def test_an_unknown_class_is_rejected_at_the_call() -> None:
    with pytest.raises(TypeError, match=r"chunk classes \(Start, .*got <class 'str'>"):
        run(dispatch(reactivex.of(Token("a")), {str: lambda *_: None}))


def test_a_handler_that_can_not_be_called_is_rejected_at_the_call() -> None:
    with pytest.raises(TypeError, match="the handler of Token must be a function, got str"):
        run(dispatch(reactivex.of(Token("a")), {Token: "print"}))  # type: ignore[dict-item]
