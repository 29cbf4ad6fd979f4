"""Which functions `callbacks` calls, and when."""

from __future__ import annotations

from typing import Any

import pytest
import reactivex
from reactivex import Observable
from reactivex import operators as rx

from rxllm import (
    Batch,
    Chunk,
    End,
    Notice,
    Progress,
    Reasoning,
    RxLLMError,
    Start,
    Token,
    run,
)
from rxllm import operators as ops
from rxllm.models.scripted import ScriptedModel
from rxllm.sinks import Result, TokenEvent, callbacks
from rxllm.testing import run_virtual
from rxllm.transcript import RunningText


def play(*chunks: Chunk, **functions: Any) -> Result:
    stream: Observable[Chunk] = reactivex.of(*chunks)
    return run(callbacks(stream, **functions))


def token_events(*chunks: Chunk) -> list[TokenEvent]:
    events: list[TokenEvent] = []
    play(*chunks, on_token=events.append)
    return events


def test_events_come_in_the_order_of_the_stream() -> None:
    received: list[str] = []
    play(
        Start("1", "tiny"),
        Token("a"),
        Notice("retry"),
        Token("b"),
        End("stop"),
        on_start=lambda start: received.append(start.model),
        on_token=lambda event: received.append(event.text),
        on_notice=lambda notice: received.append(notice.kind),
        on_complete=lambda result: received.append(f"complete: {result.text}"),
        on_cancel=lambda result: received.append("cancel"),
        on_error=lambda error: received.append("error"),
    )
    assert received == ["tiny", "a", "retry", "b", "complete: ab"]


def test_a_token_event_has_its_position_sentence_count_and_new_sentence_flag() -> None:
    first, second, third = token_events(Token("One"), Token(". Two"), Token(" words"))
    assert [(event.index, event.sentences) for event in (first, second, third)] == [
        (0, 1),
        (1, 2),
        (2, 2),
    ]
    assert [event.new_sentence for event in (first, second, third)] == [True, True, False]


def test_the_running_text_ends_at_the_event_whenever_it_is_read() -> None:
    seen: list[str] = []
    events: list[TokenEvent] = []

    def on_token(event: TokenEvent) -> None:
        events.append(event)
        if event.index == 1:
            seen.append(event.running_text)

    play(Token("a"), Token("b"), Token("c"), on_token=on_token)
    assert seen == ["ab"]
    assert [event.running_text for event in events] == ["a", "ab", "abc"]


def test_the_text_pieces_of_a_batch_are_passed_one_by_one() -> None:
    batch = Batch((Token("a"), Reasoning("hm"), Token("b")), "ab")
    assert [event.text for event in token_events(batch)] == ["a", "b"]


def test_a_restart_resets_counts_and_running_text() -> None:
    *_, before, after = token_events(Token("Wrong. "), Token("No"), Notice("restart"), Token("Yes"))
    assert (before.index, before.sentences, before.running_text) == (1, 2, "Wrong. No")
    assert (after.index, after.sentences, after.running_text) == (0, 1, "Yes")


def test_sources_are_counted_and_restarted_separately() -> None:
    a, b = Token("a", source="a"), Token("b", source="b")
    events = token_events(a, b, a, Notice("restart", source="a"), a, b)
    assert [(event.source, event.running_text) for event in events] == [
        ("a", "a"),
        ("b", "b"),
        ("a", "aa"),
        ("a", "a"),
        ("b", "bb"),
    ]


def test_progress_is_reported_every_ten_tokens() -> None:
    received: list[Progress] = []
    model = ScriptedModel("x" * 25, by="character", delay=1.0)
    run_virtual(callbacks(model.stream("count"), on_progress=received.append))
    assert [(each.tokens, each.elapsed, each.tokens_per_second) for each in received] == [
        (10, 10.0, 1.0),
        (20, 20.0, 1.0),
    ]
    assert [each.characters_per_second for each in received] == [1.0, 1.0]


def test_progress_of_the_stream_is_passed_on_instead() -> None:
    received: list[Progress] = []
    own = Progress(3, 0.5)
    play(Token("a"), own, *[Token("x")] * 30, on_progress=received.append)
    assert received == [own]


@pytest.mark.parametrize(
    "operators", [[], [ops.progress()], [ops.progress(every=15), ops.stop_on("!")]]
)
def test_each_progress_has_the_percentage_of_the_request(operators: list[Any]) -> None:
    """A handler may format it, whether or not an operator of the pipe reports the progress."""
    lines: list[str] = []
    stream = ScriptedModel("x" * 30, by="character").stream("count", max_tokens=30)
    run(
        callbacks(
            stream.pipe(*operators), on_progress=lambda p: lines.append(f"{p.percentage:.0f}")
        )
    )
    assert lines[:1] == (["50"] if len(operators) == 2 else ["33"])


def test_progress_of_the_prompt_is_not_that_of_the_answer() -> None:
    received: list[Progress] = []
    reading = Progress(0, 0.5, percentage=50, stage="prompt")
    play(reading, *[Token("x")] * 10, on_progress=received.append)
    assert [each.tokens for each in received] == [0, 10]


def test_progress_is_counted_again_after_a_restart() -> None:
    received: list[Progress] = []
    ten = [Token("x")] * 10
    play(*ten, Notice("restart"), *ten, on_progress=received.append)
    assert [each.tokens for each in received] == [10, 10]


async def test_an_error_is_passed_to_on_error_and_raised(source: Any) -> None:
    received: list[Exception] = []
    running = callbacks(
        source.stream(Token("so far"), RxLLMError("lost")),
        on_error=received.append,
        on_complete=lambda _: pytest.fail("it did not complete"),
    )
    with pytest.raises(RxLLMError) as caught:
        await running
    assert received == [caught.value]
    assert caught.value.partial == "so far"
    assert running.status == "failed"


@pytest.mark.parametrize("name", ["on_token", "on_start", "on_notice", "on_progress"])
async def test_a_callback_that_raises_stops_the_stream_and_is_not_retried(
    source: Any, name: str
) -> None:
    def fail(_: object) -> None:
        raise ValueError("the function failed")

    chunks = (Start("1", "tiny"), Notice("retry"), Token("a"), Progress(1, 0.1))
    functions: dict[str, Any] = {name: fail, "on_error": pytest.fail}
    running = callbacks(source.stream(*chunks, waits=True).pipe(rx.retry(3)), **functions)
    with pytest.raises(ValueError, match="the function failed"):
        await running
    assert (source.subscriptions, source.cleaned_up) == (1, 1)
    assert running.status == "failed"


def test_a_polite_stop_upstream_calls_on_cancel() -> None:
    received: list[str] = []
    play(
        Token("so far"),
        End("cancelled"),
        on_complete=lambda _: received.append("complete"),
        on_cancel=lambda result: received.append(result.text),
    )
    assert received == ["so far"]


def test_a_callback_must_be_a_plain_function() -> None:
    async def on_token(_: object) -> None: ...

    with pytest.raises(TypeError, match="on_token must be a plain function"):
        play(on_token=on_token)
    with pytest.raises(TypeError, match="on_error must be a function, got str"):
        play(on_error="print")


def test_max_pause_must_be_above_zero() -> None:
    with pytest.raises(ValueError, match=r"max_pause must be above 0 \(seconds .*\), got 0"):
        play(max_pause=0)


def test_the_repr_of_a_token_event_shows_its_fields() -> None:
    [event] = token_events(Token("Once"))
    token = "Token(text='Once'"
    assert repr(event).startswith(f"TokenEvent(token={token}")
    assert repr(event).endswith("index=0, sentences=1, new_sentence=True)")


@pytest.mark.parametrize("name", ["on_start", "on_token", "on_complete"])
def test_a_function_that_returns_a_coroutine_is_an_error_not_lost_work(name: str) -> None:
    async def save() -> None:
        raise AssertionError("never reached")

    model = ScriptedModel("a")
    function: Any = {name: lambda _: save()}
    with pytest.raises(TypeError, match="returned a coroutine, which nothing awaits"):
        run(callbacks(model.stream("Hi"), **function))
    assert model.active == 0


def test_many_tokens_with_a_running_text_cost_linear_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The events share the pieces of the text, which is joined when it is read, not before."""
    joined: list[int] = []
    up_to = RunningText.up_to

    def count(running: RunningText, length: int) -> str:
        joined.append(length)
        return up_to(running, length)

    monkeypatch.setattr(RunningText, "up_to", count)
    events = token_events(*[Token("x")] * 10_000)
    assert joined == []
    assert len(events[-1].running_text) == 10_000
    assert joined == [10_000]
