"""Prices of models, read from a file: none is built into code."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Annotated, Final

import msgspec

from rxllm.chunks import Usage

__all__ = ["Price", "Prices", "read_prices"]

_Dollars = Annotated[float, msgspec.Meta(ge=0)]

_BUNDLED: Final = Path(__file__).with_name("prices.toml")
_SNAPSHOT: Final = re.compile(r"-\d{4}-?\d{2}-?\d{2}$")


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """USD per million tokens. `cached` None: what was cached costs as much as other input."""

    input: _Dollars
    output: _Dollars
    cached: _Dollars | None = None

    def of(self, usage: Usage) -> float:
        """What `usage` costs, in USD."""
        cached = min(usage.cached_tokens or 0, usage.input_tokens)
        cached_price = self.input if self.cached is None else self.cached
        dollars = (usage.input_tokens - cached) * self.input + cached * cached_price
        return (dollars + usage.output_tokens * self.output) / 1e6


class Prices(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of prices, and the day as of which they are meant."""

    updated: date
    models: dict[str, Price]

    def price_of(self, model: str) -> Price | None:
        """The price of a model, by its id.

        A dated snapshot (`openai/gpt-4o-2024-08-06`) costs what its model does, unless it has a
        row of its own.

        >>> prices = Prices(date(2025, 1, 1), {"openai/gpt": Price(1.0, 2.0)})
        >>> prices.price_of("openai/gpt-2024-08-06")
        Price(input=1.0, output=2.0, cached=None)
        >>> prices.price_of("openai/gpt-mini") is None
        True
        """
        return self.models.get(model) or self.models.get(_SNAPSHOT.sub("", model))


def read_prices(path: Path | None = None) -> Prices:
    """Read a table of prices.

    Args:
        path: a file in TOML or JSON, in the form of the bundled one, which is read if it is None.

    Raises:
        OSError: the file can't be read.
        ValueError: it is no table of prices.
    """
    path = path or _BUNDLED
    decode = msgspec.json.decode if path.suffix == ".json" else msgspec.toml.decode
    try:
        return decode(path.read_bytes(), type=Prices)
    except msgspec.DecodeError as error:
        raise ValueError(f"{path} is no table of prices: {error}") from error
