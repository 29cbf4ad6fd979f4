"""A provider as data: its address, its environment variables and what it can do."""

from __future__ import annotations

import os
from typing import Final
from urllib.parse import urlsplit

import msgspec

from rxllm.errors import AuthenticationError, BadRequestError
from rxllm.model_table import ModelFacts
from rxllm.wire_names import WireName

__all__ = ["Endpoint", "Provider"]

_PATHS: Final = ("/chat/completions", "/responses", "/messages")
"""Paths of requests, which some people give as a base URL."""

_ABILITIES: Final = ("tools", "images", "reasoning", "prefill", "sampling", "json_schema")


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """A provider and how it differs from others, or one of its models (`for_model`).

    Args:
        name: the part of a model's name before the slash.
        wire: the API that it implements.
        base_url: its base URL, or `None` if the user must give one.
        variable: the prefix of its environment variables `..._API_KEY` and `..._BASE_URL`.
        needs_key: requests require a key.
        key_header: the header of the key; with `Bearer` if it is `Authorization`.
        headers: sent with every request.
        prefix: the path of its API, added to a base URL without a path.
        needs_prefix: the path of its API is always added, unless the base URL ends with it.
        length_field: its name for `max_tokens`.
        option_names: its names for the options that not all providers have. Options that aren't
            listed are unsupported.
        logprobs: it reports token probabilities.
        tools, images, files, reasoning, prefill, sampling, json_schema: what it can do; see
            `rxllm.model_table.ModelFacts`.
        cache_key: its name for the key of requests that share a cached prompt, if it has one.
        body: fields that are sent with every request; `None` to leave out a usual one.
        prefill_fields: those that are sent if a last assistant message is to be continued.
    """

    name: str
    wire: WireName = "openai_chat"
    base_url: str | None = None
    variable: str
    needs_key: bool = True
    key_header: str = "Authorization"
    headers: dict[str, str] = {}
    prefix: str = "/v1"
    needs_prefix: bool = False
    length_field: str = "max_tokens"
    option_names: dict[str, str] = {}
    logprobs: bool = False
    tools: bool = True
    images: bool = True
    files: bool = True
    reasoning: bool = True
    prefill: bool = True
    sampling: bool = True
    json_schema: bool = True
    cache_key: str | None = None
    body: dict[str, object] = {}
    prefill_fields: dict[str, object] = {}

    @property
    def capabilities(self) -> tuple[str, ...]:
        """What it can do, as in `ModelInfo`."""
        return ("text", *[name for name in _ABILITIES if getattr(self, name)])

    @property
    def needs(self) -> str:
        """What the user must provide, or where the server is expected."""
        if not self.needs_key and self.base_url is not None:
            return f"at {self.base_url}, or {self.variable}_BASE_URL"
        needed = [
            *([f"{self.variable}_API_KEY"] if self.needs_key else []),
            *([f"{self.variable}_BASE_URL"] if self.base_url is None else []),
        ]
        return f"with {' and '.join(needed)}, or options"

    def for_model(self, facts: ModelFacts) -> Provider:
        """Return this provider with what is known about one of its models."""
        known = {name: getattr(facts, name) for name in _ABILITIES}
        known = {name: value for name, value in known.items() if value is not None}
        return msgspec.structs.replace(self, **known)

    def headers_with(self, key: str | None) -> dict[str, str]:
        """Return the headers of a request with this key."""
        if key is None:
            return self.headers
        value = f"Bearer {key}" if self.key_header == "Authorization" else key
        return {**self.headers, self.key_header: value}


def _is_base_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        rest = (parts.username, parts.query, parts.fragment)
        return (
            parts.scheme in {"http", "https"}
            and bool(parts.hostname)
            and parts.port != 0
            and not any(rest)
        )
    except ValueError:  # the host or the port
        return False


def _with_prefix(url: str, provider: Provider) -> str:
    """Return the base URL with the path of the API, if it lacks it or a part of it."""
    for path in _PATHS:
        url = url.removesuffix(path)
    prefix = provider.prefix
    if provider.needs_prefix and not urlsplit(url).path.endswith(prefix):
        url = url.removesuffix("/v1")  # of another API on the same server
    path = urlsplit(url).path
    if prefix.startswith(f"{path}/"):
        return url.removesuffix(path) + prefix
    return url + prefix if provider.needs_prefix and not path.endswith(prefix) else url


class Endpoint:
    """The base URL and the key to use. The key never appears in a `repr`.

    Args:
        provider: the provider.
        api_key: the key, or `None` to read it from the environment when it is needed.
        base_url: the base URL, with or without the path of the API or of its requests, or `None` to
            use the environment's or the provider's own.

    Raises:
        BadRequestError: there is no base URL, or it isn't a valid HTTP URL.
    """

    __slots__ = ("_key", "base_url", "provider")

    def __init__(self, provider: Provider, api_key: str | None, base_url: str | None) -> None:
        variable = f"{provider.variable}_BASE_URL"
        url = base_url or os.environ.get(variable, "").strip() or provider.base_url
        if url is None:
            raise BadRequestError(
                f"{provider.name} models require a base URL: pass base_url or set {variable}"
            )
        url = url.strip().rstrip("/")
        if not _is_base_url(url):
            raise BadRequestError(
                "base_url must be like https://host/v1, with no user, query or fragment"
            )
        self.provider: Provider = provider
        self.base_url: str = _with_prefix(url, provider)
        self._key = api_key

    def __repr__(self) -> str:
        return f"<Endpoint {self.provider.name}>"

    def key(self) -> str | None:
        """Return the key, stripped of white space.

        Raises:
            AuthenticationError: the provider requires a key, and none is set.
        """
        variable = f"{self.provider.variable}_API_KEY"
        key = (self._key or os.environ.get(variable) or "").strip()
        if key:
            return key
        if self.provider.needs_key:
            raise AuthenticationError(
                f"{self.provider.name} models require a key: pass api_key or set {variable}"
            )
        return None
