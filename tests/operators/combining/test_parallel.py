"""`parallel`: many prompts through a pool."""

from collections.abc import Mapping
from typing import Any

import pytest

import rxllm
from rxllm import operators as ops
from rxllm.chunks import End, Notice, text_of
from rxllm.errors import AllModelsFailedError, BadRequestError, PoolFullError
from rxllm.models.scripted import ScriptedModel
from rxllm.operators import Pool, StreamSummary
from rxllm.requests import as_request
from rxllm.testing import COMPLETED, Marbles, no_leaks, run_virtual


def texts(events: list[tuple[float, Any]]) -> dict[str | None, str]:
    """The text of each source."""
    found: dict[str | None, str] = {}
    for _, event in events:
        if text_of(event):
            found[event.source] = found.get(event.source, "") + text_of(event)
    return found


def test_four_prompts_on_three_slots_finish(marbles: Marbles) -> None:
    """More prompts than slots must not deadlock."""
    model, pool = ScriptedModel("a b c", by="word", delay=1), Pool(3)
    events = marbles.run(ops.parallel(["one", "two", "three", "four"], model, pool))
    assert texts(events) == dict.fromkeys("0123", "a b c")
    ends = [(time, event.source) for time, event in events if type(event) is End]
    assert ends == [(3.0, "0"), (3.0, "1"), (3.0, "2"), (6.0, "3")]
    assert events[-1] == (6.0, COMPLETED)
    assert (pool.active, pool.waiting) == (0, 0)


def test_each_prompt_has_tagged_tokens_and_an_end_or_an_error(marbles: Marbles) -> None:
    model = ScriptedModel("fine", ["half", ConnectionResetError("reset")], "good", delay=1)
    prompts = {"first": "one", "second": "two", "third": "three"}
    events = marbles.run(ops.parallel(prompts, model, Pool(2)))
    assert texts(events) == {"first": "fine", "second": "half", "third": "good"}
    lasts = [event for _, event in events if type(event) in (End, Notice)]
    assert [(type(last), last.source) for last in lasts] == [
        (End, "first"),
        (Notice, "second"),
        (End, "third"),
    ]
    assert lasts[1].kind == "failed"
    assert (lasts[1].error.type, lasts[1].error.message) == ("ConnectionResetError", "reset")


def test_only_as_many_prompts_run_as_there_are_slots_and_none_is_queued(marbles: Marbles) -> None:
    model, pool = ScriptedModel("a", delay=1), Pool(3, queue=0)
    seen: list[tuple[int, int]] = []
    stream = ops.parallel(map(str, range(1, 101)), model, pool)
    stream.subscribe(
        lambda _: seen.append((model.active, pool.waiting)), scheduler=marbles.scheduler
    )
    marbles.advance_to(1000)
    assert max(seen) == (3, 0)
    assert (model.completed, pool.active) == (100, 0)


def test_late_prompts_do_not_time_out_in_the_queue(marbles: Marbles) -> None:
    model = ScriptedModel("a", delay=20)
    events = marbles.run(ops.parallel(["p"] * 10, model, Pool(1, wait=5)))
    assert (len(texts(events)), events[-1]) == (10, (200.0, COMPLETED))


def test_the_pool_may_be_shared(marbles: Marbles) -> None:
    pool = Pool(1, wait=5)
    other = marbles.subscribe(marbles.cold("").pipe(ops.limit_concurrency(pool)))
    marbles.at(6, other.dispose)
    events = marbles.run(ops.parallel(["p", "q"], ScriptedModel("a"), pool))
    [(time, notice)] = [event for event in events if type(event[1]) is Notice]
    assert (time, notice.source, notice.error.type) == (5.0, "0", PoolFullError.__name__)
    assert texts(events) == {"1": "a"}


def test_prompts_start_in_order_with_their_options(marbles: Marbles) -> None:
    model = ScriptedModel("a b c", by="word", delay=1)
    events = marbles.run(ops.parallel(["p", "q", "r"], model, Pool(1), max_tokens=2))
    assert [request.messages[0].text for request in model.requests] == ["p", "q", "r"]
    assert texts(events) == dict.fromkeys("012", "a b")


def test_a_summary_of_each_prompt_has_its_tokens_and_times(marbles: Marbles) -> None:
    reports: list[Mapping[str, StreamSummary]] = []
    error = ConnectionResetError()
    model = ScriptedModel("abc", [error], delay=1)
    marbles.run(ops.parallel(["p", "q"], model, Pool(3), on_result=reports.append))
    assert reports == [
        {
            "0": StreamSummary("completed", 3, 1.0, tokens=1),
            "1": StreamSummary("failed", 0, 1.0, error),
        }
    ]


def test_a_summary_says_how_long_a_prompt_waited_for_its_turn(marbles: Marbles) -> None:
    reports: list[Mapping[str, StreamSummary]] = []
    model = ScriptedModel("abc", delay=2)
    marbles.run(ops.parallel(["p", "q", "r"], model, Pool(1), on_result=reports.append))
    assert [(each.started, each.duration) for each in reports[0].values()] == [
        (0.0, 2.0),
        (2.0, 2.0),
        (4.0, 2.0),
    ]


def test_if_all_fail_the_error_has_each_error(marbles: Marbles) -> None:
    model = ScriptedModel([ConnectionResetError()])
    events = marbles.run(ops.parallel(["p", "q"], model, Pool(3)))
    assert isinstance(events[-1][1], AllModelsFailedError)
    assert len(events[-1][1].errors) == 2


def test_without_prompts_it_completes_at_once(marbles: Marbles) -> None:
    events = marbles.run(ops.parallel([], ScriptedModel("a"), Pool(1)))
    assert events == [(0.0, COMPLETED)]


def test_early_disposal_stops_all_and_starts_no_other(marbles: Marbles) -> None:
    reports: list[Mapping[str, StreamSummary]] = []
    model, pool = ScriptedModel("a b c", by="word", delay=1), Pool(2)
    recording = marbles.subscribe(
        ops.parallel(["p", "q", "r"], model, pool, on_result=reports.append)
    )
    marbles.advance_to(1.5)
    recording.dispose()
    marbles.advance_to(9)
    assert (model.cancelled, model.active, len(model.requests)) == (2, 0, 2)
    assert reports[0]["2"] == StreamSummary("cancelled")
    assert (pool.active, pool.waiting, marbles.timers) == (0, 0, [])


def test_all_streams_wait_for_the_same_valve(marbles: Marbles) -> None:
    marbles.at(1.5, marbles.valve.close)
    model = ScriptedModel("a b c", by="word", delay=1)
    recording = marbles.subscribe(ops.parallel(["p", "q"], model, Pool(3)))
    marbles.advance_to(60)
    assert [text_of(chunk) for chunk in recording.chunks if text_of(chunk)] == ["a", "a"]


def test_two_subscriptions_share_the_slots(marbles: Marbles) -> None:
    stream = ops.parallel(["p", "q"], ScriptedModel("a", delay=1), Pool(2))
    first, second = marbles.subscribe(stream), marbles.subscribe(stream)
    marbles.advance_to(9)
    assert (first.events[-1], second.events[-1]) == ((1.0, COMPLETED), (2.0, COMPLETED))


def test_nothing_leaks_on_an_event_loop() -> None:
    model, pool = ScriptedModel("a b", by="word", delay=1), Pool(10)

    async def main() -> dict[str, str]:
        async with no_leaks():
            prompts = {f"prompt {number}": "Hi" for number in range(25)}
            return (await rxllm.sinks.collect(ops.parallel(prompts, model, pool))).texts

    assert run_virtual(main()) == {f"prompt {number}": "a b" for number in range(25)}
    assert model.completed == 25


@pytest.mark.parametrize(
    ("prompts", "options", "error"),
    [
        ("one prompt", {}, TypeError),
        (as_request("one prompt"), {}, TypeError),
        (["fine", ""], {}, BadRequestError),
        (["fine"], {"temperature": 9}, BadRequestError),
        (ScriptedModel("x").stream("Hi"), {}, TypeError),
        (["fine"], {"on_result": 3}, TypeError),
        (b"bytes", {}, TypeError),
        (3, {}, TypeError),
        ({1: "fine"}, {}, TypeError),
        ({"": "fine"}, {}, ValueError),
        ([], {"temprature": 1}, BadRequestError),
        ([], {"temperature": 9}, BadRequestError),
    ],
)
def test_invalid_prompts_are_refused_at_the_call(
    prompts: Any, options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        ops.parallel(prompts, ScriptedModel("a"), Pool(1), **options)
    with pytest.raises(TypeError, match="a Pool"):
        ops.parallel(["fine"], ScriptedModel("a"), 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="model must be"):
        ops.parallel([], None, Pool(1))  # type: ignore[arg-type]


def test_tool_choice_may_refer_to_tools_of_the_prompts(marbles: Marbles) -> None:
    prompt = as_request("one", tools=[{"name": "f", "description": "", "parameters": {}}])
    model = ScriptedModel("a")
    marbles.run(ops.parallel([prompt], model, Pool(1), tool_choice="f"))
    assert model.requests[0].tool_choice == "f"
