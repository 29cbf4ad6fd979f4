"""`tool_calls`: tool calls, once they are complete."""

import asyncio
from typing import Any

import msgspec
import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st

from rxllm import operators as ops
from rxllm.chunks import Batch, Chunk, End, Notice, Progress, Reasoning, Token, ToolCall
from rxllm.errors import MalformedStreamError
from rxllm.iteration import to_async
from rxllm.models.scripted import ScriptedModel, Step
from rxllm.testing import COMPLETED, Marbles, no_leaks, run_virtual
from tests.operators.texts import TEXTS, events_of

OSLO = '{"place": "Oslo"}'
NINE = '{"at": 9}'
CALLED = End("tool_calls")


def delta(arguments: str, *, id: str = "1", name: str = "weather", index: int = 0) -> ToolCall:  # noqa: A002 - the field's name
    """An incomplete call."""
    return ToolCall(id, name, arguments, index)


def finished(arguments: str, **fields: Any) -> ToolCall:
    """The last chunk of a call."""
    return msgspec.structs.replace(delta(arguments, **fields), complete=True)


def after(*chunks: Step, strict: bool = True) -> list[Any]:
    """The output for `chunks`, sent all at once, and completion."""
    script = ScriptedModel([*chunks], finish_reason=None)
    stream = script.stream("Hi").pipe(ops.tool_calls(strict=strict))
    return [event for _, event in Marbles().run(stream)][1:]


def test_a_call_is_sent_once_when_it_is_complete(marbles: Marbles) -> None:
    lookup = {"a": delta(""), "b": delta('{"pl'), "c": finished(OSLO), "E": CALLED}
    stream = marbles.cold("S-a-b-c-E|", lookup=lookup).pipe(ops.tool_calls())
    assert marbles.run(stream) == marbles.expect("S-----c-E|", lookup=lookup)


def test_concurrent_calls_are_sent_as_they_complete() -> None:
    time: dict[str, Any] = {"id": "2", "name": "time", "index": 1}
    chunks = [
        delta('{"pl'),
        delta("{", **time),
        delta('{"place'),
        finished(NINE, **time),
        finished(OSLO),
    ]
    assert after(*chunks, CALLED) == [finished(NINE, **time), finished(OSLO), CALLED, COMPLETED]


def test_an_unmarked_call_is_complete_at_the_end_of_the_answer() -> None:
    """Some providers never mark a call as complete."""
    time: dict[str, Any] = {"id": "2", "name": "time", "index": 1}
    chunks: list[Chunk] = [delta("{"), delta(NINE, **time), delta(OSLO)]
    for end in (CALLED, End("stop")):
        assert after(*chunks, end) == [finished(OSLO), finished(NINE, **time), end, COMPLETED]
    assert after(*chunks) == [finished(OSLO), finished(NINE, **time), COMPLETED]


@pytest.mark.parametrize("reason", ["length", "content_filter", "cancelled"])
def test_a_call_that_was_cut_short_is_never_sent(reason: Any) -> None:
    chunks: list[Chunk] = [finished(OSLO), delta(NINE, id="2", index=1), End(reason)]
    assert after(*chunks) == [finished(OSLO), End(reason), COMPLETED]


def test_deltas_without_an_id_belong_to_the_call_at_their_index() -> None:
    """Only the first delta of a call carries its id and name; later ones have the index."""
    chunks = [
        delta("", name="weather"),
        delta("", id="2", name="time", index=1),
        delta(OSLO, id="", name=""),
        delta(NINE, id="", name="", index=1),
    ]
    assert after(*chunks, CALLED) == [
        finished(OSLO),
        finished(NINE, id="2", name="time", index=1),
        CALLED,
        COMPLETED,
    ]


def test_deltas_with_an_id_belong_to_its_call_whatever_their_index() -> None:
    """Some providers give every call the index 0."""
    chunks = [delta("{"), delta("{", id="2", name="time"), delta(OSLO), delta(NINE, id="2")]
    assert after(*chunks, CALLED) == [
        finished(OSLO),
        finished(NINE, id="2"),
        CALLED,
        COMPLETED,
    ]


def test_a_late_id_names_the_call_at_its_index() -> None:
    chunks = [delta("{", id=""), delta(OSLO, name=""), finished("", id="", name="")]
    assert after(*chunks) == [finished(OSLO), COMPLETED]


def test_a_complete_call_without_an_id_frees_its_index_for_the_next_one() -> None:
    chunks = [finished(OSLO, id=""), finished(NINE, id="", name="time")]
    assert after(*chunks) == [*chunks, COMPLETED]


def test_a_repeated_call_is_not_sent_twice() -> None:
    chunks = [finished(OSLO), finished(OSLO), delta(OSLO), finished("", id="", name="")]
    assert after(*chunks, CALLED) == [finished(OSLO), CALLED, COMPLETED]


def test_a_call_without_arguments_has_an_empty_object() -> None:
    assert after(finished(""))[0] == finished("{}")
    assert ops.arguments_of(finished("")) == {}


def test_all_other_chunks_pass_at_once(marbles: Marbles) -> None:
    lookup: dict[str, Any] = {"c": delta("{"), "P": Progress(1, 0.5), "r": Reasoning("hm")}
    lookup["B"] = Batch((Token("b"),), "b")
    stream = marbles.cold("Sc-a-P-r-B|", lookup=lookup | {"Sc": delta("{")})
    events = marbles.run(stream.pipe(ops.tool_calls(strict=False)))
    assert events[:4] == marbles.expect("---a-P-r-B", lookup=lookup)


@pytest.mark.parametrize(
    "arguments",
    ['{"place": "Os', "[1]", '"Oslo"', "{place: 1}", OSLO + "}", '{"a":' * 5000, '{"\ud83d": 1}'],
)
def test_malformed_arguments_are_an_error(arguments: str) -> None:
    calls = (
        finished(OSLO),
        finished(arguments, id="2", name="time", index=1),
        finished("{}", id="3"),
    )
    first, error = after(*calls)
    assert first == finished(OSLO)
    assert isinstance(error, MalformedStreamError)
    assert error.retryable
    assert "call 1, of the tool 'time', are not a JSON object" in str(error)


def test_the_error_says_where_and_keeps_its_cause() -> None:
    (error,) = after(finished('{"place" 1}'))
    assert "(byte 9)" in str(error)
    assert isinstance(error.__cause__, msgspec.DecodeError)


def test_an_error_at_the_end_of_the_answer_replaces_the_end() -> None:
    for end in ([CALLED], []):
        (error,) = after(delta('{"place": "Os'), *end)
        assert isinstance(error, MalformedStreamError)


def test_the_source_is_stopped_at_once_on_malformed_arguments(marbles: Marbles) -> None:
    source = marbles.cold("-a-b|", lookup={"a": finished("{")})
    events = marbles.run(source.pipe(ops.tool_calls()))
    assert len(events) == 1
    assert source.subscriptions == [(0.0, 1.0)]


def test_non_strict_calls_are_passed_on_unparsed() -> None:
    assert after(finished("{place: 1}"), strict=False) == [finished("{place: 1}"), COMPLETED]


def test_never_and_empty(marbles: Marbles) -> None:
    assert marbles.run(marbles.cold("").pipe(ops.tool_calls()), until=1) == []
    assert marbles.run(marbles.cold("|").pipe(ops.tool_calls())) == [(1.0, COMPLETED)]


def test_a_source_error_drops_pending_calls() -> None:
    error = ValueError("broken")
    assert after(finished(OSLO), delta(NINE, id="2"), error) == [finished(OSLO), error]


def test_a_restart_drops_pending_calls_and_forgets_complete_ones() -> None:
    chunks: list[Chunk] = [
        finished(OSLO),
        delta(NINE, id="2", index=1),
        Notice("restart"),
        finished(OSLO),
        CALLED,
    ]
    assert after(*chunks) == [finished(OSLO), Notice("restart"), finished(OSLO), CALLED, COMPLETED]


def test_another_answer_starts_after_the_end() -> None:
    first: rx.Observable[Chunk] = rx.of(finished(OSLO), CALLED)
    second: rx.Observable[Chunk] = rx.of(finished(NINE), CALLED)
    got: list[Any] = []
    rx.concat(first, second).pipe(ops.tool_calls()).subscribe(got.append)
    assert got == [finished(OSLO), CALLED, finished(NINE), CALLED]


def test_each_source_has_its_own_calls(marbles: Marbles) -> None:
    lookup = {"a": delta("{"), "b": delta(OSLO), "E": CALLED}
    left = marbles.cold("a-b-------E|", lookup=lookup, source="left")
    right = marbles.cold("-a-R-b-E|", lookup=lookup, source="right")
    events = marbles.run(rx.merge(left, right).pipe(ops.tool_calls()))
    assert [(time, event.source, type(event)) for time, event in events[:-1]] == [
        (3.0, "right", Notice),
        (7.0, "right", ToolCall),
        (7.0, "right", End),
        (10.0, "left", ToolCall),
        (10.0, "left", End),
    ]


def test_an_end_of_the_whole_stream_completes_the_calls_of_every_source(marbles: Marbles) -> None:
    left = marbles.cold("b---|", lookup={"b": delta(OSLO)}, source="left")
    ending = marbles.cold("--E|", lookup={"E": CALLED})
    events = [event for _, event in marbles.run(rx.merge(left, ending).pipe(ops.tool_calls()))]
    assert events == [msgspec.structs.replace(finished(OSLO), source="left"), CALLED, COMPLETED]


def test_subscriptions_are_independent(marbles: Marbles) -> None:
    lookup = {"a": delta("{"), "b": finished(OSLO)}
    stream = marbles.cold("a-b|", lookup=lookup).pipe(ops.tool_calls())
    first = marbles.subscribe(stream)
    marbles.advance_to(1)
    second = marbles.subscribe(stream)
    marbles.advance_to(9)
    assert (first.chunks, second.chunks) == ([finished(OSLO)], [finished(OSLO)])


def test_early_disposal_disposes_the_source(marbles: Marbles) -> None:
    source = marbles.cold("a-b|", lookup={"a": delta("{"), "b": finished(OSLO)})
    recording = marbles.subscribe(source.pipe(ops.tool_calls()))
    marbles.advance_to(1)
    recording.dispose()
    assert (recording.events, source.subscriptions, marbles.timers) == ([], [(0.0, 1.0)], [])


def test_demand_passes_through(marbles: Marbles) -> None:
    marbles.at(1, marbles.valve.close)
    source = marbles.cold("a-b-c", lookup={"a": finished(OSLO), "b": finished(OSLO)}, demand=True)
    recording = marbles.subscribe(source.pipe(ops.tool_calls()))
    marbles.advance_to(9)
    assert recording.chunks == [finished(OSLO)]


def test_tools_may_run_after_it_in_order() -> None:
    """Calls are passed to an async function, and text continues alongside."""

    async def look_up(chunk: Chunk) -> Chunk:
        if not isinstance(chunk, ToolCall):
            return chunk
        await asyncio.sleep(1)
        return Token(f"{ops.arguments_of(chunk)['place']}: snow")

    async def main() -> list[str]:
        model = ScriptedModel(["Let me see. ", delta('{"pl'), delta(OSLO)])
        stream = model.stream("Hi").pipe(ops.tool_calls(), ops.map_async(look_up, 2))
        async with no_leaks():
            return [chunk.text async for chunk in to_async(stream) if isinstance(chunk, Token)]

    assert run_virtual(main()) == ["Let me see. ", "Oslo: snow"]


@given(
    st.lists(st.dictionaries(st.text(max_size=3), TEXTS, max_size=2), min_size=1, max_size=4),
    st.booleans(),
    st.data(),
)
def test_the_calls_are_the_same_however_they_are_cut(
    values: list[dict[str, str]], told: bool, data: st.DataObject
) -> None:
    texts = [msgspec.json.encode(value).decode() for value in values]
    cuts = [
        [*sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6))), len(text)]
        for text in texts
    ]
    places = [place for place, cut in enumerate(cuts) for _ in cut]
    chunks: list[str | Chunk] = []
    for place in data.draw(st.permutations(places)):
        length = cuts[place].pop(0)
        by_id = data.draw(st.booleans()) or length == 0
        call = ToolCall(f"call-{place}" if by_id else "", "tool", texts[place][:length], place)
        chunks.append(msgspec.structs.replace(call, complete=told and not cuts[place]))
    events = events_of([*chunks, CALLED], ops.tool_calls())
    calls = [event for event in events if isinstance(event, ToolCall)]
    assert [ops.arguments_of(call) for call in sorted(calls, key=lambda call: call.index)] == values
    assert all(call.complete for call in calls)
