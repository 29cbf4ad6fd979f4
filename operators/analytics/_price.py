"""`price`: the cost of an answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
from reactivex import Observable, abc

from rxllm.chunks import Chunk, Start, Usage
from rxllm.model_table import ModelTable, as_model_table
from rxllm.stream import Stream

__all__ = ["price"]


def price(
    prices: ModelTable | Path | str | None = None,
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Add the cost in USD to `Usage`.

    ::

        S-a-b-U-----------E|
        [ price() ]
        S-a-b-U(cost)-----E|

    The model is that of the last `Start` of the same source. A model without a price gets no cost
    (`None`, never 0), and a cost reported by the provider is kept.

    - Completion, error: passed on.
    - Restart: passed on; the next `Start` names the model.
    - Disposal: upstream is disposed; nothing is held.
    - Demand: passes through.

    Args:
        prices: a table of models, the path of one in TOML or JSON, or `None` for the bundled table
            with that of the environment variable `RXLLM_MODELS` over it. Its `updated` field shows
            its age. Read when `price` is called.

    Raises:
        OSError: the file can't be read.
        ValueError: the file isn't a valid table of models.
        BadRequestError: (a `ValueError`) nor is that of `RXLLM_MODELS`.

    >>> from datetime import date
    >>> from rxllm.model_table import ModelFacts, Price
    >>> from rxllm.testing import Marbles
    >>> marbles = Marbles()
    >>> chunks = {"S": Start("1", "openai/gpt"), "U": Usage(1_000_000, 500_000)}
    >>> facts = {"openai/gpt": ModelFacts(price=Price(input=1.0, output=2.0))}
    >>> table = ModelTable(date(2025, 1, 1), facts)
    >>> events = marbles.run(marbles.cold("S-a-U-E|", lookup=chunks).pipe(price(table)))
    >>> [chunk.cost for _, chunk in events if isinstance(chunk, Usage)]
    [2.0]
    """
    table = as_model_table(prices)

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
