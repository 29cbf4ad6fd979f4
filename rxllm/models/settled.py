"""`SettledModel`: a model with the time limits, retries and slots of `Settings`."""

from __future__ import annotations

from typing import Unpack

from rxllm.chunks import Chunk
from rxllm.operators.buffering import rechunk
from rxllm.operators.controlling import Pool, limit_concurrency
from rxllm.operators.recovery import retry_with_backoff, timeouts
from rxllm.requests import Model, Prompt, RequestOptions
from rxllm.settings import PoolSettings, Settings
from rxllm.stream import Stream
from rxllm.wrapped_model import WrappedModel

__all__ = ["SettledModel"]


class SettledModel(WrappedModel):
    """A model whose streams have time limits and retries, and share slots.

    Everything else is that of the model.

    Args:
        model: the model.
        settings: see `Settings`.
        pool: the slots, from the settings.
    """

    def __init__(self, model: Model, settings: Settings, pool: PoolSettings) -> None:
        super().__init__(model)
        self._settings = settings
        self._pool = Pool(**pool)

    def __repr__(self) -> str:
        return repr(self._model)

    def stream(self, prompt: Prompt, **options: Unpack[RequestOptions]) -> Stream[Chunk]:
        """Return a cold Observable of the answer; see `rxllm.requests.Model.stream`.

        Waiting for a slot doesn't count as waiting for the model.
        """
        settings = self._settings
        stream = self._model.stream(prompt, **options).pipe(
            timeouts(settings.first_token, settings.between_tokens),
            limit_concurrency(self._pool),
            retry_with_backoff(**settings.retry),
            timeouts(total=settings.total),
        )
        return stream if settings.piece_size is None else stream.pipe(rechunk(settings.piece_size))
