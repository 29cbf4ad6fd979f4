"""The commit boundary: what may follow once content has been passed on.

`after_output` means the same in every recovery operator; it is tested here with
`retry_with_backoff`, without a wait.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import reactivex
import reactivex.subject
from hypothesis import given
from hypothesis import strategies as st
from reactivex import Observable
from reactivex.disposable import SerialDisposable

from rxllm import operators as ops
from rxllm.chunks import (
    Batch,
    Chunk,
    End,
    Json,
    Notice,
    ProviderState,
    Reasoning,
    Start,
    Token,
    ToolCall,
    Usage,
    text_of,
)
from rxllm.errors import BadRequestError, ConnectionFailedError
from rxllm.models.scripted import ScriptedModel
from rxllm.testing import COMPLETED, Marbles
from tests.operators.texts import cut_texts

RESTART = Notice("restart")
START = Start("request-1", "model")
CALL = ToolCall("1", "weather", "{")


def recovered(
    source: Observable[Chunk], after_output: Any = "fail", attempts: int = 9
) -> list[Any]:
    """The events of `source` without retry notices."""
    retry = ops.retry_with_backoff(attempts, initial=0, jitter=False, after_output=after_output)
    events = [event for _, event in Marbles().run(source.pipe(retry))]
    return [e for e in events if not (isinstance(e, Notice) and e.kind == "retry")]


def one_after_another(*streams: Observable[Chunk]) -> Observable[Chunk]:
    """A stream that gives the first subscriber the first stream, and so on."""
    left = iter(streams)
    return reactivex.defer(lambda _: next(left))


def heard(
    *scripts: list[Any], after_output: Any = "fail", attempts: int = 9, starts: bool = False
) -> list[Any]:
    """The events of a model with these successive scripts, without retry notices."""
    model = ScriptedModel(*scripts, finish_reason=None)
    events = recovered(model.stream("Hi"), after_output=after_output, attempts=attempts)
    assert model.active == 0
    return events if starts else [event for event in events if not isinstance(event, Start)]


def lost() -> ConnectionFailedError:
    return ConnectionFailedError("reset")


def says(*pieces: Any) -> Any:
    """A function for `after_output`."""
    model = ScriptedModel(list(pieces), finish_reason=None)
    return lambda _: model.stream("go on")


@pytest.mark.parametrize("content", [Token("a"), Reasoning("a"), CALL, Json([]), End("stop")])
def test_content_commits(content: Chunk) -> None:
    error = lost()
    source = one_after_another(sends(content, error), sends(Token("b")))
    assert recovered(source) == [content, error]
    assert error.partial == text_of(content)


@pytest.mark.parametrize("other", [Token(""), Reasoning(""), Notice("malformed"), Batch((), "")])
def test_chunks_without_content_do_not_commit(other: Chunk) -> None:
    assert heard([other, lost()], ["b"])[-2:] == [Token("b"), COMPLETED]


def test_before_content_all_choices_do_the_same() -> None:
    for choice in ("fail", "restart", "replay", says("never asked")):
        got = heard([lost()], ["b"], after_output=choice, starts=True)
        assert [type(event).__name__ for event in got[:2]] == ["Start", "Start"]
        assert got[2:] == [Token("b"), COMPLETED]


def test_the_restart_notice_precedes_the_start_of_the_new_answer() -> None:
    got = heard(["a", lost()], ["b"], after_output="restart", starts=True)
    assert [type(event).__name__ for event in got[:-1]] == [
        "Start", "Token", "Notice", "Start", "Token",
    ]  # fmt: skip
    assert got[2] == RESTART


def sends(*events: Any) -> Observable[Chunk]:
    """A stream that sends everything at once, including an `End` before an error."""
    last = events[-1]
    end = reactivex.throw(last) if isinstance(last, Exception) else reactivex.empty()
    chunks = [event for event in events if not isinstance(event, Exception)]
    return reactivex.concat(reactivex.of(*chunks), end)


@pytest.mark.parametrize("said", [(), (START,), (START, Usage(3)), (Token(""),), (RESTART,)])
def test_an_attempt_without_content_takes_nothing_away(said: tuple[Chunk, ...]) -> None:
    error = lost()
    source = one_after_another(sends(Token("ab"), lost()), sends(*said, error))
    assert recovered(source, "restart", 2) == [Token("ab"), error]
    assert error.partial == "ab"


def test_chunks_before_the_first_content_follow_the_restart_in_order() -> None:
    malformed = Notice("malformed", skipped=1)
    again = sends(START, malformed, Usage(3), RESTART, Token("c"), End("stop"))
    source = one_after_another(sends(Token("ab"), lost()), again)
    assert recovered(source, "restart") == [
        Token("ab"), malformed, RESTART, START, Usage(3), Token("c"), End("stop"), COMPLETED,
    ]  # fmt: skip


def test_of_nested_attempts_only_the_last_start_is_sent() -> None:
    later = Start("request-2", "model")
    again = sends(START, Notice("fallback"), later, Token("c"))
    source = one_after_another(sends(Token("ab"), lost()), again)
    got = recovered(source, "restart")
    assert got == [Token("ab"), Notice("fallback"), RESTART, later, Token("c"), COMPLETED]


def test_an_empty_answer_after_a_partial_one_is_also_a_restart() -> None:
    source = one_after_another(sends(Token("a"), lost()), reactivex.empty())
    assert recovered(source, "restart") == [Token("a"), RESTART, COMPLETED]


def test_a_bare_end_after_a_partial_answer_is_also_a_restart() -> None:
    marbles = Marbles()
    first, second = marbles.cold("a#", error=lost()), marbles.cold("-E--|")
    retry = ops.retry_with_backoff(initial=0, after_output="restart")
    events = marbles.run(one_after_another(first, second).pipe(retry))
    assert events[-3:] == [(2.0, RESTART), (2.0, End("stop")), (5.0, COMPLETED)]


def test_a_restart_is_sent_once_even_if_the_source_sends_reentrantly() -> None:
    marbles, source = Marbles(), reactivex.subject.Subject[Chunk]()
    first = marbles.cold("a#", error=lost())
    stream = one_after_another(first, source).pipe(
        ops.retry_with_backoff(initial=0, after_output="restart")
    )
    got: list[Chunk] = []

    def on_next(chunk: Chunk) -> None:
        got.append(chunk)
        if chunk == RESTART:
            source.on_next(Token("c"))

    stream.subscribe(on_next, scheduler=marbles.scheduler)
    marbles.advance_to(5)
    source.on_next(Token("b"))
    assert got[2:] == [RESTART, Token("b"), Token("c")]


@pytest.mark.parametrize("last", [None, "error", "completed"])
def test_events_during_the_release_of_held_chunks_are_queued(last: str | None) -> None:
    marbles, source = Marbles(), reactivex.subject.Subject[Chunk]()
    malformed, error = Notice("malformed", skipped=1), BadRequestError("no")
    retry = ops.retry_with_backoff(initial=0, after_output=lambda _: source)
    first = marbles.cold("x#", lookup={"x": Token("Once upon a")}, error=lost())
    got: list[Any] = []

    def on_next(chunk: Chunk) -> None:
        got.append(chunk)
        if chunk == malformed:
            source.on_next(Token(" there"))
            source.on_next(Token(" was"))
            if last == "error":
                source.on_error(error)
            elif last == "completed":
                source.on_completed()

    first.pipe(retry).subscribe(
        on_next, got.append, lambda: got.append(COMPLETED), scheduler=marbles.scheduler
    )
    marbles.advance_to(5)
    for chunk in (Token("up"), malformed, Token("on a time")):
        source.on_next(chunk)
    ends: dict[str | None, list[Any]]
    ends = {None: [], "error": [error], "completed": [COMPLETED]}
    assert got[2:] == [malformed, Token(" time"), Token(" there"), Token(" was"), *ends[last]]


def test_a_subscriber_that_leaves_or_raises_gets_no_more_held_chunks() -> None:
    def run(on_restart: Any) -> list[Chunk]:
        marbles, source = Marbles(), reactivex.subject.Subject[Chunk]()
        retry = ops.retry_with_backoff(initial=0, after_output="restart")
        first = marbles.cold("a#", error=lost())
        got: list[Chunk] = []
        subscription = SerialDisposable()

        def on_next(chunk: Chunk) -> None:
            got.append(chunk)
            if chunk == RESTART:
                source.on_next(Token("c"))
                on_restart(subscription)

        subscription.disposable = (
            one_after_another(first, source)
            .pipe(retry)
            .subscribe(on_next, scheduler=marbles.scheduler)
        )
        marbles.advance_to(5)
        with suppress(ZeroDivisionError):
            source.on_next(Token("b"))
        return got[2:]

    assert run(lambda subscription: subscription.dispose()) == [RESTART]
    assert run(lambda _: 1 / 0) == [RESTART]


def test_the_partial_text_starts_over_after_a_restart() -> None:
    error = lost()
    got = heard(["ab", lost()], ["c", error], after_output="restart", attempts=2)
    assert got == [Token("ab"), RESTART, Token("c"), error]
    assert error.partial == "c"


def test_a_restart_of_the_source_undoes_the_commitment() -> None:
    got = heard(["a", RESTART, lost()], ["b"])
    assert got == [Token("a"), RESTART, Token("b"), COMPLETED]


def test_replay_withholds_the_equal_beginning() -> None:
    got = heard(["A", "B", lost()], ["AB", "C"], after_output="replay")
    assert got == [Token("A"), Token("B"), Token("C"), COMPLETED]
    got = heard(["AB", lost()], ["A", Token("BC", 0.5)], after_output="replay")
    assert got == [Token("AB"), Token("C", 0.5), COMPLETED]


def test_replay_compares_text_and_reasoning_separately() -> None:
    first = [Reasoning("hm, "), "A", lost()]
    second = [Reasoning("h"), "A", "B", Reasoning("m, so")]
    got = heard(first, second, after_output="replay")
    assert got == [Reasoning("hm, "), Token("A"), Token("B"), Reasoning("so"), COMPLETED]


def test_replay_withholds_the_states_that_were_passed_on() -> None:
    old, new = (ProviderState("provider", "model", number) for number in (1, 2))
    hm, first, second = Reasoning("hm"), Reasoning("", old), Reasoning("", new)
    got = heard([hm, first, "A", lost()], [hm, second, "A", "B"], after_output="replay")
    assert got == [hm, first, Token("A"), Token("B"), COMPLETED]
    got = heard([hm, lost()], [hm, second, "A"], after_output="replay")
    assert got == [hm, second, Token("A"), COMPLETED]
    got = heard([hm, first, lost()], [hm, "A"], after_output="replay")
    assert got == [hm, first, Token("A"), COMPLETED]
    later = Token("", state=new)
    got = heard([hm, first, "A", lost()], [hm, "A", "B", later], after_output="replay")
    assert got == [hm, first, Token("A"), Token("B"), later, COMPLETED]
    got = heard([hm, lost()], [Reasoning("h"), second, Reasoning("m"), "A"], after_output="replay")
    assert got == [hm, Token("A"), COMPLETED]


def test_replay_compares_the_chunks_in_batches() -> None:
    batch = Batch((Token("A"), Reasoning("hm"), Token("BC")), "ABC")
    got = heard(["AB", lost()], [batch, Batch((Token("D"),), "D")], after_output="replay")
    assert got == [
        Token("AB"),
        Batch((Reasoning("hm"), Token("C")), "C"),
        Batch((Token("D"),), "D"),
        COMPLETED,
    ]


def test_a_replayed_batch_whose_first_part_is_cut_repeats_no_text() -> None:
    batch = Batch((Token("AB"), Token("C")), "ABC")
    got = heard(["A", lost()], [batch], after_output="replay")
    assert got == [Token("A"), Batch((Token("B"), Token("C")), "BC"), COMPLETED]


def test_a_replayed_batch_of_nothing_new_is_not_sent() -> None:
    batch = Batch((Token("A"), Reasoning("hm"), Token("B")), "AB")
    first = [Reasoning("hm"), "AB", lost()]
    got = heard(first, [batch, "C"], after_output="replay")
    assert got == [Reasoning("hm"), Token("AB"), Token("C"), COMPLETED]


@pytest.mark.parametrize("other", [["AX"], ["A"], ["A", End("stop")], ["A", CALL], []])
def test_a_replay_that_differs_is_the_error(other: list[Any]) -> None:
    error = lost()
    got = heard(["AB", error], other, ["ABC"], after_output="replay")
    assert got == [Token("AB"), error]
    assert error.partial == "AB"
    assert "differs" in error.__notes__[0]


def test_a_replay_that_fails_early_is_retried() -> None:
    got = heard(["ABC", lost()], ["AB", lost()], ["ABCD"], after_output="replay")
    assert got == [Token("ABC"), Token("D"), COMPLETED]


def test_a_tool_call_after_the_replayed_text_passes() -> None:
    got = heard(["A", lost()], ["A", CALL], after_output="replay")
    assert got == [Token("A"), CALL, COMPLETED]


def test_a_restart_within_a_replay_ends_it() -> None:
    got = heard(["AB", lost()], ["A", RESTART, "X"], after_output="replay")
    assert got == [Token("AB"), RESTART, Token("X"), COMPLETED]


@pytest.mark.parametrize("content", [CALL, Json({}), End("stop"), Token("x", source="left")])
@pytest.mark.parametrize("after_output", ["replay", says("never asked")])
def test_replay_and_continuation_are_refused_where_they_can_not_be_correct(
    content: Chunk, after_output: Any
) -> None:
    error = lost()
    source = one_after_another(sends(Token("A"), content, error), sends(Token("A"), content))
    assert recovered(source, after_output) == [Token("A"), content, error]


def test_reasoning_alone_can_not_be_continued() -> None:
    error = lost()
    got = heard([Reasoning("hm"), error], ["b"], after_output=says("never asked"))
    assert got == [Reasoning("hm"), error]


def test_a_continuation_receives_the_partial_text_and_continues_it() -> None:
    asked: list[str] = []

    def go_on(partial: str) -> Observable[Chunk]:
        asked.append(partial)
        script: list[Any] = [" a", lost()] if len(asked) == 1 else [" time"]
        return ScriptedModel(script, finish_reason=None).stream("go on")

    got = heard(["Once", " upon", lost()], after_output=go_on)
    assert asked == ["Once upon", "Once upon a"]
    assert "".join(map(text_of, got)) == "Once upon a time"


def test_text_repeated_by_a_continuation_is_removed() -> None:
    got = heard(["Once upon a", lost()], after_output=says("upon", " a ti", "me"))
    assert "".join(map(text_of, got)) == "Once upon a time"


def test_text_repeated_in_batches_by_a_continuation_is_removed() -> None:
    first = Batch((Token("upon"), Reasoning("hm")), "upon")
    second = Batch((Token(" a"), Token(" ti")), " a ti")
    got = heard(["Once upon a", lost()], after_output=says(first, second, "me"))
    assert got[1:] == [Reasoning("hm"), Batch((Token(" ti"),), " ti"), Token("me"), COMPLETED]


def test_chunks_keep_their_order_while_a_continuation_is_held() -> None:
    malformed = Notice("malformed", skipped=1)
    again = says("up", malformed, "on a", Reasoning("hm"), " time")
    got = heard(["Once upon a", lost()], after_output=again)
    assert got[1:] == [malformed, Reasoning("hm"), Token(" time"), COMPLETED]


def test_an_incomplete_repetition_is_dropped_when_the_continuation_fails() -> None:
    error = lost()
    got = heard(["Once upon a", lost()], after_output=says("upon", error), attempts=2)
    assert got == [Token("Once upon a"), error]
    assert error.partial == "Once upon a"


def test_held_text_is_released_at_the_end_of_a_continuation() -> None:
    got = heard(["one two three", lost()], after_output=says("two"))
    assert got == [Token("one two three"), Token("two"), COMPLETED]
    got = heard(["one two three", lost()], after_output=says("two", End("stop")))
    assert got[1:] == [Token("two"), End("stop"), COMPLETED]


@pytest.mark.parametrize("before", [[], [" time"], ["up"]])
def test_a_continuation_that_restarts_sends_the_earlier_text_again(before: list[str]) -> None:
    again = says(*before, RESTART, " night")
    got = heard([Reasoning("hm"), "Once upon a", lost()], after_output=again)
    assert got[-5:] == [
        RESTART,
        Reasoning("hm"),
        Token("Once upon a"),
        Token(" night"),
        COMPLETED,
    ]


def test_an_exception_of_the_function_is_the_error_of_the_stream() -> None:
    mine = LookupError("mine")

    def go_on(_: str) -> Observable[Chunk]:
        raise mine

    assert heard(["a", lost()], after_output=go_on) == [Token("a"), mine]


def test_a_function_that_refuses_keeps_the_original_error() -> None:
    error = lost()

    def go_on(_: str) -> Observable[Chunk]:
        raise BadRequestError("no prefill")

    assert heard(["a", error], after_output=go_on) == [Token("a"), error]
    assert error.__notes__ == ["the answer could not be continued: no prefill"]


def test_a_transient_failure_of_the_function_is_retried() -> None:
    left = [ConnectionResetError(), None]

    def go_on(_: str) -> Observable[Chunk]:
        if (failure := left.pop(0)) is not None:
            raise failure
        return sends(Token("b"))

    got = heard(["a", lost()], after_output=go_on)
    assert got == [Token("a"), Token("b"), COMPLETED]


def test_a_note_is_added_once_to_a_repeated_error() -> None:
    error = lost()
    for _ in range(3):
        heard(["AB", error], ["AX"], after_output="replay")
    assert len(error.__notes__) == 1


def test_a_function_that_returns_no_stream_is_an_error() -> None:
    got = heard(["a", lost()], after_output=lambda _: None)
    assert isinstance(got[-1], TypeError)


def test_nothing_waits_for_the_valve_after_the_comparison() -> None:
    marbles = Marbles()
    marbles.valve.close()
    first, second = marbles.cold("abc#", error=lost()), marbles.cold("abcde-f")
    retry = ops.retry_with_backoff(initial=0, after_output="replay")
    recording = marbles.subscribe(one_after_another(first, second).pipe(retry))
    marbles.advance_to(9)
    assert "".join(map(text_of, recording.chunks)) == "abcdef"
    assert second.subscriptions == [(3.0, None)]


@given(cut_texts(), st.data())
def test_a_replay_gives_the_same_text_however_both_are_split(
    cut: tuple[str, list[str]], data: st.DataObject
) -> None:
    text, pieces = cut
    said = data.draw(st.integers(0, len(text)))
    places = data.draw(st.lists(st.integers(0, said), max_size=4).map(sorted))
    begun = [text[a:b] for a, b in zip([0, *places], [*places, said], strict=True)]
    got = heard([*begun, lost()], pieces, after_output="replay")
    assert "".join(map(text_of, got)) == text
    assert got[-1] is COMPLETED


@given(cut_texts(), st.data())
def test_a_continuation_gives_the_same_text_however_it_is_split(
    cut: tuple[str, list[str]], data: st.DataObject
) -> None:
    text, pieces = cut
    said = data.draw(st.text("ab .", min_size=1, max_size=9)) + text[: len(text) // 2]
    whole = "".join(map(text_of, heard([said, lost()], after_output=says(text))))
    got = "".join(map(text_of, heard([said, lost()], after_output=says(*pieces))))
    assert got == whole
    assert whole.startswith(said)
    assert (said + text).endswith(whole[len(said) :])
