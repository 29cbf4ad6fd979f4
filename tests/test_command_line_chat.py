"""`rxllm chat`, in this process."""

from __future__ import annotations

import io
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

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
        assert main(["chat", "-m", "partner", *shlex.split(options)]) == 0
        return model

    return talk


def sent(model: ScriptedModel) -> list[list[str]]:
    return [[message.text for message in request.messages] for request in model.requests]


def shown(capsys: Captured) -> list[str]:
    """The lines of the output; times are replaced."""
    return re.sub(r"\d\d:\d\d", "TIME", capsys.readouterr().out).splitlines()


def test_earlier_exchanges_are_sent_with_the_next_question(talk: Talk, capsys: Captured) -> None:
    model = talk("hello\nhow are you?\n", "hi", "fine")
    assert sent(model) == [["hello"], ["hello", "hi", "how are you?"]]
    roles = [message.role for message in model.requests[1].messages]
    assert roles == ["user", "assistant", "user"]
    assert capsys.readouterr().out == "hi\nfine\n"


def test_the_history_keeps_times_and_more_exchanges_than_are_sent(
    talk: Talk, capsys: Captured
) -> None:
    lines = "1\n2\n3\n4\n/history\n"
    model = talk(lines, "one", "two", "three", "four", options="--keep 3 --send 1")
    assert sent(model)[-1] == ["3", "three", "4"]
    assert shown(capsys)[4:] == [
        "you (TIME): 2",
        "scripted (TIME): two",
        "you (TIME): 3",
        "scripted (TIME): three",
        "you (TIME): 4",
        "scripted (TIME): four",
    ]


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
    assert capsys.readouterr().err == "unknown command /sing: /help lists them\n"


def test_a_question_may_begin_with_a_path(talk: Talk) -> None:
    assert sent(talk("/etc/hosts is what?\n", "one")) == [["/etc/hosts is what?"]]


def test_case_does_not_matter_in_commands(talk: Talk) -> None:
    assert sent(talk("1\n/Clear\n2\n/EXIT\n3\n", "one", "two")) == [["1"], ["2"]]


def test_system_prompt_and_options_go_with_each_question(talk: Talk) -> None:
    model = talk(
        "1\n",
        "one. two",
        options="--system 'Be brief.' --max-tokens 9 --temperature 0 --stop . --stop !",
    )
    [request] = model.requests
    assert [message.text for message in request.messages] == ["Be brief.", "1"]
    assert (request.max_tokens, request.temperature, request.stop) == (9, 0.0, (".", "!"))


def test_the_system_prompt_can_be_changed_and_removed(talk: Talk) -> None:
    model = talk("/system Be brief.\n1\n/system\n2\n", "one", "two", options="--send 0")
    assert sent(model) == [["Be brief.", "1"], ["2"]]


def test_another_model_can_be_asked(talk: Talk, capsys: Captured) -> None:
    model = talk("/model scripted/two\n1\n/model\n/model tinny\n", "one")
    assert sent(model) == []
    captured = capsys.readouterr()
    assert captured.out.splitlines() == ["model: scripted/two", "two", "model: scripted/two"]
    assert "there is no model 'tinny'" in captured.err


def test_a_chat_is_saved_and_loaded(talk: Talk, capsys: Captured, tmp_path: Path) -> None:
    path = tmp_path / "a chat.json"
    talk(f"1\n/save {path}\n", "one", options="--system 'Be brief.'")
    model = talk(f"/load {path}\n2\n/load nowhere.json\n/save\n", "two")
    assert sent(model) == [["Be brief.", "1", "one", "2"]]
    captured = capsys.readouterr()
    assert captured.out.splitlines()[1] == f"{path}: 1 exchanges"
    assert "rxllm: nowhere.json: No such file or directory" in captured.err
    assert "rxllm: name a file: /save FILE" in captured.err


@pytest.mark.parametrize(
    "lines",
    [
        '"""a tale\nof two\n\ncities"""\n',
        '"""\na tale\nof two\n\ncities\n"""\n',
        "/multi\na tale\nof two\n\ncities\n/END\n",
        "/Multi\na tale\nof two\n\ncities\n",
    ],
)
def test_a_question_of_several_lines(talk: Talk, lines: str) -> None:
    assert sent(talk(lines, "one")) == [["a tale\nof two\n\ncities"]]


def test_a_question_in_quotes_on_one_line(talk: Talk) -> None:
    assert sent(talk('"""a tale"""\n2\n', "one", "two"))[0] == ["a tale"]


def test_several_models_are_a_router(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("1\n"))
    assert main(["chat", "-m", "scripted/one", "-m", "scripted/two", "--strategy", "speed"]) == 0
    assert capsys.readouterr().out == "one\n"
    assert main(["chat", "-m", "scripted/one", "--strategy", "speed"]) == 2
    assert "--strategy chooses among several models: repeat --model" in capsys.readouterr().err


def test_a_failed_answer_is_reported_and_not_sent_again(talk: Talk, capsys: Captured) -> None:
    model = talk("1\n2\n/history\n", ["so far", rxllm.RxLLMError("lost")], "two")
    assert sent(model) == [["1"], ["2"]]
    captured = capsys.readouterr()
    assert captured.out.startswith("so far\ntwo\n")
    assert ", failed): so far\n" in captured.out
    assert captured.err.startswith("rxllm: lost\n")


def test_a_chat_that_outgrows_the_context_sends_fewer_exchanges(
    talk: Talk, capsys: Captured
) -> None:
    too_long: Script = [ContextLengthError("too long")]
    model = talk("1\n2\n3\n", "one", "two", too_long, too_long, "three")
    assert sent(model)[2:] == [["1", "one", "2", "two", "3"], ["2", "two", "3"], ["3"]]
    captured = capsys.readouterr()
    assert captured.out == "one\ntwo\nthree\n"
    assert "rxllm: " not in captured.err


def test_a_question_that_is_too_long_by_itself_is_reported(talk: Talk, capsys: Captured) -> None:
    talk("1\n", [ContextLengthError("too long")])
    assert "too long" in capsys.readouterr().err
