"""`fallback_to`: another model answers after a failure."""

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


def test_a_stream_that_does_not_fail_is_unchanged(marbles: Marbles) -> None:
    backup = marbles.cold("x|")
    diagram = "S-a-b-(E,|)"
    events = marbles.run(marbles.cold(diagram).pipe(ops.fallback_to(backup)))
    assert (events, backup.subscriptions) == (marbles.expect(diagram), [])


def test_the_answering_model_is_named_after_a_notice(marbles: Marbles) -> None:
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


def test_a_model_that_can_not_be_loaded_is_replaced(marbles: Marbles) -> None:
    model = ScriptedModel([ModelLoadError("no such file")], name="large")
    backup = ScriptedModel("Hello", name="small")
    events = marbles.run(model.stream("Hi").pipe(ops.fallback_to(backup.stream("Hi"))))
    starts = [event.model for _, event in events if isinstance(event, Start)]
    assert (starts, events[-1][1]) == (["large", "small"], COMPLETED)


def test_all_models_failed_has_each_error_in_order(marbles: Marbles) -> None:
    errors = [LOST, StallTimeoutError("silent"), ModelLoadError("no such file")]
    source, *backups = [marbles.cold("-#", error=error) for error in errors]
    *notices, (time, failure) = marbles.run(source.pipe(ops.fallback_to(*backups)))
    assert notices == [(1.0, fallback(2, errors[0])), (2.0, fallback(3, errors[1]))]
    assert (time, type(failure)) == (3.0, AllModelsFailedError)
    assert (failure.errors, failure.__cause__) == (tuple(errors), errors[2])
    assert "no such file" in str(failure)


def test_an_optional_apology_at_the_end(marbles: Marbles) -> None:
    source, backup = marbles.cold("#", error=LOST), marbles.cold("#", error=LOST)
    events = marbles.run(source.pipe(ops.fallback_to(backup, apology="Sorry, try later.")))
    assert [type(event).__name__ for _, event in events] == [
        "Notice", "Notice", "Start", "Token", "End", "_Completed",
    ]  # fmt: skip
    assert events[1][1].error.type == "AllModelsFailedError"
    assert events[3][1] == Token("Sorry, try later.")


def test_an_apology_without_streams(marbles: Marbles) -> None:
    events = marbles.run(marbles.cold("#", error=LOST).pipe(ops.fallback_to(apology="Sorry.")))
    assert events[-1][1] is COMPLETED


@pytest.mark.parametrize(("after_output", "says"), [("fail", "a"), ("restart", "Sorry.")])
def test_an_apology_is_not_a_continuation(marbles: Marbles, after_output: Any, says: str) -> None:
    operator = ops.fallback_to(
        marbles.cold("#", error=LOST), apology="Sorry.", after_output=after_output
    )
    events = marbles.run(marbles.cold("a#", error=LOST).pipe(operator))
    seen = ""
    for _, event in events:
        seen = "" if event == Notice("restart") else seen + text_of(event)
    assert seen == says
    assert events[-1][1] is (LOST if after_output == "fail" else COMPLETED)


def test_a_continuation_without_streams_left_is_all_models_failed(marbles: Marbles) -> None:
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
def test_errors_classified_as_raise_are_passed_on(marbles: Marbles, error: Exception) -> None:
    backup = marbles.cold("x|")
    operator = ops.fallback_to(backup, apology="Sorry.")
    events = marbles.run(marbles.cold("-#", error=error).pipe(operator))
    assert (events, backup.subscriptions) == ([(1.0, error)], [])


def test_a_wrong_key_is_logged_as_a_warning(
    marbles: Marbles, caplog: pytest.LogCaptureFixture
) -> None:
    source = marbles.cold("#", error=AuthenticationError("no such key", status=401))
    with caplog.at_level(logging.WARNING, "rxllm"):
        marbles.run(source.pipe(ops.fallback_to(marbles.cold("x|"))))
    assert "no such key" in caplog.text


def test_when_replaces_the_policy(marbles: Marbles) -> None:
    operator = ops.fallback_to(marbles.cold("x|"), when=lambda _: "fallback")
    events = marbles.run(marbles.cold("#", error=KeyError()).pipe(operator))
    assert events[-1][1] is COMPLETED


def test_a_factory_is_called_only_when_needed_and_each_time(marbles: Marbles) -> None:
    made: list[Observable[Chunk]] = []

    def backup() -> Observable[Chunk]:
        made.append(marbles.cold("x|"))
        return made[-1]

    stream = marbles.cold("#", error=LOST).pipe(ops.fallback_to(backup))
    assert made == []
    marbles.run(stream)
    marbles.run(stream)
    assert len(made) == 2


def test_an_exception_of_a_factory_counts_as_a_failed_stream(marbles: Marbles) -> None:
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


def test_a_last_factory_that_raises_or_returns_no_stream_is_the_error(marbles: Marbles) -> None:
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
def test_after_output_no_text_is_repeated(
    marbles: Marbles, after_output: str, backup: str, expected: str
) -> None:
    stream = marbles.cold(backup, lookup=BACKUP)
    choice: Any = (lambda _: stream) if after_output == "continue" else after_output
    source = marbles.cold("S-ab-#", error=ConnectionFailedError("cut"))
    seen = ""
    for _, event in marbles.run(source.pipe(ops.fallback_to(stream, after_output=choice))):
        seen = "" if event == Notice("restart") else seen + text_of(event)
    assert seen == expected


def test_retry_and_fallback_work_together(marbles: Marbles) -> None:
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


def test_a_stall_falls_back_at_once_without_a_retry(marbles: Marbles) -> None:
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


def test_early_disposal_disposes_the_running_stream(marbles: Marbles) -> None:
    source, backup = marbles.cold("-#", error=LOST), marbles.cold("a-b-c|")
    recording = marbles.subscribe(source.pipe(ops.fallback_to(backup)))
    marbles.advance_to(2)
    recording.dispose()
    assert (source.subscriptions, backup.subscriptions) == ([(0.0, 1.0)], [(1.0, 2.0)])
    assert marbles.timers == []


def test_two_subscriptions_are_independent(marbles: Marbles) -> None:
    stream = marbles.cold("S#", error=LOST).pipe(ops.fallback_to(marbles.cold("a|")))
    first, second = marbles.subscribe(stream), marbles.subscribe(stream)
    marbles.advance_to(9)
    assert first.events == second.events


def test_after_a_merge_the_next_stream_replaces_all_sources(marbles: Marbles) -> None:
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


def test_many_backups_that_fail_synchronously_do_not_grow_the_stack(marbles: Marbles) -> None:
    failing: Observable[Chunk] = rx.throw(LOST)
    events = marbles.run(failing.pipe(ops.fallback_to(*[failing] * 5000)))
    assert len(events[-1][1].errors) == 5001


def test_nothing_leaks_on_an_event_loop() -> None:
    model, backup = ScriptedModel([1.0, LOST]), ScriptedModel("a b", by="word", delay=1)

    async def main() -> str:
        async with no_leaks():
            stream = model.stream("Hi").pipe(ops.fallback_to(backup.stream("Hi")))
            return "".join([text_of(chunk) async for chunk in to_async(stream)])

    assert run_virtual(main()) == "a b"
    assert (model.active, backup.active) == (0, 0)


def test_bad_arguments_are_refused_at_the_call() -> None:
    stream: Observable[Chunk] = rx.never()
    with pytest.raises(ValueError, match="at least one stream"):
        ops.fallback_to()
    with pytest.raises(ValueError, match="apology"):
        ops.fallback_to(stream, apology="")
    with pytest.raises(ValueError, match="after_output"):
        ops.fallback_to(stream, after_output="maybe")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="takes streams"):
        ops.fallback_to(ScriptedModel("a"))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="apology"):
        ops.fallback_to(apology=5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="when"):
        ops.fallback_to(stream, when="next")  # type: ignore[arg-type]
