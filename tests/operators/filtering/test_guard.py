"""`guard`: no text is passed on before a check has approved it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st
from reactivex.subject import Subject

from rxllm import operators as ops
from rxllm.chunks import (
    Batch,
    Chunk,
    End,
    Notice,
    Progress,
    Reasoning,
    Start,
    Token,
    ToolCall,
    Usage,
    text_of,
)
from rxllm.errors import ContentFilteredError, NoEventLoopError, StreamCancelledError
from rxllm.iteration import to_async
from rxllm.models.scripted import ScriptedModel
from rxllm.testing import COMPLETED, Marbles, no_leaks, run_virtual
from rxllm.valve import StreamScheduler, Valve
from tests.operators.texts import cut_texts, events_of, pieces_after


def fine(_: str) -> bool:
    return True


def no_bomb(text: str) -> bool:
    return "bomb" not in text


class RecordingCheck:
    """A check that records its arguments."""

    def __init__(self, check: Callable[[str], bool] = fine) -> None:
        self._check = check
        self.asked: list[str] = []

    def __call__(self, text: str) -> bool:
        self.asked.append(text)
        return self._check(text)


class SlowCheck:
    """A check that takes `seconds`, and records its arguments, calls and cancellations."""

    def __init__(self, seconds: float, check: Callable[[str], bool] = no_bomb) -> None:
        self._seconds = seconds
        self._check = check
        self.asked: list[str] = []
        self.running = self.cancelled = 0

    async def __call__(self, text: str) -> bool:
        self.asked.append(text)
        self.running += 1
        try:
            await asyncio.sleep(self._seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            await asyncio.sleep(0.5)  # a slow clean-up
            raise
        finally:
            self.running -= 1
        return self._check(text)


class Bench:
    """Records events and their times on an event loop with virtual time."""

    def __init__(self, stream: rx.Observable[Chunk]) -> None:
        loop = asyncio.get_running_loop()
        self.events: list[tuple[float, Any]] = []
        self.valve = Valve()
        self.done = asyncio.Event()
        self.scheduler = StreamScheduler(loop, self.valve)

        def add(event: Any) -> None:
            self.events.append((loop.time(), event))

        def end(error: Exception | None = None) -> None:
            add(COMPLETED if error is None else error)
            self.done.set()

        self.subscription = stream.subscribe(add, end, end, scheduler=self.scheduler)


def events_on_loop(stream: rx.Observable[Chunk]) -> list[tuple[float, Any]]:
    """The events of `stream` on an event loop, with a check for leaks."""

    async def main() -> list[tuple[float, Any]]:
        async with no_leaks():
            bench = Bench(stream)
            await bench.done.wait()
            await bench.scheduler.settle()
        return bench.events

    return run_virtual(main())


def events_from(script: list[Any], operator: Any) -> list[tuple[float, Any]]:
    """The output of `operator` on an event loop, without `Start` and `Usage`."""
    events = events_on_loop(ScriptedModel(script).stream("Hi").pipe(operator))
    return [event for event in events[1:] if type(event[1]) is not Usage]


def test_a_checked_window_is_sent_as_one_token(marbles: Marbles) -> None:
    check = RecordingCheck()
    stream = marbles.cold("S-a-b-c-d-e-f-g-(E,|)").pipe(ops.guard(check, every=3, context=2))
    assert marbles.run(stream) == [
        *marbles.expect("S"),
        (6.0, Token("abc")),
        (12.0, Token("def")),
        (16.0, Token("g")),
        (16.0, End("stop")),
        (16.0, COMPLETED),
    ]
    assert check.asked == ["abc", "bcdef", "efg"]


def test_by_default_200_characters_are_checked_with_the_50_before_them() -> None:
    check = RecordingCheck()
    text = "".join(chr(0x4E00 + number) for number in range(450))
    assert pieces_after(list(text), ops.guard(check)) == [text[:200], text[200:400], text[400:]]
    assert check.asked == [text[:200], text[150:400], text[350:]]


def test_the_context_may_be_empty() -> None:
    check = RecordingCheck()
    operator = ops.guard(check, every=2, context=0)
    assert pieces_after(["abcde"], operator) == ["ab", "cd", "e"]
    assert check.asked == ["ab", "cd", "e"]


def test_a_rejected_window_stops_the_stream(marbles: Marbles) -> None:
    source = marbles.cold("S-a-b-bo-mb-x-y-E|")
    assert marbles.run(source.pipe(ops.guard(no_bomb, every=2, context=2))) == [
        *marbles.expect("S"),
        (4.0, Token("ab")),
        (6.0, Token("bo")),
        (9.0, End("content_filter")),
        (9.0, COMPLETED),
    ]
    assert source.subscriptions == [(0.0, 9.0)]
    assert marbles.timers == []


def test_the_last_short_window_is_checked_too() -> None:
    for last in (["a bo", "mb"], ["bomb"]):
        events = events_of(last, ops.guard(no_bomb, on_violation="stop"))
        assert events[1:] == [Usage(1, len(last)), End("content_filter"), COMPLETED]


def test_the_error_holds_the_text_passed_on(marbles: Marbles) -> None:
    operator = ops.guard(no_bomb, every=3, on_violation="error")
    *passed, (time, error) = marbles.run(marbles.cold("abcde-fbomb--x-E|").pipe(operator))
    assert passed == [(0.0, Token("abc")), (6.0, Token("def")), (6.0, Token("bom"))]
    assert (time, type(error), error.partial) == (15.0, ContentFilteredError, "abcdefbom")


def test_a_replaced_window_is_not_used_as_context() -> None:
    check = RecordingCheck(no_bomb)
    operator = ops.guard(check, every=4, context=6, on_violation="replace")
    assert pieces_after(["abcdbombefgh"], operator) == ["abcd", "[removed]", "efgh"]
    assert check.asked == ["abcd", "abcdbomb", "moved]efgh"]
    silent = ops.guard(no_bomb, every=4, on_violation="replace", replacement="")
    assert pieces_after(["abcdbombefgh"], silent) == ["abcd", "efgh"]


def test_other_chunks_keep_their_place_in_the_text() -> None:
    call, thought, progress = ToolCall("1", "weather"), Reasoning("hm"), Progress(1, 0.5)
    script: list[str | Chunk] = [progress, "ab", call, "", "c", thought, "d", progress, "e"]
    assert events_of(script, ops.guard(fine, every=4))[1:-3] == [
        progress,
        Token("ab"),
        call,
        Token("c"),
        thought,
        Token("d"),
        progress,
        Token("e"),
    ]


def test_other_chunks_in_a_replaced_window_are_kept() -> None:
    call = ToolCall("1", "weather")
    operator = ops.guard(no_bomb, every=4, on_violation="replace")
    assert events_of(["bo", call, "mb", "ok"], operator)[1:4] == [
        Token("[removed]"),
        call,
        Token("ok"),
    ]


def test_output_after_dropped_text_is_dropped_too() -> None:
    call, usage, retry = ToolCall("1", "weather"), Usage(3, 4), Notice("retry")
    script: list[str | Chunk] = ["bo", call, usage, "mb", Reasoning("hm"), "more", retry]
    operator = ops.guard(no_bomb, every=100)
    assert events_of(script, operator)[1:-1] == [usage, retry, End("content_filter")]


def test_a_window_has_the_confidence_of_its_tokens() -> None:
    tokens = [Token("ab", 0.5), Token("cd", 0.5), Token("e", 0.8), Token("f")]
    assert events_of(tokens, ops.guard(fine, every=3))[1:3] == [
        Token("abc", 0.25),
        Token("def", None),
    ]


def test_text_in_a_batch_is_text() -> None:
    batch = Batch((Token("ab"), Reasoning("hm"), Token("cd")), "abcd")
    assert events_of([batch, "e"], ops.guard(fine, every=3))[1:-3] == [
        Token("ab"),
        Reasoning("hm"),
        Token("c"),
        Token("de"),
    ]


def test_never_and_empty() -> None:
    operator = ops.guard(lambda _: False)
    assert Marbles().run(rx.never().pipe(operator), until=1) == []
    marbles = Marbles()
    assert marbles.run(marbles.cold("S-(E,|)").pipe(operator)) == marbles.expect("S-(E,|)")
    assert marbles.valve._callbacks == {}


def test_an_error_drops_unchecked_text(marbles: Marbles) -> None:
    error, lookup = ValueError("broken"), {"U": Usage(1, 2), "h": Reasoning("hm")}
    source = marbles.cold("abc-d-h-U-#", error=error, lookup=lookup)
    assert marbles.run(source.pipe(ops.guard(fine, every=3))) == [
        (0.0, Token("abc")),
        (10.0, Usage(1, 2)),
        (10.0, error),
    ]


def test_a_check_that_raises_releases_nothing(marbles: Marbles) -> None:
    error, source = LookupError("no check"), marbles.cold("abc-d|")

    def check(_: str) -> bool:
        raise error

    assert marbles.run(source.pipe(ops.guard(check, every=2))) == [(0.0, error)]
    assert source.subscriptions == [(0.0, 0.0)]


def test_a_subscriber_error_is_not_a_stream_error() -> None:
    errors: list[Exception] = []

    def on_next(_: Chunk) -> None:
        raise LookupError("the subscriber's")

    marbles, stream = Marbles(), Subject[Chunk]()
    stream.pipe(ops.guard(fine, every=1)).subscribe(
        on_next, errors.append, scheduler=marbles.scheduler
    )
    with pytest.raises(LookupError):
        stream.on_next(Token("a"))
    assert errors == []


def test_a_restart_drops_held_text_and_starts_over(marbles: Marbles) -> None:
    check = RecordingCheck()
    operator = ops.guard(check, every=3)
    assert marbles.run(marbles.cold("abcd-R-efg-E|").pipe(operator)) == [
        (0.0, Token("abc")),
        (5.0, Notice("restart")),
        (7.0, Token("efg")),
        (11.0, End("stop")),
        (12.0, COMPLETED),
    ]
    assert check.asked == ["abc", "efg"]


def test_early_disposal_leaves_nothing(marbles: Marbles) -> None:
    source = marbles.cold("a-b-c-|")
    recording = marbles.subscribe(source.pipe(ops.guard(fine)))
    marbles.advance_to(3)
    recording.dispose()
    assert (recording.events, source.subscriptions) == ([], [(0.0, 3.0)])
    assert (marbles.timers, marbles.valve._callbacks) == ([], {})


def test_subscriptions_are_independent(marbles: Marbles) -> None:
    stream = marbles.cold("a-b-c|").pipe(ops.guard(fine, every=2))
    first = marbles.subscribe(stream)
    marbles.advance_to(1)
    second = marbles.subscribe(stream)
    marbles.advance_to(9)
    assert first.chunks == second.chunks == [Token("ab"), Token("c")]


def test_after_a_merge_only_the_rejected_source_ends(marbles: Marbles) -> None:
    left = marbles.cold("bo-mb-x-R-ok-E-|", source="left")
    right = marbles.cold("-b---o-----E---|", source="right")
    events = marbles.run(rx.merge(left, right).pipe(ops.guard(no_bomb, every=2, context=2)))
    assert [event for _, event in events] == [
        Token("bo", source="left"),
        End("content_filter", source="left"),
        Token("bo", source="right"),
        Notice("restart", source="left"),
        Token("ok", source="left"),
        End("stop", source="right"),
        End("stop", source="left"),
        COMPLETED,
    ]


def test_a_source_that_ends_with_a_short_window_ends_after_it(marbles: Marbles) -> None:
    left, right = marbles.cold("a-E-|", source="left"), marbles.cold("-b--|", source="right")
    assert marbles.run(rx.merge(left, right).pipe(ops.guard(fine, every=2))) == [
        (2.0, Token("a", source="left")),
        (2.0, End("stop", source="left")),
        (4.0, Token("b", source="right")),
        (4.0, COMPLETED),
    ]


def test_an_end_without_a_source_decides_all_sources(marbles: Marbles) -> None:
    left, whole = marbles.cold("-a--|", source="left"), marbles.cold("x-E|")
    assert marbles.run(rx.merge(left, whole).pipe(ops.guard(fine))) == [
        (2.0, Token("x")),
        (2.0, Token("a", source="left")),
        (2.0, End("stop")),
        (4.0, COMPLETED),
    ]


def test_a_synchronous_source_is_not_checked_after_a_stop() -> None:
    check = RecordingCheck(lambda _: False)
    stream: rx.Observable[Chunk] = rx.of(Token("ab"), Token("cd"), End("stop"))
    events = Marbles().run(stream.pipe(ops.guard(check, every=2)))
    assert [event for _, event in events] == [End("content_filter"), COMPLETED]
    assert check.asked == ["ab"]


def test_no_check_starts_while_the_valve_is_closed(marbles: Marbles) -> None:
    check = RecordingCheck()
    marbles.at(1, marbles.valve.close)
    marbles.at(20, marbles.valve.open)
    source = marbles.cold("ab-cd-ef-(E,|)")
    stream = source.pipe(ops.guard(check, every=2, context=0))
    recording = marbles.subscribe(stream)
    marbles.advance_to(19)
    assert (check.asked, recording.chunks) == (["ab"], [Token("ab")])
    marbles.advance_to(21)
    assert recording.events[1:] == [
        (20.0, Token("cd")),
        (20.0, Token("ef")),
        (20.0, End("stop")),
        (20.0, COMPLETED),
    ]


def test_demand_reaches_the_source(marbles: Marbles) -> None:
    marbles.at(1, marbles.valve.close)
    recording = marbles.subscribe(marbles.cold("a-b-c", demand=True).pipe(ops.guard(fine, every=1)))
    marbles.advance_to(9)
    assert recording.chunks == [Token("a")]
    marbles.valve.open()
    assert recording.chunks == [Token("a"), Token("b"), Token("c")]


def test_many_sources_waiting_for_a_full_window_do_not_pause_upstream(marbles: Marbles) -> None:
    parts = [
        marbles.cold("abc-d-|", source=name, demand=True)
        for name in ("one", "two", "three", "four")
    ]
    events = marbles.run(rx.merge(*parts).pipe(ops.guard(fine, every=4)))
    assert [text_of(event) for _, event in events] == ["abcd"] * 4 + [""]


def test_a_coroutine_is_awaited() -> None:
    checks = SlowCheck(1.0)
    operator = ops.guard(checks, every=3, context=1)
    assert events_from(["abc", "de", "fg"], operator) == [
        (1.0, Token("abc")),
        (2.0, Token("def")),
        (3.0, Token("g")),
        (3.0, End("stop")),
        (3.0, COMPLETED),
    ]
    assert checks.asked == ["abc", "cdef", "fg"]


def test_a_future_is_awaited_and_a_check_may_mix_both() -> None:
    def check(text: str) -> bool | Awaitable[bool]:
        if text == "ab":
            return True
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(1.0, future.set_result, text != "ef")
        return future

    assert events_from(["abcdef"], ops.guard(check, every=2, context=0)) == [
        (0.0, Token("ab")),
        (1.0, Token("cd")),
        (2.0, End("content_filter")),
        (2.0, COMPLETED),
    ]


def test_other_chunks_and_the_end_wait_for_the_check_before_them() -> None:
    progress = Progress(1, 0.5)
    operator = ops.guard(SlowCheck(1.0), every=3)
    assert events_from(["abc", progress, Reasoning("hm")], operator) == [
        (1.0, Token("abc")),
        (1.0, progress),
        (1.0, Reasoning("hm")),
        (1.0, End("stop")),
        (1.0, COMPLETED),
    ]


@pytest.mark.parametrize(
    ("on_violation", "last"),
    [("stop", "End"), ("error", "ContentFilteredError"), ("replace", "End")],
)
def test_a_window_rejected_after_a_while(on_violation: Any, last: str) -> None:
    model = ScriptedModel(["abcd", "bomb", "more"], delay=0.4)
    operator = ops.guard(SlowCheck(1.0), every=4, on_violation=on_violation)
    events = events_on_loop(model.stream("Hi").pipe(operator))
    assert "".join(text_of(event) for _, event in events) == (
        "abcd" if on_violation != "replace" else "abcd[removed]more"
    )
    end = [event for _, event in events if event is not COMPLETED][-1]
    assert type(end).__name__ == last
    assert model.active == 0


def test_a_stop_disposes_the_source_at_once() -> None:
    model = ScriptedModel(["bomb", *["more"] * 9], delay=1.0)
    events = events_on_loop(model.stream("Hi").pipe(ops.guard(SlowCheck(0.5), every=4)))
    assert events[1:] == [(1.5, End("content_filter")), (1.5, COMPLETED)]
    assert (model.cancelled, model.active) == (1, 0)


def test_an_asynchronous_check_that_raises_releases_nothing() -> None:
    async def check(_: str) -> bool:
        raise LookupError("no check")

    *_, (_, error) = events = events_from(["abc"], ops.guard(check, every=3))
    assert (len(events), type(error)) == (1, LookupError)


def test_a_check_cancelled_from_outside_is_an_error() -> None:
    async def check(_: str) -> bool:
        raise asyncio.CancelledError

    *_, (_, error) = events = events_from(["abc"], ops.guard(check, every=3))
    assert (len(events), type(error)) == (1, StreamCancelledError)


def test_an_error_of_the_source_cancels_the_check() -> None:
    checks, error = SlowCheck(9.0), ConnectionResetError()
    assert events_from(["abc", 1.0, error], ops.guard(checks, every=3)) == [(1.0, error)]
    assert (checks.cancelled, checks.running) == (1, 0)


def test_a_restart_cancels_the_running_check() -> None:
    checks = SlowCheck(2.0)
    script = ["abc", 1.0, Notice("restart"), "xyz"]
    assert events_from(script, ops.guard(checks, every=3))[:2] == [
        (1.0, Notice("restart")),
        (3.0, Token("xyz")),
    ]
    assert (checks.asked, checks.cancelled) == (["abc", "xyz"], 1)


def test_disposal_cancels_the_check_and_its_end_can_be_awaited() -> None:
    checks = SlowCheck(9.0)

    async def main() -> float:
        bench = Bench(ScriptedModel("abc").stream("Hi").pipe(ops.guard(checks, every=3)))
        await asyncio.sleep(1)
        bench.subscription.dispose()
        await bench.scheduler.settle()
        assert (checks.cancelled, checks.running) == (1, 0)
        assert [type(event).__name__ for _, event in bench.events] == ["Start"]
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == 1.5


def test_a_check_disposed_before_it_starts_is_silent() -> None:
    checks = SlowCheck(9.0)

    async def main() -> None:
        async with no_leaks():
            stream: rx.Observable[Chunk] = rx.concat(rx.of(Token("abc")), rx.never())
            bench = Bench(stream.pipe(ops.guard(checks, every=3)))
            bench.subscription.dispose()
            await bench.scheduler.settle()

    run_virtual(main())
    assert checks.asked == []


def test_a_check_that_fails_while_being_cancelled_is_reported_to_the_loop() -> None:
    reported: list[dict[str, Any]] = []

    async def check(_: str) -> bool:
        try:
            await asyncio.sleep(9)
        finally:
            raise LookupError("in the clean-up")

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: reported.append(context)
        )
        bench = Bench(ScriptedModel("abc").stream("Hi").pipe(ops.guard(check, every=3)))
        await asyncio.sleep(1)
        bench.subscription.dispose()
        await bench.scheduler.settle()

    run_virtual(main())
    assert [type(context["exception"]) for context in reported] == [LookupError]


def test_a_subscriber_that_raises_after_a_check_closes_the_source() -> None:
    reported: list[dict[str, Any]] = []
    model, errors = ScriptedModel(["abc", 5.0, "def"]), list[Exception]()

    def on_next(chunk: Chunk) -> None:
        if text_of(chunk):
            raise LookupError("the subscriber's")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reported.append(context))
        model.stream("Hi").pipe(ops.guard(SlowCheck(1.0), every=3)).subscribe(
            on_next, errors.append, scheduler=StreamScheduler(loop)
        )
        await asyncio.sleep(2)

    run_virtual(main())
    assert [type(context["exception"]) for context in reported] == [LookupError]
    assert (errors, model.active, model.cancelled) == ([], 0, 1)


def test_without_an_event_loop_a_coroutine_is_an_error(marbles: Marbles) -> None:
    events = marbles.run(marbles.cold("abc-d|").pipe(ops.guard(SlowCheck(1.0), every=3)))
    assert [type(event) for _, event in events] == [NoEventLoopError]


def test_upstream_continues_during_a_check_up_to_two_windows() -> None:
    checks, model = SlowCheck(100.0), ScriptedModel(["abcde"] * 100, delay=0.01)

    async def main() -> None:
        async with no_leaks():
            bench = Bench(model.stream("Hi").pipe(ops.guard(checks, every=200)))
            await asyncio.sleep(50)
            assert model.active == 1
            assert checks.asked == ["abcde" * 40]
            assert sum(len(text_of(event)) for _, event in bench.events) == 0
            await bench.done.wait()
        assert [time for time, event in bench.events if text_of(event)] == [100.4, 200.4, 300.4]

    run_virtual(main())


def test_at_most_two_windows_and_a_chunk_wait_while_a_check_runs() -> None:
    sent: list[int] = []

    async def main() -> None:
        def count(chunk: Chunk) -> Chunk:
            sent.append(len(text_of(chunk)))
            return chunk

        model = ScriptedModel(["abcde"] * 100, delay=0.01)
        stream = model.stream("Hi").pipe(ops.filters(count), ops.guard(SlowCheck(9.0), every=20))
        async with no_leaks():
            bench = Bench(stream)
            await asyncio.sleep(8)
            assert sum(sent) == 45
            bench.valve.close()
            await asyncio.sleep(30)
            assert sum(len(text_of(event)) for _, event in bench.events) == 20
            assert sum(sent) == 45
            bench.subscription.dispose()
            await bench.scheduler.settle()

    run_virtual(main())


def test_streams_of_a_merge_are_checked_concurrently() -> None:
    def of(source: str, *texts: str) -> rx.Observable[Chunk]:
        script = [Token(text, source=source) for text in texts]
        return rx.of(*script, End("stop", source=source))

    stream = rx.merge(of("left", "abc", "d"), of("right", "bomb", "x"))
    assert events_on_loop(stream.pipe(ops.guard(SlowCheck(1.0), every=3, context=3))) == [
        (1.0, Token("abc", source="left")),
        (1.0, Token("bom", source="right")),
        (2.0, Token("d", source="left")),
        (2.0, End("stop", source="left")),
        (2.0, End("content_filter", source="right")),
        (2.0, COMPLETED),
    ]


def test_a_restart_after_a_waiting_end_cancels_the_check_at_once() -> None:
    checks, stream = SlowCheck(1.0), Subject[Chunk]()

    async def main() -> list[tuple[float, Any]]:
        bench = Bench(stream.pipe(ops.guard(checks, every=9)))
        stream.on_next(Token("abc"))
        stream.on_next(End("stop"))
        await asyncio.sleep(0.5)
        stream.on_next(Notice("restart"))
        stream.on_next(Token("de"))
        stream.on_completed()
        await bench.done.wait()
        await bench.scheduler.settle()
        return bench.events

    assert run_virtual(main()) == [
        (0.5, Notice("restart")),
        (1.5, Token("de")),
        (1.5, COMPLETED),
    ]
    assert (checks.asked, checks.cancelled) == (["abc", "de"], 1)


def test_chunks_before_a_restart_are_sent_before_it() -> None:
    usage, progress, start = Usage(1, 2), Progress(1, 0.5), Start("2", "model")
    chunks: list[Chunk] = [Token("abc"), progress, End("stop"), usage, Notice("retry"), start]
    chunks += [Token("no"), Notice("restart"), Token("de"), End("length")]
    assert events_on_loop(rx.of(*chunks).pipe(ops.guard(SlowCheck(1.0), every=9))) == [
        *((0.0, each) for each in (progress, usage, Notice("retry"), start, Notice("restart"))),
        (1.0, Token("de")),
        (1.0, End("length")),
        (1.0, COMPLETED),
    ]


def test_a_restart_of_one_source_leaves_the_others_waiting() -> None:
    chunks: list[Chunk] = [
        Token("abc", source="left"),
        Token("xyz", source="right"),
        End("stop"),
        Token("no", source="left"),
        Token("more", source="right"),
        Notice("restart", source="left"),
        Token("new", source="left"),
    ]
    assert events_on_loop(rx.of(*chunks).pipe(ops.guard(SlowCheck(1.0), every=3))) == [
        (0.0, Notice("restart", source="left")),
        (1.0, Token("xyz", source="right")),
        (1.0, End("stop")),
        (2.0, Token("mor", source="right")),
        (2.0, Token("new", source="left")),
        (3.0, Token("e", source="right")),
        (3.0, COMPLETED),
    ]


@pytest.mark.parametrize("last", [End("stop", source="x"), Notice("restart", source="x")])
def test_chunks_that_arrive_while_a_window_is_sent_follow_it(last: Chunk) -> None:
    """The subscriber opens its valve inside on_next, which resumes the source."""
    got: list[Chunk] = []
    window: list[Chunk] = [
        Token("ab", source="x"),
        Progress(1, 1.0, source="x"),
        Token("c", source="x"),
    ]
    stream = Subject[Chunk]()

    async def main() -> None:
        valve = Valve()

        def on_next(chunk: Chunk) -> None:
            got.append(chunk)
            valve.open()

        stream.pipe(ops.guard(SlowCheck(1.0), every=3)).subscribe(
            on_next, scheduler=StreamScheduler(asyncio.get_running_loop(), valve)
        )
        for chunk in window:
            stream.on_next(chunk)
        valve.close()
        valve.on_change(lambda is_open: stream.on_next(last) if is_open else None)
        await asyncio.sleep(2)

    run_virtual(main())
    assert got == [*window, last]


def test_other_chunks_waiting_behind_an_end_are_sent_before_an_error() -> None:
    error, usage, progress = ValueError("x"), Usage(1, 2), Progress(1, 0.5)
    chunks: list[Chunk] = [Token("abc"), End("stop"), usage, Reasoning("hm"), progress]
    stream = rx.concat(rx.of(*chunks), rx.throw(error))
    events = events_on_loop(stream.pipe(ops.guard(SlowCheck(1.0), every=3)))
    assert [event for _, event in events] == [usage, progress, error]


def test_a_failed_stream_of_a_merge_is_no_longer_checked() -> None:
    failed = Notice("failed", source="left")
    chunks: list[Chunk] = [Token("abc", source="left"), Token("xyz", source="right"), failed]
    checks = SlowCheck(1.0)
    assert events_on_loop(rx.of(*chunks).pipe(ops.guard(checks, every=3))) == [
        (0.0, failed),
        (1.0, Token("xyz", source="right")),
        (1.0, COMPLETED),
    ]


def test_a_check_that_disposes_the_stream_is_not_awaited() -> None:
    async def main() -> None:
        async with no_leaks():
            checks = SlowCheck(9.0)

            def check(text: str) -> Awaitable[bool]:
                bench.subscription.dispose()
                return checks(text)

            stream = Subject[Chunk]()
            bench = Bench(stream.pipe(ops.guard(check, every=3)))
            stream.on_next(Token("abc"))
            await bench.scheduler.settle()
            assert (bench.events, checks.asked) == ([], [])

    run_virtual(main())


def test_nothing_leaks_under_a_sink() -> None:
    async def main() -> list[Any]:
        model = ScriptedModel("a long and harmless story", by="word", delay=0.07)
        async with no_leaks():
            stream = model.stream("Hi").pipe(ops.guard(SlowCheck(0.3), every=7))
            return [chunk async for chunk in to_async(stream)]

    assert "".join(map(text_of, run_virtual(main()))) == "a long and harmless story"


@given(cut_texts(), st.integers(1, 9), st.integers(0, 9))
def test_the_pieces_are_the_same_however_the_text_is_cut(
    cut: tuple[str, list[str]], every: int, context: int
) -> None:
    text, pieces = cut

    def check(text: str) -> bool:
        return "a" not in text

    operator = ops.guard(check, every=every, context=context, on_violation="replace")
    expected, known = [], ""
    for place in range(0, len(text), every):
        window = text[place : place + every]
        expected.append(
            window if check(known[max(0, len(known) - context) :] + window) else "[removed]"
        )
        known += expected[-1]
    assert pieces_after(pieces, operator) == expected
    assert pieces_after(list(text), operator) == expected


@given(cut_texts(), st.integers(1, 9))
def test_the_pieces_are_the_same_with_an_asynchronous_check(
    cut: tuple[str, list[str]], every: int
) -> None:
    text, pieces = cut
    operator = ops.guard(SlowCheck(1.0), every=every)
    events = events_from([Token(piece) for piece in pieces], operator)
    got = [text_of(event) for _, event in events if text_of(event)]
    assert got == [text[place : place + every] for place in range(0, len(text), every)]


@given(cut_texts())
def test_rejected_text_is_never_sent(cut: tuple[str, list[str]]) -> None:
    text, pieces = cut
    operator = ops.guard(lambda text: "bad" not in text, every=5, context=4)
    end, passed = events_of(pieces, operator)[-2], "".join(pieces_after(pieces, operator))
    assert text.startswith(passed)
    assert end == (End("content_filter") if "bad" in text else End("stop"))
    assert "bad" not in passed


@pytest.mark.parametrize(
    ("check", "options", "error", "message"),
    [
        ("bad", {}, TypeError, "function of a string"),
        (fine, {"every": 0}, ValueError, "every"),
        (fine, {"every": 1.5}, TypeError, "every"),
        (fine, {"every": True}, TypeError, "every"),
        (fine, {"every": "3"}, TypeError, "every"),
        (fine, {"context": float("nan")}, TypeError, "context"),
        (fine, {"context": -1}, ValueError, "context"),
        (fine, {"on_violation": "warn"}, ValueError, "'stop', 'error', 'replace'"),
        (fine, {"replacement": None}, TypeError, "replacement"),
    ],
)
def test_bad_arguments_are_rejected_at_the_call(
    check: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ops.guard(check, **options)
