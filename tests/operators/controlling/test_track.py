"""`track` and `StreamRegistry`: streams are listed, and can be paused and cancelled by id."""

import asyncio
import gc
import time
import weakref
from typing import Any

import msgspec
import pytest
import reactivex as rx

from rxllm import operators as ops
from rxllm.chunks import Chunk, End, ErrorInfo, Notice, Start, Token
from rxllm.errors import StreamStateError
from rxllm.operators import Pool, StreamInfo, StreamRegistry
from rxllm.testing import COMPLETED, Marbles
from rxllm.valve import StreamScheduler


@pytest.fixture
def registry() -> StreamRegistry:
    """An empty registry."""
    return StreamRegistry()


def test_the_stream_passes_unchanged(marbles: Marbles, registry: StreamRegistry) -> None:
    diagram = "S-a-R-b--(E,|)"
    assert marbles.run(marbles.cold(diagram).pipe(ops.track(registry))) == marbles.expect(diagram)


def test_id_status_start_duration_and_last_activity(
    marbles: Marbles, registry: StreamRegistry
) -> None:
    before = time.time()
    recording = marbles.subscribe(marbles.cold("--a---b").pipe(ops.track(registry, "story")))
    [stream] = registry.active
    assert (stream.id, stream.status, stream.duration) == ("story", "running", 0.0)
    assert before <= stream.started <= time.time()
    marbles.advance_to(5)
    assert (stream.duration, stream.idle) == (5.0, 3.0)
    assert stream.last_activity == pytest.approx(stream.started + 2.0)
    recording.dispose()
    marbles.advance_to(50)
    assert (stream.status, stream.duration, stream.idle) == ("cancelled", 5.0, 3.0)
    assert repr(stream) == "<stream 'story': cancelled>"


def test_a_snapshot_can_be_sent(marbles: Marbles, registry: StreamRegistry) -> None:
    marbles.run(marbles.cold("-a|").pipe(ops.track(registry, "story")), until=9)
    [info] = registry.snapshot()
    assert (info.id, info.status, info.duration) == ("story", "completed", 2.0)
    sent = msgspec.json.encode(info)
    assert b'"lastActivity"' in sent
    assert msgspec.json.decode(sent, type=StreamInfo) == info


def test_progress_and_estimated_end_can_be_pulled_by_id(
    marbles: Marbles, registry: StreamRegistry
) -> None:
    start = {"S": Start("1", "model", max_tokens=8)}
    stream = marbles.cold("S-a-b-c-d", lookup=start)
    marbles.subscribe(stream.pipe(ops.track_stages(every=2), ops.track(registry, "job")))
    assert registry["job"].estimated_end is None
    marbles.advance_to(4)
    info = registry["job"].info
    assert info.progress is not None
    assert (info.progress.stage, info.progress.percentage) == ("generate", 42.5)
    assert info.estimated_end == pytest.approx(info.started + 4 + 6)
    assert msgspec.json.decode(msgspec.json.encode(info), type=StreamInfo) == info


def test_a_paused_stream_has_no_estimated_end_and_then_a_later_one(
    marbles: Marbles, registry: StreamRegistry
) -> None:
    start = {"S": Start("1", "model", max_tokens=8)}
    stream = marbles.cold("S-a-b-c-d", lookup=start, demand=True)
    marbles.subscribe(stream.pipe(ops.track_stages(every=2), ops.track(registry, "job")))
    marbles.advance_to(4)
    estimated = registry["job"].estimated_end
    assert estimated is not None
    registry["job"].pause()
    assert registry["job"].estimated_end is None
    marbles.advance_to(7)
    registry["job"].pause()  # it is paused already
    marbles.advance_to(9)
    registry["job"].resume()
    assert registry["job"].estimated_end == pytest.approx(estimated + 5)


def test_why_a_stream_has_failed_can_be_pulled_by_id(
    marbles: Marbles, registry: StreamRegistry
) -> None:
    source = marbles.cold("S-a-#", error=ValueError("broken"))
    marbles.run(source.pipe(ops.track_stages(), ops.track(registry, "job")))
    info = registry["job"].info
    assert info.error == ErrorInfo("ValueError", "broken")
    assert info.progress is not None
    assert info.progress.stages[2].status == "failed"


@pytest.mark.parametrize("is_stopped", [True, False])
def test_the_stage_during_which_a_stream_was_cancelled_is_cancelled(
    is_stopped: bool, marbles: Marbles, registry: StreamRegistry
) -> None:
    stream = marbles.cold("S-a-b-c-d").pipe(ops.track_stages(every=1), ops.track(registry, "job"))
    recording = marbles.subscribe(stream)
    marbles.advance_to(5)
    registry["job"].cancel() if is_stopped else recording.dispose()
    progress = registry["job"].progress
    assert progress is not None
    assert [(each.name, each.status) for each in progress.stages] == [
        ("initialise", "completed"),
        ("choose_model", "completed"),
        ("generate", "cancelled"),
        ("complete", "pending"),
    ]
    assert progress.stages[2].ended == 5.0


@pytest.mark.parametrize(("end", "status"), [("|", "completed"), ("#", "failed")])
def test_a_stream_that_has_ended_is_not_active(
    marbles: Marbles, registry: StreamRegistry, end: str, status: str
) -> None:
    source = marbles.cold(f"a-{end}", error=ValueError("broken"))
    marbles.run(source.pipe(ops.track(registry, "story")), until=9)
    assert (registry.active, registry["story"].status) == ([], status)
    assert marbles.timers == []


def test_a_stream_has_ended_when_its_subscriber_is_notified(
    marbles: Marbles, registry: StreamRegistry
) -> None:
    seen: list[Any] = []
    marbles.cold("a|").pipe(ops.track(registry, "story")).subscribe(
        on_completed=lambda: seen.append((registry.active, registry["story"].status)),
        scheduler=marbles.scheduler,
    )
    marbles.advance_to(5)
    assert seen == [([], "completed")]


def test_an_abandoned_stream_does_not_stay_active(
    marbles: Marbles, registry: StreamRegistry
) -> None:
    """Once the subscriber disposes, the stream must not be listed as active forever."""
    source = marbles.cold("a-b-c-d|")
    recording = marbles.subscribe(source.pipe(ops.track(registry, "story")))
    marbles.advance_to(1)
    recording.dispose()
    assert (registry.active, registry["story"].status) == ([], "cancelled")
    assert (source.subscriptions, marbles.timers) == ([(0.0, 1.0)], [])


def test_a_stream_without_a_chunk_for_ten_minutes_is_cancelled(
    marbles: Marbles, registry: StreamRegistry
) -> None:
    """The other way to be abandoned: the subscriber stays but doesn't read."""
    marbles.at(50, marbles.valve.close)
    source = marbles.cold("a" + "-" * 99 + "b", demand=True)
    events = marbles.run(source.pipe(ops.track(registry, "story")), until=2000)
    assert events == [(0.0, Token("a")), (600.0, End("cancelled")), (600.0, COMPLETED)]
    assert (registry.active, source.subscriptions) == ([], [(0.0, 600.0)])


def test_idle_time_is_counted_from_the_last_chunk_with_one_timer(marbles: Marbles) -> None:
    registry = StreamRegistry(max_idle=10)
    source = marbles.cold("a-----b-----c" + "-" * 30)
    recording = marbles.subscribe(source.pipe(ops.track(registry)))
    marbles.advance_to(7)
    others = [time for time in marbles.timers if time == 10.0]
    assert others == [10.0]  # as set on subscription: chunks don't touch it
    marbles.advance_to(60)
    assert recording.events[-1] == (22.0, COMPLETED)
    assert marbles.timers == []


def test_after_a_stop_of_the_process_the_chunks_that_have_arrived_are_read_first(
    marbles: Marbles,
) -> None:
    registry = StreamRegistry(max_idle=10)
    source = marbles.cold("a" + "-" * 30 + "b")
    recording = marbles.subscribe(source.pipe(ops.track(registry)))
    marbles.at(1, lambda: marbles.scheduler.sleep(60))
    marbles.advance_to(100)
    assert [time for time, _ in recording.events] == [0.0, 61.0, 71.0, 71.0]


def test_a_pause_has_its_own_limit_and_is_not_idle_time(marbles: Marbles) -> None:
    registry = StreamRegistry(max_idle=10, max_pause=100)
    recording = marbles.subscribe(marbles.cold("a").pipe(ops.track(registry, "story")))
    marbles.at(1, lambda: registry["story"].pause())
    marbles.at(51, lambda: registry["story"].resume())
    marbles.advance_to(60)
    assert registry["story"].status == "running"
    marbles.advance_to(70)
    assert recording.events[-1] == (61.0, COMPLETED)


def test_a_stream_paused_for_300_s_is_cancelled(marbles: Marbles, registry: StreamRegistry) -> None:
    marbles.at(1, lambda: registry["story"].pause())
    source = marbles.cold("a-b|", demand=True)
    events = marbles.run(source.pipe(ops.track(registry, "story")))
    assert events[1:] == [(301.0, End("cancelled")), (301.0, COMPLETED)]


def test_without_a_limit_a_stream_may_be_idle_forever(marbles: Marbles) -> None:
    registry = StreamRegistry(max_idle=None)
    assert marbles.run(marbles.cold("a").pipe(ops.track(registry)), until=1e6) == [
        (0.0, Token("a"))
    ]
    assert (len(registry.active), marbles.timers) == (1, [])


def test_a_pause_holds_the_source_and_nothing_is_lost(
    marbles: Marbles, registry: StreamRegistry
) -> None:
    marbles.at(1, lambda: registry["story"].pause())
    marbles.at(9, lambda: registry["story"].resume())
    events = marbles.run(marbles.cold("a-b-c|", demand=True).pipe(ops.track(registry, "story")))
    assert events == [(0.0, Token("a")), *[(9.0, Token(text)) for text in "bc"], (9.0, COMPLETED)]


def test_cancelling_one_stream_leaves_the_others_running(
    marbles: Marbles, registry: StreamRegistry
) -> None:
    first, second = marbles.cold("a-b-c|"), marbles.cold("x-y-z|")
    left = marbles.subscribe(first.pipe(ops.track(registry, "left")))
    right = marbles.subscribe(second.pipe(ops.track(registry, "right")))
    marbles.at(1, lambda: registry.cancel("left"))
    marbles.advance_to(9)
    assert left.events[1:] == [(1.0, End("cancelled")), (1.0, COMPLETED)]
    assert (first.subscriptions, right.events[-1]) == ([(0.0, 1.0)], (5.0, COMPLETED))
    assert [info.status for info in registry.snapshot()] == ["cancelled", "completed"]


def test_a_stream_is_cancelled_before_its_first_token(
    marbles: Marbles, registry: StreamRegistry
) -> None:
    """A cancellation must not wait for the next token while the model keeps running."""
    source = marbles.cold("-------a|")
    marbles.at(1, lambda: registry.cancel("story"))
    events = marbles.run(source.pipe(ops.track(registry, "story")))
    assert events == [(1.0, End("cancelled")), (1.0, COMPLETED)]
    assert (source.subscriptions, registry["story"].status) == ([(0.0, 1.0)], "cancelled")


def test_all_are_cancelled_even_if_a_subscriber_raises(
    marbles: Marbles, registry: StreamRegistry
) -> None:
    def refuse(_: Chunk) -> None:
        raise ZeroDivisionError

    stream = marbles.cold("--a|").pipe(ops.track(registry))
    stream.subscribe(refuse, scheduler=marbles.scheduler)
    recording = marbles.subscribe(stream)
    with pytest.raises(ZeroDivisionError):
        registry.cancel_all()
    assert (registry.active, recording.chunks) == ([], [End("cancelled")])
    assert [info.status for info in registry.snapshot()] == ["cancelled", "cancelled"]


def test_a_stream_that_emits_cancelled_is_no_longer_active(
    marbles: Marbles, registry: StreamRegistry
) -> None:
    seen: list[Any] = []
    again = marbles.cold("x|").pipe(ops.track(registry, "story"))

    def on_next(chunk: Chunk) -> None:
        if type(chunk) is End:
            seen.append((registry.active, registry["story"].status, registry["story"].duration))
            seen.append(marbles.subscribe(again))

    stream = marbles.cold("a---b").pipe(ops.track(registry, "story"))
    stream.subscribe(on_next, scheduler=marbles.scheduler)
    marbles.at(3, lambda: registry.cancel("story"))
    marbles.advance_to(9)
    assert seen[0] == ([], "cancelled", 3.0)
    assert seen[1].events == [(3.0, Token("x")), (4.0, COMPLETED)]


def test_a_stream_that_has_emitted_end_is_active_until_it_completes(
    marbles: Marbles, registry: StreamRegistry
) -> None:
    marbles.subscribe(marbles.cold("(a,E)---|").pipe(ops.track(registry)))
    marbles.advance_to(3)
    assert len(registry.active) == 1
    marbles.advance_to(9)
    assert registry.active == []


def test_a_stream_whose_timer_the_scheduler_refuses_is_not_active(marbles: Marbles) -> None:
    registry = StreamRegistry(max_idle=1e15)  # more than a virtual scheduler can count
    source = marbles.cold("a|")
    [(_, error)] = marbles.run(source.pipe(ops.track(registry, "story")))
    assert isinstance(error, OverflowError)
    assert (registry.active, list(registry), source.subscriptions) == ([], [], [])


def test_a_refused_stream_leaves_no_timer(marbles: Marbles, registry: StreamRegistry) -> None:
    stream = rx.never().pipe(ops.track(registry, "story"))
    first = marbles.subscribe(stream)
    marbles.subscribe(stream)
    first.dispose()
    assert marbles.timers == []


def test_an_empty_registry_is_truthy(registry: StreamRegistry) -> None:
    assert (registry or None) is registry


def test_cancelling_an_ended_stream_does_nothing(
    marbles: Marbles, registry: StreamRegistry
) -> None:
    marbles.run(marbles.cold("|").pipe(ops.track(registry, "story")))
    registry.cancel("story")
    registry.cancel_all()
    assert registry["story"].status == "completed"
    with pytest.raises(KeyError):
        registry.cancel("another")


def test_an_id_names_one_live_stream(marbles: Marbles, registry: StreamRegistry) -> None:
    source = marbles.cold("a-|")
    stream = source.pipe(ops.track(registry, "story"))
    marbles.subscribe(stream)
    [(_, error)] = marbles.subscribe(stream).events
    assert isinstance(error, StreamStateError)
    assert "a stream 'story' already exists and is running" in str(error)
    marbles.advance_to(5)
    assert marbles.run(stream)[-1] == (7.0, COMPLETED)
    assert (len(registry), len(source.subscriptions)) == (1, 2)


def test_without_an_id_each_subscription_gets_one(
    marbles: Marbles, registry: StreamRegistry
) -> None:
    marbles.subscribe(marbles.cold("").pipe(ops.track(registry, "stream-2")))
    stream = marbles.cold("").pipe(ops.track(registry))
    marbles.subscribe(stream)
    marbles.subscribe(stream)
    assert list(registry) == ["stream-2", "stream-1", "stream-3"]


def test_only_the_last_ended_streams_are_kept(marbles: Marbles) -> None:
    registry = StreamRegistry(keep=2, max_idle=None)
    marbles.subscribe(marbles.cold("").pipe(ops.track(registry, "live")))
    for name in "abcd":
        marbles.run(marbles.cold("|").pipe(ops.track(registry, name)))
    assert list(registry) == ["live", "c", "d"]
    marbles.subscribe(marbles.cold("").pipe(ops.track(registry, "c")))
    marbles.run(marbles.cold("|").pipe(ops.track(registry, "e")))
    assert list(registry) == ["live", "d", "c", "e"]


def test_a_stream_waiting_in_a_pool_is_listed_and_can_be_cancelled(
    marbles: Marbles, registry: StreamRegistry
) -> None:
    pool = Pool(1)
    marbles.subscribe(marbles.cold("").pipe(ops.limit_concurrency(pool)))
    marbles.at(2, lambda: registry.cancel("story"))
    stream = marbles.cold("a|").pipe(ops.limit_concurrency(pool), ops.track(registry, "story"))
    assert marbles.run(stream) == [(2.0, End("cancelled")), (2.0, COMPLETED)]
    assert pool.waiting == 0


def test_chunks_of_a_merge_pass_unchanged(marbles: Marbles, registry: StreamRegistry) -> None:
    left, right = marbles.cold("a-E|", source="left"), marbles.cold("-xR-E|", source="right")
    events = marbles.run(rx.merge(left, right).pipe(ops.track(registry)))
    assert (1.0, Token("xR", source="right")) in events
    assert [event for _, event in events if type(event) is Notice] == []
    assert (len(events), events[-1]) == (5, (5.0, COMPLETED))


def test_demand_passes_through(marbles: Marbles, registry: StreamRegistry) -> None:
    marbles.at(1, marbles.valve.close)
    recording = marbles.subscribe(marbles.cold("a-b-c", demand=True).pipe(ops.track(registry)))
    marbles.advance_to(9)
    assert recording.chunks == [Token("a")]
    recording.dispose()
    assert marbles.valve._callbacks == {}


def test_a_subscriber_that_raises_does_not_leave_an_active_stream(
    marbles: Marbles, registry: StreamRegistry
) -> None:
    def refuse(_: Chunk) -> None:
        raise ZeroDivisionError

    source, errors = marbles.cold("a-b|"), list[Exception]()
    source.pipe(ops.track(registry)).subscribe(refuse, errors.append, scheduler=marbles.scheduler)
    with pytest.raises(ZeroDivisionError):
        marbles.advance_to(1)
    assert (registry.active, source.subscriptions, errors) == ([], [(0.0, 0.0)], [])


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"keep": -1}, "keep"),
        ({"max_idle": 0}, "max_idle"),
        ({"max_idle": float("nan")}, "max_idle"),
        ({"max_idle": float("inf")}, "max_idle"),
        ({"max_pause": 0}, "max_pause"),
        ({"max_pause": float("inf")}, "max_pause"),
    ],
)
def test_numbers_out_of_range_raise_at_the_call(arguments: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} "):
        StreamRegistry(**arguments)


@pytest.mark.parametrize(
    "arguments", [{"keep": float("nan")}, {"keep": True}, {"max_idle": "9"}, {"max_pause": True}]
)
def test_values_that_are_not_numbers_raise_at_the_call(arguments: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=f"^{next(iter(arguments))} "):
        StreamRegistry(**arguments)


def test_an_invalid_registry_or_id_raises_at_the_call(registry: StreamRegistry) -> None:
    with pytest.raises(TypeError, match="must be a StreamRegistry"):
        ops.track(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be a string or None"):
        ops.track(registry, 3)  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["completed", "failed", "cancelled"])
async def test_a_stream_that_has_ended_is_kept_without_its_sink(how: str) -> None:
    """The history of a registry may be long, and a sink may have the whole text."""
    registry, source = StreamRegistry(), rx.Subject[Chunk]()

    class Sink:
        def fail(self, error: Exception) -> None:
            """An operator or a subscriber has failed."""

    sink = Sink()
    scheduler = StreamScheduler(asyncio.get_running_loop(), on_failure=sink.fail)
    subscription = source.pipe(ops.track(registry, "s")).subscribe(
        on_error=lambda _: None, scheduler=scheduler
    )
    alive = weakref.ref(sink)
    if how == "completed":
        source.on_completed()
    elif how == "failed":
        source.on_error(ValueError())
    else:
        subscription.dispose()
    del sink, scheduler, subscription, source
    gc.collect()
    assert registry["s"].status == how
    assert alive() is None
