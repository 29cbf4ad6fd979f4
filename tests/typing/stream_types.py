# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""What type checkers know about a `Stream`: checked by mypy and pyright, never run.

A line with a `type: ignore` must be an error, since the checkers report unneeded ones.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import assert_type

import reactivex
from reactivex import ConnectableObservable, Observable
from reactivex import operators as rxo

import rxllm
from rxllm import Chunk, Result, Stream, Token
from rxllm import operators as ops


async def a_stream_is_read_in_three_ways(stream: Stream[Chunk]) -> None:
    assert_type(await stream, Result)
    async for chunk in stream:
        assert_type(chunk, Chunk)
    for each in stream:
        assert_type(each, Chunk)
    assert_type(rxllm.run(stream), Result)


async def only_chunks_make_a_result(stream: Stream[str]) -> None:
    await stream  # type: ignore[misc]


def a_stream_is_covariant(tokens: Stream[Token]) -> Stream[Chunk]:
    return tokens


def pipe_keeps_types(stream: Stream[Chunk]) -> None:
    assert_type(stream.pipe(ops.words()), Stream[Chunk])
    assert_type(stream.pipe(ops.words(), ops.text()), Stream[str])
    assert_type(stream.pipe(ops.text(), rxo.map(len)), Stream[int])
    assert_type(stream.pipe(rxo.map(str), rxo.take(2), rxo.map(len)), Stream[int])
    assert_type(stream.pipe(ops.multiplex()), ops.Multiplexed)
    assert_type(stream.pipe(ops.multiplex(), ops.words()), Stream[Chunk])
    assert_type(
        stream.pipe(
            ops.timeouts(total=60),
            ops.retry_with_backoff(3),
            ops.require_output(),
            ops.stop_on("x"),
            ops.redact("bad"),
            ops.drop_blank(),
            ops.words(),
            ops.measure(print),
            ops.progress(),
            ops.smooth(),
            ops.text(),
            rxo.map(len),
        ),
        Stream[int],
    )
    word = ops.words()
    assert_type(
        stream.pipe(
            word, word, word, word, word, word, word, word, word, word, word, word, word, word
        ),
        Stream[Chunk],
    )


def pipe_leaves_other_things_as_they_are(stream: Stream[Chunk]) -> None:
    def connectable(source: Observable[Chunk]) -> ConnectableObservable[Chunk]:
        return source.pipe(rxo.publish())

    assert_type(stream.pipe(connectable), ConnectableObservable[Chunk])
    assert_type(stream.pipe(lambda source: 3), int)


def mistakes_in_a_pipe_are_errors(stream: Stream[Chunk]) -> None:
    stream.pipe(ops.words)  # type: ignore[type-var, arg-type]
    stream.pipe(stream)  # type: ignore[call-overload]
    stream.pipe(None)  # type: ignore[call-overload]
    stream.pipe(ops.text(), ops.words())  # type: ignore[misc]


def options_are_known(model: rxllm.Model) -> None:
    assert_type(model.stream("Hi", temperature=0, stop="\n", max_tokens=3), Stream[Chunk])
    model.stream("Hi", temprature=0)  # type: ignore[call-arg]
    model.stream("Hi", max_tokens="3")  # type: ignore[arg-type]
    rxllm.Router(["tiny"]).stream("Hi", temprature=0)  # type: ignore[call-arg]


def a_plain_observable_is_taken_too(chunks: Observable[Chunk]) -> None:
    assert_type(rxllm.run(chunks), Result)
    assert_type(ops.words()(chunks), Stream[Chunk])
    assert_type(reactivex.merge(chunks, chunks).pipe(ops.text()), Stream[str])


def combining_functions_give_streams(stream: Stream[Chunk], other: Stream[Chunk]) -> None:
    assert_type(ops.merge_streams(stream, other), Stream[Chunk])
    assert_type(ops.race(stream, other), Stream[Chunk])
    assert_type(rxllm.from_async(_numbers), Stream[int])


async def _numbers() -> AsyncIterator[int]:
    yield 1
