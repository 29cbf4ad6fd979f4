"""`piped`: a model with operators behind each of its answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, Unpack

from reactivex import Observable

from rxllm.chunks import Chunk
from rxllm.requests import Model, Prompt, Request, RequestOptions, as_request
from rxllm.stream import Stream
from rxllm.wrapped_model import WrappedModel

__all__ = ["piped"]

_Operator: TypeAlias = Callable[[Observable[Chunk]], Observable[Chunk]]


def piped(
    model: Model,
    *operators: _Operator,
    of_request: Callable[[Request], _Operator] | None = None,
) -> Model:
    """Return `model` with operators behind each of its answers.

    It is a model like any other. Inside an `Agent` the operators see each answer of the run by
    itself: a retry there asks for the same answer again, and no tool runs twice. All else is that
    of `model`.

    Args:
        model: the model.
        operators: what each answer goes through, in order.
        of_request: makes a last operator from the request of an answer, such as
            `lambda request: ops.fallback_to(backup.stream(request))`.

    Raises:
        TypeError: `model` is not a model, or an operator or `of_request` is not a function.

    >>> from rxllm import operators as ops
    >>> from rxllm.models.scripted import ScriptedModel
    >>> from rxllm.testing import Marbles
    >>> model = piped(ScriptedModel([ConnectionResetError()], "Hi"), ops.retry_with_backoff(2))
    >>> [getattr(event, "text", None) for _, event in Marbles().run(model.stream("Hello"))][2:4]
    [None, 'Hi']
    """
    if not isinstance(model, Model):
        raise TypeError(f"piped takes a model, got {model!r}")
    for each in operators:
        if not callable(each) or isinstance(each, Observable):
            raise TypeError(f"piped takes operators, got {each!r}")
    if of_request is not None and not callable(of_request):
        raise TypeError(f"of_request must be a function, got {of_request!r}")
    return _Piped(model, operators, of_request)


class _Piped(WrappedModel):
    def __init__(
        self,
        model: Model,
        operators: tuple[_Operator, ...],
        of_request: Callable[[Request], _Operator] | None,
    ) -> None:
        super().__init__(model)
        self._operators = operators
        self._of_request = of_request

    def __repr__(self) -> str:
        return f"piped({self._model!r})"

    def stream(self, prompt: Prompt, **options: Unpack[RequestOptions]) -> Stream[Chunk]:
        fields: Any = {}
        others: Any = {}  # such as the approvals of an agent
        for name, value in options.items():
            (fields if name in Request.__struct_fields__ else others)[name] = value
        request = as_request(prompt, **fields)
        operators = self._operators
        if self._of_request is not None:
            operators = (*operators, self._of_request(request))
        piped: Any = self._model.stream(request, **others).pipe(*operators)
        stream: Stream[Chunk] = piped
        return stream
