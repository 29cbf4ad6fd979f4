"""The first chunks of a recording, continued by a model."""

from __future__ import annotations

from functools import partial
from typing import Unpack

import msgspec

from rxllm.chunks import Chunk
from rxllm.errors import ErrorAction
from rxllm.models.journal._recordings import ReplayEndedError
from rxllm.operators.recovery import complete_partial, fallback_to
from rxllm.requests import (
    ContinuedBy,
    Model,
    ModelInfo,
    Prompt,
    RequestOptions,
    as_request,
    load_all,
)
from rxllm.stream import Stream

__all__ = ["Continued"]


class Continued:
    """A model that plays the first chunks of recordings, and lets another model go on."""

    def __init__(self, first: Model, model: Model, by: ContinuedBy | None) -> None:
        self._first = first
        self._model = model
        self._by: ContinuedBy | None = by

    def __repr__(self) -> str:
        return f"{self._first!r}.then({self._model!r})"

    @property
    def info(self) -> ModelInfo:
        """That of the model that goes on, under a name of both."""
        info = self._model.info
        name = f"{self._first.info.id} then {info.id}"
        return msgspec.structs.replace(info, id=name, provider="replay")

    async def load(self) -> None:
        """Read the journal, and load the model.

        Raises:
            ModelLoadError: one of them can't be loaded.
        """
        await load_all([self._first, self._model])

    def stream(self, prompt: Prompt, **options: Unpack[RequestOptions]) -> Stream[Chunk]:
        """Return a cold Observable of the answer; see `Replay.then`.

        Raises:
            BadRequestError: the prompt or an option is invalid.
        """
        request = as_request(prompt, **options)
        return self._first.stream(request).pipe(
            complete_partial(self._model, request, when=_when_ended, by=self._by),
            fallback_to(partial(self._model.stream, request), when=_when_ended),
        )


def _when_ended(error: Exception) -> ErrorAction:
    return "fallback" if isinstance(error, ReplayEndedError) else "raise"
