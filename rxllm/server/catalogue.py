"""The models of a server, and the conversion of requests to streams."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import msgspec
from reactivex import Observable

from rxllm import errors
from rxllm import operators as ops
from rxllm.agents import Approvals
from rxllm.chunks import Chunk
from rxllm.errors import BadRequestError, PoolFullError
from rxllm.messages import Message
from rxllm.models.registry import LOCAL_PROVIDERS
from rxllm.models.registry import model as model_by_name
from rxllm.models.remote.providers import PROVIDERS
from rxllm.requests import Model, ModelInfo, Request, as_request, load_all
from rxllm.server.access_log import AccessLog
from rxllm.server.agents import asked_by, begin_run, runs_tools
from rxllm.server.asked import AskedStream
from rxllm.server.budgets import Budgets
from rxllm.server.client import CLIENT
from rxllm.server.continuation import continued, progress_after
from rxllm.server.keys import Key
from rxllm.server.limits import Limits
from rxllm.server.messages import Options
from rxllm.server.queues import Queues
from rxllm.server.request_size import check_size
from rxllm.settings import Settings
from rxllm.token_count import estimated_tokens
from rxllm.web.failures import DrainingError, InvalidMessageError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

__all__ = ["Catalogue", "ModelNotFoundError", "models_by_name"]

_NOT_BUNDLED: Final = tuple([name for name in LOCAL_PROVIDERS if name != "tiny"])
_Operator = Callable[[Observable[Chunk]], Observable[Chunk]]


class ModelNotFoundError(errors.ModelNotFoundError):
    """The server has no model with the name in `field`."""

    field: Final = "model"


def models_by_name(
    names: Sequence[str | Model] | None,
    *,
    isolate: bool | None = None,
    connect: float | None = None,
) -> dict[str, Model]:
    """Return the models of a server.

    Args:
        names: names for `rxllm.model`, or models, which are served by the `id` of their info;
            `None` for the bundled model on each installed engine. If clients could request any
            name, they could make the server read its files and use its keys.
        isolate: whether local models run in processes of their own; `None` for those whose files
            aren't bundled.
        connect: seconds to connect, of remote models.

    Raises:
        BadRequestError: a name is invalid or given twice, or `names` is a string.
    """
    if isinstance(names, str):
        raise BadRequestError(
            f"models must be a list of names or a mapping of names to models, got {names!r}"
        )
    if names is None:
        names = ["tiny", *(["tiny/llama"] if find_spec("llama_cpp") is not None else [])]
    isolated = LOCAL_PROVIDERS if isolate else () if isolate is False else _NOT_BUNDLED
    models: dict[str, Model] = {}
    for each in names:
        made = _by_name(each, isolated, connect) if isinstance(each, str) else each
        name = each if isinstance(each, str) else made.info.id
        if name in models and models[name] is not made and not isinstance(each, str):
            raise BadRequestError(f"two models have the name {name!r}: give a mapping of names")
        models[name] = made
    return models


def _by_name(name: str, isolated: Container[str], connect: float | None) -> Model:
    provider = name.partition("/")[0]
    options: dict[str, Any] = {"isolate": True} if provider in isolated else {}
    if provider in PROVIDERS and connect is not None:
        options["connect_timeout"] = connect
    return model_by_name(name, **options)


class Catalogue:
    """The models that clients may use. Created by `create_app`, stored as `request.app[MODELS]`.

    Args:
        models: models by their public names.
        default: the model for requests that don't name one; the first one if `None`.
        limits: the limits for clients.
        settings: time limits, attempts and slots of each stream.
        registry: lists every live stream.
        metrics: registry of the stream metrics, or `None` for no metrics.
        log: the access log, or `None` for none.
        budgets: what each key may spend; `None` for no limits.

    Attributes:
        may_be_resumed: whether other servers may continue streams, by the requests in the store.

    Raises:
        BadRequestError: there are no models.
        ModelNotFoundError: `default` isn't one of the models.
    """

    def __init__(
        self,
        models: Mapping[str, Model],
        default: str | None,
        limits: Limits,
        settings: Settings,
        registry: ops.StreamRegistry,
        metrics: CollectorRegistry | None = None,
        log: AccessLog | None = None,
        budgets: Budgets | None = None,
    ) -> None:
        if not models:
            raise BadRequestError("models must not be empty")
        self._models = dict(models)
        self.default: str = default if default is not None else next(iter(self._models))
        self.limits = limits
        self.settings = settings
        self.registry = registry
        self.metrics = metrics
        self._log = log
        self._budgets = Budgets() if budgets is None else budgets
        self._owners: dict[str, str] = {}  # of live streams, and some that have ended
        self.may_be_resumed: bool = True
        self._queues = Queues(settings, metrics)
        self._limiters = {  # providers have limits for each model
            id(model): ops.Limiter(wait=settings.queue_wait)
            for model in map(asked_by, self._models.values())
            if model.info.provider in PROVIDERS
        }
        self.find(self.default)

    @property
    def models(self) -> tuple[Model, ...]:
        """The models."""
        return tuple(self._models.values())

    @property
    def listed(self) -> tuple[ModelInfo, ...]:
        """The info of each model, under its public name."""
        return tuple(
            msgspec.structs.replace(model.info, id=name) for name, model in self._models.items()
        )

    async def load(self) -> None:
        """Load all local models.

        Raises:
            ModelLoadError: one of them can't be loaded.
        """
        await load_all(self._models.values())

    def find(self, name: str | None = None) -> Model:
        """Return the model with this name; the default one if `None`.

        Raises:
            ModelNotFoundError: the server has no model with this name.
        """
        found = self._models.get(self.default if name is None else name)
        if found is None:
            known = ", ".join(self._models)
            raise ModelNotFoundError(f"there is no model {name!r} here: choose from {known}")
        return found

    def runs_tools(self, name: str | None = None) -> bool:
        """Return whether a model answers its own calls, as an agent does; `False` if unknown."""
        return runs_tools(self._models.get(self.default if name is None else name))

    def request(
        self, prompt: str | Sequence[Message] | None, options: Options, **more: Any
    ) -> Request:
        """Validate a client's input and return it as a request.

        Raises:
            InvalidMessageError: the prompt or an option is invalid.
            TooLargeError: the input exceeds the limits.
        """
        if prompt is None or (isinstance(prompt, str) and not prompt.strip()):
            raise InvalidMessageError("`prompt` or `messages` is required", "prompt")
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
        check_size(request, self._limits_of_client(), field)
        return request

    def _limits_of_client(self) -> Limits:
        key = CLIENT.get().key
        if key is None or key.max_tokens is None:
            return self.limits
        most = min(key.max_tokens, self.limits.max_tokens)
        return msgspec.structs.replace(self.limits, max_tokens=most)

    def ask(
        self,
        prompt: str | Sequence[Message] | Request | None,
        options: Options,
        *,
        approvals: Approvals | None = None,
        stream_id: str | None = None,
        progress: bool = True,
    ) -> Observable[Chunk]:
        """Return a cold stream: pooled, within the budget of its key and the provider's rate
        limits, with time limits, retries, metrics and `Progress`: its place in the queue, then
        every 10 tokens. While live, it is listed in `registry` under `stream_id`, where it can be
        paused and stopped.

        Args:
            prompt: a text, messages, or a request from `request`.
            options: the model and its options; with a `Request`, only the model is used.
            approvals: decisions about calls that wait, by their tokens; for an agent.
            stream_id: generated if `None`.
            progress: whether to emit `Progress`.

        Raises:
            BadRequestError, ModelNotFoundError: see `request` and `find`; or the model isn't an
                agent, and there are approvals.
            PoolFullError: there are too many live streams.
            BudgetSpentError: the key of the client has spent its budget.
            DrainingError: the server is shutting down.
        """
        if self.registry.refusing:
            raise DrainingError("the server is shutting down and accepts no new streams")
        live = len(self.registry.active)
        if live >= self.limits.streams:
            raise PoolFullError(f"the server already has {live} live streams: try again later")
        client = CLIENT.get()
        if client.key is not None:
            self._check_key(client.key)
            self._budgets.check(client.key)
        model = self.find(options.model)
        request = prompt if isinstance(prompt, Request) else self.request(prompt, options)
        stream_id = uuid4().hex if stream_id is None else stream_id
        if approvals is None:
            stream = model.stream(request)
        else:
            stream = begin_run(model, request, approvals)
        self._note_owner(stream_id, client.owner)
        return stream.pipe(*self._operators(model, options.model, request, stream_id, progress))

    def asked(
        self,
        request: Request,
        options: Options,
        *,
        approvals: Approvals | None = None,
        progress: bool = True,
        **more: Any,
    ) -> AskedStream:
        """Return the record with which another server may read a stream of `ask`, or continue it.

        It can be continued if its answer is text alone: a call of a tool may have been made, and a
        JSON value can't be continued in its middle. `more` are further fields of the record.
        """
        is_text = not request.tools and request.response_format is None and approvals is None
        is_text = is_text and not self.runs_tools(options.model)
        return AskedStream(
            request=request if is_text and self.may_be_resumed else None,
            model=options.model,
            progress=progress,
            client=CLIENT.get().owner,
            **more,
        )

    def resume(
        self, stream_id: str, asked: AskedStream, said: Sequence[Chunk]
    ) -> Observable[Chunk]:
        """Return the rest of a stream of another server, after the chunks that it has had.

        It runs for the client that began it, whose key and budget were checked then.

        Raises:
            BadRequestError: it can't be continued.
            ModelNotFoundError: this server doesn't have the model.
        """
        if asked.request is None:
            raise BadRequestError("its answer isn't text alone")
        model, request = self.find(asked.model), asked.request
        self._note_owner(stream_id, asked.client)
        operators = self._operators(model, asked.model, request, stream_id, asked.progress, said)
        return continued(model, request, said).pipe(*operators)

    def is_agent(self, name: str | None = None) -> bool:
        """Return whether the model with this name runs tools, and takes approvals."""
        return runs_tools(self.find(name))

    def owner_of(self, stream_id: str) -> str | None:
        """Return the owner of a live stream."""
        return self._owners.get(stream_id)

    def _note_owner(self, stream_id: str, owner: str | None) -> None:
        if owner is None:
            return
        if len(self._owners) > 2 * len(self.registry.active) + 100:
            live = {each.id for each in self.registry.active}
            self._owners = {key: name for key, name in self._owners.items() if key in live}
        self._owners[stream_id] = owner

    def _check_key(self, key: Key) -> None:
        """Raise a `PoolFullError` if the key has as many live streams as it may have."""
        if key.streams is None:
            return
        live = sum(self._owners.get(each.id) == key.name for each in self.registry.active)
        if live >= key.streams:
            raise PoolFullError(f"this key already has {live} live streams: try again later")

    def _operators(
        self,
        model: Model,
        name: str | None,
        request: Request,
        stream_id: str,
        progress: bool,
        said: Sequence[Chunk] = (),
    ) -> list[_Operator]:
        settings = self.settings
        operators: list[_Operator] = [
            ops.timeouts(settings.first_token, settings.between_tokens),
            ops.retry_with_backoff(**settings.retry),
            ops.timeouts(total=min(settings.total, self.limits.stream_seconds)),
        ]
        budget = self._budgets.of(CLIENT.get().key)
        if budget is not None:
            prompt = estimated_tokens(request).tokens
            operators.append(ops.budget(budget, input_tokens=prompt))
        asked = asked_by(model)
        limiter = self._limiters.get(id(asked))
        if limiter is not None:
            operators.append(ops.limit(limiter))
        is_local = asked.info.provider in LOCAL_PROVIDERS
        line = None
        if self._log is not None:
            line = self._log.line(stream_id, name or self.default, request)
        operators.append(
            self._queues.operator(
                "local" if is_local else "remote",
                progress=progress,
                on_admit=None if line is None else line.on_admit,
            )
        )
        if line is not None:
            operators.append(line.operator())
        if self.metrics is not None:
            operators.append(
                ops.meter(self.metrics, model=name or self.default, provider=model.info.provider)
            )
        if progress:
            most = request.max_tokens
            operators.append(progress_after(said, most) if said else ops.progress(max_tokens=most))
        if settings.piece_size is not None:
            operators.append(ops.rechunk(settings.piece_size))
        if settings.batch_size > 1:
            operators.append(ops.batch(settings.batch_size, settings.batch_seconds))
        operators.append(ops.track(self.registry, stream_id))
        return operators


def _camel_case(name: str | None) -> str | None:
    """Return the wire name of an option."""
    if name is None:
        return None
    head, *tail = name.split("_")
    return head + "".join(map(str.capitalize, tail))
