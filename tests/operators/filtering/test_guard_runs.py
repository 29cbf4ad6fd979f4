"""`guard` over runs, reasoning and arguments: it does what a plain function does, however cut."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reactivex.subject import Subject

from rxllm import operators as ops
from rxllm.chunks import (
    Batch,
    Chunk,
    End,
    Notice,
    Reasoning,
    Start,
    Steering,
    Token,
    ToolCall,
    ToolResult,
    Usage,
)
from rxllm.errors import ContentFilteredError
from rxllm.testing import COMPLETED, no_leaks, run_virtual
from rxllm.transcript import Transcript
from rxllm.valve import StreamScheduler
from tests.profiles import draws

MODES = ["stop", "error", "replace", "retract"]
KINDS = ["text", "reasoning", "arguments"]
WHATS = [("text",), ("reasoning",), ("arguments",), ("text", "reasoning"), tuple(KINDS)]


def not_bad(text: str) -> bool:
    return "bad" not in text


def events_from(chunks: Sequence[Any], operator: Any) -> list[Any]:
    """The events that `operator` makes of chunks, and of waits in seconds between them."""

    async def main() -> list[Any]:
        events: list[Any] = []
        done = asyncio.Event()

        def end(error: Exception | None = None) -> None:
            events.append(COMPLETED if error is None else error)
            done.set()

        async with no_leaks():
            source: Subject[Chunk] = Subject()
            scheduler = StreamScheduler(asyncio.get_running_loop())
            source.pipe(operator).subscribe(events.append, end, end, scheduler=scheduler)
            for chunk in chunks:
                if isinstance(chunk, float):
                    await asyncio.sleep(chunk)
                else:
                    source.on_next(chunk)
            source.on_completed()
            await asyncio.wait_for(done.wait(), 1e6)
            await scheduler.settle()
        return events

    return run_virtual(main())


@dataclass
class Seen:
    """What is left of one answer in the end."""

    text: str = ""
    reasoning: str = ""
    arguments: dict[str, str] = field(default_factory=dict)
    complete: set[str] = field(default_factory=set)
    end: End | None = None


def answers_in(events: Sequence[Any], source: str | None) -> list[Seen]:
    """The answers of a source, by `Transcript`."""
    transcript, seen = Transcript(), list[Seen]()

    def look() -> Seen:
        answer = transcript.answers.get(source)
        if answer is None:
            return Seen()
        return Seen(
            answer.text,
            answer.reasoning,
            {call.id: call.arguments for call in answer.calls.values()},
            {call.id for call in answer.calls.values() if call.complete},
            answer.end,
        )

    for event in events:
        if isinstance(event, Exception) or event is COMPLETED:
            break
        transcript.add(event)
        if event.source == source and isinstance(event, End):
            seen.append(look())
    last = look()
    if last.end is None and (last.text or last.reasoning or last.arguments):
        seen.append(last)
    return seen


Letters = list[tuple[str, str]]
"""Characters, each with the kind of content or the id of the call that it belongs to."""


def guarded(
    letters: Letters, what: Collection[str], every: int, context: int, mode: str
) -> tuple[Letters, bool]:
    """What a plain function makes of a whole answer, and whether it has found something."""

    def is_checked(kind: str) -> bool:
        return (kind if kind in KINDS else "arguments") in what

    passed: Letters = []
    known: dict[str, str] = {}
    place, found, replaced = 0, False, set[str]()
    while place < len(letters):
        kind = letters[place][0]
        if not is_checked(kind):
            passed.append(letters[place])
            place += 1
            continue
        window, inside = "", Letters()
        while place < len(letters) and len(window) < every:
            other, letter = letters[place]
            if other != kind and is_checked(other):
                break
            if other == kind:
                window += letter
            inside.append(letters[place])
            place += 1
        before = known.get(kind, "")
        if fine := not_bad(before + window):
            passed += [each for each in inside if each[0] not in replaced]
        else:
            found = True
            if mode != "replace":
                return passed, True
            window = "#"
            if kind in KINDS:
                passed.append((kind, window))
            else:
                replaced.add(kind)
            passed += [each for each in inside if each[0] != kind]
        del fine
        known[kind] = (before + window)[max(0, len(before + window) - context) :]
    return [each for each in passed if each[0] not in replaced], found


def joined(letters: Letters, kind: str) -> str:
    return "".join(letter for each, letter in letters if each == kind)


PIECES = st.lists(
    st.tuples(
        st.sampled_from(["text", "text", "text", "reasoning", "c1", "c2"]),
        st.lists(st.sampled_from(["b", "a", "d", "bad", "x", "yz", "longer"]), max_size=4).map(
            "".join
        ),
    ),
    max_size=9,
)
HARMLESS = st.lists(st.tuples(st.sampled_from(["text", "reasoning"]), st.just("xyz")), max_size=5)


@st.composite
def answers(
    draw: st.DrawFn, source: str | None, name: str, *, more: bool
) -> tuple[Letters, list[Any]]:
    """An answer and its chunks: batched or not, after attempts that began again."""
    chunks: list[Any] = []
    for wrong in draw(st.lists(HARMLESS, max_size=1)):
        pieces = [(Token if kind == "text" else Reasoning)(text) for kind, text in wrong]
        chunks += [*pieces, Notice("restart")]
    letters, calls = Letters(), dict[str, str]()
    chunks.append(Start(name, "model"))
    for kind, text in draw(PIECES):
        letters += [(kind, letter) for letter in text]
        if kind in KINDS:
            piece: Any = (Token if kind == "text" else Reasoning)(text)
            if draw(st.booleans()):
                part = msgspec.structs.replace(piece, source=source)
                piece = Batch((part,), text if kind == "text" else "")
        else:
            calls[kind] = calls.get(kind, "") + text
            piece = ToolCall(kind, "look", calls[kind], int(kind[1]))
        chunks.append(piece)
        if draw(st.booleans()):
            chunks.append(draw(st.sampled_from([0.1, 0.5, 3.0])))
    for call, arguments in calls.items():
        chunks.append(ToolCall(call, "look", arguments, int(call[1]), complete=True))
    chunks += [Usage(1, 2), End("tool_calls" if more else "stop", more=more)]
    if more:
        chunks.append(draw(st.sampled_from([ToolResult("c1", "look", name), Steering("go on")])))
    return letters, [
        each if isinstance(each, float) else msgspec.structs.replace(each, source=source)
        for each in chunks
    ]


@st.composite
def runs(draw: st.DrawFn, source: str | None = None) -> tuple[list[Letters], list[Any]]:
    """One or two answers of a source."""
    parts = [draw(answers(source, "1", more=True))] if draw(st.booleans()) else []
    parts.append(draw(answers(source, "2", more=False)))
    return [letters for letters, _ in parts], [each for _, steps in parts for each in steps]


@st.composite
def merged(draw: st.DrawFn) -> tuple[dict[str | None, list[Letters]], list[Any]]:
    """One run, or two of different sources at once."""
    if draw(st.booleans()):
        letters, steps = draw(runs())
        return {None: letters}, steps
    both = {name: draw(runs(name)) for name in ("x", "y")}
    left, right = (list(both[name][1]) for name in both)
    steps = []
    while left or right:
        steps.append((left if left and (not right or draw(st.booleans())) else right).pop(0))
    return {name: letters for name, (letters, _) in both.items()}, steps


SOME = settings(
    max_examples=draws(500),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example],
)


@SOME
@given(
    merged(),
    st.sampled_from(MODES),
    st.sampled_from(WHATS),
    st.integers(1, 6),
    st.integers(0, 5),
    st.booleans(),
)
def test_what_is_left_is_what_a_plain_function_leaves(
    run: tuple[dict[str | None, list[Letters]], list[Any]],
    mode: Any,
    what: Any,
    every: int,
    context: int,
    is_slow: bool,
) -> None:
    async def slowly(text: str) -> bool:
        await asyncio.sleep(1.0)
        return not_bad(text)

    check: Callable[[str], Any] = slowly if is_slow else not_bad
    operator = ops.guard(
        check, what=what, every=every, context=context, on_violation=mode, replacement="#"
    )
    texts, steps = run
    events = events_from(steps, operator)
    has_failed = isinstance(events[-1], ContentFilteredError)
    found_any = False
    for source, whole in texts.items():
        expected: list[tuple[Letters, Letters, bool]] = []
        for letters in whole:
            left, found = guarded(letters, what, every, context, mode)
            expected.append((letters, left, found))
            found_any = found_any or found
            if found and mode != "replace":
                break
        seen = answers_in(events, source)
        if has_failed and len(texts) > 1:
            continue  # the other one was cut off where it was
        for place, (letters, left, found) in enumerate(expected):
            answer = seen[place] if place < len(seen) else Seen()
            assert answer.text == joined(left, "text")
            assert answer.reasoning == joined(left, "reasoning")
            stopped = found and mode != "replace"
            if stopped:
                assert answer.end == (
                    None if mode == "error" else End("content_filter", source=source)
                )
            for call in ("c1", "c2"):
                approved, all_of_it = joined(left, call), joined(letters, call)
                arguments = answer.arguments.get(call, "")
                if call in answer.complete:
                    assert arguments == approved == all_of_it
                elif arguments == '"#"':
                    assert mode == "replace"
                else:
                    assert approved.startswith(arguments)
                    assert stopped or not all_of_it
        assert len(seen) <= len(expected)
    assert has_failed == (found_any and mode == "error")
