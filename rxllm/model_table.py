"""The table of models: what they can do, and what they cost.

`rxllm/models/models.toml` is the bundled table; the file named in the environment variable
`RXLLM_MODELS` is read over it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from datetime import date
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from rxllm.chunks import Usage
from rxllm.errors import BadRequestError
from rxllm.wire_names import WireName

__all__ = [
    "FREE_PROVIDERS",
    "VARIABLE",
    "ModelFacts",
    "ModelTable",
    "Price",
    "as_model_table",
    "model_table",
    "read_model_table",
]

_BUNDLED: Final = Path(__file__).with_name("models") / "models.toml"
VARIABLE: Final = "RXLLM_MODELS"
"""The environment variable that names a file to read over the bundled table."""
FREE_PROVIDERS: Final = ("tiny", "llama", "onnx", "scripted", "replay", "apology")
"""Whose answers cost nothing: models that run on this machine, and the apology of a router."""
_SNAPSHOT: Final = re.compile(r"(?:[-@]\d{4}-?\d{2}-?\d{2}|-preview-\d{2}-\d{4}|-\d{3})$")
_VENDORS: Final = {"google": "gemini", "x-ai": "xai", "mistralai": "mistral"}
"""OpenRouter's names of providers, where they differ."""

_Dollars = Annotated[float, msgspec.Meta(ge=0)]
_Tokens = Annotated[int, msgspec.Meta(ge=1)]


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """USD per million tokens.

    Args:
        input: tokens read.
        output: tokens written, including reasoning.
        cached: tokens read from the provider's cache; `None` if they cost as much as others.
        cache_write: tokens written to that cache; `None` if they cost as much as others.
    """

    input: _Dollars
    output: _Dollars
    cached: _Dollars | None = None
    cache_write: _Dollars | None = None

    def of(self, usage: Usage) -> float:
        """Return the cost of `usage`, in USD. Tokens from and to the cache are part of the input.

        >>> Price(2.0, 10.0, cached=0.2, cache_write=2.5).of(
        ...     Usage(1_000_000, 100_000, cached_tokens=500_000, cache_write_tokens=100_000)
        ... )
        2.15
        """
        cached = min(usage.cached_tokens or 0, usage.input_tokens)
        written = min(usage.cache_write_tokens or 0, usage.input_tokens - cached)
        dollars = (usage.input_tokens - cached - written) * self.input
        dollars += cached * (self.input if self.cached is None else self.cached)
        dollars += written * (self.input if self.cache_write is None else self.cache_write)
        return (dollars + usage.output_tokens * self.output) / 1e6


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known about a model; `None` if it isn't known.

    Args:
        context_length: tokens of prompt and answer.
        max_output_tokens: tokens of an answer.
        price: what it costs.
        tools: it calls tools.
        images: it reads images.
        reasoning: it thinks before it answers.
        prefill: it continues a last assistant message.
        sampling: it takes `temperature`, `top_p` and `top_k`.
        json_schema: it takes a JSON Schema as `response_format`.
        api: the API to use, if it isn't the provider's usual one.
    """

    context_length: _Tokens | None = None
    max_output_tokens: _Tokens | None = None
    price: Price | None = None
    tools: bool | None = None
    images: bool | None = None
    reasoning: bool | None = None
    prefill: bool | None = None
    sampling: bool | None = None
    json_schema: bool | None = None
    api: WireName | None = None


class ModelTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is known about models, by name.

    Args:
        updated: when it was last checked, if known.
        models: the facts by `provider/model`; `*`, `?` and `[...]` as in file names.
        sources: where they come from.
    """

    updated: date | None = None
    models: dict[str, ModelFacts] = {}
    sources: tuple[str, ...] = ()

    def facts_of(self, model: str) -> ModelFacts:
        """Return what is known about a model.

        A dated snapshot (`openai/gpt-4o-2024-08-06`) is like its model. If several names match, an
        exact one counts first, then that of the model of a snapshot, then patterns, from the top;
        each field is that of the first one that has it. A model behind OpenRouter, or in a
        deployment of Azure that has its name, is like the model itself.

        >>> table = ModelTable(
        ...     date(2026, 1, 1), {"a/b": ModelFacts(tools=True), "a/*": ModelFacts(images=False)}
        ... )
        >>> facts = table.facts_of("a/b-2025-12-31")
        >>> facts.tools, facts.images, facts.prefill
        (True, False, None)
        """
        undated = _SNAPSHOT.sub("", model)
        named = [name for name in dict.fromkeys((model, undated)) if name in self.models]
        matching = [
            name
            for name in self.models
            if name not in named and (fnmatchcase(model, name) or fnmatchcase(undated, name))
        ]
        found = [self.models[name] for name in (*named, *matching)]
        if (behind := _behind(model)) is not None:
            facts = self.facts_of(behind)
            is_azure = model.startswith("azure/")
            found.append(facts if is_azure else msgspec.structs.replace(facts, api=None))
        return _merged(found)

    def price_of(self, model: str, provider: str | None = None) -> Price | None:
        """Return the price of a model, or `None` if it isn't known; see `facts_of`.

        A model without a price is free if `provider` is one of `FREE_PROVIDERS`.
        """
        price = self.facts_of(model).price
        return Price(0.0, 0.0) if price is None and provider in FREE_PROVIDERS else price

    def over(self, base: ModelTable) -> ModelTable:
        """Return a table that has the facts of this one, and where there are none, of `base`."""
        return _Layered(self.updated, self.models, self.sources, base=base)


def _behind(model: str) -> str | None:
    """Return the name of a model at its own provider, if `model` is its name at another one.

    >>> _behind("openrouter/anthropic/claude-sonnet-4.5:beta"), _behind("azure/gpt-5")
    ('anthropic/claude-sonnet-4-5', 'openai/gpt-5')
    """
    provider, _, name = model.partition("/")
    if provider == "azure":
        return f"openai/{name}"
    vendor, _, name = name.partition("/")
    if provider != "openrouter" or not name:
        return None
    name = name.partition(":")[0]
    name = name.replace(".", "-") if vendor == "anthropic" else name
    return f"{_VENDORS.get(vendor, vendor)}/{name}"


class _Layered(ModelTable, frozen=True, kw_only=True):
    base: ModelTable

    def facts_of(self, model: str) -> ModelFacts:
        return _merged([super().facts_of(model), self.base.facts_of(model)])


def _merged(layers: Sequence[ModelFacts]) -> ModelFacts:
    """Return each field of the first layer that has it."""
    known: dict[str, Any] = {}
    for facts in layers:
        for field in facts.__struct_fields__:
            if (value := getattr(facts, field)) is not None:
                known.setdefault(field, value)
    return ModelFacts(**known)


def read_model_table(path: Path | str | None = None) -> ModelTable:
    """Read a table from a file.

    Args:
        path: a TOML or JSON file in the format of the bundled one, or `None` for the bundled one.

    Raises:
        OSError: the file can't be read.
        ValueError: the file isn't a valid table.
    """
    path = _BUNDLED if path is None else Path(path).expanduser()
    decode = msgspec.json.decode if path.suffix == ".json" else msgspec.toml.decode
    try:
        return decode(path.read_bytes(), type=ModelTable)
    except msgspec.DecodeError as error:
        raise ValueError(f"{path} is not a valid table of models: {error}") from error


def as_model_table(prices: ModelTable | Path | str | None) -> ModelTable:
    """Return a table that is given as such, as the path of a file, or as `None` for `model_table`.

    Raises:
        OSError: the file can't be read.
        ValueError: it isn't a valid table, or (a `BadRequestError`) that of `RXLLM_MODELS` isn't.
    """
    if prices is None:
        return model_table()
    return prices if isinstance(prices, ModelTable) else read_model_table(prices)


def model_table() -> ModelTable:
    """Return the bundled table, with the file that `RXLLM_MODELS` names over it.

    Files are read once.

    Raises:
        BadRequestError: the file can't be read, or isn't a valid table.
    """
    return _table(os.environ.get(VARIABLE, "").strip() or None)


@cache
def _table(path: str | None) -> ModelTable:
    bundled = read_model_table()
    if path is None:
        return bundled
    try:
        return read_model_table(path).over(bundled)
    except (OSError, ValueError) as error:
        raise BadRequestError(f"the file named by {VARIABLE} can't be used: {error}") from error
