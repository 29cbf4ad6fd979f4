"""The model argument of operators that send further requests."""

from __future__ import annotations

from typing import get_args

from reactivex import Observable

from rxllm.chunks import Chunk
from rxllm.requests import (
    ContinuedBy,
    Model,
    ModelInfo,
    Prompt,
    Request,
    RequestOptions,
    as_request,
    last_words,
)

__all__ = ["Continuation", "check_model", "continuation", "supports"]


def check_model(model: object) -> None:
    """Check an argument.

    Raises:
        TypeError: it is not a model.
    """
    if isinstance(model, type) or not callable(getattr(model, "stream", None)):
        raise TypeError(f"model must be a model, such as rxllm.model('tiny'), got {model!r}")


class Continuation:
    """A function from the partial text of an answer to the stream that continues it."""

    def __init__(self, model: Model, request: Request, by: ContinuedBy) -> None:
        self._model = model
        self._request = request
        self._by: ContinuedBy = by

    def __call__(self, partial: str) -> Observable[Chunk]:
        return self._model.stream(self._request.continuing(partial, by=self._by))

    def repeated(self, partial: str) -> str:
        """Return the words of `partial` that the model is asked to repeat first."""
        return last_words(partial) if self._by == "prompt" else ""


def supports(model: Model, capability: str) -> bool:
    """Return whether the model has a capability, or nothing is known about it."""
    info = getattr(model, "info", None)
    return not isinstance(info, ModelInfo) or info.supports(capability)


def continuation(
    model: Model, prompt: Prompt, options: RequestOptions, by: ContinuedBy | None
) -> Continuation:
    """A function from the partial text of an answer to the stream that continues it.

    Args:
        model: the model that continues it.
        prompt: the prompt of the answer.
        options: fields of `Request`.
        by: see `Request.continuing`; `None` for `"prefill"` if the model supports it.

    Raises:
        TypeError: `model` is not a model.
        ValueError: `by` is unknown.
        BadRequestError: the prompt or an option is invalid.
    """
    check_model(model)
    if by is not None and by not in get_args(ContinuedBy):
        raise ValueError(f"by must be 'prefill', 'prompt' or None, got {by!r}")
    request = as_request(prompt, **options)

    thinks = request.reasoning not in (None, "none")
    prefills = supports(model, "prefill") and not thinks  # no model continues an answer and thinks
    return Continuation(model, request, by or ("prefill" if prefills else "prompt"))
