"""`guard` over runs, reasoning and arguments: it does what a plain function does, however cut."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
import reactivex as rx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reactivex import operators as rxo
from reactivex.subject import Subject

import rxllm
from rxllm import from_async
from rxllm import operators as ops
from rxllm.chunks import (
    Batch,
    Chunk,
    End,
    Notice,
    ProviderState,
    Reasoning,
    Start,
    Steering,
    Token,
    ToolCall,
    ToolResult,
    Usage,
    is_restart,
    text_of,
)
from rxllm.errors import ContentFilteredError, RestartedStreamError
from rxllm.messages import ReasoningPart, TextPart
from rxllm.models.scripted import ScriptedModel
from rxllm.testing import COMPLETED, Marbles, no_leaks, run_virtual
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
        kind, first = letters[place]
        if not (is_checked(kind) and first):
            passed.append(letters[place])
            place += 1
            continue
        window, inside = "", Letters()
        while place < len(letters) and len(window) < every:
            other, letter = letters[place]
            if other != kind and ((is_checked(other) and letter) or kind == "reasoning"):
                break  # other content ends a thinking block, too
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
        if kind not in KINDS and not text:
            letters.append((kind, ""))  # the chunk of a call ends a thinking block
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


class Recorder:
    """A check that takes `seconds`, and records what it looks at."""

    def __init__(self, seconds: float = 0.0, check: Callable[[str], bool] = not_bad) -> None:
        self._seconds = seconds
        self._check = check
        self.asked: list[tuple[str, Any]] = []

    def __call__(self, text: str, about: ops.Checked) -> Any:
        self.asked.append((text, about.tool or about.what))
        return self._later(text) if self._seconds else self._check(text)

    async def _later(self, text: str) -> bool:
        await asyncio.sleep(self._seconds)
        return self._check(text)


def call(arguments: str, *, complete: bool = False, name: str = "look", index: int = 0) -> ToolCall:
    return ToolCall(f"c{index}", name, arguments, index, complete=complete)


EVERYTHING: Any = ("text", "reasoning", "arguments")


def test_each_kind_of_content_has_its_own_windows_in_order(marbles: Marbles) -> None:
    check = Recorder()
    whole = call('{"a": 1}', complete=True)
    lookup = {"h": Reasoning("hm"), "i": Reasoning("mh"), "q": call('{"a'), "r": whole}
    source = marbles.cold("h-i-abcd-h-e-q-r-E|", lookup=lookup)
    events = marbles.run(source.pipe(ops.guard(check, what=EVERYTHING, every=3, context=1)))
    assert events == [
        (2.0, Reasoning("hm")),
        (2.0, Reasoning("m")),
        (4.0, Reasoning("h")),
        (4.0, Token("abc")),
        (9.0, Token("d")),
        (11.0, Reasoning("hm")),
        (13.0, Token("e")),
        (13.0, call('{"a')),
        (15.0, whole),
        (17.0, End("stop")),
        (18.0, COMPLETED),
    ]
    assert check.asked == [
        ("hmm", "reasoning"),
        ("mh", "reasoning"),
        ("abc", "text"),
        ("cd", "text"),
        ("hhm", "reasoning"),
        ("de", "text"),
        ('{"a', "look"),
        ('a": ', "look"),
        (" 1}", "look"),
    ]


def test_only_what_is_asked_for_is_checked() -> None:
    chunks = [Reasoning("bad"), Token("bad"), call("bad", complete=True), End("stop")]
    what: Any
    for what in KINDS:
        check = Recorder(check=lambda _: True)
        assert events_from(chunks, ops.guard(check, what=what)) == [*chunks, COMPLETED]
        assert len(check.asked) == 1


def test_a_check_may_ask_what_it_looks_at() -> None:
    seen: list[Any] = []

    def with_default(text: str, others: list[Any] = seen) -> bool:
        others.append(text)
        return True

    def with_both(text: str, about: ops.Checked) -> bool:
        seen.append((text, about))
        return True

    chunks = [msgspec.structs.replace(call("{}", complete=True), source="x"), End("stop")]
    for check in (with_default, with_both, "{}".__contains__):
        events_from(chunks, ops.guard(check, what="arguments"))
    assert seen == ["{}", ("{}", ops.Checked("arguments", "look", "x"))]


def test_calls_written_at_the_same_time_are_checked_apart() -> None:
    check = Recorder()
    chunks = [
        call("12"),
        call("ab", index=1),
        call("1234", complete=True),
        call("abcd", index=1, complete=True),
    ]
    operator = ops.guard(check, what="arguments", context=1)
    assert events_from([*chunks, End("stop")], operator) == [*chunks, End("stop"), COMPLETED]
    assert [text for text, _ in check.asked] == ["12", "ab", "234", "bcd"]


def test_arguments_that_are_written_anew_are_checked_anew() -> None:
    check = Recorder()
    chunks = [call("good"), call("bad", complete=True), End("stop")]
    events = events_from(chunks, ops.guard(check, what="arguments", every=4))
    assert events == [call("good"), End("content_filter"), COMPLETED]


def test_states_of_reasoning_stay_with_their_block() -> None:
    state = ProviderState("claude", "claude", "signed")
    chunks = [Reasoning("one "), Reasoning("two"), Reasoning("", state), Token("Yes"), End("stop")]
    mode: Any
    for mode in MODES:
        operator = ops.guard(not_bad, what=EVERYTHING, every=5, on_violation=mode)
        events = events_from(chunks, operator)
        parts = transcript_of(events).parts
        assert parts == (ReasoningPart("one two", state), TextPart("Yes"))


def test_a_replaced_block_has_no_state_and_the_next_one_has() -> None:
    state = ProviderState("claude", "claude", "signed")
    chunks = [Reasoning("good bad"), Reasoning("", state), Reasoning("fine"), Reasoning("", state)]
    operator = ops.guard(not_bad, what="reasoning", every=5, on_violation="replace")
    assert events_from(chunks, operator) == [
        Reasoning("good "),
        Reasoning("[removed]"),
        Reasoning("fine"),
        Reasoning("", state),
        COMPLETED,
    ]


def transcript_of(events: Sequence[Any]) -> Transcript:
    transcript = Transcript()
    for event in events:
        if not isinstance(event, Exception) and event is not COMPLETED:
            transcript.add(event)
    return transcript


@pytest.mark.parametrize("seconds", [0.0, 0.5])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("arguments", ['{"place": "bad"}', '{"place": "x"}bad', "bad"])
def test_a_rejected_call_in_a_step_never_runs(mode: Any, seconds: float, arguments: str) -> None:
    ran: list[str] = []

    async def look(place: str = "nowhere") -> str:
        ran.append(place)
        return "snow"

    answers: list[Any] = [
        Token("Wait."),
        call(""),
        call(arguments[:9]),
        call(arguments, complete=True),
    ]
    model = ScriptedModel([*answers, End("tool_calls")], "Sorry.")
    operator = ops.guard(
        Recorder(seconds), what=("text", "arguments"), on_violation=mode, replacement=""
    )
    agent = rxllm.Agent(rxllm.piped(model, operator), [look])

    async def main() -> Any:
        async with no_leaks():
            return await agent.stream("Go")

    if mode == "error":
        with pytest.raises(ContentFilteredError):
            run_virtual(main())
    elif mode == "replace":
        result = run_virtual(main())
        assert result.text == "Sorry."
        assert result.messages[1].is_error
        assert "bad" not in repr(result.messages)
    else:
        result = run_virtual(main())
        assert (result.text, result.finish_reason) == ("Wait.", "content_filter")
        assert not any(each.complete for each in result.tool_calls)
    assert ran == []


@pytest.mark.parametrize("seconds", [0.0, 0.5])
def test_text_that_is_rejected_in_a_step_runs_none_of_its_calls(seconds: float) -> None:
    """Also where the calls themselves are not checked, and come before the check is done."""
    ran: list[str] = []

    def look() -> str:
        ran.append("x")
        return "snow"

    for mode in ("stop", "retract"):
        model = ScriptedModel([Token("bad"), call("{}", complete=True), End("tool_calls")])
        operator = ops.guard(Recorder(seconds), on_violation=mode)
        agent = rxllm.Agent(rxllm.piped(model, operator), [look])
        result = run_virtual(consumed(agent.stream("Go")))
        assert (result.text, result.tool_calls, ran) == ("", (), [])


async def consumed(stream: Any) -> Any:
    async with no_leaks():
        return await stream


def test_retract_sends_text_at_once_and_takes_back_what_is_rejected(marbles: Marbles) -> None:
    source = marbles.cold("S-a-b-h-c-d-b-a-d-e-x-E|", lookup={"h": Reasoning("hm")})
    operator = ops.guard(not_bad, every=3, context=3, on_violation="retract")
    assert marbles.run(source.pipe(operator)) == [
        *marbles.expect("S-a-b-h-c-d-b-a-d-e-x", lookup={"h": Reasoning("hm")}),
        (20.0, Notice("restart")),
        (20.0, Token("ab")),
        (20.0, Reasoning("hm")),
        (20.0, Token("cdba")),
        (20.0, End("content_filter")),
        (20.0, COMPLETED),
    ]
    assert source.subscriptions == [(0.0, 20.0)]
    assert marbles.timers == []


def test_retract_takes_back_nothing_if_nothing_is_rejected() -> None:
    chunks = [Token("one "), Reasoning("hm"), call("{}", complete=True), Usage(1, 2), End("stop")]
    for seconds in (0.0, 1.0):
        operator = ops.guard(Recorder(seconds), what=EVERYTHING, every=3, on_violation="retract")
        assert events_from(chunks, operator) == [*chunks, COMPLETED]


def test_retract_holds_calls_and_ends_until_all_before_them_is_approved() -> None:
    asked = Recorder(1.0)
    chunks = [Token("text"), call("{}", complete=True), Token("more"), End("stop")]
    times = times_of(chunks, ops.guard(asked, on_violation="retract"))
    assert times == [
        (0.0, Token("text")),
        (1.0, call("{}", complete=True)),
        (1.0, Token("more")),
        (1.0, End("stop")),
        (1.0, COMPLETED),
    ]
    assert asked.asked == [("textmore", "text")]


def times_of(chunks: Sequence[Any], operator: Any) -> list[tuple[float, Any]]:
    """The events, with their times."""
    times: list[float] = []

    def note(_: Any) -> None:
        times.append(asyncio.get_running_loop().time())

    def clocked(source: Any) -> Any:
        return operator(source).pipe(rxo.do_action(note, note, lambda: note(None)))

    events = events_from(chunks, clocked)
    return list(zip(times, events, strict=True))


def test_retract_leaves_at_most_two_windows_unchecked() -> None:
    model = ScriptedModel(["abcde"] * 100, delay=0.01)

    async def main() -> None:
        sent = 0

        def count(chunk: Chunk) -> None:
            nonlocal sent
            sent += len(text_of(chunk))

        async with no_leaks():
            operator = ops.guard(Recorder(9.0), every=20, on_violation="retract")
            scheduler = StreamScheduler(asyncio.get_running_loop())
            subscription = model.stream("Hi").pipe(operator).subscribe(count, scheduler=scheduler)
            await asyncio.sleep(8)
            assert sent == 45
            await asyncio.sleep(9)
            assert sent == 65
            subscription.dispose()
            await scheduler.settle()

    run_virtual(main())


def test_retract_takes_back_the_unchecked_before_an_error() -> None:
    error = ConnectionResetError()
    source = rx.concat(rx.of(Token("good"), Token("ba")), rx.throw(error))
    operator = ops.guard(not_bad, every=4, on_violation="retract")
    events = [event for _, event in Marbles().run(source.pipe(operator))]
    assert events == [Token("good"), Token("ba"), Notice("restart"), Token("good"), error]


def test_retract_after_a_merge_concerns_one_source() -> None:
    chunks: list[Any] = [
        Token("fine", source="x"),
        Token("good", source="y"),
        Token("bad", source="x"),
        End("stop", source="x"),
        Notice("failed", source="y"),
    ]
    for seconds in (0.0, 1.0):
        operator = ops.guard(Recorder(seconds), every=4, on_violation="retract")
        events = events_from([*chunks[:-1], 9.0, chunks[-1]], operator)
        assert events == [
            *chunks[:3],
            Notice("restart", source="x"),
            Token("fine", source="x"),
            End("content_filter", source="x"),
            Notice("failed", source="y"),
            COMPLETED,
        ]


def test_retract_takes_back_other_sources_whose_check_is_cut_off() -> None:
    chunks = [Token("good", source="x"), Token("ba", source="x"), Token("bad ")]
    operator = ops.guard(not_bad, every=4, on_violation="retract")
    assert events_from(chunks, operator) == [
        *chunks,
        Notice("restart", source="x"),
        Token("good", source="x"),
        Notice("restart"),
        End("content_filter"),
        COMPLETED,
    ]


def test_text_that_can_not_be_taken_back_fails() -> None:
    stream = ScriptedModel(["bad"]).stream("Hi")
    operator = ops.guard(not_bad, on_violation="retract")
    *_, (_, last) = Marbles().run(stream.pipe(operator, ops.text()))
    assert isinstance(last, RestartedStreamError)


STEP: list[Any] = [
    Start("1", "model"),
    Token("one "),
    call("{}", complete=True),
    End("tool_calls", more=True),
    ToolResult("c0", "look", "snow"),
    Steering("faster"),
    Start("2", "model"),
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seconds", [0.0, 0.5])
def test_in_a_run_only_the_answer_under_way_is_taken_back(mode: Any, seconds: float) -> None:
    operator = ops.guard(Recorder(seconds), every=4, on_violation=mode)
    events = events_from([*STEP, Token("two "), Token("bad"), End("stop")], operator)
    messages = transcript_of(events).messages
    roles = [message.role for message in messages]
    assert roles[:3] == ["assistant", "tool", "user"]
    assert messages[0].text == "one "
    last = {"replace": "two [removed]"}.get(mode, "two ")
    assert messages[-1].text == last
    assert len(messages) == 4


@pytest.mark.parametrize("mode", MODES)
def test_nothing_of_an_answer_joins_the_next_one(mode: Any) -> None:
    for source in (None, "x"):
        check = Recorder(0.5)
        steps = [*STEP, Token("two"), End("stop")]
        chunks = [msgspec.structs.replace(each, source=source) for each in steps]
        events = events_from(chunks, ops.guard(check, on_violation=mode))
        assert events == [*chunks, COMPLETED]
        assert [text for text, _ in check.asked] == ["one ", "two"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("source", [None, "x"])
def test_a_restart_behind_a_waiting_answer_follows_it(mode: Any, source: str | None) -> None:
    restart, usage = Notice("restart"), Usage(1, 2)
    steps = [*STEP, Token("wrong"), usage, restart, Start("3", "model"), Token("two"), End("stop")]
    chunks = [msgspec.structs.replace(each, source=source) for each in steps]
    check = Recorder(0.5)
    events = events_from(chunks, ops.guard(check, on_violation=mode))
    assert events == [*(each for each in chunks if text_of(each) != "wrong"), COMPLETED]
    assert [text for text, _ in check.asked] == ["one ", "two"]


def test_a_restart_in_a_run_leaves_what_runs_inside_tools() -> None:
    nested = [Token("inside", source="c0"), End("stop", source="c0")]
    chunks = [*STEP[:4], 1.0, *nested, *STEP[4:], Token("wrong"), Notice("restart"), Token("two")]
    events = events_from([*chunks, End("stop")], ops.guard(Recorder(0.5)))
    assert [event for event in events if getattr(event, "source", None)] == nested
    assert transcript_of(events).text == "two"


def test_a_stopped_run_is_not_revived_by_a_later_answer() -> None:
    steps = [Token("bad"), End("tool_calls", more=True), ToolResult("c0", "look", "x")]
    steps += [Token("wrong"), Notice("restart"), Token("two"), End("stop")]
    for wait in (0.0, 9.0):
        chunks = [msgspec.structs.replace(each, source="x") for each in steps]
        for place in (1, 2, 3):
            waiting = [*chunks[:place], wait, *chunks[place:]]
            events = events_from(waiting, ops.guard(Recorder(0.5), every=3))
            assert [event for event in events if not is_restart(event)] == [
                End("content_filter", source="x"),
                COMPLETED,
            ]


def test_of_the_answers_behind_a_rejected_one_only_their_usage_is_passed_on() -> None:
    later = [*STEP[3:], Token("wrong"), Usage(1, 2), Notice("restart"), Token("two"), End("stop")]
    for source in (None, "x"):
        chunks: list[Any] = [Token("bad"), Usage(3, 4), *later]
        chunks = [msgspec.structs.replace(each, source=source) for each in chunks]
        events = events_from(chunks, ops.guard(Recorder(0.5)))
        usage = [Usage(3, 4, source=source), Usage(1, 2, source=source)]
        assert events == [*usage, End("content_filter", source=source), COMPLETED]


def test_upstream_is_paused_while_much_waits_behind_the_end_of_an_answer() -> None:
    script: list[Any] = [Token("one"), End("stop", more=True), *[Token("abcde")] * 100, End("stop")]
    sent: list[Chunk] = []

    async def main() -> None:
        async with no_leaks():
            scheduler = StreamScheduler(asyncio.get_running_loop())
            stream = ScriptedModel(script, delay=0.01).stream("Hi").pipe(ops.filters(noted))
            operator = ops.guard(Recorder(9.0), every=10)
            subscription = stream.pipe(operator).subscribe(scheduler=scheduler)
            await asyncio.sleep(8)
            assert len(sent) < 30
            subscription.dispose()
            await scheduler.settle()

    def noted(chunk: Chunk) -> Chunk:
        sent.append(chunk)
        return chunk

    run_virtual(main())


@pytest.mark.parametrize("mode", MODES)
def test_disposal_leaves_nothing(mode: Any) -> None:
    async def main() -> list[Any]:
        events: list[Any] = []
        async with no_leaks():
            source: Subject[Chunk] = Subject()
            scheduler = StreamScheduler(asyncio.get_running_loop())
            operator = ops.guard(Recorder(9.0), what=EVERYTHING, every=2, on_violation=mode)
            subscription = source.pipe(operator).subscribe(events.append, scheduler=scheduler)
            for chunk in STEP:
                source.on_next(chunk)
            await asyncio.sleep(1)
            subscription.dispose()
            await scheduler.settle()
        return events

    assert run_virtual(main()) == STEP[: 2 if mode == "retract" else 1]


@pytest.mark.parametrize(
    ("what", "error", "message"),
    [
        ("texts", ValueError, "'text', 'reasoning', 'arguments'"),
        ((), ValueError, "one or more"),
        (["text", "json"], ValueError, "json"),
        (None, TypeError, "what must be"),
        (3, TypeError, "what must be"),
    ],
)
def test_bad_words_for_what_is_checked_are_rejected_at_the_call(
    what: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ops.guard(not_bad, what=what)


def test_a_window_that_was_due_while_the_valve_was_closed_may_begin_again(marbles: Marbles) -> None:
    marbles.at(1, marbles.valve.close)
    marbles.at(9, marbles.valve.open)
    events = marbles.run(marbles.cold("--abcd-R-ef-(E,|)").pipe(ops.guard(not_bad, every=4)))
    assert [event for _, event in events] == [
        Notice("restart"),
        Token("ef"),
        End("stop"),
        COMPLETED,
    ]


def test_text_dropped_by_a_restart_behind_a_waiting_answer_does_not_pause_upstream() -> None:
    steps = [*STEP, Token("wrong" * 9), Notice("restart"), *[Token("ok")] * 9, End("stop")]
    chunks = [msgspec.structs.replace(each, source="x") for each in steps]

    async def main() -> list[Any]:
        async with no_leaks():
            operator = ops.guard(Recorder(3.0), every=5)
            stream = from_async(lambda: slowly(chunks)).pipe(operator)
            return [chunk async for chunk in rxllm.to_async(stream)]

    async def slowly(chunks: Sequence[Any]) -> Any:
        for chunk in chunks:
            await asyncio.sleep(0.01)
            yield chunk

    assert answers_in(run_virtual(main()), "x")[-1].text == "ok" * 9


def test_a_replaced_call_is_not_complete_and_fits_no_tool() -> None:
    chunks = [call("good"), call("goodbad"), call("goodbad!", complete=True), Token("a")]
    operator = ops.guard(not_bad, what="arguments", every=4, on_violation="replace")
    assert events_from(chunks, operator) == [
        call("good"),
        call('"[removed]"'),
        Token("a"),
        COMPLETED,
    ]


def test_a_replaced_block_without_a_state_leaves_that_of_a_later_one() -> None:
    state = ProviderState("claude", "claude", "signed")
    chunks = [Reasoning("bad"), Token("a"), Reasoning("fine"), Reasoning("", state)]
    operator = ops.guard(not_bad, what="reasoning", on_violation="replace")
    assert events_from(chunks, operator) == [
        Reasoning("[removed]"),
        *chunks[1:],
        COMPLETED,
    ]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seconds", [0.0, 0.7])
def test_a_harmless_run_with_a_run_inside_it_is_unchanged(mode: Any, seconds: float) -> None:
    def agent() -> rxllm.Agent:
        helper = rxllm.Agent(ScriptedModel(["In", "side", "."], delay=0.1), name="helper")
        first: list[Any] = [Token("One"), call('{"prompt": "x"}', complete=True, name="help")]
        model = ScriptedModel([*first, End("tool_calls")], ["Two", " three"], delay=0.1)
        return rxllm.Agent(model, [helper.as_tool("help", "Ask somebody.")])

    operator = ops.guard(Recorder(seconds), what=EVERYTHING, every=4, on_violation=mode)
    plain = run_virtual(consumed(agent().stream("Go")))
    result = run_virtual(consumed(agent().stream("Go").pipe(operator)))
    assert result.messages == plain.messages
    assert (result.text, result.steps, result.usage) == ("Two three", 2, plain.usage)
    assert not [notice for notice in result.notices if notice.kind == "restart"]
