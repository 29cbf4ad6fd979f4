"""A local model: an engine behind the `Model` protocol."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, Unpack

from reactivex import abc

from rxllm.chunks import Chunk, End, Notice, Progress, Start, Usage
from rxllm.errors import UnsupportedError, separate_error
from rxllm.messages import FilePart, ImagePart
from rxllm.models.local.answer_form import AnswerReader
from rxllm.models.local.engine import Engine
from rxllm.models.local.guidance import answer_grammar
from rxllm.models.local.job import Failed, Finished, Job, Opened, Piece, Reading, Released
from rxllm.models.local.runner import EngineRunner
from rxllm.models.local.worker import WorkerRunner
from rxllm.pump import pump
from rxllm.requests import ModelInfo, Prompt, Request, RequestOptions, as_request, as_request_to
from rxllm.stream import Stream
from rxllm.token_count import TokenCount
from rxllm.valve import Valve, running_loop

__all__ = ["LOADING_SECONDS", "LocalModel"]


LOADING_SECONDS: Final = 0.3
"""How long a model is loaded before that is reported."""

_NO_REQUEST: Final = Request(messages=())
_REMOTE_OPTIONS: Final = (
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
    "top_logprobs",
    "verbosity",
)


class LocalModel:
    """A model that runs in this process, loaded by `load` or for the first stream.

    - Any number of streams may be subscribed. As many as the engine has slots are live, and the
      others wait in order. Each decode step advances all live streams that have demand.
    - Demand: a stream whose valve is closed leaves the batch at the next step and keeps its slot.
      So does a stream that is 16 tokens ahead of its reader.
    - A forked process loads the model again at its first stream.
    - Disposal: the stream leaves the batch at the next step and frees its slot.
    - Errors, in `on_error`: `ModelLoadError` (a missing, wrong or corrupt file),
      `ContextLengthError` (before anything is generated), `UnsupportedError` (an option that this
      engine doesn't support), `ModelError` (the engine failed).

    Args:
        info: static information about the model.
        load: loads the engine, called on the engine thread; or runs it in another process.
    """

    def __init__(self, info: ModelInfo, load: Callable[[], Engine[Any]] | WorkerRunner) -> None:
        self._info = info
        self._runner: EngineRunner | WorkerRunner
        self._runner = load if isinstance(load, WorkerRunner) else EngineRunner(info.id, load)

    def __repr__(self) -> str:
        return f"<LocalModel {self._info.id}>"

    @property
    def info(self) -> ModelInfo:
        """Static information about this model; doesn't load it."""
        return self._info

    @property
    def active(self) -> int:
        """Number of streams that hold a slot or wait for one."""
        return self._runner.active

    @property
    def is_closed(self) -> bool:
        """True once `close` has been called."""
        return self._runner.is_closed

    def stream(self, prompt: Prompt, **options: Unpack[RequestOptions]) -> Stream[Chunk]:
        """Return a cold Observable of the answer; see `rxllm.requests.Model.stream`.

        `Start` is emitted once the model is loaded and the stream has its slot. If loading takes
        longer than 0.3 s, a `Notice("loading")` precedes it.

        Raises:
            BadRequestError: the prompt or an option is invalid.
        """
        request = as_request_to(self._info.id, prompt, **options)

        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            return pump(
                observer, scheduler, lambda valve: self._answer(request, valve), batched=True
            )

        return Stream(subscribe, self._info.id, of_chunks=True, answer_schema=request.answer_schema)

    async def count_tokens(self, prompt: Prompt, **options: Unpack[RequestOptions]) -> TokenCount:
        """Return the exact number of tokens of a prompt, by the model's own tokenizer.

        Loads the model if necessary, and waits for a free slot, as a stream does.

        Raises:
            BadRequestError: the prompt or an option is invalid or unsupported.
            ModelLoadError: the model can't be loaded.
        """
        request = as_request(prompt, **options)
        _check_text_only(request, self._info.id)
        opened = await _opened(self._runner.submit(request, running_loop(), purpose="count"))
        return TokenCount(opened.input_tokens)

    async def load(self) -> None:
        """Load the model now, rather than for the first stream. Idempotent.

        A stream whose model isn't loaded begins with a `Notice("loading")` if that takes a while.

        Raises:
            ModelLoadError: the model can't be loaded.
            ModelError: the model was closed.
        """
        if not self._runner.is_loaded:
            await _opened(self._runner.submit(_NO_REQUEST, running_loop(), purpose="load"))

    def close(self) -> None:
        """Fail all streams with a `ModelError` and free the memory. The model can't be reused."""
        self._runner.close()

    async def _answer(self, request: Request, valve: Valve) -> AsyncIterator[list[Chunk]]:
        _check_text_only(request, self._info.id)
        grammar = answer_grammar(request)
        is_loaded = self._runner.is_loaded
        job = self._runner.submit(request, running_loop(), grammar=grammar)
        job.set_wanted(valve.is_open)
        watching = valve.on_change(job.set_wanted)
        writer = _ChunkWriter(self._info, request)
        try:
            if not is_loaded and not await job.has_events(LOADING_SECONDS):
                yield [Notice("loading")]
            while not writer.is_done:
                chunks = await self._next_chunks(job, writer)
                if chunks:
                    yield chunks
        finally:
            watching.dispose()
            await job.leave()

    async def _next_chunks(self, job: Job, writer: _ChunkWriter) -> list[Chunk]:
        chunks: list[Chunk] = []
        for event in await job.next_events():
            if isinstance(event, Failed):
                if chunks:
                    job.receive(event)  # pass on the preceding chunks first
                    return chunks
                raise separate_error(event.error)  # other streams may have the same error
            if not isinstance(event, Released):
                chunks.extend(writer.write(event))
        return chunks


async def _opened(job: Job) -> Opened:
    try:
        event = (await job.next_events())[0]
    finally:
        await job.leave()
    if isinstance(event, Failed):
        raise separate_error(event.error)
    assert isinstance(event, Opened)  # noqa: S101 - nothing else comes first
    return event


def _check_text_only(request: Request, model: str) -> None:
    """Reject files and options that only remote models support."""
    if unknown := request.extra.keys() - {"grammar"}:
        raise UnsupportedError(f"{model} doesn't support {min(unknown)!r} in extra", "extra")
    for option in _REMOTE_OPTIONS:
        if getattr(request, option) is not None:
            raise UnsupportedError(f"{model} doesn't support {option}", option)
    for message in request.messages:
        if any(isinstance(part, ImagePart) for part in message.parts):
            raise UnsupportedError(f"{model} doesn't support images")
        if any(isinstance(part, FilePart) for part in message.parts):
            raise UnsupportedError(f"{model} doesn't support files")


class _ChunkWriter:
    """Converts the events of one job to chunks."""

    def __init__(self, info: ModelInfo, request: Request) -> None:
        self._info = info
        self._request = request
        self._opened = Opened(0, 0)
        self._reader = AnswerReader(self._opened.form, request)
        self._begun = 0.0
        self.is_done = False

    def write(self, event: Opened | Reading | Piece | Finished) -> Sequence[Chunk]:
        if isinstance(event, Piece):
            # Empty for an incomplete character, a possible stop sequence, a tag.
            return self._reader.feed(event.text, event.confidence)
        if isinstance(event, Reading):
            return (self._progress(event.tokens),)
        if isinstance(event, Opened):
            self._begun = time.monotonic()
            self._opened = event
            self._reader = AnswerReader(event.form, self._request)
            return (
                Start(
                    f"{self._info.provider}-{uuid.uuid4().hex}",
                    self._info.id,
                    self._info.provider,
                    time.time(),
                    max_tokens=self._request.max_tokens,
                ),
            )
        self.is_done = True
        held = self._reader.flush()
        usage = Usage(
            self._opened.input_tokens,
            event.output_tokens,
            cached_tokens=self._opened.cached,
            reasoning_tokens=self._reader.reasoning_tokens,
        )
        has_called = event.reason == "stop" and event.stop_sequence is None and self._reader.calls
        return *held, usage, End("tool_calls" if has_called else event.reason, event.stop_sequence)

    def _progress(self, tokens: int) -> Progress:
        """How much of the prompt has been read; there are no tokens of the answer yet."""
        length, elapsed = self._opened.input_tokens, time.monotonic() - self._begun
        speed = (tokens - self._opened.cached) / elapsed if elapsed > 0 else None
        return Progress(
            0,
            elapsed,
            percentage=100 * tokens / length,
            remaining=(length - tokens) / speed if speed else None,
            stage="prompt",
        )
