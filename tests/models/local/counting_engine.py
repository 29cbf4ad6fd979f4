"""An engine that counts, for tests of what runs engines."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rxllm import Request, Token, to_async
from rxllm.chunks import Chunk
from rxllm.errors import BadRequestError
from rxllm.models.local.answer_form import AnswerForm
from rxllm.models.local.control_tokens import LocalPrompt
from rxllm.models.local.engine import Sampled
from rxllm.models.local.guidance import Mask, Vocabulary
from rxllm.models.local.model import LocalModel
from rxllm.requests import ModelInfo

CRASHES = 13
"""A sequence of this length can't be closed."""

FAILS_ALONE = 17
"""A sequence of this length fails at its first step."""


def _no_tokenizer() -> Any:
    raise NotImplementedError


@dataclass(eq=False)
class CountingSequence:
    """Outputs "0 ", "1 ", ... up to the number in its prompt.

    The prompt is read in so many steps before that as it has `pending` tokens.
    """

    length: int
    count: int = 0
    cached: int = 0
    pending: list[int] = field(default_factory=list)
    is_parked: bool = False


@dataclass
class CountingEngine:
    """An engine that counts, and records which sequences took part in each step.

    With `gated`, each step waits for a permit, so that the test controls the steps.
    """

    slots: int = 2
    context_length: int = 100_000
    prompt_tokens: int = 1
    prompt_piece: int = 256
    gated: bool = False
    fail_at: int | None = None
    steps: list[list[CountingSequence]] = field(default_factory=list)
    live: set[CountingSequence] = field(default_factory=set)
    opened: int = 0
    resumed: int = 0
    begun: int = 0
    unloaded: bool = False
    permits: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    vocabulary: Vocabulary = field(default_factory=lambda: Vocabulary(_no_tokenizer, 0))

    def prompt(self, request: Request) -> LocalPrompt:
        content = request.messages[-1].text
        if content == "nothing":
            return LocalPrompt([], AnswerForm(), None)
        if not content.isdigit():
            raise BadRequestError("the counting engine requires a number")
        tokens = [int(content)] * self.prompt_tokens
        return LocalPrompt(tokens, AnswerForm(), None)

    def open(self, tokens: list[int], request: Request, mask: Mask | None) -> CountingSequence:
        self.opened += 1
        sequence = CountingSequence(tokens[0], pending=tokens[1:])
        self.live.add(sequence)
        assert len(self.live) <= self.slots
        return sequence

    def step(self, sequences: list[CountingSequence]) -> list[Sampled | Exception | None]:
        self.begun += 1
        assert not self.gated or self.permits.acquire(timeout=10)
        assert self.live.issuperset(sequences)
        self.steps.append(list(sequences))
        if len(self.steps) == self.fail_at:
            raise LookupError("a step failed")
        return [self._sample(sequence) for sequence in sequences]

    def park(self, sequence: CountingSequence) -> None:
        sequence.is_parked = True
        self.live.remove(sequence)

    def resume(self, sequence: CountingSequence) -> None:
        sequence.is_parked = False
        self.resumed += 1
        self.live.add(sequence)
        assert len(self.live) <= self.slots

    def close(self, sequence: CountingSequence) -> None:
        if not sequence.is_parked:
            self.live.remove(sequence)
        if sequence.length == CRASHES:
            raise SystemError("closing failed")

    def unload(self) -> None:
        assert not self.live
        self.unloaded = True

    def _sample(self, sequence: CountingSequence) -> Sampled | Exception | None:
        if sequence.pending:
            del sequence.pending[: self.prompt_piece]
            return None
        if sequence.length == FAILS_ALONE:
            return LookupError("this one alone")
        if sequence.count == sequence.length:
            return Sampled("", None, True)
        sequence.count += 1
        return Sampled(f"{sequence.count - 1} ", None, False)


def counting(engine: CountingEngine) -> LocalModel:
    return LocalModel(ModelInfo("count/1", "count"), lambda: engine)


async def collect(model: LocalModel, prompt: int | str, **options: Any) -> list[Chunk]:
    return [chunk async for chunk in to_async(model.stream(str(prompt), **options))]


def text(chunks: list[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks if isinstance(chunk, Token))


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread is about to do."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def engine_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "rxllm count/1"]
