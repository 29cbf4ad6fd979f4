"""What the keys of a server may spend, in dollars and tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rxllm import operators as ops
from rxllm.errors import BadRequestError, BudgetSpentError
from rxllm.model_table import model_table
from rxllm.requests import Model, ModelInfo
from rxllm.server.agents import asked_by
from rxllm.server.keys import Key

__all__ = ["Budgets"]


class Budgets:
    """The budgets of the keys that have one. Each lasts as long as the process.

    Args:
        keys: the keys of the server.
    """

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self._budgets = {key.name: key.budget.make() for key in keys if key.budget is not None}

    def of(self, key: Key | None) -> ops.Budget | None:
        """Return the budget of a key, or `None` if it has none."""
        return None if key is None else self._budgets.get(key.name)

    def check(self, key: Key) -> None:
        """Check that a key may begin a stream.

        Raises:
            BudgetSpentError: its budget is spent.
        """
        budget = self.of(key)
        if budget is not None and budget.is_spent:
            raise BudgetSpentError(
                f"this key has spent its budget of {_words(budget)}: use another key, or ask who "
                "runs the server for a higher one"
            )

    def check_prices(self, models: Mapping[str, Model]) -> None:
        """Check that dollars can be counted, if a budget has any.

        Raises:
            BadRequestError: the price of a model isn't known.
        """
        keys = [name for name, budget in self._budgets.items() if budget.usd is not None]
        if not keys:
            return
        table = model_table()
        for info in [info for model in models.values() for info in _infos(model)]:
            if table.price_of(info.id, info.provider) is None:
                raise BadRequestError(
                    f"the budget of the key {keys[0]!r} is in USD, but the price of {info.id!r} "
                    "isn't known: name a table that has it with --models FILE, or in RXLLM_MODELS"
                )


def _words(budget: ops.Budget) -> str:
    dollars = [] if budget.usd is None else [f"{budget.usd:g} USD"]
    return " and ".join(dollars + ([] if budget.tokens is None else [f"{budget.tokens} tokens"]))


def _infos(model: Model) -> list[ModelInfo]:
    """Return the models that may answer: of a router within a router, and of agents that are
    tools, that isn't known."""
    model = asked_by(model)
    candidates = getattr(model, "candidates", None)  # of a router, or of its wrapper
    if candidates is None:
        return [model.info]
    infos = [candidate.info for candidate in candidates]
    return [info for info in infos if info.provider != model.info.provider]
