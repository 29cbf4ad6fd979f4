"""The model argument of operators that send further requests."""

from __future__ import annotations

from collections.abc import Callable

from reactivex import Observable

from rxllm.chunks import Chunk
from rxllm.requests import Model, Prompt, RequestOptions, as_request

__all__ = ["check_model", "continuation"]


def check_model(model: object) -> None:
    """Check an argument.

    Raises:
        TypeError: it is not a model.
    """
    if isinstance(model, type) or not callable(getattr(model, "stream", None)):
        raise TypeError(f"model must be a model, such as rxllm.model('tiny'), got {model!r}")


def continuation(
    model: Model, prompt: Prompt, options: RequestOptions
) -> Callable[[str], Observable[Chunk]]:
    """A function from the partial text of an answer to the stream that continues it.

    Raises:
        TypeError: `model` is not a model.
        BadRequestError: the prompt or an option is invalid.
    """
    check_model(model)
    request = as_request(prompt, **options)

    def continued(partial: str) -> Observable[Chunk]:
        return model.stream(request.continuing(partial))

    return continued
