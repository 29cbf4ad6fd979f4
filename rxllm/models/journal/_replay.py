"""`replay`: a model that plays a journal."""

from __future__ import annotations

import asyncio
import os
import threading
from functools import cached_property
from pathlib import Path
from typing import Unpack, get_args

import msgspec
from reactivex import abc

from rxllm.arguments import check_int
from rxllm.chunks import Chunk
from rxllm.models.journal._continued import Continued
from rxllm.models.journal._models import check_path, model_of
from rxllm.models.journal._player import Player
from rxllm.models.journal._reader import first_of
from rxllm.models.journal._recordings import Match, Recordings
from rxllm.models.journal._requests import record_of
from rxllm.requests import ContinuedBy, Model, ModelInfo, Prompt, RequestOptions, as_request
from rxllm.stream import Stream
from rxllm.valve import scheduler_or_default

__all__ = ["Replay", "replay"]


def replay(
    path: str | os.PathLike[str],
    *,
    timing: bool = False,
    match: Match = "request",
    until: int | None = None,
) -> Replay:
    """Return a model that plays the streams in a journal, which `recorded` has written.

    ::

        test = rxllm.replay("yesterday.jsonl")             # the same answers, and the same failures
        slow = rxllm.replay("yesterday.jsonl", timing=True)
        fixed = rxllm.replay("yesterday.jsonl", until=7).then("tiny")

    All chunks are played as they were recorded, also those of a run of several answers. With
    `match="request"`, a stream plays the recording of an equal request: options, tools, messages,
    and the hashes of images and files are compared, secrets aren't. Equal requests get their
    recordings in the order in which these began, and the last one is repeated. With
    `match="order"`, each stream plays the next recording, whatever its request. If there is none,
    the error is an `UnsupportedError`, which tells how the request differs from the nearest one
    that was recorded.

    - Completion: as recorded. Error: of the recorded class, with its fields (`status`,
      `retry_after`, ...), if it is one of `rxllm.errors` or of Python; otherwise a `StreamError`
      that names the class. A recording that was cancelled, or cut off by a crash, ends with a
      `TruncatedStreamError`, and a damaged one with a `MalformedStreamError`.
    - Disposal: stops at once and cancels the timer.
    - Demand: while the subscriber's valve is closed, nothing is emitted. A chunk that was held
      delays those after it by as much.

    The journal is read at the first subscription, or by `load()`; what is appended later isn't
    played. A call of `replay` gives a model that starts from the first recording.

    Args:
        path: the journal.
        timing: play each chunk at its time since the subscription, on the clock of the subscriber;
            otherwise as fast as the subscriber takes them.
        match: `"request"` or `"order"`.
        until: the number of chunks after which a stream ends with a `ReplayEndedError`, in place of
            the rest and of a recorded error, 0 or more; see `Replay.then`. `None` for all.

    Raises:
        TypeError: `path` is not a path, `timing` is not a bool, or `until` is not an integer.
        ValueError: `match` is unknown, or `until` is negative.
        ModelLoadError: through `on_error`: the journal can't be read.
        UnsupportedError: through `on_error`: the journal has no recording of the request.

    >>> import rxllm, tempfile
    >>> from rxllm.models.scripted import ScriptedModel
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model = rxllm.recorded(ScriptedModel("Hello!", "Hi!"), f"{folder}/run.jsonl")
    ...     _ = rxllm.run(model.stream("Hello")), rxllm.run(model.stream("Hello"))
    ...     again = replay(f"{folder}/run.jsonl")
    ...     [rxllm.run(again.stream("Hello")).text for _ in range(3)]
    ['Hello!', 'Hi!', 'Hi!']
    """
    if not isinstance(timing, bool):
        raise TypeError(f"timing must be True or False, got {timing!r}")
    if match not in get_args(Match):
        raise ValueError(f"match must be one of {get_args(Match)}, got {match!r}")
    if until is not None:
        check_int("until", until, "the number of chunks to play", minimum=0)
    return Replay(check_path(path), timing, match, until)


class Replay:
    """A model that plays a journal. Created by `replay`."""

    def __init__(self, path: Path, timing: bool, match: Match, until: int | None) -> None:
        self._path = path
        self._timing = timing
        self._match = match
        self._until = until
        self._lock = threading.Lock()  # streams may run on several threads

    def __repr__(self) -> str:
        return f"replay({str(self._path)!r})"

    @cached_property
    def info(self) -> ModelInfo:
        """What is known about the model of the first recording, under the name of this one."""
        begun = first_of(self._path)
        known = ModelInfo("", "") if begun is None else begun.model
        name = f"replay/{self._path}"
        return msgspec.structs.replace(
            known, id=name, provider="replay", description="plays recorded streams"
        )

    async def load(self) -> None:
        """Read the journal now. Idempotent.

        Raises:
            ModelLoadError: it can't be read.
        """
        await asyncio.to_thread(self._read)

    def stream(self, prompt: Prompt, **options: Unpack[RequestOptions]) -> Stream[Chunk]:
        """Return a cold Observable; each subscription plays the next recording of the request.

        Raises:
            BadRequestError: the prompt or an option is invalid.
        """
        request = as_request(prompt, **options)
        record = record_of(request)

        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            scheduler = scheduler_or_default(scheduler)
            with self._lock:
                events = self._recordings.take(record)
            return Player(events, self._timing, observer, scheduler).start()

        return Stream(
            subscribe,
            f"replay/{self._path}",
            of_chunks=True,
            answer_schema=request.answer_schema,
        )

    def then(self, model: Model | str, *, by: ContinuedBy | None = None) -> Model:
        """Return a model that plays the first `until` chunks, and lets `model` go on from there.

        ::

            S-a-b-#           the recording
            T-c-(E,|)         model.stream(request.continuing("a"))
            [ replay(path, timing=True, until=2).then(model) ]
            S-a-(n,T)-c-(E,|) n: Notice("resume", attempt=2, error=...)

        The partial answer is continued as by `rxllm.operators.complete_partial`: text that the
        model repeats is removed. If none of the chunks is output, the model gets the request as it
        is, after a `Notice("fallback")`. Where an answer can't be continued (a tool call or JSON
        has started, there was only reasoning, or the answer has ended), the stream fails with the
        `ReplayEndedError`. A recording that completes within `until` chunks is played as it is.

        - Completion, error: those of `model`, or those of the replay before `until`.
        - Disposal: the replay, or the stream of `model`, is disposed.
        - Demand: passes through.

        Args:
            model: a model, or a name for `rxllm.model`.
            by: how it is asked to continue; see `Request.continuing`.

        Raises:
            TypeError: `model` is not a model.
            ValueError: `replay` was called without `until`, or `by` is unknown.
            BadRequestError: no model has this name.
        """
        if self._until is None:
            raise ValueError(
                "then() continues after the first chunks of a recording: say how many, as in "
                "replay(path, until=7).then(model)"
            )
        if by is not None and by not in get_args(ContinuedBy):
            raise ValueError(f"by must be 'prefill', 'prompt' or None, got {by!r}")
        return Continued(self, model_of(model), by)

    @cached_property
    def _recordings(self) -> Recordings:
        return Recordings(self._path, self._match, self._until)

    def _read(self) -> None:
        with self._lock:
            self._recordings  # noqa: B018 - reads the file
