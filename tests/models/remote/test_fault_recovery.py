"""Each fault, at each place, behind each operator that recovers: nobody sees text twice (row F10).

What a subscriber sees is exactly one of: the whole text, a restart that is announced and then the
whole text, or a partial text with an error that holds it.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from reactivex import Observable

import rxllm
from rxllm import operators as ops
from rxllm.chunks import Chunk, End, Notice, is_restart, text_of
from rxllm.errors import ConnectionFailedError, RxLLMError, TruncatedStreamError
from rxllm.testing.fault_server import FaultServer, Reply
from tests.models.remote.conftest import make
from tests.models.remote.test_fault_matrix import EXPECTED, NOTHING, halves, reply

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


def answers(recovery: str, error: RxLLMError) -> bool:
    """True if the operator has to answer `error`, while nothing has been said."""
    if recovery == "complete_partial":
        return False
    if recovery == "resume":
        return isinstance(error, ConnectionFailedError | TruncatedStreamError)
    return error.retryable or (
        recovery.startswith("fallback") and rxllm.classify_error(error) == "fallback"
    )


def goes_on(recovery: str) -> bool:
    """True if the operator goes on after output too, on a model that says the same each time."""
    return recovery.endswith(("restart", "replay", ", continue"))


def seen_of(chunks: list[Chunk]) -> tuple[str, bool]:
    """The text that a subscriber is left with, and whether a restart took something back."""
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
async def test_f10_the_whole_text_or_an_announced_restart_or_a_partial_text_with_an_error(
    recovery: str, provider: str
) -> None:
    before, after = halves(provider, "mid-stream")
    healthy = Reply([*before, *after])
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
            assert not (goes_on(recovery) and error.retryable), where
            assert place != "before the first token" or not answers(recovery, error), where
        told = [chunk for chunk in chunks if type(chunk) is Notice and chunk.attempt]
        assert len(server.requests) <= 1 + len(told), where  # nobody is asked untold
