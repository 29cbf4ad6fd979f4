"""`tool_calls`: calls of tools, once they are whole (row E9)."""

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
    """A call that is under way."""
    return ToolCall(id, name, arguments, index)


def whole(arguments: str, **fields: Any) -> ToolCall:
    """The last chunk of a call."""
    return msgspec.structs.replace(delta(arguments, **fields), complete=True)


def after(*chunks: Step, strict: bool = True) -> list[Any]:
    """What comes out of a source that says `chunks`, all at once, and completes."""
    script = ScriptedModel([*chunks], finish_reason=None)
    stream = script.stream("Hi").pipe(ops.tool_calls(strict=strict))
    return [event for _, event in Marbles().run(stream)][1:]


def test_a_call_comes_once_when_it_is_whole(marbles: Marbles) -> None:
    lookup = {"a": delta(""), "b": delta('{"pl'), "c": whole(OSLO), "E": CALLED}
    stream = marbles.cold("S-a-b-c-E|", lookup=lookup).pipe(ops.tool_calls())
    assert marbles.run(stream) == marbles.expect("S-----c-E|", lookup=lookup)


def test_several_at_once_come_as_they_become_whole() -> None:
    time: dict[str, Any] = {"id": "2", "name": "time", "index": 1}
    chunks = [delta('{"pl'), delta("{", **time), delta('{"place'), whole(NINE, **time), whole(OSLO)]
    assert after(*chunks, CALLED) == [whole(NINE, **time), whole(OSLO), CALLED, COMPLETED]


def test_a_call_whose_end_is_not_told_is_whole_at_the_end_of_the_answer() -> None:
    """Row E9: a provider that never marks a call as complete."""
    time: dict[str, Any] = {"id": "2", "name": "time", "index": 1}
    chunks: list[Chunk] = [delta("{"), delta(NINE, **time), delta(OSLO)]
    for end in (CALLED, End("stop")):
        assert after(*chunks, end) == [whole(OSLO), whole(NINE, **time), end, COMPLETED]
    assert after(*chunks) == [whole(OSLO), whole(NINE, **time), COMPLETED]


@pytest.mark.parametrize("reason", ["length", "content_filter", "cancelled"])
def test_a_call_that_was_cut_short_never_comes(reason: Any) -> None:
    chunks: list[Chunk] = [whole(OSLO), delta(NINE, id="2", index=1), End(reason)]
    assert after(*chunks) == [whole(OSLO), End(reason), COMPLETED]


def test_deltas_without_an_id_belong_to_the_call_at_their_index() -> None:
    """Row E9: the first delta of a call tells its id and name, the later ones only the index."""
    chunks = [
        delta("", name="weather"),
        delta("", id="2", name="time", index=1),
        delta(OSLO, id="", name=""),
        delta(NINE, id="", name="", index=1),
    ]
    assert after(*chunks, CALLED) == [
        whole(OSLO),
        whole(NINE, id="2", name="time", index=1),
        CALLED,
        COMPLETED,
    ]


def test_deltas_with_an_id_belong_to_its_call_whatever_their_index() -> None:
    """Row E9: a provider that gives every call the index 0."""
    chunks = [delta("{"), delta("{", id="2", name="time"), delta(OSLO), delta(NINE, id="2")]
    assert after(*chunks, CALLED) == [
        whole(OSLO),
        whole(NINE, id="2"),
        CALLED,
        COMPLETED,
    ]


def test_an_id_that_is_told_late_names_the_call_at_its_index() -> None:
    chunks = [delta("{", id=""), delta(OSLO, name=""), whole("", id="", name="")]
    assert after(*chunks) == [whole(OSLO), COMPLETED]


def test_a_whole_call_without_an_id_leaves_its_index_to_the_next_one() -> None:
    chunks = [whole(OSLO, id=""), whole(NINE, id="", name="time")]
    assert after(*chunks) == [*chunks, COMPLETED]


def test_a_call_that_is_told_again_does_not_come_twice() -> None:
    chunks = [whole(OSLO), whole(OSLO), delta(OSLO), whole("", id="", name="")]
    assert after(*chunks, CALLED) == [whole(OSLO), CALLED, COMPLETED]


def test_a_call_without_arguments_has_an_empty_object() -> None:
    assert after(whole(""))[0] == whole("{}")
    assert ops.arguments_of(whole("")) == {}


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
def test_arguments_that_can_not_be_read_are_an_error(arguments: str) -> None:
    calls = (whole(OSLO), whole(arguments, id="2", name="time", index=1), whole("{}", id="3"))
    first, error = after(*calls)
    assert first == whole(OSLO)
    assert isinstance(error, MalformedStreamError)
    assert error.retryable
    assert "call 1, of the tool 'time', are no JSON object" in str(error)


def test_the_error_says_where_and_keeps_its_cause() -> None:
    (error,) = after(whole('{"place" 1}'))
    assert "(byte 9)" in str(error)
    assert isinstance(error.__cause__, msgspec.DecodeError)


def test_an_error_at_the_end_of_the_answer_takes_the_place_of_the_end() -> None:
    for end in ([CALLED], []):
        (error,) = after(delta('{"place": "Os'), *end)
        assert isinstance(error, MalformedStreamError)


def test_the_source_is_stopped_at_once_when_arguments_can_not_be_read(marbles: Marbles) -> None:
    source = marbles.cold("-a-b|", lookup={"a": whole("{")})
    events = marbles.run(source.pipe(ops.tool_calls()))
    assert len(events) == 1
    assert source.subscriptions == [(0.0, 1.0)]


def test_unless_it_is_strict_calls_pass_unread() -> None:
    assert after(whole("{place: 1}"), strict=False) == [whole("{place: 1}"), COMPLETED]


def test_never_and_empty(marbles: Marbles) -> None:
    assert marbles.run(marbles.cold("").pipe(ops.tool_calls()), until=1) == []
    assert marbles.run(marbles.cold("|").pipe(ops.tool_calls())) == [(1.0, COMPLETED)]


def test_an_error_of_the_source_drops_what_is_under_way() -> None:
    error = ValueError("broken")
    assert after(whole(OSLO), delta(NINE, id="2"), error) == [whole(OSLO), error]


def test_a_restart_drops_what_is_under_way_and_forgets_what_was_whole() -> None:
    chunks: list[Chunk] = [
        whole(OSLO),
        delta(NINE, id="2", index=1),
        Notice("restart"),
        whole(OSLO),
        CALLED,
    ]
    assert after(*chunks) == [whole(OSLO), Notice("restart"), whole(OSLO), CALLED, COMPLETED]


def test_after_the_end_another_answer_begins() -> None:
    first: rx.Observable[Chunk] = rx.of(whole(OSLO), CALLED)
    second: rx.Observable[Chunk] = rx.of(whole(NINE), CALLED)
    got: list[Any] = []
    rx.concat(first, second).pipe(ops.tool_calls()).subscribe(got.append)
    assert got == [whole(OSLO), CALLED, whole(NINE), CALLED]


def test_each_source_has_calls_of_its_own(marbles: Marbles) -> None:
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
    assert events == [msgspec.structs.replace(whole(OSLO), source="left"), CALLED, COMPLETED]


def test_two_subscriptions_know_nothing_of_each_other(marbles: Marbles) -> None:
    lookup = {"a": delta("{"), "b": whole(OSLO)}
    stream = marbles.cold("a-b|", lookup=lookup).pipe(ops.tool_calls())
    first = marbles.subscribe(stream)
    marbles.advance_to(1)
    second = marbles.subscribe(stream)
    marbles.advance_to(9)
    assert (first.chunks, second.chunks) == ([whole(OSLO)], [whole(OSLO)])


def test_early_disposal_disposes_the_source(marbles: Marbles) -> None:
    source = marbles.cold("a-b|", lookup={"a": delta("{"), "b": whole(OSLO)})
    recording = marbles.subscribe(source.pipe(ops.tool_calls()))
    marbles.advance_to(1)
    recording.dispose()
    assert (recording.events, source.subscriptions, marbles.timers) == ([], [(0.0, 1.0)], [])


def test_demand_passes_through(marbles: Marbles) -> None:
    marbles.at(1, marbles.valve.close)
    source = marbles.cold("a-b-c", lookup={"a": whole(OSLO), "b": whole(OSLO)}, demand=True)
    recording = marbles.subscribe(source.pipe(ops.tool_calls()))
    marbles.advance_to(9)
    assert recording.chunks == [whole(OSLO)]


def test_a_tool_may_be_run_behind_it_in_order() -> None:
    """Calls go to an async function, and text goes on beside them."""

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
