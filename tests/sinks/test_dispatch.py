"""`dispatch`: handlers by chunk class."""

from __future__ import annotations

from typing import Any

import pytest
import reactivex
from reactivex import Observable
from reactivex import operators as rx

from rxllm import Batch, Chunk, End, Reasoning, RxLLMError, Start, Token, run
from rxllm.sinks import dispatch

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


def test_an_unknown_class_is_rejected_at_the_call() -> None:
    with pytest.raises(TypeError, match=r"chunk classes \(Start, .*got <class 'str'>"):
        run(dispatch(reactivex.of(Token("a")), {str: lambda *_: None}))


def test_a_coroutine_function_is_rejected_at_the_call() -> None:
    async def handler(*_: object) -> None: ...

    with pytest.raises(TypeError, match="the handler of Token must be a plain function"):
        run(dispatch(reactivex.of(Token("a")), {Token: handler}))
