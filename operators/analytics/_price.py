"""`price`: the cost of an answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
from reactivex import Observable, abc

from rxllm.chunks import Chunk, Start, Usage
from rxllm.operators.analytics._prices import Prices, read_prices
from rxllm.stream import Stream

__all__ = ["price"]


def price(
    prices: Prices | Path | str | None = None,
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Add the cost in USD to `Usage`.

    ::

        S-a-b-U-----------E|
        [ price() ]
        S-a-b-U(cost)-----E|

    The model is that of the last `Start` of the same source. A model without a price gets no cost
    (`None`, never 0), and a cost reported by the provider is kept. The price of cache writes is
    not known; they count as input.

    - Completion, error: passed on.
    - Restart: passed on; the next `Start` names the model.
    - Disposal: upstream is disposed; nothing is held.
    - Demand: passes through.

    Args:
        prices: a price table, the path of one in TOML or JSON, or `None` to use the bundled table,
            whose `updated` field shows its age. Read when `price` is called.

    Raises:
        OSError: the file can't be read.
        ValueError: the file is not a valid price table.

    >>> from datetime import date
    >>> from rxllm.operators.analytics import Price
    >>> from rxllm.testing import Marbles
    >>> marbles = Marbles()
    >>> chunks = {"S": Start("1", "openai/gpt"), "U": Usage(1_000_000, 500_000)}
    >>> table = Prices(date(2025, 1, 1), {"openai/gpt": Price(input=1.0, output=2.0)})
    >>> events = marbles.run(marbles.cold("S-a-U-E|", lookup=chunks).pipe(price(table)))
    >>> [chunk.cost for _, chunk in events if isinstance(chunk, Usage)]
    [2.0]
    """
    if isinstance(prices, Prices):
        table = prices
    else:
        table = read_prices(None if prices is None else Path(prices))

    def operator(source: Observable[Chunk]) -> Stream[Chunk]:
        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            models: dict[str | None, str] = {}

            def on_next(chunk: Chunk) -> None:
                if type(chunk) is Usage and chunk.cost is None:
                    price = table.price_of(models.get(chunk.source, ""))
                    if price is not None:
                        chunk = msgspec.structs.replace(chunk, cost=price.of(chunk))
                elif type(chunk) is Start:
                    models[chunk.source] = chunk.model
                observer.on_next(chunk)

            return source.subscribe(
                on_next, observer.on_error, observer.on_completed, scheduler=scheduler
            )

        return Stream(subscribe, "price", of_chunks=True)

    return operator
