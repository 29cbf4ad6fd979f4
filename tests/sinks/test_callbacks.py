"""What `callbacks` calls, and when: row A6."""

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
from rxllm.models.scripted import ScriptedModel
from rxllm.sinks import Result, TokenEvent, callbacks
from rxllm.testing import run_virtual


def play(*chunks: Chunk, **functions: Any) -> Result:
    stream: Observable[Chunk] = reactivex.of(*chunks)
    return run(callbacks(stream, **functions))


def token_events(*chunks: Chunk) -> list[TokenEvent]:
    events: list[TokenEvent] = []
    play(*chunks, on_token=events.append)
    return events


def test_events_come_in_the_order_of_the_stream() -> None:
    told: list[str] = []
    play(
        Start("1", "tiny"),
        Token("a"),
        Notice("retry"),
        Token("b"),
        End("stop"),
        on_start=lambda start: told.append(start.model),
        on_token=lambda event: told.append(event.text),
        on_notice=lambda notice: told.append(notice.kind),
        on_complete=lambda result: told.append(f"complete: {result.text}"),
        on_cancel=lambda result: told.append("cancel"),
        on_error=lambda error: told.append("error"),
    )
    assert told == ["tiny", "a", "retry", "b", "complete: ab"]


def test_a_token_event_tells_its_place() -> None:
    first, second, third = token_events(Token("One"), Token(". Two"), Token(" words"))
    assert [(event.index, event.sentences) for event in (first, second, third)] == [
        (0, 1),
        (1, 2),
        (2, 2),
    ]
    assert [event.new_sentence for event in (first, second, third)] == [True, True, False]


def test_the_running_text_is_that_up_to_the_event_whenever_it_is_asked_for() -> None:
    seen: list[str] = []
    events: list[TokenEvent] = []

    def on_token(event: TokenEvent) -> None:
        events.append(event)
        if event.index == 1:
            seen.append(event.running_text)

    play(Token("a"), Token("b"), Token("c"), on_token=on_token)
    assert seen == ["ab"]
    assert [event.running_text for event in events] == ["a", "ab", "abc"]


def test_the_pieces_of_a_batch_come_one_by_one_without_reasoning() -> None:
    batch = Batch((Token("a"), Reasoning("hm"), Token("b")), "ab")
    assert [event.text for event in token_events(batch)] == ["a", "b"]


def test_a_restart_begins_counts_and_running_text_again() -> None:
    *_, before, after = token_events(Token("Wrong. "), Token("No"), Notice("restart"), Token("Yes"))
    assert (before.index, before.sentences, before.running_text) == (1, 2, "Wrong. No")
    assert (after.index, after.sentences, after.running_text) == (0, 1, "Yes")


def test_two_sources_are_counted_apart_and_restart_apart() -> None:
    a, b = Token("a", source="a"), Token("b", source="b")
    events = token_events(a, b, a, Notice("restart", source="a"), a, b)
    assert [(event.source, event.running_text) for event in events] == [
        ("a", "a"),
        ("b", "b"),
        ("a", "aa"),
        ("a", "a"),
        ("b", "bb"),
    ]


def test_progress_is_made_every_ten_tokens() -> None:
    """Row I3."""
    told: list[Progress] = []
    model = ScriptedModel("x" * 25, by="character", delay=1.0)
    run_virtual(callbacks(model.stream("count"), on_progress=told.append))
    assert [(each.tokens, each.elapsed, each.tokens_per_second) for each in told] == [
        (10, 10.0, 1.0),
        (20, 20.0, 1.0),
    ]


def test_progress_of_the_stream_is_passed_on_and_none_is_made() -> None:
    told: list[Progress] = []
    own = Progress(3, 0.5)
    play(Token("a"), own, *[Token("x")] * 30, on_progress=told.append)
    assert told == [own]


def test_progress_is_counted_again_after_a_restart() -> None:
    told: list[Progress] = []
    ten = [Token("x")] * 10
    play(*ten, Notice("restart"), *ten, on_progress=told.append)
    assert [each.tokens for each in told] == [10, 10]


async def test_an_error_is_told_and_raised(source: Any) -> None:
    told: list[Exception] = []
    running = callbacks(
        source.stream(Token("so far"), RxLLMError("lost")),
        on_error=told.append,
        on_complete=lambda _: pytest.fail("it did not complete"),
    )
    with pytest.raises(RxLLMError) as caught:
        await running
    assert told == [caught.value]
    assert caught.value.partial == "so far"
    assert running.status == "failed"


@pytest.mark.parametrize("name", ["on_token", "on_start", "on_notice", "on_progress"])
async def test_a_function_that_raises_stops_the_stream_and_is_not_retried(
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


def test_a_polite_stop_upstream_is_told_as_a_cancellation() -> None:
    told: list[str] = []
    play(
        Token("so far"),
        End("cancelled"),
        on_complete=lambda _: told.append("complete"),
        on_cancel=lambda result: told.append(result.text),
    )
    assert told == ["so far"]


def test_what_is_no_plain_function_is_refused_at_the_call() -> None:
    async def on_token(_: object) -> None: ...

    with pytest.raises(TypeError, match="on_token is a plain function"):
        play(on_token=on_token)
    with pytest.raises(TypeError, match="on_error is a function, not str"):
        play(on_error="print")


def test_a_pause_without_length_is_refused_at_the_call() -> None:
    with pytest.raises(ValueError, match="max_pause is the seconds a pause may last, above 0: 0"):
        play(max_pause=0)
