"""A remote model: a provider's API behind the protocol that all models share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Final, Unpack

import msgspec
from reactivex import abc

from rxllm.chunks import Chunk
from rxllm.errors import BadRequestError, RxLLMError
from rxllm.models.remote.anthropic import AnthropicWire
from rxllm.models.remote.body_reader import BodyReader
from rxllm.models.remote.connection import Connection, connect
from rxllm.models.remote.failures import error_in_place_of_stream, error_of_response
from rxllm.models.remote.openai import OpenAIWire
from rxllm.models.remote.provider import CAPABILITIES, Endpoint, Provider
from rxllm.models.remote.wire import Wire
from rxllm.pump import pump
from rxllm.requests import ModelInfo, Prompt, Request, RequestOptions, as_request
from rxllm.stream import Stream
from rxllm.valve import Valve

__all__ = ["RemoteModel"]

_WIRES: Final[dict[str, Wire]] = {"openai": OpenAIWire(), "anthropic": AnthropicWire()}

_SHORTEST_SECRET: Final = 3
"""Characters: what is no longer is a flag or a number, and would be found everywhere."""

_HEADERS: Final = {"Accept": "text/event-stream", "Content-Type": "application/json"}


class RemoteModel:
    """A model behind HTTP. Made by `rxllm.model("openai/...")` and its like.

    - Nothing is sent before the subscription. Each subscription is a request of its own, over
      connections that are pooled for each provider and event loop, and closed with the loop (or
      before, by `rxllm.models.remote.connection.close_connections`).
    - Completion: after `End`, once the end marker of the API has come.
    - Error: mapped to `rxllm.errors`; what came before it leaves first. An event that can't be
      read is skipped with a notice `"malformed"`; the third in a row is an error.
    - Disposal: closes the connection at the next turn of the event loop, before the response has
      come as well, so that the provider stops.
    - Demand: while the subscriber's valve is closed the socket is not read, so that TCP stops the
      provider. What has been read by then is held: half a MiB of the body at most.
    - Comments and pings are no chunks, so that they feed no time limit.

    Args:
        provider: whose model.
        name: as the provider calls it.
        api_key: the key; None: that of the environment (`OPENAI_API_KEY`, ...), read at each
            subscription.
        base_url: in place of the provider's own; None: that of the environment, if any.
        connect_timeout: seconds to connect, above 0.
        headers: sent with each request. They may hold secrets, and are not shown.
        strict: the first event that can't be read is an error.

    Raises:
        BadRequestError: there is no name, or an option can't be right.
    """

    def __init__(
        self,
        provider: Provider,
        name: str,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        connect_timeout: float = 10.0,
        headers: Mapping[str, str] | None = None,
        strict: bool = False,
    ) -> None:
        if not name:
            raise BadRequestError(f"the name lacks the model: {provider.name}/<model>")
        if not 0 < connect_timeout < float("inf"):
            raise BadRequestError(f"connect_timeout is above 0 seconds, not {connect_timeout}")
        self._name = name
        self._provider = provider
        self._endpoint = Endpoint(provider, api_key, base_url)
        self._wire = _WIRES[provider.wire]
        self._connect_timeout = connect_timeout
        self._headers = dict(headers or {})
        self._strict = strict
        self._info = ModelInfo(f"{provider.name}/{name}", provider.name, capabilities=CAPABILITIES)

    def __repr__(self) -> str:
        return f"<RemoteModel {self._info.id}>"

    @property
    def info(self) -> ModelInfo:
        """What is known of this model, without asking anybody."""
        return self._info

    def stream(self, prompt: Prompt, **options: Unpack[RequestOptions]) -> Stream[Chunk]:
        """A cold Observable of the answer; see `rxllm.requests.Model.stream`.

        Raises:
            BadRequestError: the prompt or an option can't be right. What this provider can't do
                is one too, into `on_error`.
        """
        request = as_request(prompt, **options)

        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            return pump(
                observer, scheduler, lambda valve: self._answer(request, valve), batched=True
            )

        return Stream(subscribe, self._info.id, of_chunks=True)

    async def _answer(self, request: Request, valve: Valve) -> AsyncIterator[list[Chunk]]:
        key = self._endpoint.key()
        body = self._body(request)
        headers = _HEADERS | self._wire.headers(key) | self._headers
        url = self._endpoint.base_url + self._wire.path
        provider, seconds = self._provider, self._connect_timeout
        try:
            async with connect(provider.name, url, headers, body, seconds) as connection:
                await self._check(connection)
                reader = self._wire.reader(self._name, provider, connection.headers, self._strict)
                body_reader = BodyReader(reader)
                while not reader.is_done:
                    if not valve.is_open:
                        await valve.wait_open()
                    chunks, failure = body_reader.read(await connection.read())
                    if chunks:
                        yield chunks
                    if failure is not None:
                        raise failure
                await connection.finish()
        except RxLLMError as error:
            _hide((key or "", *self._headers.values()), error)
            raise

    def _body(self, request: Request) -> bytes:
        try:
            return msgspec.json.encode(self._wire.body(request, self._name, self._provider))
        except (TypeError, UnicodeEncodeError, RecursionError) as error:
            raise BadRequestError(f"the request can't be written as JSON: {error}") from error

    async def _check(self, connection: Connection) -> None:
        """Raise what a response tells that is no stream."""
        name, status, headers = self._provider.name, connection.status, connection.headers
        if status != 200:
            raise error_of_response(name, status, headers, await connection.read_error())
        kind = connection.content_type
        if kind not in {"text/event-stream", ""}:
            raise error_in_place_of_stream(name, kind, headers, await connection.read_error())


def _hide(secrets: Iterable[str], error: RxLLMError) -> None:
    """Take out of the error what the provider says of the key and of the user's own headers."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) > _SHORTEST_SECRET:
            error.args = (str(error).replace(secret, "[key]"),)
            error.body = error.body.replace(secret, "[key]")
