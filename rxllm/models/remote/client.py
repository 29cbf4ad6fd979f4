"""Requests to one provider: its address, its key, and errors that hide it."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from rxllm.errors import BadRequestError, RxLLMError
from rxllm.models.remote.connection import Connection, connect
from rxllm.models.remote.failures import error_of_response
from rxllm.models.remote.provider import Endpoint, Provider

__all__ = ["Client"]

_SHORTEST_SECRET: Final = 3
"""Characters. Values up to this length are flags or numbers, and would match everywhere."""

_HEADERS: Final = {"Accept": "text/event-stream", "Content-Type": "application/json"}


class Client:
    """Sends requests to a provider, as part of the running trace if there is one.

    Args:
        provider: the provider.
        api_key: the key, or `None` to read it from the environment at each request.
        base_url: replaces the provider's base URL; `None` to use the environment's, if set.
        connect_timeout: seconds to connect, above 0.
        headers: sent with each request. They may hold secrets, so they are never shown.
        api_version: the version of Azure's API, sent as a query.

    Raises:
        BadRequestError: an argument is invalid.
    """

    def __init__(
        self,
        provider: Provider,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        connect_timeout: float = 10.0,
        headers: Mapping[str, str] | None = None,
        api_version: str | None = None,
    ) -> None:
        if not 0 < connect_timeout < float("inf"):
            raise BadRequestError(f"connect_timeout must be above 0 seconds, got {connect_timeout}")
        self._provider = provider
        self._endpoint = Endpoint(provider, api_key, base_url)
        self._query = {} if api_version is None else {"api-version": api_version}
        self._connect_timeout = connect_timeout
        self._headers = dict(headers or {})

    @asynccontextmanager
    async def request(
        self, path: str, body: dict[str, Any] | None = None
    ) -> AsyncIterator[Connection]:
        """Send a request and yield its response.

        Args:
            path: appended to the base URL.
            body: to be posted as JSON, or `None` for a GET.

        Raises:
            BadRequestError: the body can't be encoded.
            RxLLMError: no response has arrived, or one with another status than 2xx. An error that
                is raised while the response is read gets its secrets hidden, too.
        """
        key = self._endpoint.key()
        data = None if body is None else _encoded(body)
        headers = _HEADERS | _trace_headers() | self._provider.headers_with(key) | self._headers
        name, url = self._provider.name, self._endpoint.base_url + path
        if self._query:
            url += f"{'&' if '?' in path else '?'}{urlencode(self._query)}"
        try:
            async with connect(name, url, headers, data, self._connect_timeout) as connection:
                status = connection.status
                if not 200 <= status < 300:
                    given = await connection.read_error()
                    raise error_of_response(name, status, connection.headers, given)
                yield connection
        except RxLLMError as error:
            _hide((key or "", *self._headers.values()), error)
            raise


def _trace_headers() -> dict[str, str]:
    """Return the `traceparent` of the running span, if OpenTelemetry is in use.

    Source: https://www.w3.org/TR/trace-context/.
    """
    if "opentelemetry" not in sys.modules:
        return {}
    from opentelemetry.propagate import inject

    headers: dict[str, str] = {}
    inject(headers)
    return headers


def _encoded(body: dict[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(body)
    except (TypeError, UnicodeEncodeError, RecursionError) as error:
        raise BadRequestError(f"the request can't be encoded as JSON: {error}") from error


def _hide(secrets: Iterable[str], error: RxLLMError) -> None:
    """Redact the key and the user's own headers where the provider's message repeats them."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) > _SHORTEST_SECRET:
            error.args = (str(error).replace(secret, "[key]"),)
            error.body = error.body.replace(secret, "[key]")
