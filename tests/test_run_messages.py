"""A run of several answers in a `Transcript`: its messages, and what a restart takes back."""

from __future__ import annotations

from typing import Any

import pytest
import reactivex as rx
from hypothesis import given
from hypothesis import strategies as st

import rxllm
from rxllm import operators as ops
from rxllm.chunks import (
    ApprovalRequest,
    Batch,
    Chunk,
    End,
    ErrorInfo,
    Notice,
    ProviderState,
    Reasoning,
    Start,
    Steering,
    Token,
    ToolCall,
    ToolResult,
    Usage,
)
from rxllm.errors import StallTimeoutError
from rxllm.messages import Message, ReasoningPart, TextPart
from rxllm.models.scripted import ScriptedModel
from rxllm.run_messages import with_all_calls_answered
from rxllm.testing import COMPLETED, Marbles
from rxllm.transcript import Transcript
from tests.operators.test_pipelines import Story, events_of

STATE = ProviderState("provider", "model", "signature")


def call(call_id: str, arguments: str = "{}", index: int = 0, **options: Any) -> ToolCall:
    return ToolCall(call_id, "look", arguments, index, complete=True, **options)


def transcript(*chunks: Chunk) -> Transcript:
    said = Transcript()
    for chunk in chunks:
        said.add(chunk)
    return said


FIRST: list[Any] = [
    Start("1", "model"),
    *[Reasoning("hm"), Reasoning("", STATE), Token("Let me"), Token(" look.")],
    *[call("a"), call("b", index=1), Usage(10, 5), End("tool_calls", more=True)],
]
RESULTS: list[Any] = [
    ToolResult("b", "look", 10, preliminary=True),
    ToolResult("b", "look", {"seen": 20}),
    ToolResult("a", "look", error=ErrorInfo("ToolError", "it is dark")),
]
LAST: list[Any] = [Start("2", "model"), Token("It"), Token(" snows."), Usage(20, 3), End("stop")]
MESSAGES = (
    Message(
        "assistant",
        (ReasoningPart("hm", STATE), TextPart("Let me look.")),
        tool_calls=(call("a"), call("b", index=1)),
    ),
    Message("tool", "ToolError: it is dark", tool_call_id="a", is_error=True),
    Message("tool", '{"seen":20}', tool_call_id="b"),
    Message("assistant", "It snows."),
)


def test_the_messages_of_a_run_with_results_in_the_order_of_the_calls() -> None:
    said = transcript(*FIRST, *RESULTS, *LAST)
    assert said.messages == MESSAGES
    assert (said.closed, said.steps) == (MESSAGES[:3], 2)


def test_text_calls_and_end_are_those_of_the_last_answer_and_usage_that_of_all() -> None:
    said = transcript(*FIRST, *RESULTS, *LAST)
    assert (said.text, said.tool_calls, said.reasoning) == ("It snows.", (), "")
    assert (said.end, said.usage) == (End("stop"), Usage(30, 8))
    assert (said.tokens, said.output_tokens) == (5, 8)


def test_between_two_answers_the_text_is_that_of_the_one_before() -> None:
    said = transcript(*FIRST, *RESULTS)
    assert (said.text, len(said.tool_calls)) == ("Let me look.", 2)
    assert said.messages == MESSAGES[:3]
    said.add(Start("2", "model"))
    assert (said.text, said.tool_calls) == ("", ())


def test_an_answer_that_was_cut_off_has_no_calls_in_the_messages() -> None:
    said = transcript(*FIRST, *RESULTS, Start("2", "model"), Token("Once"), call("c"))
    assert said.messages == (*MESSAGES[:3], Message("assistant", "Once"))
    assert said.closed == MESSAGES[:3]


def test_a_message_of_the_user_that_joins_a_run() -> None:
    said = transcript(*FIRST, *RESULTS, Steering("In Texas."), *LAST)
    assert said.messages == (*MESSAGES[:3], Message("user", "In Texas."), MESSAGES[3])


def test_calls_that_wait_for_an_approval_stay_open() -> None:
    asked = ApprovalRequest("b", "token")
    said = transcript(*FIRST, RESULTS[2], asked, End("tool_calls"))
    assert (said.pending, said.messages) == ((asked,), MESSAGES[:2])


def test_a_run_that_goes_on_with_results_knows_the_order_of_the_calls() -> None:
    said = Transcript(MESSAGES[0])
    for chunk in [*RESULTS, *LAST]:
        said.add(chunk)
    assert said.messages == MESSAGES[1:]


def test_a_restart_takes_back_the_answer_under_way_and_none_before_it() -> None:
    wrong: list[Any] = [Start("2", "model"), Token("wrong"), Usage(7, 7)]
    said = transcript(*FIRST, *RESULTS, *wrong, Notice("restart"), *LAST)
    assert (said.messages, said.text, said.steps) == (MESSAGES, "It snows.", 2)
    assert said.usage == Usage(37, 15)
    said = transcript(*FIRST, *RESULTS, Notice("restart"), *LAST)
    assert said.messages == MESSAGES


def test_what_runs_inside_a_tool_is_not_part_of_the_answer() -> None:
    nested: list[Any] = [
        *[Start("n", "small", source="a"), Token("inner", source="a"), Usage(1, 4, source="a")],
        *[call("x", source="a"), End("tool_calls", more=True, source="a")],
        *[Start("m", "small", source="a/x"), Token("deep", source="a/x")],
        *[End("stop", source="a/x"), ToolResult("x", "look", "deep", source="a")],
        *[Start("n", "small", source="a"), Token("done", source="a"), End("stop", source="a")],
    ]
    said = transcript(*FIRST, *nested, *RESULTS)
    assert (said.text, said.messages) == ("Let me look.", MESSAGES[:3])
    for chunk in LAST:
        said.add(chunk)
    assert (said.text, said.messages, said.steps) == ("It snows.", MESSAGES, 2)
    assert said.usage == Usage(31, 12)
    assert [said.is_nested(each) for each in (None, "a", "a/x", "b/x", "c")] == [
        *[False, True, True, True, False],
    ]


def test_arguments_that_are_no_json_object_are_left_out_of_the_messages() -> None:
    """Providers refuse each later request with such a call; the call itself keeps them."""
    said = transcript(call("a", '{"x":'), call("b", "[1]", 1), End("tool_calls", more=True))
    assert [each.arguments for each in said.messages[0].calls] == ["{}", "{}"]
    assert [each.arguments for each in said.tool_calls] == ['{"x":', "[1]"]


@given(st.data())
def test_the_messages_are_the_same_however_a_run_is_cut(data: st.DataObject) -> None:
    """Batches, and attempts that a restart takes back, anywhere."""
    said = Transcript()
    for answer, results in ((FIRST, RESULTS), (LAST, [])):
        for _ in range(data.draw(st.integers(0, 2))):
            for chunk in answer[: data.draw(st.integers(0, len(answer) - 1))]:
                said.add(chunk)
            said.add(Notice("restart"))
        run: list[Token | Reasoning] = []
        for each in [*answer, *results, None]:
            if isinstance(each, Token | Reasoning) and each.text and data.draw(st.booleans()):
                run.append(each)
                continue
            if run:
                text = "".join(part.text for part in run if isinstance(part, Token))
                said.add(Batch(tuple(run), text))
                run = []
            if each is not None:
                said.add(each)
    assert said.messages == MESSAGES


def test_the_result_of_a_run() -> None:
    result = rxllm.run(ScriptedModel([*FIRST, *RESULTS, *LAST]).stream("How is it?"))
    assert (result.text, result.messages, result.steps) == ("It snows.", MESSAGES, 2)
    assert (result.usage, result.timings.tokens) == (Usage(30, 8), 8)
    assert result.timings.characters == len("Let me look.It snows.")
    single = rxllm.run(ScriptedModel("Fine.").stream("Hi"))
    assert (single.messages, single.steps) == ((Message("assistant", "Fine."),), 1)


def test_every_call_of_a_history_gets_an_answer() -> None:
    asked = Message("assistant", "", tool_calls=(call("a"), call("b")))
    done = Message("tool", "seen", tool_call_id="b")
    stray = Message("tool", "lost", tool_call_id="z")
    user = Message("user", "And?")
    settled = with_all_calls_answered([user, asked, done, stray, user])
    assert [each.tool_call_id for each in settled] == [None, None, "b", "a", None]
    assert settled[3].is_error
    assert "not known" in settled[3].text
    assert with_all_calls_answered([user, asked, done], but=["a"]) == (user, asked, done)
    assert len(with_all_calls_answered([user, asked])) == 4


@pytest.mark.parametrize("after_output", ["restart", "replay", lambda _: rx.never()])
@pytest.mark.parametrize("sent", [FIRST, [*FIRST, *RESULTS], [*FIRST, *RESULTS, *LAST[:2]]])
def test_once_a_tool_may_have_run_no_other_attempt_follows(after_output: Any, sent: Any) -> None:
    model = ScriptedModel([*sent, ConnectionResetError()], "again")
    retry = ops.retry_with_backoff(initial=0, after_output=after_output)
    spare = ops.fallback_to(ScriptedModel("spare").stream("x"), after_output=after_output)
    events = [event for _, event in Marbles().run(model.stream("Hi").pipe(retry, spare))]
    assert events[1:-1] == sent
    assert isinstance(events[-1], Exception)
    assert len(model.requests) == 1


def test_a_time_limit_between_tokens_waits_for_tools_and_runs_inside_them() -> None:
    limits = ops.timeouts(first=3, between=3, total=1000)
    nested: list[Any] = [Start("n", "m", source="a"), 1.0, End("stop", source="a"), 50.0]
    run = Story([*FIRST, 20.0, *nested, *RESULTS, 20.0, *LAST])
    assert events_of(run.stream().pipe(limits))[-2:] == [End("stop"), COMPLETED]
    stalled = Story([*FIRST, 20.0, Start("n", "m", source="a"), 5.0, *RESULTS, *LAST])
    assert isinstance(events_of(stalled.stream().pipe(limits))[-1], StallTimeoutError)
    failed = [Start("n", "m", source="a"), Token("x", source="a"), RESULTS[2], 20.0, RESULTS[1]]
    run = Story([*FIRST, *failed, *LAST])
    assert events_of(run.stream().pipe(limits))[-2:] == [End("stop"), COMPLETED]


@pytest.mark.parametrize("usage", [True, False])
def test_figures_add_up_over_the_answers_of_a_run(usage: bool) -> None:
    chunks: list[Any] = [*FIRST, *RESULTS, *[LAST[0], LAST[1], Notice("restart")], *LAST]
    sent: list[Any] = [each for each in chunks if usage or not isinstance(each, Usage)]
    measured: list[ops.Measurement] = []
    stream = ScriptedModel(sent).stream("Hi").pipe(ops.measure(measured.append), ops.progress(1))
    reports = [e for _, e in Marbles().run(stream) if isinstance(e, rxllm.Progress)]
    assert measured[0].tokens == (8 if usage else 5)
    assert [each.tokens for each in reports] == [1, 2, 3, 3, 4, 4, 5, 5]
