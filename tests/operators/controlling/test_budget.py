"""`budget`: a stream ends between two tokens once its dollars or tokens are spent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from reactivex import Observable
from reactivex import operators as rx_ops

import rxllm
from rxllm import operators as ops
from rxllm.chunks import (
    Batch,
    Chunk,
    End,
    Notice,
    ProviderState,
    Reasoning,
    Start,
    Token,
    ToolCall,
    ToolResult,
    Usage,
    is_restart,
    text_of,
    tokens_of,
)
from rxllm.errors import ConnectionFailedError, UnsupportedError
from rxllm.model_table import FREE_PROVIDERS, ModelFacts, ModelTable, Price, as_model_table
from rxllm.models.scripted import ScriptedModel
from rxllm.operators import Budget
from rxllm.router import Router
from rxllm.router.strategies import LOCAL
from rxllm.testing import COMPLETED, Marbles, no_leaks
from rxllm.testing.fault_server import FaultServer, Reply
from rxllm.testing.provider_streams import anthropic_events, openai_events

LIMIT = End("limit")
TABLE = ModelTable(
    models={
        "model": ModelFacts(price=Price(input=1e6, output=2e6, cached=5e5)),
        "dear": ModelFacts(price=Price(input=1e6, output=1e7)),
        "dime": ModelFacts(price=Price(input=0.0, output=1e5)),
    }
)
"""Dollars for each token, and not for a million."""

RUN: dict[str, Any] = {
    "C": ToolCall("call-1", "f", "{}", complete=True),
    "U": Usage(1, 2),
    "M": End("tool_calls", more=True),
    "T": ToolResult("call-1", "f", 1),
    "V": Usage(5, 3),
}
NESTED: dict[str, Any] = {
    "s": Start("2", "dear", source="call-1"),
    "x": Token("x", source="call-1"),
    "u": Usage(1, 1, source="call-1"),
    "e": End("stop", source="call-1"),
}


def written(output: int, read: int = 0, **more: Any) -> Usage:
    """The usage that a cut answer gets."""
    return Usage(read, output, estimated=True, **more)


def sent(events: Sequence[tuple[float, Any]]) -> list[Any]:
    return [event for _, event in events]


def run(
    marbles: Marbles,
    diagram: str,
    usd: float | None = None,
    tokens: int | None = None,
    prices: ModelTable = TABLE,
    **lookup: Any,
) -> Any:
    source = marbles.cold(diagram, lookup=lookup)
    table = ModelTable() if usd is None else prices
    events = marbles.run(source.pipe(ops.budget(usd, tokens, prices=table)))
    assert marbles.timers == []
    return events


def test_the_stream_ends_right_after_the_token_that_spends_the_rest(marbles: Marbles) -> None:
    source = marbles.cold("S-a-b-c-d-E|")
    assert marbles.run(source.pipe(ops.budget(tokens=3))) == [
        *marbles.expect("S-a-b-c"),
        (6.0, written(3)),
        (6.0, LIMIT),
        (6.0, COMPLETED),
    ]
    assert source.subscriptions == [(0.0, 6.0)]


def test_dollars_are_counted_exactly(marbles: Marbles) -> None:
    ten = "S" + "-a" * 12 + "|"
    events = run(marbles, ten, 1.0, S=Start("1", "dime"))
    assert sent(events)[-3:] == [written(10, cost=1.0), LIMIT, COMPLETED]
    assert len(events) == 1 + 10 + 3


def test_of_two_limits_the_first_that_is_reached_ends_the_stream(marbles: Marbles) -> None:
    for usd, tokens, count in ((4, 9, 2), (9, 2, 2), (5, 9, 3)):
        events = run(Marbles(), "S-a-b-c-d-E|", usd, tokens)
        assert sent(events)[-3:] == [written(count, cost=2.0 * count), LIMIT, COMPLETED]


def test_what_is_within_the_budget_passes_unchanged(marbles: Marbles) -> None:
    lookup = {"U": Usage(3, 3), "N": Notice("retry"), "T": Reasoning("hm")}
    for diagram in ("S-a-b-U-E|", "|", "-", "S-a-#", "S-a-R-S-b-E|", "N-S-T-E|"):
        bench, error = Marbles(), RuntimeError("mine")
        source = bench.cold(diagram, lookup=lookup, error=error)
        expected = bench.expect(diagram, lookup=lookup, error=error)
        assert bench.run(source.pipe(ops.budget(100, 100, prices=TABLE))) == expected


def test_an_answer_that_is_complete_keeps_its_end(marbles: Marbles) -> None:
    spent = run(marbles, "S-a-U-E|", None, 5, U=Usage(9, 9))
    assert spent == marbles.expect("S-a-U-E|", lookup={"U": Usage(9, 9)})


def test_the_prompt_counts_as_soon_as_a_usage_has_it(marbles: Marbles) -> None:
    early, last = Usage(4, 0, estimated=True), Usage(4, 3, estimated=True)
    assert sent(run(marbles, "S-U-a-b-c-d|", None, 7, U=early))[-3:] == [last, LIMIT, COMPLETED]
    too_long = Usage(9, 0, estimated=True)
    assert run(Marbles(), "S-U-a-b|", None, 7, U=too_long) == [
        *marbles.expect("S-U", lookup={"U": too_long}), (2.0, LIMIT), (2.0, COMPLETED),
    ]  # fmt: skip


def test_the_prompt_may_be_given_until_a_usage_has_it(marbles: Marbles) -> None:
    operator = ops.budget(tokens=5, input_tokens=3)
    events = marbles.run(marbles.cold("S-a-b-c|").pipe(operator))
    assert sent(events)[-3:] == [written(2, read=3), LIMIT, COMPLETED]
    budget = Budget(tokens=100)
    stream = Marbles().cold("S-a-U-E|", lookup={"U": Usage(7, 1)})
    Marbles().run(stream.pipe(ops.budget(budget, input_tokens=90)))
    marbles.run(marbles.cold("S-a-U-E|", lookup={"U": Usage(7, 1)}).pipe(ops.budget(budget)))
    assert budget.spent_tokens == 8


def test_a_usage_replaces_the_estimate_and_what_follows_is_added_to_it(marbles: Marbles) -> None:
    """Three tokens were two, then two more are written; the last count would have been 4."""
    events = run(marbles, "S-a-b-c-U-d-e-f|", None, 4, U=Usage(0, 2, estimated=True))
    assert sent(events)[-4:] == [Token("e"), written(4), LIMIT, COMPLETED]
    cached = Usage(10, 1, cached_tokens=10, estimated=True)
    events = run(Marbles(), "S-a-b-c-U-d-e-f|", 8, U=cached)  # 5 for the prompt, 2 for the token
    assert sent(events)[-4:] == [Token("d"), _with(cached, 2, 9.0), LIMIT, COMPLETED]


def _with(usage: Usage, output: int, cost: float) -> Usage:
    return Usage(usage.input_tokens, output, usage.cached_tokens, cost=cost, estimated=True)


def test_a_cost_that_a_usage_has_is_taken_as_it_is(marbles: Marbles) -> None:
    events = run(marbles, "S-a-U-b-c|", 4, U=Usage(9, 9, cost=0.5, estimated=True))
    assert sent(events)[-3:] == [written(11, read=9, cost=4.5), LIMIT, COMPLETED]


@pytest.mark.parametrize(
    ("chunk", "tokens"),
    [
        (Token("abc", tokens=4), 4),
        (Token("", state=ProviderState("p", "m", 1)), 0),
        (Reasoning("hm"), 1),
        (Batch((Token("a", tokens=2), Reasoning("b")), "a"), 3),
        (ToolCall("1", "lookup", '{"x": 1}'), 3),
        (ToolResult("1", "lookup", "long" * 99), 0),
        (Notice("malformed"), 0),
    ],
)
def test_what_each_chunk_counts(marbles: Marbles, chunk: Chunk, tokens: int) -> None:
    budget = Budget(tokens=100)
    marbles.run(marbles.cold("S-x-E|", lookup={"x": chunk}).pipe(ops.budget(budget)))
    assert budget.spent_tokens == tokens


def test_a_tool_call_counts_as_it_grows_and_is_not_completed(marbles: Marbles) -> None:
    calls: dict[str, Any] = {
        str(end): ToolCall("1", "find", '{"place": "Oslo"}'[:end]) for end in (4, 8, 12, 16)
    }
    events = run(marbles, "S-4-8-12-16-E|", None, 4, **calls)
    assert sent(events)[-4:] == [calls["12"], written(4), LIMIT, COMPLETED]
    budget = Budget(tokens=100)
    lookup = {**calls, "u": Usage(0, 3, estimated=True)}
    marbles.run(marbles.cold("S-4-8-u-8-12-E|", lookup=lookup).pipe(ops.budget(budget)))
    assert budget.spent_tokens == 3 + 1


def test_a_run_ends_before_its_tools_are_called(marbles: Marbles) -> None:
    assert run(marbles, "S-C-U-M-T-S-b-V-E|", None, 3, **RUN) == [
        *marbles.expect("S-C-U", lookup=RUN), (6.0, LIMIT), (6.0, COMPLETED),
    ]  # fmt: skip


def test_the_answers_of_a_run_are_added_up(marbles: Marbles) -> None:
    events = run(marbles, "S-C-U-M-T-S-a-b-c|", None, 5, **RUN)
    assert sent(events)[-4:] == [Token("b"), written(2), LIMIT, COMPLETED]
    assert run(Marbles(), "S-C-U-M-T-S-b-V-E|", None, 12, **RUN)[-1][1] is COMPLETED


def test_a_nested_run_counts_and_ends_before_the_run_around_it(marbles: Marbles) -> None:
    events = run(marbles, "S-C-U-M-s-x-x-x|", 25, **RUN, **NESTED)  # 5, and 10 for each x
    assert sent(events)[-5:] == [
        NESTED["x"],
        written(2, cost=20.0, source="call-1"),
        End("limit", source="call-1"),
        LIMIT,
        COMPLETED,
    ]


def test_a_run_ends_behind_the_nested_run_that_spends_the_rest(marbles: Marbles) -> None:
    lookup = {**RUN, **NESTED}
    events = run(marbles, "S-C-U-M-s-x-u-e-T-S-b|", None, 5, **lookup)
    assert sent(events)[-4:] == [NESTED["u"], NESTED["e"], LIMIT, COMPLETED]


def test_each_of_two_sources_gets_its_own_end(marbles: Marbles) -> None:
    first = marbles.cold("S-a-b-c-d-E|", source="x")
    second = marbles.cold("-S-a-b-c-d-E|", source="y")
    events = marbles.run(rx.merge(first, second).pipe(ops.budget(tokens=5)))
    assert sent(events)[-6:] == [
        Token("c", source="x"),
        written(2, source="y"),
        End("limit", source="y"),
        written(3, source="x"),
        End("limit", source="x"),
        COMPLETED,
    ]
    assert first.subscriptions == second.subscriptions == [(0.0, 6.0)]


@pytest.mark.parametrize("end", [End("stop", source="x"), Notice("failed", source="x")])
def test_a_source_that_has_ended_gets_no_second_end(marbles: Marbles, end: Chunk) -> None:
    first = marbles.cold("S-a-e|", source="x", lookup={"e": end})
    second = marbles.cold("-S-a-b-c-d-E|", source="y")
    events = marbles.run(rx.merge(first, second).pipe(ops.budget(tokens=4)))
    ends = [each for each in sent(events) if isinstance(each, End)]
    assert ends == [end, End("limit", source="y")] if isinstance(end, End) else ends[1:] == []


def test_attempts_before_a_retry_count(marbles: Marbles) -> None:
    lookup: Any = {"U": Usage(4, 0, estimated=True), "N": Notice("retry", attempt=2)}
    events = run(marbles, "S-U-N-S-U-a-b-c|", None, 10, **lookup)
    assert sent(events)[-3:] == [written(2, read=4), LIMIT, COMPLETED]


def test_a_restarted_answer_counts(marbles: Marbles) -> None:
    events = run(marbles, "S-a-b-R-S-a-b-c|", None, 4)
    assert sent(events)[-4:] == [Token("b"), written(2), LIMIT, COMPLETED]
    budget = Budget(tokens=100)
    marbles.run(marbles.cold("S-a-b-R-a-U-E|", lookup={"U": Usage(1, 1)}).pipe(ops.budget(budget)))
    assert budget.spent_tokens == 2 + 2


def test_a_restart_when_the_budget_is_spent_is_the_last_thing_that_is_passed_on() -> None:
    marbles, budget = Marbles(), Budget(tokens=9)
    marbles.at(3, lambda: budget.spend(9, 0))
    events = marbles.run(marbles.cold("S-a-R-S-b|").pipe(ops.budget(budget)))
    assert sent(events)[-3:] == [Notice("restart"), LIMIT, COMPLETED]


async def test_a_model_that_is_asked_again_and_again_ends_with_the_budget() -> None:
    failing = [*"abc", ConnectionFailedError("lost")]
    model = ScriptedModel(failing, usage=Usage(0, 3))
    retry = ops.retry_with_backoff(99, 0.001, 1.0, after_output="restart")
    result = await model.stream("Hi").pipe(retry, ops.budget(tokens=10))
    assert (result.finish_reason, result.text, len(model.requests)) == ("limit", "a", 4)


def test_streams_share_a_budget(marbles: Marbles) -> None:
    budget = Budget(tokens=5)
    first = marbles.subscribe(marbles.cold("S-a-b-c-d-E|").pipe(ops.budget(budget)))
    second = marbles.subscribe(marbles.cold("-S-a-b-c-d-E|").pipe(ops.budget(budget)))
    marbles.advance_to(20)
    assert [each.chunks[-2:] for each in (first, second)] == [
        [written(3), LIMIT],
        [written(3), LIMIT],  # what was under way when the first one had spent the rest
    ]
    assert [each.events[-1][0] for each in (first, second)] == [6.0, 7.0]
    asked = marbles.cold("S-a|")
    assert marbles.run(asked.pipe(ops.budget(budget))) == [(20.0, LIMIT), (20.0, COMPLETED)]
    assert asked.subscriptions == []


def test_a_stream_that_waits_ends_at_its_next_chunk_of_any_kind(marbles: Marbles) -> None:
    for diagram, kept in (("N---N-S-a|", [0.0, 4.0]), ("S-M---T-S-a|", [0.0, 2.0, 6.0])):
        bench, budget = Marbles(), Budget(tokens=5)
        bench.at(3, partial(budget.spend, 5, 0))
        source = bench.cold(diagram, lookup={**RUN, "N": Notice("retry")})
        events = bench.run(source.pipe(ops.budget(budget)))
        assert [time for time, _ in events] == [*kept, kept[-1], kept[-1]]
        assert sent(events)[-2:] == [LIMIT, COMPLETED]


def test_a_budget_tells_what_is_left(marbles: Marbles) -> None:
    budget = Budget(usd=10, tokens=6)
    assert (budget.remaining_usd, budget.remaining_tokens, budget.is_spent) == (10.0, 6, False)
    lookup = {"U": Usage(2, 2)}
    stream = marbles.cold("S-a-b-c-U-E|", lookup=lookup).pipe(ops.budget(budget, prices=TABLE))
    marbles.run(stream)
    assert (budget.spent_usd, budget.spent_tokens) == (6.0, 4)
    assert (budget.remaining_usd, budget.remaining_tokens) == (4.0, 2)
    assert Budget(usd=1).remaining_tokens is Budget(tokens=1).remaining_usd is None
    marbles.run(stream)
    assert (budget.remaining_usd, budget.remaining_tokens, budget.is_spent) == (0.0, 0, True)


def test_what_was_spent_stays_spent_after_a_failure_and_a_disposal(marbles: Marbles) -> None:
    budget = Budget(tokens=9)
    marbles.run(marbles.cold("S-a-b-#").pipe(ops.budget(budget)))
    source = marbles.cold("S-a-b-c|")
    recording = marbles.subscribe(source.pipe(ops.budget(budget)))
    marbles.advance_to(1003)
    recording.dispose()
    assert source.subscriptions == [(1000.0, 1003.0)]
    assert budget.spent_tokens == 3


def test_a_budget_of_its_own_begins_anew_with_each_subscription(marbles: Marbles) -> None:
    stream = marbles.cold("S-a-b-c|").pipe(ops.budget(tokens=2))
    first, second = marbles.subscribe(stream), marbles.subscribe(stream)
    marbles.advance_to(10)
    assert first.events == second.events
    assert len(first.events) == 6


@pytest.mark.parametrize("start", ["S-", ""])
def test_a_model_without_a_price_is_an_error_if_dollars_are_counted(
    marbles: Marbles, start: str
) -> None:
    source = marbles.cold(f"{start}a-b|", lookup={"S": Start("1", "mine/large")})
    [(_, error)] = marbles.run(source.pipe(ops.budget(usd=1)))
    assert isinstance(error, UnsupportedError)
    name = "'mine/large'" if start else "an answer without a Start"
    assert str(error).startswith(f"the price of {name} isn't known, so a budget in USD can't count")
    assert "pass prices=" in str(error)
    assert source.subscriptions == [(0.0, 0.0)]
    assert len(marbles.run(source.pipe(ops.budget(tokens=9)))) > 1


def test_a_model_without_a_price_is_left_to_a_model_with_one(marbles: Marbles) -> None:
    budget = ops.budget(Budget(usd=9), prices=TABLE)
    mine, known = ScriptedModel("no", name="mine/large"), ScriptedModel("yes", name="model")
    for model in (mine, known):
        model._info = rxllm.ModelInfo(model.info.id, "other")  # or it would be free
    fallback = ops.fallback_to(marbles.cold("S-yes-E|").pipe(budget))
    unknown = marbles.cold("S-no-E|", lookup={"S": Start("1", "mine/large")})
    events = marbles.run(unknown.pipe(budget, fallback))
    assert "".join(map(text_of, sent(events)[:-1])) == "yes"


def test_models_on_this_machine_and_apologies_are_free(marbles: Marbles) -> None:
    assert set(LOCAL) <= set(FREE_PROVIDERS)
    for start in (Start("1", "llama/x.gguf", "llama"), Start("2", "apology")):
        assert run(Marbles(), "S-a-b-E|", 0.01, S=start)[-1] == (7.0, COMPLETED)
    result = rxllm.run(rxllm.model("scripted/Hi there").stream("Hi").pipe(ops.budget(usd=0.01)))
    assert (result.text, result.finish_reason) == ("Hi there", "stop")
    priced = ModelTable(models={"llama/*": ModelFacts(price=Price(0.0, 1e6))})
    events = run(marbles, "S-a-b-c|", 2, prices=priced, S=Start("1", "llama/x.gguf", "llama"))
    assert sent(events)[-2:] == [LIMIT, COMPLETED]


def test_a_fallback_has_the_price_of_its_own_model(marbles: Marbles) -> None:
    lookup: Any = {"S": Start("1", "dear"), "N": Notice("fallback"), "T": Start("2", "model")}
    events = run(marbles, "S-a-N-T-b-c-d|", 14, **lookup)
    assert sent(events)[-3:] == [written(2, cost=4.0), LIMIT, COMPLETED]


def test_prices_are_read_from_a_file_at_the_call(tmp_path: Path) -> None:
    path = tmp_path / "models.toml"
    path.write_text('[models."a/b"]\nprice = { input = 1, output = 2 }\n')
    assert as_model_table(path).price_of("a/b") == Price(1, 2)
    ops.budget(usd=1, prices=str(path))
    with pytest.raises(OSError, match="nowhere"):
        ops.budget(usd=1, prices=tmp_path / "nowhere.toml")


def test_demand_passes_through(marbles: Marbles) -> None:
    source = marbles.cold("S-a-b-c|", demand=True)
    recording = marbles.subscribe(source.pipe(ops.budget(tokens=2)))
    marbles.valve.close()
    marbles.advance_to(4)
    assert recording.events == []
    marbles.valve.open()
    marbles.advance_to(20)
    assert recording.chunks[-2:] == [written(2), LIMIT]


def test_the_source_is_disposed_before_the_last_token_is_passed_on(marbles: Marbles) -> None:
    source = marbles.cold("a-b-c|")
    seen: list[Any] = []

    def on_next(chunk: Chunk) -> None:
        seen.append((text_of(chunk), source.subscriptions))

    source.pipe(ops.budget(tokens=2)).subscribe(on_next, scheduler=marbles.scheduler)
    marbles.advance_to(10)
    assert seen[1][1] == [(0.0, 2.0)]
    assert [text for text, _ in seen] == ["a", "b", "", ""]


@pytest.mark.parametrize("at", [Token("b"), written(2), LIMIT])
def test_a_subscriber_that_raises_at_the_end_asks_for_nothing_more(
    marbles: Marbles, at: Chunk
) -> None:
    source = marbles.cold("a-b-c|")
    seen: list[Chunk] = []

    def on_next(chunk: Chunk) -> None:
        seen.append(chunk)
        if chunk == at:
            raise ZeroDivisionError

    source.pipe(ops.budget(tokens=2)).subscribe(on_next, scheduler=marbles.scheduler)
    with pytest.raises(ZeroDivisionError):
        marbles.advance_to(10)
    marbles.advance_to(20)
    assert (seen[-1], source.subscriptions) == (at, [(0.0, 2.0)])


def test_a_subscriber_that_leaves_at_the_last_token_gets_no_end(marbles: Marbles) -> None:
    seen: list[Chunk] = []

    def on_next(chunk: Chunk) -> None:
        seen.append(chunk)
        if chunk == Token("b"):
            subscription.dispose()

    stream = marbles.cold("a-b-c|").pipe(ops.budget(tokens=2))
    subscription = stream.subscribe(on_next, scheduler=marbles.scheduler)
    marbles.advance_to(10)
    assert seen == [Token("a"), Token("b")]


def test_what_a_synchronous_source_sends_after_the_end_is_ignored() -> None:
    budget, seen = Budget(tokens=2), list[Any]()
    chunks: list[Chunk] = [*map(Token, "abcd"), Reasoning("e"), End("stop")]
    stream = rx.from_iterable(chunks).pipe(ops.budget(budget))
    stream.subscribe(seen.append, on_completed=lambda: seen.append(COMPLETED))
    assert seen == [Token("a"), Token("b"), written(2), LIMIT, COMPLETED]
    assert budget.spent_tokens == 2


async def test_the_model_is_stopped_at_once() -> None:
    asked = 0

    async def answer() -> AsyncIterator[Chunk]:
        nonlocal asked
        yield Start("1", "model")
        while True:
            asked += 1
            yield Token("more ")

    async with no_leaks():
        result = await rxllm.from_async(answer).pipe(ops.budget(tokens=7))
    assert (asked, result.text, result.finish_reason) == (7, "more " * 7, "limit")
    assert result.usage == written(7)


@pytest.mark.parametrize(
    ("name", "events", "prompt", "text"),
    [("openai/gpt", openai_events, 6, "abc"), ("anthropic/claude", anthropic_events, 5, "ab")],
)
async def test_the_prompt_of_a_remote_model_counts_at_its_start(
    name: str, events: Any, prompt: int, text: str
) -> None:
    """OpenAI counts it at the end, so it is estimated; Anthropic counts it, and one token more."""
    table = ModelTable(models={name: ModelFacts(price=Price(1.0, 10.0))})
    async with no_leaks(), FaultServer(Reply(events(*"abcdef"))) as server:
        model = rxllm.model(name, api_key="k", base_url=server.url)
        result = await model.stream("Hello").pipe(ops.budget(9, prompt + 3, prices=table))
    assert (result.text, result.finish_reason) == (text, "limit")
    assert result.usage == written(3, read=prompt, cost=pytest.approx(prompt * 1e-6 + 3e-5))


async def test_a_router_is_not_asked_again_for_the_answer_of_a_spent_budget() -> None:
    budget, model = Budget(tokens=3), ScriptedModel([*"abcdef"])
    router = Router([_Budgeted(model, budget)])
    for text in ("abc", ""):
        result = await router.stream("Hi")
        assert (result.text, result.finish_reason) == (text, "limit")
    assert len(model.requests) == 1


class _Budgeted:
    """A model with a budget."""

    def __init__(self, model: ScriptedModel, budget: Budget) -> None:
        self._model = model
        self._budget = budget
        self.info = model.info

    def stream(self, prompt: Any, **options: Any) -> Any:
        return self._model.stream(prompt, **options).pipe(ops.budget(self._budget))


async def test_streams_of_other_loops_share_a_budget_without_losing_a_token() -> None:
    budget = Budget(tokens=10**6)
    model = ScriptedModel([*"x" * 500], usage=Usage(0, 500))

    def ask() -> None:
        for _ in range(5):
            rxllm.run(model.stream("Hi").pipe(ops.budget(budget)))

    async with no_leaks():
        await asyncio.gather(*(asyncio.to_thread(ask) for _ in range(4)))
    assert budget.spent_tokens == 4 * 5 * 500


@pytest.mark.parametrize(
    ("args", "error", "words"),
    [
        ((), ValueError, "a budget needs usd, tokens or both"),
        ((0,), ValueError, "usd must be a finite number above 0"),
        ((float("inf"),), ValueError, "usd must be a finite number above 0"),
        (("5",), TypeError, "usd must be a finite number"),
        ((None, 0), ValueError, "tokens must be 1 or more"),
        ((None, 1.5), TypeError, "tokens must be an integer"),
    ],
)
def test_invalid_arguments_are_errors_at_the_call(args: Any, error: Any, words: str) -> None:
    for make in (ops.budget, Budget):
        with pytest.raises(error, match=words):
            make(*args)


def test_a_shared_budget_has_its_own_tokens() -> None:
    with pytest.raises(ValueError, match="tokens must be given to the Budget"):
        ops.budget(Budget(usd=1), 5)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="input_tokens must be 0 or more"):
        ops.budget(tokens=1, input_tokens=-1)


PIECES = st.lists(
    st.one_of(
        st.builds(Token, st.sampled_from(["a", "bcd ", "e f\n"]), tokens=st.integers(0, 3)),
        st.just(Reasoning("hm")),
        st.sampled_from(["restart", "retry", "counted", "called"]),
    ),
    max_size=12,
)


def script(answers: list[list[Any]], source: str | None, *, is_alone: bool) -> list[Chunk]:
    """A run: each list of pieces is an answer, whose model counts as this test does."""
    chunks: list[Any] = []
    for number, pieces in enumerate(answers):
        start = [Start("1", "model"), Usage(2, 0, estimated=True)]
        chunks += start
        count = calls = 0
        for piece in pieces:
            if piece in ("restart", "retry"):
                if is_alone if piece == "restart" else not count:  # no retry after output
                    chunks += [Notice(piece), *start]
                    count = 0
            elif piece == "counted":
                chunks.append(Usage(2, count, estimated=True))
            elif piece == "called":
                calls += 1
                chunks += [ToolCall(f"c{calls}", "four", "12345678"[:end]) for end in (0, 4, 8)]
                count += 3
            else:
                chunks.append(piece)
                count += tokens_of(piece)
        chunks += [Usage(2, count), End("stop", more=number < len(answers) - 1)]
    return [replace(chunk, source=source) for chunk in chunks]


def plainly(chunks: Sequence[Chunk]) -> int:
    """Return the tokens that chunks have spent, answer by answer."""
    total = 0
    for source in {chunk.source for chunk in chunks}:
        answer: list[Chunk] = []
        for chunk in [*(each for each in chunks if each.source == source), Start("", "")]:
            if type(chunk) is Start or is_restart(chunk):
                total += _of_answer(answer)
                answer = []
            answer.append(chunk)
    return total


def _of_answer(chunks: list[Chunk]) -> int:
    at = max((at for at, each in enumerate(chunks) if type(each) is Usage), default=-1)
    known = chunks[at].total_tokens if at >= 0 else 0  # type: ignore[union-attr]

    def called(until: list[Chunk]) -> int:
        calls = {c.id: len(c.name + c.arguments) // 4 for c in until if type(c) is ToolCall}
        return sum(calls.values())

    return known + sum(map(tokens_of, chunks[at + 1 :])) + called(chunks) - called(chunks[: at + 1])


SHAPES = st.sampled_from(
    [
        [],
        [lambda: ops.batch(3, 10)],
        [lambda: ops.rechunk(3)],
        [lambda: ops.rechunk(9), lambda: ops.batch(2, 10)],
        [lambda: ops.words()],
    ]
)


@given(
    runs=st.lists(st.lists(PIECES, min_size=1, max_size=3), min_size=1, max_size=2),
    most=st.integers(1, 40),
    shape=SHAPES,
    data=st.data(),
)
def test_however_a_run_is_cut_the_last_chunk_spends_the_rest(
    runs: list[list[list[Any]]], most: int, shape: Any, data: st.DataObject
) -> None:
    is_alone = len(runs) == 1  # a restart of the run around it would restart the nested one
    names = (None, "call-1")
    scripts = [script(*each, is_alone=is_alone) for each in zip(runs, names, strict=False)]
    order = data.draw(st.permutations([at for at, each in enumerate(scripts) for _ in each]))
    queues = [iter(each) for each in scripts]
    chunks = [next(queues[at]) for at in order]
    entered: list[Chunk] = []
    budget = Budget(tokens=most)
    stream: Observable[Any] = rx.from_iterable(chunks)
    for make in shape:
        stream = stream.pipe(make())
    stream = stream.pipe(rx_ops.do_action(entered.append), ops.budget(budget))
    received = Marbles().run(stream)
    passed = [event for _, event in received[:-1]]
    assert received[-1][1] is COMPLETED
    assert budget.spent_tokens == plainly(entered)
    if not budget.is_spent:
        assert passed == entered
        return
    ended = passed != entered
    if ended:
        before = entered[:-1]
        if type(before[-1]) is Usage and not before[-1].estimated:  # its `End` could have followed
            before.pop()
        assert plainly(before) < most <= plainly(entered)
    assert any(type(each) is End and each.finish_reason == "limit" for each in passed) == ended
    for source in {chunk.source for chunk in entered}:
        ends = [each for each in passed if type(each) is End and each.source == source]
        assert [each.more for each in ends][-1:] == [False] or not ended
    text = "".join(text_of(each) for each in entered)
    assert text == "".join(text_of(each) for each in passed)


def test_less_than_can_be_counted_is_still_a_limit() -> None:
    budget = Budget(usd=1e-15)
    assert not budget.is_spent
