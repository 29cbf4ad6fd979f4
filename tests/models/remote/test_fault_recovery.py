"""Each fault at each place, with each recovery operator: no subscriber sees text twice.

A subscriber sees exactly one of: the whole text; an announced restart and then the whole text; or a
partial text and an error that contains it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from reactivex import Observable

import rxllm
from rxllm import operators as ops
from rxllm.chunks import Chunk, End, Notice, is_restart, text_of
from rxllm.errors import ConnectionFailedError, RxLLMError, TruncatedStreamError
from rxllm.testing.fault_server import FaultServer
from tests.models.remote.conftest import make
from tests.models.remote.test_fault_matrix import EXPECTED, NOTHING, reply

PROMPT = "Say hello"
WHOLE = "Héllo"

Operator = Callable[[Observable[Chunk]], Observable[Chunk]]


RECOVERIES: dict[str, Callable[[rxllm.Model], Operator]] = {
    "retry": lambda _: ops.retry_with_backoff(initial=0),
    "retry, restart": lambda _: ops.retry_with_backoff(initial=0, after_output="restart"),
    "retry, replay": lambda _: ops.retry_with_backoff(initial=0, after_output="replay"),
    "retry, continue": lambda model: ops.retry_with_backoff(
        initial=0, after_output=lambda _: model.stream(PROMPT)
    ),
    "fallback": lambda model: ops.fallback_to(model.stream(PROMPT)),
    "fallback, restart": lambda model: ops.fallback_to(
        model.stream(PROMPT), after_output="restart"
    ),
    "fallback, replay": lambda model: ops.fallback_to(model.stream(PROMPT), after_output="replay"),
    "resume": lambda model: ops.resume(model, PROMPT, initial=0),
    "complete_partial": lambda model: ops.complete_partial(model, PROMPT),
}
CASES = [(fault, place) for fault, outcomes in EXPECTED.items() for place in outcomes]


def handles(recovery: str, error: RxLLMError) -> bool:
    """True if the operator must handle `error` before any output."""
    if recovery == "complete_partial":
        return False
    if recovery == "resume":
        return isinstance(error, ConnectionFailedError | TruncatedStreamError)
    return error.retryable or (
        recovery.startswith("fallback") and rxllm.classify_error(error) == "fallback"
    )


def continues(recovery: str) -> bool:
    """True if the operator also recovers after output, on a model that repeats its answer."""
    return recovery.endswith(("restart", "replay", ", continue"))


def seen_of(chunks: list[Chunk]) -> tuple[str, bool]:
    """Return the text that a subscriber ends up with, and whether there was a restart."""
    text, restarted = "", False
    for chunk in chunks:
        if is_restart(chunk):
            text, restarted = "", True
        text += text_of(chunk)
    return text, restarted


async def hear(stream: Observable[Chunk]) -> tuple[list[Chunk], Exception | None]:
    chunks: list[Chunk] = []
    try:
        async for chunk in rxllm.to_async(stream):
            chunks.append(chunk)
    except Exception as error:
        return chunks, error
    return chunks, None


@pytest.mark.parametrize("provider", ["openai", "anthropic", "openai_compatible"])
@pytest.mark.parametrize("recovery", RECOVERIES)
async def test_the_whole_text_or_an_announced_restart_or_a_partial_text_with_an_error(
    recovery: str, provider: str
) -> None:
    healthy = replace(reply("bytes one by one", "at the end", provider), pieces=None)
    for fault, place in CASES:
        async with FaultServer(reply(fault, place, provider), healthy) as server:
            model = make(server, provider)
            stream = model.stream(PROMPT).pipe(RECOVERIES[recovery](model))
            chunks, error = await hear(stream)
        text, restarted = seen_of(chunks)
        where = f"{fault}, {place}: {chunks}, {error!r}"
        assert not restarted or "restart" in recovery, where
        if error is None:
            assert text == WHOLE, where
            assert [chunk for chunk in chunks if type(chunk) is End] == [End("stop")], where
        else:
            assert isinstance(error, RxLLMError), where
            assert error.partial == text, where
            assert WHOLE.startswith(text), where
            assert EXPECTED[fault][place] != NOTHING, where
            assert not (continues(recovery) and error.retryable), where
            assert place != "before the first token" or not handles(recovery, error), where
        notices = [chunk for chunk in chunks if type(chunk) is Notice and chunk.attempt]
        assert len(server.requests) <= 1 + len(notices), where  # each retry has a notice
