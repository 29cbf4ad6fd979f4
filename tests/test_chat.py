"""`Chat`: what a question takes along, and what its history keeps of the answer."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from reactivex import operators as rxo

import rxllm
from rxllm import operators as ops
from rxllm.agents import Agent
from rxllm.chat import Chat
from rxllm.chunks import Chunk, End, ErrorInfo, Notice, Start, Token, ToolCall
from rxllm.errors import (
    BadRequestError,
    ConnectionFailedError,
    ContextLengthError,
    RxLLMError,
    StreamStateError,
)
from rxllm.messages import Message
from rxllm.models.scripted import Script, ScriptedModel
from rxllm.testing import no_leaks, run_virtual

CALL = ToolCall("call-1", "weather", '{"city": "Rome"}', complete=True)


def chat_of(*scripts: Script, **options: Any) -> tuple[Chat, ScriptedModel]:
    model = ScriptedModel(*scripts, by="word")
    return Chat(model, **options), model


def sent(model: ScriptedModel) -> list[list[str]]:
    """The messages of each request, as `role text`."""
    return [
        [f"{message.role} {message.text}".strip() for message in request.messages]
        for request in model.requests
    ]


def kept(chat: Chat) -> list[tuple[str, str, str]]:
    return [(each.question, each.text, each.outcome) for each in chat.history]


def test_a_question_takes_the_system_prompt_and_the_history_along() -> None:
    chat, model = chat_of("one", "two", system="Be brief.")
    rxllm.run(chat.ask("1"))
    rxllm.run(chat.ask("2"))
    assert sent(model) == [
        ["system Be brief.", "user 1"],
        ["system Be brief.", "user 1", "assistant one", "user 2"],
    ]
    assert kept(chat) == [("1", "one", "completed"), ("2", "two", "completed")]


def test_the_newest_exchanges_are_kept_and_fewer_of_them_sent() -> None:
    chat, model = chat_of("one", "two", "three", "four", keep=2, send=1)
    for number in "1234":
        rxllm.run(chat.ask(number))
    assert sent(model)[-1] == ["user 3", "assistant three", "user 4"]
    assert [each.question for each in chat.history] == ["3", "4"]


def test_options_are_those_of_the_chat_or_of_the_question() -> None:
    chat, model = chat_of("one", "two", max_tokens=9, temperature=0)
    rxllm.run(chat.ask("1"))
    rxllm.run(chat.ask("2", temperature=1))
    assert [(each.max_tokens, each.temperature) for each in model.requests] == [(9, 0), (9, 1)]


def test_model_and_system_prompt_can_be_changed() -> None:
    chat, _ = chat_of("one")
    rxllm.run(chat.ask("1"))
    other = ScriptedModel("two")
    chat.model, chat.system = other, "Be brief."
    rxllm.run(chat.ask("2"))
    assert sent(other) == [["system Be brief.", "user 1", "assistant one", "user 2"]]


def test_an_exchange_has_its_times_and_its_model() -> None:
    chat, model = chat_of("one")
    result = rxllm.run(chat.ask("1"))
    [exchange] = chat.history
    assert exchange.model == model.info.id
    assert exchange.asked <= exchange.answered
    assert exchange.asked == pytest.approx(result.timings.started, abs=5)


def test_clear_forgets_the_exchanges() -> None:
    chat, model = chat_of("one", "two", system="Be brief.")
    rxllm.run(chat.ask("1"))
    chat.clear()
    rxllm.run(chat.ask("2"))
    assert sent(model)[-1] == ["system Be brief.", "user 2"]


def test_a_stopped_answer_stays_in_the_history_and_is_sent() -> None:
    chat, model = chat_of("Once upon a time", "two")
    list(chat.ask("1").pipe(rxo.take(3)))  # the start and two words
    assert kept(chat) == [("1", "Once upon", "cancelled")]
    rxllm.run(chat.ask("2"))
    assert sent(model)[-1] == ["user 1", "assistant Once upon", "user 2"]


def test_a_politely_stopped_answer_is_cancelled_too() -> None:
    chat, _ = chat_of([Token("Once"), End("cancelled")])
    rxllm.run(chat.ask("1"))
    assert kept(chat) == [("1", "Once", "cancelled")]


async def test_an_answer_that_is_stopped_before_its_text_leaves_nothing() -> None:
    model = ScriptedModel("one", delay=60.0)
    chat = Chat(model)
    async with no_leaks():
        answering = aiter(chat.ask("1"))
        assert isinstance(await anext(answering), Start)
        await answering.aclose()
    assert chat.history == []
    assert not chat.is_answering


def test_a_failed_answer_is_kept_but_not_sent() -> None:
    chat, model = chat_of(["Once upon", RxLLMError("lost")], "two")
    with pytest.raises(RxLLMError, match="lost"):
        rxllm.run(chat.ask("1"))
    assert kept(chat) == [("1", "Once upon", "failed")]
    assert chat.history[0].error == ErrorInfo("RxLLMError", "lost")
    rxllm.run(chat.ask("2"))
    assert sent(model)[-1] == ["user 2"]


@pytest.mark.parametrize("script", [[RxLLMError("lost")], [End("stop")], ["  ", End("stop")]])
def test_an_answer_without_text_leaves_nothing(script: Script) -> None:
    chat, _ = chat_of(script)
    with suppress(RxLLMError):
        rxllm.run(chat.ask("1"))
    assert chat.history == []


def test_a_retry_asks_the_same_question_and_leaves_one_exchange() -> None:
    lost = ConnectionFailedError("lost")
    chat, model = chat_of("zero", ["Once upon", lost], "Once upon a time")
    rxllm.run(chat.ask("0"))
    rxllm.run(chat.ask("1").pipe(ops.retry_with_backoff(2, initial=0.01, after_output="restart")))
    assert sent(model)[1] == sent(model)[2] == ["user 0", "assistant zero", "user 1"]
    assert kept(chat)[1:] == [("1", "Once upon a time", "completed")]


def test_a_restart_within_the_answer_keeps_only_what_follows_it() -> None:
    chat, _ = chat_of([Token("wrong"), Notice("restart"), Token("right"), End("stop")])
    rxllm.run(chat.ask("1"))
    assert kept(chat) == [("1", "right", "completed")]


def test_the_results_of_tool_calls_join_the_exchange() -> None:
    chat, model = chat_of([CALL, End("tool_calls")], "It is sunny.", "Yes.")
    rxllm.run(chat.ask("How is Rome?"))
    assert [call.id for call in chat.history[0].open_calls] == ["call-1"]
    rxllm.run(chat.ask([Message("tool", "sunny", tool_call_id="call-1")]))
    assert kept(chat) == [("How is Rome?", "It is sunny.", "completed")]
    rxllm.run(chat.ask("Sure?"))
    assert sent(model)[-1] == [
        "user How is Rome?",
        "assistant",
        "tool sunny",
        "assistant It is sunny.",
        "user Sure?",
    ]
    assert model.requests[-1].messages[1].calls == (CALL,)


def test_results_that_are_missing_are_an_error_that_names_the_calls() -> None:
    chat, model = chat_of([CALL, End("tool_calls")], "two")
    rxllm.run(chat.ask("How is Rome?"))
    with pytest.raises(StreamStateError, match="a tool message for each of call-1"):
        rxllm.run(chat.ask("And Oslo?"))
    assert len(model.requests) == 1


def test_the_calls_of_a_stopped_answer_do_not_wait_for_results() -> None:
    chat, _ = chat_of([Token("Let me see."), CALL, End("cancelled")], "two")
    rxllm.run(chat.ask("How is Rome?"))
    assert chat.history[0].open_calls == ()
    rxllm.run(chat.ask("And Oslo?"))
    assert len(chat.history) == 2


def test_asking_again_with_the_results_of_calls_leaves_one_exchange() -> None:
    lost = ConnectionFailedError("lost")
    chat, model = chat_of([CALL, End("tool_calls")], ["It is", lost], "It is sunny.")
    rxllm.run(chat.ask("How is Rome?"))
    answer = chat.ask([Message("tool", "sunny", tool_call_id="call-1")])
    with pytest.raises(ConnectionFailedError):
        rxllm.run(answer)
    rxllm.run(answer)
    assert sent(model)[1] == sent(model)[2]
    assert kept(chat) == [("How is Rome?", "It is sunny.", "completed")]


def test_a_conversation_that_is_too_long_takes_half_of_its_history_along() -> None:
    too_long: Script = [ContextLengthError("too long")]
    chat, model = chat_of("one", "two", too_long, too_long, "three")
    for number in "123":
        rxllm.run(chat.ask(number))
    assert sent(model)[2:] == [
        ["user 1", "assistant one", "user 2", "assistant two", "user 3"],
        ["user 2", "assistant two", "user 3"],
        ["user 3"],
    ]


async def test_one_question_is_answered_at_a_time() -> None:
    chat = Chat(ScriptedModel("one", delay=60.0))
    first = aiter(chat.ask("1"))
    await anext(first)
    assert chat.is_answering
    with pytest.raises(StreamStateError, match="is answering another question"):
        await chat.ask("2")
    await first.aclose()
    chat.model = ScriptedModel("two")
    assert (await chat.ask("2")).text == "two"


def test_the_next_question_may_be_asked_at_the_completion_of_the_first() -> None:
    chat, _ = chat_of("one", "two")
    seen: list[Chunk] = []

    async def main() -> None:
        done = asyncio.Event()

        def next_question() -> None:
            chat.ask("2").subscribe(seen.append, on_completed=done.set)

        chat.ask("1").subscribe(on_completed=next_question)
        await done.wait()

    asyncio.run(main())
    assert [type(chunk) for chunk in seen][:2] == [Start, Token]


def test_a_saved_chat_can_be_continued(tmp_path: Path) -> None:
    chat, _ = chat_of("one", [CALL, End("tool_calls")], system="Be brief.")
    rxllm.run(chat.ask("1"))
    rxllm.run(chat.ask("How is Rome?"))
    chat.save(tmp_path / "chat.json")
    other, model = chat_of("sunny")
    other.load(tmp_path / "chat.json")
    assert (other.system, other.history) == ("Be brief.", chat.history)
    rxllm.run(other.ask([Message("tool", "sunny", tool_call_id="call-1")]))
    assert sent(model)[0][:3] == ["system Be brief.", "user 1", "assistant one"]


@pytest.mark.parametrize("text", ["", "[]", '{"exchanges": 1}', '{"exchanges": [{}]}'])
def test_a_file_without_a_chat_is_an_error_and_changes_nothing(tmp_path: Path, text: str) -> None:
    chat, _ = chat_of("one")
    rxllm.run(chat.ask("1"))
    path = tmp_path / "chat.json"
    path.write_text(text)
    with pytest.raises(BadRequestError, match="has no saved chat"):
        chat.load(path)
    assert len(chat.history) == 1


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"keep": 0}, ValueError),
        ({"send": -1}, ValueError),
        ({"keep": "many"}, TypeError),
        ({"temperature": 3}, BadRequestError),
        ({"temprature": 1}, BadRequestError),
    ],
)
def test_a_bad_argument_raises_at_the_call(options: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        chat_of("one", **options)


def test_a_model_can_be_given_by_its_name_and_a_bad_question_raises() -> None:
    chat = rxllm.Chat("tiny")
    assert chat.model.info.provider == "tiny"
    with pytest.raises(BadRequestError, match="the prompt is empty"):
        chat.ask(" ")
    with pytest.raises(BadRequestError, match="no model"):
        rxllm.Chat("tinny")


def test_a_system_prompt_that_is_no_text_is_refused_at_the_call() -> None:
    system: Any = 3
    with pytest.raises(TypeError, match="system must be a string or None, got 3"):
        Chat(ScriptedModel("never asked"), system=system)


def look() -> str:
    """Look around."""
    return "there"


def test_a_run_of_an_agent_is_one_exchange_with_all_of_its_messages() -> None:
    call = ToolCall("a", "look", "{}", complete=True)
    model = ScriptedModel([Token("Hm."), call, End("tool_calls")], "It is there.", "Fine.")
    chat = Chat(Agent(model, [look]))
    assert rxllm.run(chat.ask("Where?")).text == "It is there."
    (exchange,) = chat.history
    assert [message.role for message in exchange.messages] == [
        *["user", "assistant", "tool", "assistant"],
    ]
    assert (exchange.question, exchange.text, exchange.open_calls) == ("Where?", "It is there.", ())
    assert rxllm.run(chat.ask("And?")).text == "Fine."
    assert len(model.requests[2].messages) == 5


def test_a_run_that_was_stopped_amid_its_tools_can_be_gone_on_with() -> None:
    async def slow() -> str:
        await asyncio.sleep(100)
        return "there"

    call = ToolCall("a", "slow", "{}", complete=True)
    model = ScriptedModel([Token("Hm."), call, End("tool_calls")], "Fine.")
    chat = Chat(Agent(model, [slow]))

    async def main() -> None:
        subscription = chat.ask("Where?").subscribe()
        await asyncio.sleep(1)
        subscription.dispose()
        await asyncio.sleep(1)
        await chat.ask("Never mind.")

    run_virtual(main())
    roles = [message.role for message in model.requests[1].messages]
    assert roles == ["user", "assistant", "tool", "user"]
    assert "not known" in model.requests[1].messages[2].text
    assert [exchange.outcome for exchange in chat.history] == ["cancelled", "completed"]


def test_calls_that_wait_for_an_approval_are_decided_with_the_next_question() -> None:
    @rxllm.tool(approval="ask")
    def wipe(path: str) -> str:
        """Wipe a file."""
        return f"wiped {path}"

    call = ToolCall("a", "wipe", '{"path": "/x"}', complete=True)
    model = ScriptedModel([Token("Shall I?"), call, End("tool_calls")], "Gone.", "Fine.")
    chat = Chat(Agent(model, [wipe]))
    first = rxllm.run(chat.ask("Wipe /x"))
    assert [each.id for each in chat.history[0].open_calls] == ["a"]
    with pytest.raises(StreamStateError, match="has tool calls"):
        rxllm.run(chat.ask("Well?"))
    with pytest.raises(BadRequestError, match="together with approvals"):
        chat.ask("Well?", approvals={})
    assert rxllm.run(chat.ask(approvals={})).pending == first.pending
    assert rxllm.run(chat.ask(approvals={first.pending[0].token: True})).text == "Gone."
    (exchange,) = chat.history
    assert [message.text for message in exchange.messages] == [
        *["Wipe /x", "Shall I?", "wiped /x", "Gone."],
    ]
    with pytest.raises(StreamStateError, match="no call waits"):
        rxllm.run(chat.ask(approvals={}))
    assert rxllm.run(chat.ask("Thanks")).text == "Fine."


def test_what_tools_have_done_is_sent_again_also_after_a_failure() -> None:
    call = ToolCall("a", "look", "{}", complete=True)
    lost = RxLLMError("lost")
    chat = Chat(model := Agent(ScriptedModel([call, End("tool_calls")], [lost], "Fine."), [look]))
    with pytest.raises(RxLLMError):
        rxllm.run(chat.ask("Where?"))
    assert chat.history[0].outcome == "failed"
    assert rxllm.run(chat.ask("Again?")).text == "Fine."
    asked: Any = model.model
    roles = [message.role for message in asked.requests[2].messages]
    assert roles == ["user", "assistant", "tool", "user"]
