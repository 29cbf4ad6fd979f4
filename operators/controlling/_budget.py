"""`budget`: end a stream when its budget is spent."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import overload

from reactivex import Observable, abc
from reactivex.disposable import Disposable, SingleAssignmentDisposable

from rxllm.arguments import check_int
from rxllm.chunks import Chunk, End, Token, Usage
from rxllm.errors import UnsupportedError
from rxllm.model_table import ModelTable, as_model_table
from rxllm.operators.controlling._shared_budget import Budget
from rxllm.operators.controlling._stream_costs import StreamCosts
from rxllm.stream import Stream

__all__ = ["budget"]


@overload
def budget(
    usd: float | None = None,
    tokens: int | None = None,
    *,
    prices: ModelTable | Path | str | None = None,
    input_tokens: int = 0,
) -> Callable[[Observable[Chunk]], Stream[Chunk]]: ...
@overload
def budget(
    usd: Budget, /, *, prices: ModelTable | Path | str | None = None, input_tokens: int = 0
) -> Callable[[Observable[Chunk]], Stream[Chunk]]: ...
def budget(
    usd: float | Budget | None = None,
    tokens: int | None = None,
    *,
    prices: ModelTable | Path | str | None = None,
    input_tokens: int = 0,
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """End the stream once it has spent its dollars or its tokens.

    ::

        S-a-b-c-d-E|
        [ budget(tokens=3) ]
        S-a-b-(c,U,E,|)           U: Usage(0, 3, estimated=True)   E: End("limit")

    The budget is that of one subscription, with all answers, sources, retries and nested runs in
    it, or a `Budget` that many streams share. The chunk that spends the rest of it is passed on,
    upstream is disposed, and each source that hasn't ended gets a `Usage`, if there is anything
    that its last one didn't say, and an `End("limit")`. A run ends before its tools are called:
    `End("limit")` replaces the `End(more=True)`. An answer that is complete keeps its own `End`. A
    tool call that is incomplete stays so. A stream that shares a `Budget` ends at its next chunk
    after others have spent it. Of a spent one it asks nothing: it is just `End("limit")`.

    What counts, in tokens read and written, and in dollars at the prices of each model:

    - the prompt, as soon as a `Usage` has its tokens: a remote model counts or estimates them with
      its `Start`; a local one, which is free, counts them at its end;
    - the answer as it arrives: the tokens that text and reasoning complete (see `Token.tokens`),
      and one for each four characters of a tool call;
    - each `Usage` in place of the estimate of its answer. A cost that it has is taken as it is;
    - answers that were abandoned for a retry, a fallback or a restart: put this behind them, and
      before `cache`, whose answers cost nothing. What a stream doesn't show, such as the losers of
      a `race`, isn't counted.

    - Completion, error: passed on.
    - Restart: passed on; what was spent stays spent.
    - Disposal: upstream is disposed; nothing is held, and what was spent stays spent.
    - Demand: passes through; the end doesn't wait for it.

    Args:
        usd: dollars, above 0, or `None` for no limit; or a `Budget`, in place of `usd` and
            `tokens`.
        tokens: tokens read and written, 1 or more, or `None` for no limit.
        prices: a table of models, or the path of one; see `price`.
        input_tokens: the tokens of the prompt of each answer, until a `Usage` has them, 0 or more.

    Raises:
        TypeError: `usd` is not a number, or `tokens` or `input_tokens` not an integer.
        ValueError: a number is out of range, neither `usd` nor `tokens` is given, or `tokens` is
            given with a `Budget`; or see `price`.
        OSError: the file of prices can't be read.
        UnsupportedError: into `on_error` at the `Start`: the budget is in dollars, and the price of
            the model isn't known. Models of `tiny`, `llama` and `onnx` are free.

    >>> from rxllm.testing import Marbles
    >>> marbles = Marbles()
    >>> for time, event in marbles.run(marbles.cold("a-b-c-d-E|").pipe(budget(tokens=2))):
    ...     print(time, getattr(event, "text", event))
    0.0 a
    2.0 b
    2.0 Usage(input_tokens=0, output_tokens=2, ..., estimated=True, source=None)
    2.0 End(finish_reason='limit', ...)
    2.0 |
    """
    input_tokens = check_int("input_tokens", input_tokens, "tokens of the prompt", minimum=0)
    shared = usd if isinstance(usd, Budget) else None
    if shared is not None and tokens is not None:
        raise ValueError("tokens must be given to the Budget: Budget(usd=..., tokens=...)")
    dollars = None if isinstance(usd, Budget) else usd
    if shared is None:
        Budget(dollars, tokens)  # checks them
    price_of = cache(as_model_table(prices).price_of)

    def operator(source: Observable[Chunk]) -> Stream[Chunk]:
        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            spending = Budget(dollars, tokens) if shared is None else shared
            if spending.is_spent:
                observer.on_next(End("limit"))
                observer.on_completed()
                return Disposable()
            costs = StreamCosts(spending, price_of, input_tokens)
            subscription = _Subscription(observer, costs)
            subscription.upstream.disposable = source.subscribe(
                subscription.make_on_next(),
                observer.on_error,
                observer.on_completed,
                scheduler=scheduler,
            )
            return subscription.upstream

        return Stream(subscribe, "budget", of_chunks=True)

    return operator


class _Subscription:
    """One subscription."""

    def __init__(self, observer: abc.ObserverBase[Chunk], costs: StreamCosts) -> None:
        self._observer = observer
        self._costs = costs
        self._is_over = False
        self.upstream = SingleAssignmentDisposable()

    def make_on_next(self) -> Callable[[Chunk], None]:
        """Return `on_next` as a closure, so that a token costs few attribute lookups."""
        observer, answers = self._observer, self._costs.answers
        spend = self._costs.budget.spend

        def on_next(chunk: Chunk) -> None:
            if (
                type(chunk) is not Token
                or chunk.state is not None
                or (answer := answers.get(chunk.source)) is None
            ):
                self._on_other(chunk)
            else:
                tokens = chunk.tokens
                answer.written += tokens
                if spend(tokens, tokens * answer.per_token):
                    self._send_last(chunk)
                else:
                    observer.on_next(chunk)

        return on_next

    def _on_other(self, chunk: Chunk) -> None:
        if self._is_over:
            return
        try:
            self._costs.count(chunk)
        except UnsupportedError as error:
            self._end()
            self._observer.on_error(error)
            return
        if self._costs.budget.is_spent:
            self._send_last(chunk)
        else:
            self._observer.on_next(chunk)

    def _send_last(self, chunk: Chunk) -> None:
        """Send a chunk at which the budget is spent, and the end, unless that comes anyway."""
        is_final_count = type(chunk) is Usage and not chunk.estimated  # its `End` is next
        running = self._costs.running
        if is_final_count or (self._costs.answers and not running):
            self._observer.on_next(chunk)
            return
        self._end()
        if not (type(chunk) is End and chunk.more):
            self._observer.on_next(chunk)
        for source, answer in reversed(running.items()):  # a nested run before that around it
            if (usage := answer.estimate) is not None:
                self._observer.on_next(usage)
            self._observer.on_next(End("limit", source=source))
        if not running:
            self._observer.on_next(End("limit"))
        self._observer.on_completed()

    def _end(self) -> None:
        self._is_over = True
        self._costs.answers.clear()
        self.upstream.dispose()
