"""The models of a server, and how a request becomes a stream of one of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import msgspec
from reactivex import Observable

from rxllm import errors
from rxllm import operators as ops
from rxllm.chunks import Chunk
from rxllm.errors import BadRequestError, PoolFullError
from rxllm.messages import Message
from rxllm.models.registry import model as model_by_name
from rxllm.requests import Model, ModelInfo, Request, as_request
from rxllm.server.limits import Limits
from rxllm.server.messages import Options
from rxllm.settings import Settings
from rxllm.web.failures import DrainingError, InvalidMessageError, TooLargeError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

__all__ = ["Catalogue", "ModelNotFoundError", "default_models"]

_LOCAL: Final = {"tiny", "llama", "onnx"}

_Operator = Callable[[Observable[Chunk]], Observable[Chunk]]


class ModelNotFoundError(errors.ModelNotFoundError):
    """Clients can't ask for a model of this name, that they gave in `field`."""

    field: Final = "model"


def default_models() -> dict[str, Model]:
    """The bundled model, on each engine that is installed.

    Other models are named by whoever starts the server: were any name allowed, a client could have
    files of the server read, and its keys used.
    """
    found = {"tiny": model_by_name("tiny")}
    if find_spec("llama_cpp") is not None:
        found["tiny/llama"] = model_by_name("tiny/llama")
    return found


class Catalogue:
    """The models that clients may name. Made by `create_app`, found as `request.app[MODELS]`.

    Args:
        models: by the name that clients give; or names for `rxllm.model`.
        default: what is asked when a request names none; the first one if None.
        limits: what a client may ask for.
        settings: how many streams run at once, and how long a model may be silent.
        registry: where every stream is listed while it lives.
        metrics: where streams are counted; None counts nothing.

    Raises:
        BadRequestError: there is no model, or none of the name in `default`.
    """

    def __init__(
        self,
        models: Mapping[str, Model] | Sequence[str],
        default: str | None,
        limits: Limits,
        settings: Settings,
        registry: ops.StreamRegistry,
        metrics: CollectorRegistry | None = None,
    ) -> None:
        if isinstance(models, str):
            raise BadRequestError(f"models are names or models by their names, not {models!r}")
        if not isinstance(models, Mapping):
            models = {name: model_by_name(name) for name in models}
        if not models:
            raise BadRequestError("a server needs one model or more")
        self._models = dict(models)
        self.default: str = default if default is not None else next(iter(self._models))
        self.limits = limits
        self.settings = settings
        self.registry = registry
        self.metrics = metrics
        self._pools = {
            True: ops.Pool(**settings.local_pool),
            False: ops.Pool(**settings.remote_pool),
        }
        self.find(self.default)

    @property
    def listed(self) -> tuple[ModelInfo, ...]:
        """What is known of each model, under the name that clients give."""
        return tuple(
            msgspec.structs.replace(model.info, id=name) for name, model in self._models.items()
        )

    def find(self, name: str | None = None) -> Model:
        """The model of this name; the default one for None.

        Raises:
            ModelNotFoundError: clients can't ask for a model of this name.
        """
        found = self._models.get(self.default if name is None else name)
        if found is None:
            known = ", ".join(self._models)
            raise ModelNotFoundError(f"there is no model {name!r} here: there are {known}")
        return found

    def request(
        self, prompt: str | Sequence[Message] | None, options: Options, **more: Any
    ) -> Request:
        """A checked request of what a client has sent.

        Raises:
            InvalidMessageError: the prompt or an option can't be right.
            TooLargeError: it is longer than the limits allow.
        """
        if prompt is None or (isinstance(prompt, str) and not prompt.strip()):
            raise InvalidMessageError("a prompt is needed: `prompt`, or `messages`", "prompt")
        given = {
            name: value
            for name in ("max_tokens", "temperature", "top_p", "stop", "seed", "strategy")
            if (value := getattr(options, name)) not in (None, ())
        }
        if options.response_format is not None:
            given["response_format"] = options.response_format
        field = "prompt" if isinstance(prompt, str) else "messages"
        try:
            request = as_request(prompt, **given, **more)
        except BadRequestError as error:
            wrong = field if error.field == "messages" else _camel_case(error.field)
            raise InvalidMessageError(str(error), wrong) from None
        self._check(request, field)
        return request

    def ask(
        self,
        prompt: str | Sequence[Message] | Request | None,
        options: Options,
        *,
        stream_id: str | None = None,
        progress: bool = True,
    ) -> Observable[Chunk]:
        """A cold stream: pooled, timed, metered, with `Progress` every 10 tokens, and listed in
        `registry` under `stream_id` while it lives, where it can be paused and stopped.

        Args:
            prompt: a text, messages, or a request that `request` has made.
            options: which model, and how it is asked; of a `Request` only the model is looked at.
            stream_id: a name of its own if None.
            progress: whether `Progress` is put in.

        Raises:
            BadRequestError, ModelNotFoundError: as `request` and `find` say.
            PoolFullError: too many streams live.
            DrainingError: the server is being shut down.
        """
        if self.registry.refusing:
            raise DrainingError("the server is being shut down, and takes no new streams")
        live = len(self.registry.active)
        if live >= self.limits.streams:
            raise PoolFullError(f"{live} streams live already: try again later")
        model = self.find(options.model)
        request = prompt if isinstance(prompt, Request) else self.request(prompt, options)
        stream = model.stream(request)
        return stream.pipe(*self._operators(model, options.model, request, stream_id, progress))

    def _operators(
        self,
        model: Model,
        name: str | None,
        request: Request,
        stream_id: str | None,
        progress: bool,
    ) -> list[_Operator]:
        settings = self.settings
        operators: list[_Operator] = [
            ops.timeouts(settings.first_token, settings.between_tokens, self.limits.stream_seconds),
            ops.limit_concurrency(self._pools[model.info.provider in _LOCAL]),
        ]
        if self.metrics is not None:
            operators.append(
                ops.meter(self.metrics, model=name or self.default, provider=model.info.provider)
            )
        if progress:
            operators.append(ops.progress(max_tokens=request.max_tokens))
        operators.append(ops.track(self.registry, stream_id))
        return operators

    def _check(self, request: Request, field: str) -> None:
        limits = self.limits
        if len(request.messages) > limits.messages:
            raise TooLargeError(
                f"{len(request.messages)} messages are more than {limits.messages}", "messages"
            )
        length = sum(len(message.text) for message in request.messages)
        if length > limits.prompt_characters:
            raise TooLargeError(
                f"a prompt of {length} characters is longer than {limits.prompt_characters}", field
            )
        if request.max_tokens is not None and request.max_tokens > limits.max_tokens:
            raise TooLargeError(
                f"max_tokens is {limits.max_tokens} at most, not {request.max_tokens}", "maxTokens"
            )


def _camel_case(name: str | None) -> str | None:
    """The name of an option, as it is on the wire."""
    if name is None:
        return None
    head, *tail = name.split("_")
    return head + "".join(map(str.capitalize, tail))
