"""What the order of two operators changes: each trap is a line in a docstring and a test here."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxllm import operators as ops
from rxllm.chunks import Chunk, Progress, Token, text_of
from rxllm.errors import (
    ConnectionFailedError,
    EmptyStreamError,
    FirstTokenTimeoutError,
    RateLimitError,
)
from rxllm.models.scripted import ScriptedModel
from rxllm.operators import Limiter, MemoryStore, Pool, StreamRegistry
from rxllm.stream import Stream
from rxllm.testing import Marbles, run_virtual

LOST = ConnectionFailedError("lost")


def outcome(events: list[tuple[float, Any]]) -> list[tuple[float, Any]]:
    """The events, with errors by their class and text."""
    return [
        (time, (type(event), str(event)) if isinstance(event, Exception) else event)
        for time, event in events
    ]


@given(
    diagram=st.lists(st.sampled_from(["-", "--", "S", "a", "E"]), max_size=12).map("".join),
    busy=st.integers(0, 12),
    limits=st.tuples(*[st.integers(1, 8)] * 3),
    wait=st.integers(1, 12),
)
def test_time_limits_are_the_same_before_and_after_the_wait_for_a_slot(
    diagram: str, busy: int, limits: tuple[int, int, int], wait: int
) -> None:
    """Waiting for a slot is not waiting for a token.

    The limits lie between two marks: of a chunk and a limit at the same moment, either may win.
    """

    def events_of(*, limits_first: bool) -> list[tuple[float, Any]]:
        marbles, pool = Marbles(), Pool(1, wait=wait)
        marbles.subscribe(marbles.cold("-" * busy + "|").pipe(ops.limit_concurrency(pool)))
        seconds = [limit + 0.5 for limit in limits]
        both = [ops.timeouts(*seconds), ops.limit_concurrency(pool)]
        source = marbles.cold(diagram)
        stream = source.pipe(*(both if limits_first else reversed(both)))
        return outcome(marbles.run(stream, until=60))

    assert events_of(limits_first=True) == events_of(limits_first=False)


def test_both_time_limits_of_a_pipe_wait_for_the_slot(marbles: Marbles) -> None:
    pool = Pool(1)
    marbles.subscribe(marbles.cold("-" * 9 + "|").pipe(ops.limit_concurrency(pool)))
    stream = marbles.cold("-a-E|").pipe(
        ops.limit_concurrency(pool), ops.timeouts(first=2), ops.stop_on("x"), ops.timeouts(total=6)
    )
    events = marbles.run(stream)
    assert [text_of(event) for _, event in events if isinstance(event, Token)] == ["a"]


@pytest.mark.parametrize("share", ["multiplex", "cache"])
def test_a_shared_stream_that_waits_for_a_slot_does_not_wait_for_a_token(
    marbles: Marbles, share: str
) -> None:
    pool = Pool(1)
    marbles.subscribe(marbles.cold("-" * 9 + "|").pipe(ops.limit_concurrency(pool)))
    sharing = ops.multiplex() if share == "multiplex" else ops.cache(MemoryStore(), "key")
    shared = marbles.cold("-a-E|").pipe(ops.limit_concurrency(pool), sharing)
    limits = ops.timeouts(first=2)
    readers = [marbles.subscribe(shared.pipe(limits))]
    marbles.at(1, marbles.subscribe(shared.pipe(limits)).dispose)
    marbles.at(4, lambda: readers.append(marbles.subscribe(shared.pipe(limits))))
    marbles.advance_to(30)
    for reader in readers:
        assert [each.text for each in reader.chunks if isinstance(each, Token)] == ["a"]


def test_a_closed_valve_and_a_wait_for_a_slot_are_not_counted_twice(marbles: Marbles) -> None:
    pool = Pool(1)
    marbles.at(2, marbles.valve.close)
    marbles.at(6, marbles.valve.open)
    marbles.subscribe(marbles.cold("---|").pipe(ops.limit_concurrency(pool)))
    stream = marbles.cold("----------").pipe(
        ops.limit_concurrency(pool), ops.timeouts(first=2, total=99)
    )
    error_time, error = marbles.run(stream)[-1]
    assert (error_time, type(error)) == (8.0, FirstTokenTimeoutError)


@pytest.mark.parametrize("limits_first", [True, False])
def test_waiting_for_a_rate_limit_is_not_waiting_for_a_token(limits_first: bool) -> None:
    refused = RateLimitError("slow down", retry_after=5.0)
    model, limiter = ScriptedModel([refused], "fine"), Limiter(wait=30)
    both = [ops.timeouts(first=2), ops.limit(limiter)]
    stream = model.stream("Hi").pipe(*(both if limits_first else reversed(both)))

    async def ask() -> str:
        with suppress(RateLimitError):
            await stream
        return (await stream).text

    assert run_virtual(ask()) == "fine"


def test_a_slot_is_free_during_the_backoff_only_before_the_retry(marbles: Marbles) -> None:
    """`limit_concurrency` says: before `retry_with_backoff`."""
    for before, waited in ((True, 0.0), (False, 10.0)):
        marbles, pool = Marbles(), Pool(1)
        retry = ops.retry_with_backoff(2, initial=10, jitter=False)
        both = [ops.limit_concurrency(pool), retry]
        flaky = ScriptedModel([LOST], "fine").stream("Hi")
        marbles.subscribe(flaky.pipe(*(both if before else reversed(both))))
        marbles.advance_to(1)
        other = marbles.subscribe(marbles.cold("a|").pipe(ops.limit_concurrency(pool)))
        marbles.advance_to(30)
        assert other.events[0][0] == pytest.approx(max(1.0, waited)), before


def test_an_empty_answer_is_asked_again_only_before_the_retry() -> None:
    """`require_output` says: before `retry_with_backoff`. Without it, an empty answer is one."""
    for before, asked in ((True, 2), (False, 1)):
        model = ScriptedModel([], "fine")
        both = [ops.require_output(), ops.retry_with_backoff(2, initial=0.01)]
        stream = model.stream("Hi").pipe(*(both if before else reversed(both)))
        events = Marbles().run(stream)
        assert len(model.requests) == asked
        assert isinstance(events[-1][1], EmptyStreamError) is not before
    model = ScriptedModel([], "fine")
    Marbles().run(model.stream("Hi").pipe(ops.retry_with_backoff(2)))
    assert len(model.requests) == 1


def test_a_time_limit_after_the_retry_is_that_of_all_attempts() -> None:
    """`timeouts` says: before the retry for each attempt, `total` after it for all together."""
    ends: list[float] = []
    for before in (True, False):
        model = ScriptedModel([LOST], [LOST], [LOST], "fine", delay=3.0)
        both = [ops.timeouts(total=5), ops.retry_with_backoff(4, initial=1, jitter=False)]
        events = Marbles().run(model.stream("Hi").pipe(*(both if before else reversed(both))))
        ends.append(events[-1][0])
    assert ends[0] > 5 >= ends[1]


def test_stages_before_a_retry_begin_again_with_each_attempt() -> None:
    """`track_stages` says: after a retry."""
    for after in (True, False):
        model = ScriptedModel([LOST], "fine")
        both = [ops.retry_with_backoff(2, initial=1), ops.track_stages()]
        events = Marbles().run(model.stream("Hi").pipe(*(both if after else reversed(both))))
        found = [e.percentage or 0.0 for _, e in events if isinstance(e, Progress)]
        assert (found == sorted(found)) is after


def test_a_registry_sees_the_progress_only_of_what_is_before_it(marbles: Marbles) -> None:
    """`track` says: with `progress` or `track_stages` before it."""
    for before in (True, False):
        registry = StreamRegistry()
        both = [ops.progress(every=1), ops.track(registry, "job")]
        marbles.run(marbles.cold("a-E|").pipe(*(both if before else reversed(both))))
        assert (registry["job"].progress is not None) is before


def test_attempts_are_measured_one_by_one_only_before_the_retry() -> None:
    """`measure` says: before a retry for each attempt, after it for the whole operation."""
    outcomes: list[str] = []
    model = ScriptedModel([LOST], "fine")
    measuring = ops.measure(lambda measured: outcomes.append(measured.outcome))
    Marbles().run(model.stream("Hi").pipe(measuring, ops.retry_with_backoff(2, initial=1)))
    assert outcomes == ["failed", "completed"]
    outcomes.clear()
    model = ScriptedModel([LOST], "fine")
    Marbles().run(model.stream("Hi").pipe(ops.retry_with_backoff(2, initial=1), measuring))
    assert outcomes == ["completed"]


def test_a_filter_sees_whole_words_only_after_words() -> None:
    """A filter of chunks sees them as they are cut: `words` before it, or `redact`."""

    def no_bad(chunk: Chunk) -> Chunk | None:
        return None if text_of(chunk).strip() == "bad" else chunk

    def said(stream: Stream[Chunk]) -> str:
        return "".join(text_of(event) for _, event in Marbles().run(stream)[:-1])

    stream = ScriptedModel(["a b", "ad day"]).stream("Hi")
    assert "bad" in said(stream.pipe(ops.filters(no_bad), ops.words()))
    assert "bad" not in said(stream.pipe(ops.words(), ops.filters(no_bad)))
    assert "bad" not in said(stream.pipe(ops.redact("bad")))
