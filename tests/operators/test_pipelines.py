"""Random pipelines of one to six operators, in any order, keep the contract.

Each pipeline is run to its end, to a failure, through a restart, with a subscriber that disposes,
and with a valve that stays closed.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec
import pytest
import reactivex as rx
import regex
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reactivex import Observable

from rxllm import StreamScheduler, Valve, from_async
from rxllm import operators as ops
from rxllm.chunks import (
    Batch,
    Chunk,
    End,
    Json,
    Notice,
    Progress,
    ProviderState,
    Reasoning,
    Start,
    Token,
    Usage,
    is_bare_state,
    is_restart,
    text_of,
    tokens_of,
)
from rxllm.testing import COMPLETED, VirtualTimeLoop, no_leaks
from tests.operators.texts import ATOMS, cut_texts
from tests.profiles import draws

Operator: TypeAlias = Callable[[Observable[Chunk]], Observable[Chunk]]

STOP = "END"


@dataclass(frozen=True)
class Entry:
    """An operator of the catalogue, and its effect on a whole text."""

    make: Callable[[], Operator]
    plainly: Callable[[str], str] = str
    holds: int = 0  # chunks that it holds while `buffered` after it is not full
    packs: int = 1  # chunks that it combines into one
    checks: bool = False  # never releases unchecked text, not even on an error


async def _letters(chunk: Chunk) -> Chunk:
    await asyncio.sleep(0.01)
    return chunk


async def _all(_: Chunk) -> bool:
    await asyncio.sleep(0.01)
    return True


async def _fine(_: str) -> bool:
    await asyncio.sleep(0.03)
    return True


def _a_to_c(text: str) -> str:
    return text.replace("a", "c")


def _stopped(text: str) -> str:
    return text.partition(STOP)[0]


def _redacted(text: str) -> str:
    return regex.sub(r"\bbad\b", "***", text)


CATALOGUE = {
    "batch": Entry(lambda: ops.batch(3, 0.05), packs=3),
    "rechunk(5)": Entry(lambda: ops.rechunk(5)),
    "rechunk": Entry(lambda: ops.rechunk(), packs=90),
    "buffered": Entry(lambda: ops.buffered(20), holds=20),
    "words": Entry(lambda: ops.words()),
    "sentences": Entry(lambda: ops.sentences()),
    "lines": Entry(lambda: ops.lines()),
    "rate_limit": Entry(lambda: ops.rate_limit(100, 20), holds=1030),
    "smooth": Entry(lambda: ops.smooth(), holds=1030),
    "smooth by character": Entry(lambda: ops.smooth("character", 0.005), holds=1030),
    "typewriter": Entry(lambda: ops.typewriter(300), holds=1030),
    "pace": Entry(lambda: ops.pace(), holds=1030),
    "throttle": Entry(lambda: ops.throttle(0.1), packs=110),
    "stop_on": Entry(lambda: ops.stop_on(STOP), _stopped),
    "redact": Entry(lambda: ops.redact("bad"), _redacted),
    "redact a pattern": Entry(lambda: ops.redact(regex.compile(r"\bbad\b"), longest=8), _redacted),
    "filters": Entry(lambda: ops.filters(lambda chunk: chunk)),
    "change_case": Entry(lambda: ops.change_case("lower"), str.lower),
    "guard": Entry(lambda: ops.guard(lambda _: True, every=20), packs=4, checks=True),
    "guard, asynchronous": Entry(lambda: ops.guard(_fine, every=20), packs=4, checks=True),
    "guard, retract": Entry(
        lambda: ops.guard(_fine, what=("text", "reasoning"), every=20, on_violation="retract"),
        checks=True,
    ),
    "drop_blank": Entry(lambda: ops.drop_blank()),
    "split_reasoning": Entry(lambda: ops.split_reasoning("<<<", ">>>")),
    "map_text": Entry(lambda: ops.map_text(_a_to_c), _a_to_c),
    "map_async": Entry(lambda: ops.map_async(_letters, 3)),
    "filter_async": Entry(lambda: ops.filter_async(_all, 2)),
    "error_boundary": Entry(lambda: ops.error_boundary(lambda chunk: chunk)),
    "tool_calls": Entry(lambda: ops.tool_calls()),
    "measure": Entry(lambda: ops.measure(lambda _: None)),
    "progress": Entry(lambda: ops.progress(4)),
    "cost": Entry(lambda: ops.price()),
    "pausable": Entry(lambda: ops.pausable(ops.Control())),
    "budget": Entry(lambda: ops.budget(tokens=10**9)),
}

MARKDOWN = ["# a\n", "- b\n", "*c*", "\n\n", "```\n", "<b>", "| d |\n|---|\n", "> e", "1. ", "\r\n"]

PIPELINES = st.lists(st.sampled_from(sorted(CATALOGUE)), min_size=1, max_size=6)

KINDS = ["token", "token", "token", "batch", "thought", "marked", "text state", "thought state"]

HOLDERS = ["buffered", "rate_limit", "smooth"]
PACKERS = ["batch", "throttle"]
CUTTERS = ["words", "rechunk(5)"]
HOLDING = st.tuples(*(st.sampled_from(each) for each in (HOLDERS, PACKERS, CUTTERS))).map(list)
"""An operator that holds the source, one that packs by time, and one that splits chunks."""

BURSTS = st.lists(
    st.sampled_from([Token("a b c "), Token("d e f "), 0.02, 0.04]), min_size=9, max_size=40
)

SOME = settings(
    max_examples=draws(400),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example],
)


@dataclass
class Story:
    """The script of a source: chunks, waits in seconds, and perhaps an error."""

    steps: list[Any]
    sent: int = 0
    closed: int = 0

    def stream(self) -> Observable[Chunk]:
        return from_async(self._play)

    async def _play(self) -> AsyncIterator[Chunk]:
        try:
            for step in self.steps:
                if isinstance(step, float):
                    await asyncio.sleep(step)
                elif isinstance(step, Exception):
                    raise step
                else:
                    self.sent += 1
                    yield step
        finally:
            self.closed += 1


@st.composite
def scripts(draw: st.DrawFn, source: str | None = None) -> tuple[str, list[Any]]:
    """A text and its chunks, with other chunks and waits between them."""
    text, pieces = draw(cut_texts())
    steps: list[Any] = []
    for place, piece in enumerate(pieces):
        if wait := draw(st.sampled_from([0.0, 0.0, 0.004, 0.06, 0.7])):
            steps.append(wait)
        kind = draw(st.sampled_from(KINDS))
        if kind in ("batch", "thought"):
            half = len(piece) // 2
            thought = (Reasoning(f"hm {place}", source=source),) if kind == "thought" else ()
            parts = (Token(piece[:half], source=source), *thought)
            parts += (Token(piece[half:], source=source),)
            steps.append(Batch(parts, piece, source=source))
        else:
            steps.append(Token(piece, source=source))
        if kind == "marked":
            steps.append(Progress(place, 0.0, stage="marker", source=source))
        elif kind in ("text state", "thought state"):
            state = ProviderState("provider", "model", place)
            steps.append((Token if kind == "text state" else Reasoning)("", state=state))
            steps[-1] = msgspec.structs.replace(steps[-1], source=source)
    return text, steps


def answer(steps: Sequence[Any], source: str | None = None) -> list[Any]:
    """A whole answer."""
    start = Start("request-1", "model", source=source)
    return [start, *steps, Usage(1, 2, source=source), End("stop", source=source)]


def thoughtful(piece: str) -> Batch:
    """A piece of text in a batch with reasoning."""
    return Batch((Reasoning("hm"), Token(piece)), piece)


def piped(stream: Observable[Chunk], pipeline: list[str]) -> Observable[Chunk]:
    return stream.pipe(*(CATALOGUE[name].make() for name in pipeline))


def plainly(text: str, pipeline: list[str]) -> str:
    for name in pipeline:
        text = CATALOGUE[name].plainly(text)
    return text


def events_of(
    stream: Observable[Chunk], *, leave_after: int | None = None, toggles: bool = False
) -> list[Any]:
    """All events of a subscription in virtual time; it must leave nothing behind.

    A subscriber that `toggles` closes or opens its valve inside `on_next`, or closes it soon
    after, and opens a closed valve soon.
    """

    async def main() -> list[Any]:
        loop = asyncio.get_running_loop()
        events: list[Any] = []
        timers: list[asyncio.TimerHandle] = []
        ended = asyncio.Event()

        def on_next(chunk: Chunk) -> None:
            events.append(chunk)
            if not valve.is_open:
                valve.open()
            elif toggles:
                if len(events) % 2:
                    timers.append(loop.call_later(0.02, valve.close))
                else:
                    valve.close()
                timers.append(loop.call_later(0.08, valve.open))
            if len(events) == leave_after:
                ended.set()

        def on_error(error: Exception) -> None:
            events.append(error)
            ended.set()

        def on_completed() -> None:
            events.append(COMPLETED)
            ended.set()

        valve = Valve()
        async with no_leaks(valve):
            scheduler = StreamScheduler(loop, valve)
            subscription = stream.subscribe(on_next, on_error, on_completed, scheduler=scheduler)
            await asyncio.wait_for(ended.wait(), 3600)
            before = len(events)
            subscription.dispose()
            for timer in timers:
                timer.cancel()
            await scheduler.settle()
        assert len(events) == before, "an event arrived after the end"
        return events

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main())


def text_of_events(events: list[Any], source: str | None = None) -> str:
    """The text of a source, after the last restart."""
    text = ""
    for event in events:
        if is_restart(event):
            text = ""
        elif isinstance(event, Token | Batch) and event.source == source:
            text += event.text
    return text


def others(events: Sequence[Any]) -> list[Any]:
    """The chunks that no operator may drop or reorder."""
    return [
        event
        for event in events
        if isinstance(event, Start | Usage | End | Notice) or is_marker(event)
    ]


def is_marker(event: Any) -> bool:
    """Whether the event has a place in the text: a marker of `scripts`, or the state of a text."""
    if isinstance(event, Token | Reasoning):
        return is_bare_state(event)
    return isinstance(event, Progress) and event.stage == "marker"


def thoughts(events: Sequence[Any]) -> list[str]:
    """Reasoning texts in order, including those in batches."""
    parts = [part for event in events for part in getattr(event, "chunks", (event,))]
    return [part.text for part in parts if isinstance(part, Reasoning)]


def tokens(events: Sequence[Any]) -> int:
    """The tokens of the model in the text and reasoning of `events`."""
    parts = [part for event in events for part in getattr(event, "chunks", (event,))]
    return sum(tokens_of(part) for part in parts if getattr(part, "text", ""))


def lengths_before_markers(events: Sequence[Any]) -> list[int]:
    lengths, length = [], 0
    for event in events:
        length += len(text_of(event))
        if is_marker(event):
            lengths.append(length)
    return lengths


def meets_stop(text: str, pipeline: list[str]) -> bool:
    """Whether the pipeline contains `stop_on` and it meets its stop sequence."""
    before = [*pipeline, "stop_on"].index("stop_on")
    return before < len(pipeline) and STOP in plainly(text, pipeline[:before])


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_each_operator_alone_agrees_with_its_plain_function(name: str) -> None:
    text = "Dr. Bad said:\r\n3.14 is bad... e\u0301 👩\u200d🚀 字字。 ENDE"
    steps = [Token(character) for character in text]
    assert text_of_events(events_of(piped(Story(answer(steps)).stream(), [name]))) == plainly(
        text, [name]
    )


@SOME
@given(PIPELINES, scripts(), st.booleans())
def test_text_and_order_to_the_end(
    pipeline: list[str], drawn: tuple[str, list[Any]], toggles: bool
) -> None:
    text, steps = drawn
    events = events_of(piped(Story(answer(steps)).stream(), pipeline), toggles=toggles)
    assert text_of_events(events) == plainly(text, pipeline)
    assert events[-1] is COMPLETED
    assert [event for event in events if isinstance(event, End)] == [events[-2]]
    if meets_stop(text, pipeline):
        assert events[-2] == End("stop", STOP)
        emitted, expected = others(events)[:-1], others(answer(steps))
        assert emitted == expected[: len(emitted)]
    else:
        assert others(events) == others(answer(steps))
        assert thoughts(events) == thoughts(steps)
        assert tokens(events) == tokens(steps) or "drop_blank" in pipeline
        if plainly(ATOMS[0], pipeline) and len(plainly(text, pipeline)) == len(text):
            came, left = lengths_before_markers(steps), lengths_before_markers(events)
            assert all(a <= b for a, b in zip(came, left, strict=True)), "overtook held text"


@SOME
@given(PIPELINES, scripts(), st.integers(0, 30))
def test_a_failure_comes_after_the_text(
    pipeline: list[str], drawn: tuple[str, list[Any]], position: int
) -> None:
    _, steps = drawn
    steps, error = steps[:position], ConnectionResetError("pulled")
    text = "".join(map(text_of, steps))
    events = events_of(piped(Story([*answer(steps)[:-2], error]).stream(), pipeline))
    if events[-1] is COMPLETED:
        assert events[-2] == End("stop", STOP)
        assert text_of_events(events) == plainly(text, pipeline)
        return
    assert events[-1] is error
    if any(CATALOGUE[name].checks for name in pipeline):
        return  # unchecked text is dropped, and how much was checked depends on the rest
    assert text_of_events(events) == plainly(text, pipeline)
    assert others(events) == others(answer(steps)[:-2])


@SOME
@given(PIPELINES, scripts(), scripts(), st.integers(0, 30))
def test_a_restart_at_any_position(
    pipeline: list[str],
    first: tuple[str, list[Any]],
    second: tuple[str, list[Any]],
    position: int,
) -> None:
    begun = answer(first[1])[: position + 1]
    steps = [*begun, Notice("restart"), *answer(second[1])]
    events = events_of(piped(Story(steps).stream(), pipeline))
    assert events[-1] is COMPLETED
    if Notice("restart") in events:
        assert text_of_events(events) == plainly(second[0], pipeline)
        after = events[events.index(Notice("restart")) :]
        if "stop_on" not in pipeline:
            assert others(after) == [Notice("restart"), *others(answer(second[1]))]
    else:
        assert any(type(step) is End for step in begun) or "stop_on" in pipeline
        assert isinstance(events[-2], End)


@SOME
@given(PIPELINES, scripts("left"), scripts("right"), st.booleans())
def test_two_sources(
    pipeline: list[str],
    left: tuple[str, list[Any]],
    right: tuple[str, list[Any]],
    toggles: bool,
) -> None:
    stream = rx.merge(
        Story(answer(left[1], "left")).stream(), Story(answer(right[1], "right")).stream()
    )
    events = events_of(piped(stream, pipeline), toggles=toggles)
    assert events[-1] is COMPLETED
    for source, text in (("left", left[0]), ("right", right[0])):
        assert text_of_events(events, source) == plainly(text, pipeline)
        ends = [e for e in events if isinstance(e, End) and e.source == source]
        assert len(ends) == 1


@SOME
@given(HOLDING, BURSTS, st.booleans())
def test_operators_that_hold_with_a_subscriber_that_toggles_its_valve(
    pipeline: list[str], steps: list[Any], restarts: bool
) -> None:
    """Chunks held by one operator must not overtake those that another one is sending."""
    first = [*answer(steps)[:-1], Notice("restart")] if restarts else []
    events = events_of(piped(Story([*first, *answer(steps)]).stream(), pipeline), toggles=True)
    assert text_of_events(events) == plainly("".join(map(text_of, steps)), pipeline)
    assert events[-2:] == [End("stop"), COMPLETED]
    assert others(events) == others([*first, *answer(steps)])


@SOME
@given(PIPELINES, scripts(), st.integers(1, 12))
def test_a_subscriber_that_disposes(
    pipeline: list[str], drawn: tuple[str, list[Any]], count: int
) -> None:
    story = Story([*answer(drawn[1])[:-1], *([Token("more "), 0.5] * 200)])
    events_of(piped(story.stream(), pipeline), leave_after=count)
    assert story.closed == 1
    assert story.sent < 1200


PRESERVING = st.lists(
    st.sampled_from(sorted(name for name, entry in CATALOGUE.items() if entry.plainly is str)),
    max_size=3,
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text('aé字👍"\\ ', max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc"), inner, max_size=3),
    max_leaves=8,
)


@settings(SOME, max_examples=draws(150))
@given(PRESERVING, PRESERVING, VALUES, st.data())
def test_json_among_others(
    before: list[str], after: list[str], value: Any, data: st.DataObject
) -> None:
    text = json.dumps({"value": value}, ensure_ascii=False)
    _, pieces = data.draw(cut_texts(st.just(text)))
    pieces = [*pieces, ""]
    steps = [step for piece in pieces for step in (thoughtful(piece), 0.03)]
    stream = piped(piped(Story(answer(steps)).stream(), before).pipe(ops.parse_json()), after)
    events = events_of(stream, toggles=data.draw(st.booleans()))
    assert [event.value for event in events if isinstance(event, Json) and event.complete] == [
        {"value": value}
    ]
    assert others(events) == others(answer([]))
    assert thoughts(events) == ["hm"] * len(pieces)
    assert (text_of_events(events), events[-1]) == ("", COMPLETED)


@settings(SOME, max_examples=draws(150))
@given(PRESERVING, PRESERVING, cut_texts(st.lists(st.sampled_from(MARKDOWN)).map("".join)))
def test_markdown_among_others(
    before: list[str], after: list[str], drawn: tuple[str, list[str]]
) -> None:
    def page(stream: Observable[Any]) -> str:
        blocks = {
            event.block: event.html for event in events_of(stream) if isinstance(event, ops.Html)
        }
        return "".join(blocks[number] for number in sorted(blocks))

    text, pieces = drawn
    whole = Story(answer([Token(text)])).stream().pipe(ops.markdown_to_html())
    cut = Story(answer([step for piece in pieces for step in (thoughtful(piece), 0.03)]))
    rendered: Observable[Any] = piped(cut.stream(), before).pipe(ops.markdown_to_html())
    assert page(piped(rendered, after)) == page(whole)


@settings(SOME, max_examples=draws(100))
@given(PIPELINES)
def test_a_closed_valve_bounds_what_is_held(pipeline: list[str]) -> None:
    story = Story([Token("Word.\n\n"), 0.001] * 50_000)
    bound, packed = 2, 1
    for entry in map(CATALOGUE.__getitem__, pipeline):
        bound += entry.holds * packed if "buffered" in pipeline else 0
        packed *= entry.packs

    async def main() -> int:
        loop = asyncio.get_running_loop()
        valve = Valve()
        async with no_leaks(valve):
            scheduler = StreamScheduler(loop, valve)
            subscription = piped(story.stream(), pipeline).subscribe(scheduler=scheduler)
            await asyncio.sleep(1)
            valve.close()
            before = story.sent
            await asyncio.sleep(40)
            subscription.dispose()
            await scheduler.settle()
        return story.sent - before

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        assert runner.run(main()) <= bound
