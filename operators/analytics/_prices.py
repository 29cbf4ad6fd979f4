"""Prices of models, read from a file; none are hard-coded."""

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
    """USD per million tokens. If `cached` is `None`, cached input costs as much as other input."""

    input: _Dollars
    output: _Dollars
    cached: _Dollars | None = None

    def of(self, usage: Usage) -> float:
        """Return the cost of `usage`, in USD."""
        cached = min(usage.cached_tokens or 0, usage.input_tokens)
        cached_price = self.input if self.cached is None else self.cached
        dollars = (usage.input_tokens - cached) * self.input + cached * cached_price
        return (dollars + usage.output_tokens * self.output) / 1e6


class Prices(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of prices and the date on which it was updated."""

    updated: date
    models: dict[str, Price]

    def price_of(self, model: str) -> Price | None:
        """Return the price of a model by its id, or `None` if it is unknown.

        A dated snapshot (`openai/gpt-4o-2024-08-06`) costs the same as its model, unless it has
        its own entry.

        >>> prices = Prices(date(2025, 1, 1), {"openai/gpt": Price(1.0, 2.0)})
        >>> prices.price_of("openai/gpt-2024-08-06")
        Price(input=1.0, output=2.0, cached=None)
        >>> prices.price_of("openai/gpt-mini") is None
        True
        """
        return self.models.get(model) or self.models.get(_SNAPSHOT.sub("", model))


def read_prices(path: Path | None = None) -> Prices:
    """Read a price table from a file.

    Args:
        path: a TOML or JSON file in the format of the bundled one, or `None` to read the bundled
            one.

    Raises:
        OSError: the file can't be read.
        ValueError: the file is not a valid price table.
    """
    path = path or _BUNDLED
    decode = msgspec.json.decode if path.suffix == ".json" else msgspec.toml.decode
    try:
        return decode(path.read_bytes(), type=Prices)
    except msgspec.DecodeError as error:
        raise ValueError(f"{path} is not a valid price table: {error}") from error
