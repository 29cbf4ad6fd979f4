"""`rxllm chat`, in this process."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable

import pytest

import rxllm
from rxllm.command_line import main
from rxllm.errors import ContextLengthError
from rxllm.models import registry
from rxllm.models.scripted import Script, ScriptedModel

Captured = pytest.CaptureFixture[str]
Talk = Callable[..., ScriptedModel]


@pytest.fixture
def talk(monkeypatch: pytest.MonkeyPatch) -> Talk:
    """Types lines to a model that answers from scripts; returns the model."""

    def talk(lines: str, *scripts: Script, options: str = "") -> ScriptedModel:
        model = ScriptedModel(*scripts)
        monkeypatch.setitem(registry._registered, "partner", (lambda _: model, model.info))
        monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
        assert main(["chat", "-m", "partner", *options.split()]) == 0
        return model

    return talk


def sent(model: ScriptedModel) -> list[list[str]]:
    return [[message.text for message in request.messages] for request in model.requests]


def test_earlier_exchanges_are_sent_with_the_next_question(talk: Talk, capsys: Captured) -> None:
    model = talk("hello\nhow are you?\n", "hi", "fine")
    assert sent(model) == [["hello"], ["hello", "hi", "how are you?"]]
    roles = [message.role for message in model.requests[1].messages]
    assert roles == ["user", "assistant", "user"]
    assert capsys.readouterr().out == "hi\nfine\n"


def test_fewer_exchanges_are_sent_than_kept(talk: Talk, capsys: Captured) -> None:
    lines = "1\n2\n3\n4\n/history\n"
    model = talk(lines, "one", "two", "three", "four", options="--keep 3 --send 1")
    assert sent(model)[-1] == ["3", "three", "4"]
    assert capsys.readouterr().out.endswith(
        "you: 2\npartner: two\nyou: 3\npartner: three\nyou: 4\npartner: four\n"
    )


def test_send_0_sends_no_earlier_exchange(talk: Talk) -> None:
    assert sent(talk("1\n2\n", "one", "two", options="--send 0")) == [["1"], ["2"]]


def test_clear_forgets_the_conversation(talk: Talk) -> None:
    assert sent(talk("1\n/clear\n2\n", "one", "two")) == [["1"], ["2"]]


def test_exit_quits(talk: Talk) -> None:
    assert sent(talk("1\n /exit \n2\n", "one")) == [["1"]]


def test_empty_lines_are_ignored(talk: Talk) -> None:
    assert sent(talk("\n  \n", "one")) == []


def test_an_unknown_command_is_reported_and_not_sent(talk: Talk, capsys: Captured) -> None:
    assert sent(talk("/sing\n", "one")) == []
    assert capsys.readouterr().err == (
        "unknown command /sing: /clear forgets the conversation, /history shows it, /exit quits\n"
    )


def test_a_failed_answer_is_reported_and_forgotten(talk: Talk, capsys: Captured) -> None:
    model = talk("1\n2\n", ["so far", rxllm.RxLLMError("lost")], "two")
    assert sent(model) == [["1"], ["2"]]
    captured = capsys.readouterr()
    assert captured.out == "so far\ntwo\n"
    assert captured.err.startswith("rxllm: lost\n")


def test_a_chat_that_outgrows_the_context_sends_fewer_exchanges(
    talk: Talk, capsys: Captured
) -> None:
    too_long: Script = [ContextLengthError("too long")]
    model = talk("1\n2\n3\n", "one", "two", too_long, too_long, "three")
    assert sent(model)[2:] == [["1", "one", "2", "two", "3"], ["2", "two", "3"], ["3"]]
    captured = capsys.readouterr()
    assert captured.out == "one\ntwo\nthree\n"
    assert "too long" not in captured.err


def test_a_question_that_is_too_long_by_itself_is_reported(talk: Talk, capsys: Captured) -> None:
    talk("1\n", [ContextLengthError("too long")])
    assert "too long" in capsys.readouterr().err
