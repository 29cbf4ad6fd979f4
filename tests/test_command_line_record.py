"""`rxllm run --record`, and the model `replay/FILE`."""

from __future__ import annotations

from pathlib import Path

import pytest

from rxllm.command_line import main

Captured = pytest.CaptureFixture[str]


def test_a_recorded_run_is_played_again(tmp_path: Path, capsys: Captured) -> None:
    path = str(tmp_path / "run.jsonl")
    assert main(["run", "Hi", "-m", "scripted/one two", "--seed", "7", "--record", path]) == 0
    assert main(["run", "Hi", "-m", f"replay/{path}", "--seed", "7"]) == 0
    assert capsys.readouterr().out == "one two\none two\n"


def test_a_request_that_was_not_recorded_is_one_line(tmp_path: Path, capsys: Captured) -> None:
    path = str(tmp_path / "run.jsonl")
    main(["run", "Hi", "-m", "scripted/one", "--record", path])
    capsys.readouterr()
    assert main(["run", "Ho", "-m", f"replay/{path}"]) == 2
    assert 'messages[0].content ("Hi", asked: "Ho")' in capsys.readouterr().err


def test_a_journal_that_cannot_be_written_is_an_error(tmp_path: Path, capsys: Captured) -> None:
    path = str(tmp_path / "nowhere" / "run.jsonl")
    assert main(["run", "Hi", "-m", "scripted/one", "--record", path]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"the journal {path} could not be written" in captured.err
