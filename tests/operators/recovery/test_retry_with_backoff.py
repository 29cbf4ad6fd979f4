"""`retry_with_backoff`: a transient failure is retried."""

import random
from typing import Any

import pytest
import reactivex as rx
from reactivex import Observable, abc
from reactivex.disposable import Disposable

from rxllm import errors
from rxllm import operators as ops
from rxllm.chunks import Chunk, End, ErrorInfo, Notice, Start, Token, text_of
from rxllm.errors import (
    ConnectTimeoutError,
    RateLimitError,
    RxLLMError,
    ServerError,
    classify_error,
)
from rxllm.iteration import to_async
from rxllm.models.scripted import ScriptedModel
from rxllm.requests import as_request
from rxllm.testing import COMPLETED, Marbles, no_leaks, run_virtual

LOST = ConnectionResetError("reset")
START = Start("request-1", "model")


def one_after_another(*streams: Observable[Chunk]) -> Observable[Chunk]:
    """A stream for each subscriber in order; further subscribers get the last one."""
    left = list(streams)
    return rx.defer(lambda _: left.pop(0) if len(left) > 1 else left[0])


def retry(attempt: int, delay: float, error: Exception = LOST) -> Notice:
    return Notice("retry", attempt=attempt, delay=delay, error=ErrorInfo.of(error))


def exactly(**options: Any) -> Any:
    return ops.retry_with_backoff(jitter=False, **options)


def test_a_stream_that_does_not_fail_is_unchanged(marbles: Marbles) -> None:
    source = marbles.cold("S-a-b-(E,|)")
    assert marbles.run(source.pipe(exactly())) == marbles.expect("S-a-b-(E,|)")
    assert (marbles.timers, len(source.subscriptions)) == ([], 1)


def test_three_attempts_one_and_two_seconds_apart_each_announced(marbles: Marbles) -> None:
    source = marbles.cold("S-#", error=LOST)
    assert marbles.run(source.pipe(exactly())) == [
        (0.0, START),
        (2.0, retry(2, 1.0)),
        (3.0, START),
        (5.0, retry(3, 2.0)),
        (7.0, START),
        (9.0, LOST),
    ]
    assert source.subscriptions == [(0.0, 2.0), (3.0, 5.0), (7.0, 9.0)]
    assert marbles.timers == []


def test_the_whole_answer_is_that_of_the_successful_attempt(marbles: Marbles) -> None:
    source = one_after_another(marbles.cold("S-#", error=LOST), marbles.cold("S-a-b-(E,|)"))
    assert marbles.run(source.pipe(exactly())) == [
        (0.0, START),
        (2.0, retry(2, 1.0)),
        (3.0, START),
        (5.0, Token("a")),
        (7.0, Token("b")),
        (9.0, End("stop")),
        (9.0, COMPLETED),
    ]


def test_a_delay_never_exceeds_max_delay(marbles: Marbles) -> None:
    stream = marbles.cold("#", error=LOST).pipe(exactly(attempts=6, initial=10, max_delay=25))
    delays = [event.delay for _, event in marbles.run(stream)[:-1]]
    assert delays == [10, 20, 25, 25, 25]


def test_full_jitter_waits_between_zero_and_the_delay() -> None:
    def delays() -> list[float]:
        marbles = Marbles()
        stream = marbles.cold("#", error=LOST).pipe(ops.retry_with_backoff(5))
        return [event.delay for _, event in marbles.run(stream)[:-1]]

    tried = [delays() for _ in range(200)]
    for place, longest in enumerate([1, 2, 4, 8]):
        waited = [each[place] for each in tried]
        assert 0 <= min(waited) < longest * 0.2
        assert longest * 0.8 < max(waited) <= longest


def test_jitter_may_be_a_repeatable_function(marbles: Marbles) -> None:
    def spread(seed: int) -> list[float]:
        jitter = random.Random(seed).random().__mul__
        stream = marbles.cold("#", error=LOST).pipe(ops.retry_with_backoff(4, jitter=jitter))
        return [event.delay for _, event in marbles.run(stream)[:-1]]

    assert spread(7) == spread(7) != spread(8)


@pytest.mark.parametrize(("asked", "waited"), [(0.0, 1.0), (0.5, 1.0), (7.5, 7.5), (120.0, 120.0)])
def test_retry_after_is_honoured(marbles: Marbles, asked: float, waited: float) -> None:
    error = RateLimitError("slow down", retry_after=asked)
    source = marbles.cold("#", error=error)
    events = marbles.run(source.pipe(exactly(attempts=2)))
    assert events == [(0.0, retry(2, waited, error)), (waited, error)]


def test_a_retry_after_of_more_than_two_minutes_fails_at_once(marbles: Marbles) -> None:
    error = RateLimitError("come back tomorrow", retry_after=120.5)
    assert marbles.run(marbles.cold("#", error=error).pipe(exactly())) == [(0.0, error)]


def every_error() -> list[Exception]:
    made: list[Exception] = [TimeoutError(), ConnectionRefusedError(), ValueError(), KeyError()]
    for name in errors.__all__:
        kind = getattr(errors, name)
        if isinstance(kind, type) and issubclass(kind, RxLLMError):
            made.append(kind("why", [LOST]) if name == "AllModelsFailedError" else kind("why"))
    return made


@pytest.mark.parametrize("error", every_error(), ids=lambda error: type(error).__name__)
def test_errors_are_classified_by_class_not_by_message(marbles: Marbles, error: Exception) -> None:
    error.args = ("429 rate limit connection reset timeout 401 invalid",)  # must be ignored
    source = marbles.cold("#", error=error)
    assert marbles.run(source.pipe(exactly()))[-1][1] is error
    again = 2 if isinstance(error, ConnectTimeoutError) else 1
    assert len(source.subscriptions) == (3 if classify_error(error) == "retry" else again)


def test_a_connect_timeout_is_retried_once(marbles: Marbles) -> None:
    error = ConnectTimeoutError("10 s")
    source = marbles.cold("#", error=error)
    assert marbles.run(source.pipe(exactly(attempts=5)))[-1][1] is error
    assert len(source.subscriptions) == 2
    source = marbles.cold("#", error=error)
    marbles.run(source.pipe(exactly(attempts=5, when=classify_error)))
    assert len(source.subscriptions) == 1


@pytest.mark.parametrize(
    ("attempts", "notes"), [(1, []), (2, ["attempt 2 of 2"]), (3, ["attempt 3 of 3"])]
)
def test_the_last_error_says_how_many_attempts_there_were(
    marbles: Marbles, attempts: int, notes: list[str]
) -> None:
    error = ServerError("down")
    marbles.run(marbles.cold("#", error=error).pipe(exactly(attempts=attempts)))
    assert getattr(error, "__notes__", []) == notes


def test_when_replaces_the_policy(marbles: Marbles) -> None:
    picky = marbles.cold("#", error=LOST)
    marbles.run(picky.pipe(exactly(when=lambda _: "fallback")))
    eager = marbles.cold("#", error=ValueError("mine"))
    marbles.run(eager.pipe(exactly(when=lambda _: "retry")))
    assert (len(picky.subscriptions), len(eager.subscriptions)) == (1, 3)


def test_an_exception_of_the_policy_is_the_error_of_the_stream(marbles: Marbles) -> None:
    mine = LookupError("mine")

    def when(_: Exception) -> Any:
        raise mine

    assert marbles.run(marbles.cold("S-#").pipe(exactly(when=when))) == [(0.0, START), (2.0, mine)]


def test_never_and_empty(marbles: Marbles) -> None:
    assert marbles.run(marbles.cold("").pipe(exactly()), until=5) == []
    assert marbles.run(marbles.cold("|").pipe(exactly())) == [(5.0, COMPLETED)]


def test_early_disposal_disposes_the_attempt(marbles: Marbles) -> None:
    source = marbles.cold("S-a-#", error=LOST)
    recording = marbles.subscribe(source.pipe(exactly()))
    marbles.advance_to(3)
    recording.dispose()
    assert (source.subscriptions, marbles.timers) == ([(0.0, 3.0)], [])


def test_disposal_cancels_the_wait(marbles: Marbles) -> None:
    source = marbles.cold("#", error=LOST)
    recording = marbles.subscribe(source.pipe(exactly(initial=50)))
    marbles.advance_to(10)
    assert marbles.timers == [50.0]
    recording.dispose()
    marbles.advance_to(100)
    assert (source.subscriptions, marbles.timers) == ([(0.0, 0.0)], [])


def test_each_subscription_has_its_own_attempts(marbles: Marbles) -> None:
    stream = marbles.cold("S-#", error=LOST).pipe(exactly(attempts=2))
    first, second = marbles.subscribe(stream), marbles.subscribe(stream)
    marbles.advance_to(20)
    assert first.events == second.events
    assert len(first.events) == 4


def test_the_scheduler_and_the_valve_reach_every_attempt(marbles: Marbles) -> None:
    source = one_after_another(marbles.cold("#", error=LOST), marbles.cold("S-a-|", demand=True))
    marbles.at(2, marbles.valve.close)
    marbles.at(9, marbles.valve.open)
    assert marbles.run(source.pipe(exactly())) == [
        (0.0, retry(2, 1.0)),
        (1.0, START),
        (9.0, Token("a")),
        (9.0, COMPLETED),
    ]


def test_attempts_that_fail_synchronously_do_not_grow_the_stack(marbles: Marbles) -> None:
    calls = 0

    def fail(observer: abc.ObserverBase[Chunk], _: Any = None) -> abc.DisposableBase:
        nonlocal calls
        calls += 1
        observer.on_error(LOST)
        return Disposable()

    stream: Observable[Chunk] = Observable(fail)
    events = marbles.run(stream.pipe(exactly(attempts=20_000, initial=0)))
    assert (calls, len(events)) == (20_000, 20_000)


def test_an_exception_of_the_subscriber_is_not_retried(marbles: Marbles) -> None:
    mine = ConnectionResetError("in the subscriber")
    subscriptions = 0

    def send(observer: abc.ObserverBase[Chunk], _: Any = None) -> abc.DisposableBase:
        nonlocal subscriptions
        subscriptions += 1
        observer.on_next(Token("a"))
        return Disposable()

    def on_next(_: Chunk) -> None:
        raise mine

    stream: Observable[Chunk] = Observable(send)
    with pytest.raises(ConnectionResetError, match="in the subscriber"):
        stream.pipe(exactly(initial=0)).subscribe(on_next, scheduler=marbles.scheduler)
    assert subscriptions == 1


def test_after_output_the_default_is_the_error_with_the_partial_text(marbles: Marbles) -> None:
    error = errors.ConnectionFailedError("reset")
    source = marbles.cold("S-A-B-#", error=error)
    events = marbles.run(source.pipe(exactly()))
    assert events == [(0.0, START), (2.0, Token("A")), (4.0, Token("B")), (6.0, error)]
    assert (error.partial, len(source.subscriptions)) == ("AB", 1)


@pytest.mark.parametrize("after_output", ["restart", "replay", "continue"])
def test_retries_after_output_repeat_no_text(after_output: str) -> None:
    script: list[Any] = ["A", "B", ConnectionResetError()]
    model = ScriptedModel(script, script, ["A", "B", "C"])
    choice: Any = after_output
    if after_output == "continue":
        request = as_request("Say ABC")

        def choice(partial: str) -> Observable[Chunk]:
            return model.stream(request.continuing(partial))

    stream = model.stream("Say ABC").pipe(exactly(after_output=choice))
    seen = ""
    for _, event in Marbles().run(stream):
        seen = "" if event == Notice("restart") else seen + text_of(event)
    assert seen == "ABC"
    assert (len(model.requests), model.completed, model.active) == (3, 1, 0)


def test_a_merged_stream_is_retried_as_a_whole(marbles: Marbles) -> None:
    def merged() -> Observable[Chunk]:
        return rx.merge(marbles.cold("a-|", source="left"), marbles.cold("-#", error=LOST))

    stream = rx.defer(lambda _: merged()).pipe(exactly(attempts=2, after_output="restart"))
    assert marbles.run(stream) == [
        (0.0, Token("a", source="left")),
        (1.0, retry(2, 1.0)),
        (2.0, Notice("restart")),
        (2.0, Token("a", source="left")),
        (3.0, LOST),
    ]


def test_nothing_leaks_on_an_event_loop() -> None:
    model = ScriptedModel([ConnectionResetError()], [ConnectionResetError()], "Hello", delay=1)

    async def main() -> str:
        async with no_leaks():
            stream = model.stream("Hi").pipe(exactly())
            return "".join([text_of(chunk) async for chunk in to_async(stream)])

    assert run_virtual(main()) == "Hello"
    assert (model.failed, model.completed) == (2, 1)


@pytest.mark.parametrize(
    "bad",
    [
        {"attempts": 0},
        {"initial": -1},
        {"factor": 0.5},
        {"max_delay": float("inf")},
        {"after_output": "again"},
    ],
)
def test_values_out_of_range_are_refused_at_the_call(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        ops.retry_with_backoff(**bad)


@pytest.mark.parametrize("given", [float("nan"), float("inf"), "1", None])
def test_the_result_of_jitter_must_be_a_finite_number(marbles: Marbles, given: Any) -> None:
    stream = marbles.cold("#", error=LOST).pipe(ops.retry_with_backoff(jitter=lambda _: given))
    [(_, error)] = marbles.run(stream)
    assert isinstance(error, TypeError | ValueError)
    assert "the result of jitter" in str(error)


@pytest.mark.parametrize(("given", "waited"), [(-5.0, 0.0), (1e300, 365 * 86_400.0)])
def test_a_wait_is_limited_to_the_range_of_the_clock(
    marbles: Marbles, given: float, waited: float
) -> None:
    stream = marbles.cold("#", error=LOST).pipe(ops.retry_with_backoff(2, jitter=lambda _: given))
    assert marbles.run(stream, until=400 * 86_400.0) == [(0.0, retry(2, waited)), (waited, LOST)]


@pytest.mark.parametrize("asked", [float("nan"), -4.0])
def test_an_invalid_retry_after_is_ignored(marbles: Marbles, asked: float) -> None:
    source = marbles.cold("#", error=RateLimitError("slow down", retry_after=asked))
    assert [time for time, _ in marbles.run(source.pipe(exactly(attempts=2)))] == [0.0, 1.0]


@pytest.mark.parametrize("verdict", [None, "AGAIN", True])
def test_an_invalid_result_of_the_policy_is_an_error(marbles: Marbles, verdict: Any) -> None:
    error = LookupError("mine")
    stream = marbles.cold("#", error=error).pipe(exactly(when=lambda _: verdict))
    [(_, failure)] = marbles.run(stream)
    assert (type(failure), failure.__cause__) == (TypeError, error)
    assert "'retry', 'fallback' or 'raise'" in str(failure)


@pytest.mark.parametrize(
    "bad",
    [
        *({"attempts": number} for number in (float("nan"), float("inf"), 2.5, True, "3")),
        {"initial": True},
        {"factor": "2"},
        {"max_delay": None},
    ],
)
def test_arguments_of_the_wrong_type_are_refused_at_the_call(bad: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=next(iter(bad))):
        ops.retry_with_backoff(**bad)


@pytest.mark.parametrize("bad", [{"jitter": 0.5}, {"when": "again"}])
def test_arguments_that_are_not_callable_are_refused_at_the_call(bad: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=next(iter(bad))):
        ops.retry_with_backoff(**bad)


@pytest.mark.parametrize(
    ("options", "delays"),
    [
        ({}, [1.0, 2.0, 4.0, 8.0]),
        ({"factor": 1}, [1.0, 1.0, 1.0, 1.0]),
        ({"growth": "linear"}, [1.0, 2.0, 3.0, 4.0]),
        ({"growth": "linear", "initial": 2, "max_delay": 5}, [2.0, 4.0, 5.0, 5.0]),
    ],
)
def test_delays_grow_exponentially_linearly_or_not(options: Any, delays: list[float]) -> None:
    model = ScriptedModel([ConnectionResetError()])
    stream = model.stream("Hi").pipe(ops.retry_with_backoff(5, jitter=False, **options))
    notices = [event for _, event in Marbles().run(stream) if isinstance(event, Notice)]
    assert [notice.delay for notice in notices] == delays


def test_an_unknown_growth_is_rejected_at_the_call() -> None:
    with pytest.raises(ValueError, match="growth must be 'exponential' or 'linear', got 'cubic'"):
        ops.retry_with_backoff(growth="cubic")  # type: ignore[arg-type]
