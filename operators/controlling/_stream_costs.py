"""What the answers of a stream have cost so far: their `Usage`, and an estimate of the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from msgspec.structs import replace

from rxllm.chunks import (
    Batch,
    Chunk,
    End,
    Reasoning,
    Start,
    Token,
    ToolCall,
    Usage,
    is_restart,
    is_stream_failed,
    tokens_of,
)
from rxllm.errors import UnsupportedError
from rxllm.model_table import Price
from rxllm.operators.controlling._shared_budget import PICODOLLARS, Budget
from rxllm.restart import matching_sources
from rxllm.token_count import CHARACTERS_PER_TOKEN

__all__ = ["AnswerCost", "StreamCosts"]

_PriceOf: TypeAlias = Callable[[str, str], Price | None]

_NO_START: Final = Start("", "")


class AnswerCost:
    """The tokens and the cost of one answer.

    Args:
        price: that of its model; `None` if it isn't known.
        usage: what is known at its start.

    Attributes:
        price: see above.
        per_token: what a token written costs, in picodollars.
        written: tokens since the last `Usage`; added by `budget`.
        is_open: whether the answer, or another one of its run, is still to come.
    """

    __slots__ = ("_calls", "_is_counted", "_usage", "is_open", "per_token", "price", "written")

    def __init__(self, price: Price | None, usage: Usage) -> None:
        self.price = price
        self.per_token = 0 if price is None else round(price.output * PICODOLLARS / 1e6)
        self.written = 0
        self.is_open = True
        self._usage = usage
        self._is_counted = not usage.input_tokens
        self._calls: dict[tuple[int, str], int] = {}

    @property
    def spent(self) -> tuple[int, int]:
        """The tokens read and written, and the picodollars that they cost."""
        usage, cost = self._usage, self._usage.cost
        if cost is None:
            cost = 0.0 if self.price is None else self.price.of(usage)
        dollars = round(cost * PICODOLLARS) + self.written * self.per_token
        return usage.total_tokens + self.written, dollars

    @property
    def estimate(self) -> Usage | None:
        """The usage with what was written since; `None` if there is nothing to add to the last."""
        if self._is_counted and not self.written:
            return None
        cost = None if self.price is None else self.spent[1] / PICODOLLARS
        written = self._usage.output_tokens + self.written
        return replace(self._usage, output_tokens=written, cost=cost, estimated=True)

    def count(self, usage: Usage) -> None:
        """Replace the estimate by what the model has counted, or estimated itself."""
        self._usage = usage
        self._is_counted = True
        self.written = 0

    def growth_of(self, call: ToolCall) -> int:
        """Return the tokens by which a tool call has grown, estimated from its characters."""
        key = call.index, call.id
        before = self._calls.get(key, 0)
        now = (len(call.name) + len(call.arguments)) // CHARACTERS_PER_TOKEN
        self._calls[key] = max(before, now)
        return self._calls[key] - before


class StreamCosts:
    """What the answers of one stream spend of a budget.

    Args:
        budget: the budget.
        price_of: returns the price of a model, given its name and its provider, if it is known.
        input_tokens: tokens of the prompt of each answer, until its `Usage` has them.

    Attributes:
        answers: the last answer of each source. A closed one may still get its `Usage`.
    """

    def __init__(self, budget: Budget, price_of: _PriceOf, input_tokens: int) -> None:
        self.budget = budget
        self.answers: dict[str | None, AnswerCost] = {}
        self._price_of = price_of
        self._input_tokens = input_tokens

    @property
    def running(self) -> dict[str | None, AnswerCost]:
        """The answers of the sources that haven't ended."""
        return {source: answer for source, answer in self.answers.items() if answer.is_open}

    def count(self, chunk: Chunk) -> None:
        """Spend what a chunk has cost.

        Raises:
            UnsupportedError: the budget is in dollars, and the price of the model isn't known.
        """
        source = chunk.source
        if type(chunk) is Start:
            self._begin(chunk, source)
        elif type(chunk) is Token or type(chunk) is Reasoning or type(chunk) is Batch:
            self._write(tokens_of(chunk), source)
        elif type(chunk) is ToolCall:
            self._write(self._answer(source).growth_of(chunk), source)
        elif type(chunk) is Usage:
            answer = self._answer(source)
            tokens, picodollars = answer.spent
            answer.count(chunk)
            now = answer.spent
            self.budget.spend(now[0] - tokens, now[1] - picodollars)
        elif is_restart(chunk):
            for each in matching_sources(self.answers, source):
                self._restart(each, is_open=each == source)
        elif source in self.answers and (type(chunk) is End or is_stream_failed(chunk)):
            self.answers[source].is_open = type(chunk) is End and chunk.more

    def _begin(self, start: Start, source: str | None) -> AnswerCost:
        price = self._price_of(start.model, start.provider or start.model)
        if price is None and self.budget.usd is not None:
            name = repr(start.model) if start.model else "an answer without a Start"
            raise UnsupportedError(
                f"the price of {name} isn't known, so a budget in USD can't count it: pass prices= "
                "with a table that has it, or name the file of one in RXLLM_MODELS"
            )
        usage = Usage(self._input_tokens, estimated=True, source=source)
        answer = self.answers[source] = AnswerCost(price, usage)
        self.budget.spend(*answer.spent)
        return answer

    def _answer(self, source: str | None) -> AnswerCost:
        answer = self.answers.get(source)
        return self._begin(_NO_START, source) if answer is None else answer

    def _write(self, tokens: int, source: str | None) -> None:
        answer = self._answer(source)
        answer.written += tokens
        self.budget.spend(tokens, tokens * answer.per_token)

    def _restart(self, source: str | None, *, is_open: bool) -> None:
        """Leave what an answer has spent, and count the one that follows apart."""
        before = self.answers[source]
        answer = self.answers[source] = AnswerCost(before.price, Usage(source=source))
        answer.is_open = before.is_open or is_open
