"""A remote model: a provider's API behind the `Model` protocol."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, Unpack
from urllib.parse import quote

import msgspec
from reactivex import abc

from rxllm.chunks import Chunk, ErrorInfo, Notice, Start
from rxllm.errors import (
    BadRequestError,
    MalformedStreamError,
    ModelNotFoundError,
    ProviderError,
    RxLLMError,
)
from rxllm.model_table import model_table
from rxllm.models.remote.anthropic import AnthropicWire
from rxllm.models.remote.body_reader import BodyReader
from rxllm.models.remote.client import Client
from rxllm.models.remote.coercion import as_int, as_object
from rxllm.models.remote.gemini import GeminiWire
from rxllm.models.remote.listing import info_of
from rxllm.models.remote.ollama import OllamaWire
from rxllm.models.remote.openai import OpenAIWire
from rxllm.models.remote.provider import Provider
from rxllm.models.remote.rate_limits import rate_limits_in
from rxllm.models.remote.responses import ResponsesWire
from rxllm.models.remote.sent_schema import value_reader
from rxllm.models.remote.sse import EVENT_STREAM
from rxllm.models.remote.usage_so_far import UsageSoFar
from rxllm.models.remote.whole_answers import first_data
from rxllm.models.remote.wire import Wire
from rxllm.pump import pump
from rxllm.requests import (
    SAMPLING_OPTIONS,
    ModelInfo,
    Prompt,
    Request,
    RequestOptions,
    as_request,
    as_request_to,
)
from rxllm.stream import Stream
from rxllm.token_count import TokenCount, estimated_tokens
from rxllm.valve import Valve
from rxllm.wire_names import WireName

__all__ = ["RemoteModel"]

_DATED: Final = re.compile(r"\d{4}-\d\d-\d\d")
_NO_SUCH_PATH: Final = (404, 405, 501)

_WIRES: Final[dict[WireName, Wire]] = {
    "openai_chat": OpenAIWire(),
    "openai_responses": ResponsesWire(),
    "anthropic": AnthropicWire(),
    "gemini": GeminiWire(),
    "ollama": OllamaWire(),
}

_NOT_STREAMED: Final = Notice(
    "degraded", error=ErrorInfo("NotStreamed", "the server sent the answer as a whole")
)


class RemoteModel:
    """A model behind HTTP, made by `rxllm.model("openai/...")` and the like.

    - Nothing is sent before the subscription. Each subscription sends its own request, over
      connections that are pooled per provider and event loop and closed with the loop (or earlier,
      by `rxllm.models.remote.connection.close_connections`).
    - Completion: after `End`, once the end marker of the API has arrived.
    - Error: mapped to `rxllm.errors`, after everything received before it. A malformed event is
      skipped with a `"malformed"` notice; the third in a row is an error.
    - Disposal: closes the connection at the next turn of the event loop, even before the response
      has arrived, so that the provider stops generating.
    - Usage: estimates come with the `Start` and as the answer grows, until the provider's own count
      replaces them; so a stream that is left early, or fails, has a usage, too.
    - Demand: while the subscriber's valve is closed, the socket isn't read, and TCP backpressure
      stops the provider. Data already read is held, at most 0.5 MiB of the body.
    - Comments and pings make no chunks, so they don't reset time limits.

    Args:
        provider: the provider.
        name: the provider's name for the model.
        api_key: the key, or `None` to read it from the environment (`OPENAI_API_KEY`, ...) at each
            subscription.
        base_url: replaces the provider's base URL; `None` to use the environment's, if set.
        connect_timeout: seconds to connect, above 0.
        headers: sent with each request. They may hold secrets, so they are never shown.
        strict: the first malformed event is an error.
        wire: the API to use, or `None` for that of the table of models, or the provider's:
            `"openai_responses"` instead of `"openai_chat"`.
        api_version: the version of Azure's API, sent as a query.

    Raises:
        BadRequestError: the name is missing, or an option is invalid.
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
        wire: WireName | None = None,
        api_version: str | None = None,
    ) -> None:
        if not name:
            raise BadRequestError(f"the model name is missing: {provider.name}/<model>")
        facts = model_table().facts_of(f"{provider.name}/{name}")
        self._name = name
        self._provider = provider.for_model(facts)
        self._wire = _wire_of(provider, wire or facts.api or provider.wire)
        if provider.name == "azure" and _DATED.match(api_version or ""):
            path = f"/openai/deployments/{quote(name)}"  # of the versions before `v1`
            provider = msgspec.structs.replace(provider, prefix=path, needs_prefix=True)
        self._client = Client(
            provider,
            api_key=api_key,
            base_url=base_url,
            connect_timeout=connect_timeout,
            headers=headers,
            api_version=api_version,
        )
        self._strict = strict
        self._info = info_of(provider, name)

    def __repr__(self) -> str:
        return f"<RemoteModel {self._info.id}>"

    @property
    def info(self) -> ModelInfo:
        """Static information about this model; sends no request."""
        return self._info

    async def load(self) -> None:
        """Do nothing: the provider has loaded it."""

    def stream(self, prompt: Prompt, **options: Unpack[RequestOptions]) -> Stream[Chunk]:
        """Return a cold Observable of the answer; see `rxllm.requests.Model.stream`.

        Raises:
            BadRequestError: the prompt or an option is invalid. An option that this model doesn't
                support is an `UnsupportedError` through `on_error` instead.
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
        """Return the number of tokens of a prompt.

        Exact if the provider counts them, with a request at no cost (Anthropic, Gemini, OpenAI's
        Responses API), else estimated from the length of the texts.

        Raises:
            BadRequestError: the prompt or an option is invalid or unsupported.
            RxLLMError: the request failed, as that of a stream may.
        """
        request = as_request(prompt, **options)
        prompt_alone = msgspec.structs.replace(request, **dict.fromkeys(SAMPLING_OPTIONS))
        counting = self._wire.count_request(prompt_alone, self._name, self._provider)
        if counting is None:
            return estimated_tokens(request)
        try:
            async with self._client.request(*counting) as connection:
                body = await connection.read_all()
        except (ModelNotFoundError, ProviderError) as error:
            if error.status in _NO_SUCH_PATH:  # a server with this API that doesn't count
                return estimated_tokens(request)
            raise
        try:
            fields = as_object(json.loads(body))
        except ValueError:
            fields = {}
        counted = as_int(fields.get("input_tokens", fields.get("totalTokens")))
        if counted is None:
            raise MalformedStreamError(f"{self._provider.name} sent no count of tokens")
        return TokenCount(counted)

    async def _answer(self, request: Request, valve: Valve) -> AsyncIterator[list[Chunk]]:
        wire = self._wire
        body = wire.body(request, self._name, self._provider)
        async with self._client.request(wire.path(self._name), body) as connection:
            reader = wire.reader(
                request, self._name, self._provider, connection.headers, self._strict
            )
            body_reader = BodyReader(reader, lines=wire.media_type != EVENT_STREAM)
            start = _start_of(request, connection.headers)
            usage = UsageSoFar(request)
            value = value_reader(request)
            if not valve.is_open:
                await valve.wait_open()
            data, whole = await first_data(connection, wire, self._provider.name)
            if whole is not None:
                yield [_NOT_STREAMED]
                data = whole
            while not reader.is_done:
                if data is None and not valve.is_open:
                    await valve.wait_open()
                chunks: list[Chunk] = []
                failure: RxLLMError | None
                try:
                    read = await connection.read() if data is None else data
                except RxLLMError as error:
                    failure = error
                else:
                    chunks, failure = body_reader.read(read)
                if start and chunks and _complete_start(chunks, start):
                    start = {}
                usage.add_to(chunks, fails=failure is not None)
                if value is not None:
                    chunks = value.chunks(chunks)
                if chunks:
                    yield chunks
                if failure is not None:
                    raise failure
                data = b"" if whole is not None else None
            await connection.finish()


def _start_of(request: Request, headers: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of the start that no wire has in its events."""
    fields = {"rate_limits": rate_limits_in(headers), "max_tokens": request.max_tokens}
    return {name: value for name, value in fields.items() if value is not None}


def _complete_start(chunks: list[Chunk], fields: dict[str, Any]) -> bool:
    """Add the fields to the start, and return whether it is among the chunks."""
    place = next((at for at, chunk in enumerate(chunks) if type(chunk) is Start), None)
    if place is None:
        return False
    chunks[place] = msgspec.structs.replace(chunks[place], **fields)
    return True


def _wire_of(provider: Provider, name: WireName) -> Wire:
    """Return the wire; a provider of chat completions may offer responses, too."""
    usual = provider.wire
    names = (usual, "openai_responses") if usual == "openai_chat" else (usual,)
    if name not in names:
        words = " or ".join(names)
        raise BadRequestError(f"wire must be {words} for {provider.name}, got {name!r}")
    return _WIRES[name]
