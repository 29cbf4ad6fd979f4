"""`stop_on`: stop sequences, including those split across chunks."""

from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st

from rxllm import operators as ops
from rxllm.chunks import Batch, Chunk, End, Notice, Progress, Reasoning, Token, Usage, text_of
from rxllm.errors import BadRequestError
from rxllm.iteration import to_async
from rxllm.models.scripted import ScriptedModel
from rxllm.testing import COMPLETED, Marbles, no_leaks, run_virtual

LETTERS = st.sampled_from(["a", "b", "\n", "\r", "e", "\u0301", "👩", "\u200d", "字", "ש"])


def chunks(marbles: Marbles, diagram: str, *sequences: str, **lookup: Any) -> list[Any]:
    """The output for `diagram`, without times."""
    stream = marbles.cold(diagram, lookup=lookup).pipe(ops.stop_on(*sequences))
    return [event for _, event in marbles.run(stream)]


def test_the_text_ends_where_the_sequence_starts_and_the_finish_reason_says_so(
    marbles: Marbles,
) -> None:
    source = marbles.cold("S-a-bEN--Dc-d-E|")
    assert marbles.run(source.pipe(ops.stop_on("END"))) == [
        *marbles.expect("S-a"),
        (4.0, Token("b")),
        (9.0, End("stop", "END")),
        (9.0, COMPLETED),
    ]
    assert source.subscriptions == [(0.0, 9.0)]


def test_text_without_a_sequence_passes_unchanged(marbles: Marbles) -> None:
    diagram = "S-a-b--(E,|)"
    assert marbles.run(marbles.cold(diagram).pipe(ops.stop_on("\nHuman:"))) == marbles.expect(
        diagram
    )


def test_text_is_held_only_while_a_sequence_may_still_come(marbles: Marbles) -> None:
    stream = marbles.cold("aE--N--x-|").pipe(ops.stop_on("END"))
    assert marbles.run(stream) == [
        (0.0, Token("a")),
        (7.0, Token("E")),
        (7.0, Token("N")),
        (7.0, Token("x")),
        (9.0, COMPLETED),
    ]


def test_held_text_is_sent_at_the_end(marbles: Marbles) -> None:
    assert chunks(marbles, "aEN-E|", "END") == [Token("a"), Token("EN"), End("stop"), COMPLETED]


def test_held_text_is_sent_at_completion_and_before_an_error() -> None:
    marbles, error = Marbles(), ValueError("broken")
    stream = marbles.cold("EN-#", error=error).pipe(ops.stop_on("END"))
    assert marbles.run(stream) == [(3.0, Token("EN")), (3.0, error)]
    assert chunks(Marbles(), "EN-|", "END") == [Token("EN"), COMPLETED]


def test_never_and_empty(marbles: Marbles) -> None:
    assert marbles.run(marbles.cold("").pipe(ops.stop_on("END")), until=1) == []
    assert marbles.run(marbles.cold("|").pipe(ops.stop_on("END"))) == [(1.0, COMPLETED)]


def test_a_restart_drops_held_text_and_starts_over(marbles: Marbles) -> None:
    got = chunks(marbles, "EN-R-D-x|", "END")
    assert got == [Notice("restart"), Token("D"), Token("x"), COMPLETED]


def test_other_chunks_are_sent_before_the_restart_notice(marbles: Marbles) -> None:
    waiting = {"U": Usage(1, 2), "P": Progress(1, 0.5), "r": Reasoning("hm")}
    assert chunks(marbles, "(xE,U,r,P,R,ND)|", "END", **waiting) == [
        Token("x"),
        waiting["U"],
        waiting["P"],
        Notice("restart"),
        Token("ND"),
        COMPLETED,
    ]


def test_another_notice_is_not_a_restart(marbles: Marbles) -> None:
    got = chunks(marbles, "EN-n-D-x|", "END", n=Notice("retry"))
    assert got == [Notice("retry"), End("stop", "END"), COMPLETED]


def test_other_chunks_wait_behind_held_text_in_order(marbles: Marbles) -> None:
    other = {"P": Progress(1, 0.5), "U": Usage(1, 2), "r": Reasoning("END")}
    assert chunks(Marbles(), "aE-P-N-U-x-|", "END", **other) == [
        Token("a"),
        Token("E"),
        other["P"],
        Token("N"),
        other["U"],
        Token("x"),
        COMPLETED,
    ]
    assert chunks(marbles, "aE-P-r-N-D-x|", "END", **other) == [
        Token("a"),
        other["P"],
        other["r"],
        End("stop", "END"),
        COMPLETED,
    ]


def test_nothing_waits_if_no_text_is_held(marbles: Marbles) -> None:
    stream = marbles.cold("a-P-b|", lookup={"P": Progress(1, 0.5)}).pipe(ops.stop_on("END"))
    assert marbles.run(stream)[1] == (2.0, Progress(1, 0.5))


def test_a_token_keeps_its_confidence_even_when_split(marbles: Marbles) -> None:
    lookup = {"a": Token("whole", 0.9), "b": Token("cut\nHu", 0.8), "c": Token("man:", 0.7)}
    assert chunks(marbles, "a-b-c|", "\nHuman:", **lookup) == [
        Token("whole", 0.9),
        Token("cut", 0.8),
        End("stop", "\nHuman:"),
        COMPLETED,
    ]


def test_text_in_a_batch_is_text(marbles: Marbles) -> None:
    whole = Batch((Token("a", 0.5), Reasoning("hm"), Token("b")), "ab")
    cut = Batch((Token("cE"), Reasoning("so"), Token("N")), "cEN")
    last = Batch((Token("D"), Token("x")), "Dx")
    assert chunks(Marbles(), "W-C-L|", "END", W=whole, C=cut, L=last) == [
        whole,
        Batch((Token("c"),), "c"),
        Reasoning("so"),
        End("stop", "END"),
        COMPLETED,
    ]
    assert chunks(marbles, "C-x|", "END", C=cut) == [
        Batch((Token("c"),), "c"),
        Batch((Token("E"), Reasoning("so"), Token("N")), "EN"),
        Token("x"),
        COMPLETED,
    ]


def test_a_batch_is_split_between_its_chunks(marbles: Marbles) -> None:
    parts = Batch((Token("a"), Reasoning("hm"), Token("E")), "aE")
    assert chunks(marbles, "B-ND|", "END", B=parts)[:2] == [
        Batch((Token("a"), Reasoning("hm")), "a"),
        End("stop", "END"),
    ]


def test_after_a_merge_only_the_matching_source_ends(marbles: Marbles) -> None:
    left = marbles.cold("aE-ND-b-E|", source="left")
    right = marbles.cold("-xE--y--E|", source="right")
    events = marbles.run(rx.merge(left, right).pipe(ops.stop_on("END")))
    assert [(event.source, event) for _, event in events[:-1]] == [
        ("left", Token("a", source="left")),
        ("right", Token("x", source="right")),
        ("left", End("stop", "END", source="left")),
        ("right", Token("E", source="right")),
        ("right", Token("y", source="right")),
        ("right", End("stop", source="right")),
    ]


def test_a_restart_brings_a_stopped_source_back(marbles: Marbles) -> None:
    left = marbles.cold("END-a-R-b|", source="left")
    events = [event for _, event in marbles.run(left.pipe(ops.stop_on("END")))]
    assert events[1:3] == [Notice("restart", source="left"), Token("b", source="left")]


@pytest.mark.parametrize(("restarted", "revived"), [("left", {"left"}), (None, {"left", "right"})])
def test_a_restart_brings_back_only_the_sources_that_it_restarts(
    marbles: Marbles, restarted: str | None, revived: set[str]
) -> None:
    restart = marbles.cold("----R", source=restarted)
    sources = [marbles.cold("END---a--|", source=name) for name in ("left", "right")]
    events = marbles.run(rx.merge(restart, *sources).pipe(ops.stop_on("END")))
    assert {event.source for _, event in events if isinstance(event, Token)} == revived


def test_a_match_for_the_whole_stream_releases_text_held_for_others(marbles: Marbles) -> None:
    left, whole = marbles.cold("xE-------|", source="left"), marbles.cold("---END|")
    events = marbles.run(rx.merge(left, whole).pipe(ops.stop_on("END")))
    assert [event for _, event in events] == [
        Token("x", source="left"),
        Token("E", source="left"),
        End("stop", "END"),
        COMPLETED,
    ]


def test_the_failure_of_one_source_releases_its_held_text(marbles: Marbles) -> None:
    failed = Notice("failed", source="left")
    left = marbles.cold("xE-f|", source="left", lookup={"f": failed})
    right = marbles.cold("y------E|", source="right")
    events = marbles.run(rx.merge(left, right).pipe(ops.stop_on("END")))
    assert events[2:4] == [(3.0, Token("E", source="left")), (3.0, failed)]


def test_subscriptions_are_independent(marbles: Marbles) -> None:
    stream = marbles.cold("EN--D|").pipe(ops.stop_on("END"))
    first = marbles.subscribe(stream)
    marbles.advance_to(1)
    second = marbles.subscribe(stream)
    marbles.advance_to(9)
    assert (first.chunks, second.chunks) == ([End("stop", "END")], [End("stop", "END")])


def test_early_disposal_disposes_the_source(marbles: Marbles) -> None:
    source = marbles.cold("EN--x|")
    recording = marbles.subscribe(source.pipe(ops.stop_on("END")))
    marbles.advance_to(2)
    recording.dispose()
    assert (recording.events, source.subscriptions, marbles.timers) == ([], [(0.0, 2.0)], [])


def test_the_source_is_disposed_before_the_subscriber_gets_the_end(marbles: Marbles) -> None:
    source, seen = marbles.cold("xEN-D-y|"), []

    def on_next(_: Chunk) -> None:
        seen.append(list(source.subscriptions))

    source.pipe(ops.stop_on("END")).subscribe(on_next, scheduler=marbles.scheduler)
    marbles.advance_to(9)
    assert seen[-1] == [(0.0, 4.0)]


def test_demand_passes_through(marbles: Marbles) -> None:
    marbles.at(1, marbles.valve.close)
    recording = marbles.subscribe(marbles.cold("a-b-c", demand=True).pipe(ops.stop_on("END")))
    marbles.advance_to(9)
    assert recording.chunks == [Token("a")]


def test_a_synchronous_source_is_ignored_after_the_match() -> None:
    got: list[Any] = []
    source: rx.Observable[Chunk] = rx.of(Token("a END b"), Token("c"), End("stop"))
    source.pipe(ops.stop_on("END")).subscribe(got.append)
    assert got == [Token("a "), End("stop", "END")]


def test_the_model_is_stopped_at_once() -> None:
    model = ScriptedModel("one two three four", by="word", delay=1)

    async def main() -> list[Any]:
        stream = model.stream("Hi").pipe(ops.stop_on("two"))
        async with no_leaks():
            return [chunk async for chunk in to_async(stream)]

    assert "".join(map(text_of, run_virtual(main()))) == "one "
    assert (model.cancelled, model.active) == (1, 0)


@given(
    st.lists(st.text(LETTERS, min_size=1, max_size=4), min_size=1, max_size=4),
    st.lists(st.text(LETTERS, max_size=6), max_size=8),
)
def test_the_result_does_not_depend_on_the_cuts(sequences: list[str], pieces: list[str]) -> None:
    def answer(script: list[str]) -> tuple[str, End]:
        model = ScriptedModel([Token(piece) for piece in script])
        events = [e for _, e in Marbles().run(model.stream("Hi").pipe(ops.stop_on(*sequences)))]
        return "".join(map(text_of, events)), events[-2]

    assert answer(pieces) == answer(["".join(pieces)])
    assert answer(pieces) == answer(list("".join(pieces)))


@pytest.mark.parametrize("sequences", [(), ("",), (["a"],)])
def test_bad_sequences_are_rejected_at_the_call(sequences: Any) -> None:
    with pytest.raises(BadRequestError):
        ops.stop_on(*sequences)
