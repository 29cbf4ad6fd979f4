"""`collect`, and the contents of a `Result`."""

from __future__ import annotations

import asyncio

import reactivex
from hypothesis import given
from hypothesis import strategies as st
from reactivex import operators as rx

from rxllm import (
    Batch,
    Chunk,
    End,
    Json,
    Notice,
    Progress,
    Reasoning,
    Start,
    Token,
    ToolCall,
    Usage,
    run,
)
from rxllm.messages import Message
from rxllm.models.scripted import ScriptedModel
from rxllm.sinks import Result, Timings, collect
from rxllm.testing import run_virtual


def result_of(*chunks: Chunk) -> Result:
    return run(collect(reactivex.of(*chunks)))


def test_a_whole_answer() -> None:
    result = result_of(
        Start("request-7", "tiny", "local"),
        Token("Once "),
        Token("upon"),
        Usage(5, 2),
        End("stop", "END"),
    )
    assert result.text == "Once upon"
    assert (result.request_id, result.model, result.provider) == ("request-7", "tiny", "local")
    assert (result.finish_reason, result.stop_sequence) == ("stop", "END")
    assert result.usage == Usage(5, 2)
    assert result.notices == ()
    assert result.texts == {}


def test_an_empty_stream() -> None:
    result = result_of()
    assert (result.text, result.finish_reason, result.usage) == ("", None, None)
    assert (result.timings.tokens, result.timings.first_token) == (0, None)


def test_usage_after_the_end_counts() -> None:
    """Guards against losing usage that arrives after the finish reason."""
    result = result_of(Token("a"), End("length"), Usage(1, 1))
    assert (result.finish_reason, result.usage) == ("length", Usage(1, 1))


def test_reasoning_tools_and_json_are_not_text() -> None:
    result = result_of(
        Reasoning("hm"), Token("yes"), ToolCall("1", "look"), Json({"a": 1}), Progress(1, 0.5)
    )
    assert result.text == "yes"
    assert result.timings.tokens == 2
    assert (result.reasoning, result.json) == ("hm", {"a": 1})
    assert result.tool_calls == (ToolCall("1", "look"),)


def test_the_message_of_a_result_contains_only_complete_calls() -> None:
    whole = ToolCall("1", "look", "{}", complete=True)
    result = result_of(Token("yes"), whole, ToolCall("2", "look", "{", index=1))
    assert result.message == Message("assistant", "yes", tool_calls=(whole,))


def test_a_batch_counts_as_its_chunks() -> None:
    result = result_of(Batch((Token("a"), Token("b")), "ab"), Token("c"))
    assert (result.text, result.timings.tokens) == ("abc", 3)


def test_tokens_from_usage_are_preferred_to_counted_ones() -> None:
    assert result_of(Token("a"), Usage(1, 40)).timings.tokens == 40
    assert result_of(Token("a"), Usage(1)).timings.tokens == 1


def test_a_restart_drops_the_text_and_keeps_the_usage() -> None:
    restart = Notice("restart")
    result = result_of(Token("wrong"), Usage(1, 1), End("stop"), restart, Token("right"))
    assert result.text == "right"
    assert (result.finish_reason, result.timings.tokens) == (None, 1)
    assert (result.usage, result.notices) == (Usage(1, 1), (restart,))


def test_other_notices_drop_nothing() -> None:
    notice = Notice("malformed", skipped=1)
    result = result_of(Token("a"), notice, Token("b"))
    assert (result.text, result.notices) == ("ab", (notice,))


def test_two_sources_are_kept_separate() -> None:
    result = result_of(
        Token("a1", source="a"),
        Token("b1", source="b"),
        Token("a2", source="a"),
        Usage(1, 2, cost=0.5, source="a"),
        Usage(3, 4, cached_tokens=1, source="b"),
    )
    assert result.texts == {"a": "a1a2", "b": "b1"}
    assert result.text == "a1a2b1"
    assert result.usage == Usage(4, 6, cached_tokens=1, cost=0.5)
    assert result.timings.tokens == 6


def test_a_restart_of_one_source_keeps_the_other() -> None:
    result = result_of(
        Token("a", source="a"),
        Token("b", source="b"),
        End("length", source="b"),
        Notice("restart", source="a"),
        Token("A", source="a"),
    )
    assert result.texts == {"b": "b", "a": "A"}
    assert result.finish_reason == "length"


def test_times_are_measured_from_the_subscription() -> None:
    model = ScriptedModel("one two three", by="word", delay=2.0, first_delay=4.0)

    async def main() -> Timings:
        await asyncio.sleep(100)
        return (await collect(model.stream("count"))).timings

    timings = run_virtual(main())
    assert (timings.first_token, timings.elapsed) == (4.0, 8.0)
    assert timings.tokens_per_second == 3 / 8


def test_without_elapsed_time_there_is_no_speed() -> None:
    """Guards against a division by zero."""
    timings = Timings(started=0.0, elapsed=0.0, first_token=None, tokens=5)
    assert timings.tokens_per_second is None
    timings = Timings(started=0.0, elapsed=0.5, first_token=None, tokens=5)
    assert timings.tokens_per_second == 10


def test_two_subscriptions_give_two_results() -> None:
    model = ScriptedModel("first", "second")
    stream = model.stream("tell")
    assert [run(collect(stream)).text for _ in range(2)] == ["first", "second"]


def test_it_works_after_rxpy_operators() -> None:
    model = ScriptedModel([Token("a"), ConnectionResetError()], "b")
    result = run(collect(model.stream("tell").pipe(rx.retry(2))))
    assert result.text == "ab"


@given(st.lists(st.text(), max_size=20))
def test_the_text_is_that_of_the_pieces(pieces: list[str]) -> None:
    assert result_of(*map(Token, pieces)).text == "".join(pieces)
