"""`fallback_to`: another model answers (rows A11, F3)."""

import logging
from typing import Any

import pytest
import reactivex as rx
from reactivex import Observable

from rxllm import operators as ops
from rxllm.chunks import Chunk, End, ErrorInfo, Notice, Start, Token, text_of
from rxllm.errors import (
    AllModelsFailedError,
    AuthenticationError,
    BadRequestError,
    ConnectionFailedError,
    ModelLoadError,
    StallTimeoutError,
    TotalTimeoutError,
)
from rxllm.iteration import to_async
from rxllm.models.scripted import ScriptedModel
from rxllm.testing import COMPLETED, Marbles, no_leaks, run_virtual

LOST = ConnectionResetError("reset")
FIRST, SECOND = Start("request-1", "model"), Start("request-2", "backup")
BACKUP = {"T": SECOND}


def fallback(attempt: int, error: Exception = LOST) -> Notice:
    return Notice("fallback", attempt=attempt, error=ErrorInfo.of(error))


def test_a_stream_that_does_not_fail_passes_as_it_came(marbles: Marbles) -> None:
    backup = marbles.cold("x|")
    diagram = "S-a-b-(E,|)"
    events = marbles.run(marbles.cold(diagram).pipe(ops.fallback_to(backup)))
    assert (events, backup.subscriptions) == (marbles.expect(diagram), [])


def test_f3_the_one_that_answers_is_named_after_a_notice(marbles: Marbles) -> None:
    source, backup = marbles.cold("S-#", error=LOST), marbles.cold("T-a-(E,|)", lookup=BACKUP)
    assert marbles.run(source.pipe(ops.fallback_to(backup))) == [
        (0.0, FIRST),
        (2.0, fallback(2)),
        (2.0, SECOND),
        (4.0, Token("a")),
        (6.0, End("stop")),
        (6.0, COMPLETED),
    ]
    assert (source.subscriptions, backup.subscriptions) == ([(0.0, 2.0)], [(2.0, 6.0)])


def test_a11_a_model_that_can_not_be_loaded_is_answered(marbles: Marbles) -> None:
    model = ScriptedModel([ModelLoadError("no such file")], name="large")
    backup = ScriptedModel("Hello", name="small")
    events = marbles.run(model.stream("Hi").pipe(ops.fallback_to(backup.stream("Hi"))))
    starts = [event.model for _, event in events if isinstance(event, Start)]
    assert (starts, events[-1][1]) == (["large", "small"], COMPLETED)


def test_f3_all_failed_holds_each_error_in_order(marbles: Marbles) -> None:
    errors = [LOST, StallTimeoutError("silent"), ModelLoadError("no such file")]
    source, *backups = [marbles.cold("-#", error=error) for error in errors]
    *told, (time, failure) = marbles.run(source.pipe(ops.fallback_to(*backups)))
    assert told == [(1.0, fallback(2, errors[0])), (2.0, fallback(3, errors[1]))]
    assert (time, type(failure)) == (3.0, AllModelsFailedError)
    assert (failure.errors, failure.__cause__) == (tuple(errors), errors[2])
    assert "no such file" in str(failure)


def test_f3_a_final_apology_if_asked_for(marbles: Marbles) -> None:
    source, backup = marbles.cold("#", error=LOST), marbles.cold("#", error=LOST)
    events = marbles.run(source.pipe(ops.fallback_to(backup, apology="Sorry, try later.")))
    assert [type(event).__name__ for _, event in events] == [
        "Notice", "Notice", "Start", "Token", "End", "_Completed",
    ]  # fmt: skip
    assert events[1][1].error.type == "AllModelsFailedError"
    assert events[3][1] == Token("Sorry, try later.")


def test_an_apology_alone_will_do(marbles: Marbles) -> None:
    events = marbles.run(marbles.cold("#", error=LOST).pipe(ops.fallback_to(apology="Sorry.")))
    assert events[-1][1] is COMPLETED


@pytest.mark.parametrize(("after_output", "says"), [("fail", "a"), ("restart", "Sorry.")])
def test_an_apology_is_no_continuation(marbles: Marbles, after_output: Any, says: str) -> None:
    operator = ops.fallback_to(
        marbles.cold("#", error=LOST), apology="Sorry.", after_output=after_output
    )
    events = marbles.run(marbles.cold("a#", error=LOST).pipe(operator))
    seen = ""
    for _, event in events:
        seen = "" if event == Notice("restart") else seen + text_of(event)
    assert seen == says
    assert events[-1][1] is (LOST if after_output == "fail" else COMPLETED)


def test_where_a_continuation_has_nobody_left_all_have_failed(marbles: Marbles) -> None:
    error = ConnectionFailedError("cut")
    operator = ops.fallback_to(
        marbles.cold("x|"),
        apology="Sorry.",
        after_output=lambda _: marbles.cold("b#", error=error),
    )
    events = marbles.run(marbles.cold("a#", error=LOST).pipe(operator))
    assert [event for _, event in events[:3]] == [Token("a"), fallback(2), Token("b")]
    assert isinstance(events[3][1], AllModelsFailedError)
    assert events[3][1].partial == "ab"


@pytest.mark.parametrize("error", [BadRequestError("no"), TotalTimeoutError("late"), KeyError()])
def test_what_classify_neither_is_the_error(marbles: Marbles, error: Exception) -> None:
    backup = marbles.cold("x|")
    operator = ops.fallback_to(backup, apology="Sorry.")
    events = marbles.run(marbles.cold("-#", error=error).pipe(operator))
    assert (events, backup.subscriptions) == ([(1.0, error)], [])


def test_a_wrong_key_is_a_warning_besides(
    marbles: Marbles, caplog: pytest.LogCaptureFixture
) -> None:
    source = marbles.cold("#", error=AuthenticationError("no such key", status=401))
    with caplog.at_level(logging.WARNING, "rxllm.recovery"):
        marbles.run(source.pipe(ops.fallback_to(marbles.cold("x|"))))
    assert "no such key" in caplog.text


def test_when_replaces_the_policy(marbles: Marbles) -> None:
    operator = ops.fallback_to(marbles.cold("x|"), when=lambda _: "fallback")
    events = marbles.run(marbles.cold("#", error=KeyError()).pipe(operator))
    assert events[-1][1] is COMPLETED


def test_a_factory_is_called_when_it_is_needed_and_each_time(marbles: Marbles) -> None:
    made: list[Observable[Chunk]] = []

    def backup() -> Observable[Chunk]:
        made.append(marbles.cold("x|"))
        return made[-1]

    stream = marbles.cold("#", error=LOST).pipe(ops.fallback_to(backup))
    assert made == []
    marbles.run(stream)
    marbles.run(stream)
    assert len(made) == 2


def test_a_factory_that_raises_has_failed_as_a_stream_does(marbles: Marbles) -> None:
    gone = ModelLoadError("gone")

    def backup() -> Observable[Chunk]:
        raise gone

    events = marbles.run(
        marbles.cold("#", error=LOST).pipe(ops.fallback_to(backup, marbles.cold("a|")))
    )
    assert [event for _, event in events] == [
        fallback(2), fallback(3, gone), Token("a"), COMPLETED,
    ]  # fmt: skip
    failure = marbles.run(marbles.cold("#", error=LOST).pipe(ops.fallback_to(backup)))[-1][1]
    assert failure.errors == (LOST, gone)


def test_a_factory_that_raises_or_gives_no_stream_is_the_error(marbles: Marbles) -> None:
    mine = LookupError("mine")

    def backup() -> Observable[Chunk]:
        raise mine

    events = marbles.run(marbles.cold("#", error=LOST).pipe(ops.fallback_to(backup)))
    assert events[-1][1] is mine
    no_stream: Any = lambda: "x"  # noqa: E731
    events = marbles.run(marbles.cold("#", error=LOST).pipe(ops.fallback_to(no_stream)))
    assert isinstance(events[-1][1], TypeError)


@pytest.mark.parametrize(
    ("after_output", "backup", "expected"),
    [
        ("fail", "T-abc|", "ab"),
        ("restart", "T-xyz|", "xyz"),
        ("replay", "T-abc|", "abc"),
        ("replay", "T-xyz|", "ab"),
        ("continue", "T-cde|", "abcde"),
    ],
)
def test_f10_after_output_no_text_comes_twice(
    marbles: Marbles, after_output: str, backup: str, expected: str
) -> None:
    stream = marbles.cold(backup, lookup=BACKUP)
    choice: Any = (lambda _: stream) if after_output == "continue" else after_output
    source = marbles.cold("S-ab-#", error=ConnectionFailedError("cut"))
    seen = ""
    for _, event in marbles.run(source.pipe(ops.fallback_to(stream, after_output=choice))):
        seen = "" if event == Notice("restart") else seen + text_of(event)
    assert seen == expected


def test_retry_and_fallback_go_together(marbles: Marbles) -> None:
    model, backup = ScriptedModel([ConnectionResetError()]), ScriptedModel("Hello")
    stream = model.stream("Hi").pipe(
        ops.retry_with_backoff(3, jitter=False), ops.fallback_to(backup.stream("Hi"))
    )
    notices = [event for _, event in marbles.run(stream) if isinstance(event, Notice)]
    assert [(notice.kind, notice.attempt) for notice in notices] == [
        ("retry", 2),
        ("retry", 3),
        ("fallback", 2),
    ]


def test_a_stall_is_answered_at_once_and_not_asked_again(marbles: Marbles) -> None:
    silent = marbles.cold("S")
    stream = silent.pipe(
        ops.timeouts(first=10), ops.retry_with_backoff(3), ops.fallback_to(marbles.cold("a|"))
    )
    events = marbles.run(stream)
    assert (events[2], events[-1][0]) == ((10.0, Token("a")), 11.0)
    assert silent.subscriptions == [(0.0, 10.0)]


def test_never_and_empty(marbles: Marbles) -> None:
    backup = marbles.cold("x|")
    assert marbles.run(marbles.cold("").pipe(ops.fallback_to(backup)), until=5) == []
    assert marbles.run(marbles.cold("|").pipe(ops.fallback_to(backup))) == [(5.0, COMPLETED)]


def test_early_disposal_disposes_the_one_that_runs(marbles: Marbles) -> None:
    source, backup = marbles.cold("-#", error=LOST), marbles.cold("a-b-c|")
    recording = marbles.subscribe(source.pipe(ops.fallback_to(backup)))
    marbles.advance_to(2)
    recording.dispose()
    assert (source.subscriptions, backup.subscriptions) == ([(0.0, 1.0)], [(1.0, 2.0)])
    assert marbles.timers == []


def test_two_subscriptions_know_nothing_of_each_other(marbles: Marbles) -> None:
    stream = marbles.cold("S#", error=LOST).pipe(ops.fallback_to(marbles.cold("a|")))
    first, second = marbles.subscribe(stream), marbles.subscribe(stream)
    marbles.advance_to(9)
    assert first.events == second.events


def test_after_a_merge_the_next_stream_answers_for_all(marbles: Marbles) -> None:
    left = marbles.cold("S--", source="left")
    right = marbles.cold("-#", source="right", error=LOST)
    events = marbles.run(rx.merge(left, right).pipe(ops.fallback_to(marbles.cold("a|"))))
    assert [event for _, event in events[1:]] == [fallback(2), Token("a"), COMPLETED]
    assert left.subscriptions == [(0.0, 1.0)]


def test_the_valve_reaches_the_backup(marbles: Marbles) -> None:
    marbles.valve.close()
    backup = marbles.cold("a-b|", demand=True)
    events = marbles.run(marbles.cold("#", error=LOST).pipe(ops.fallback_to(backup)))
    assert events == [(0.0, fallback(2))]


def test_many_backups_that_fail_at_once_do_not_pile_up_calls(marbles: Marbles) -> None:
    failing: Observable[Chunk] = rx.throw(LOST)
    events = marbles.run(failing.pipe(ops.fallback_to(*[failing] * 5000)))
    assert len(events[-1][1].errors) == 5001


def test_under_an_event_loop_nothing_is_left_behind() -> None:
    model, backup = ScriptedModel([1.0, LOST]), ScriptedModel("a b", by="word", delay=1)

    async def main() -> str:
        async with no_leaks():
            stream = model.stream("Hi").pipe(ops.fallback_to(backup.stream("Hi")))
            return "".join([text_of(chunk) async for chunk in to_async(stream)])

    assert run_virtual(main()) == "a b"
    assert (model.active, backup.active) == (0, 0)


def test_bad_arguments_are_refused_at_the_call() -> None:
    stream: Observable[Chunk] = rx.never()
    with pytest.raises(ValueError, match="one stream or more"):
        ops.fallback_to()
    with pytest.raises(ValueError, match="apology"):
        ops.fallback_to(stream, apology="")
    with pytest.raises(ValueError, match="after_output"):
        ops.fallback_to(stream, after_output="maybe")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="streams, or functions"):
        ops.fallback_to(ScriptedModel("a"))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="apology"):
        ops.fallback_to(apology=5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="when"):
        ops.fallback_to(stream, when="next")  # type: ignore[arg-type]
