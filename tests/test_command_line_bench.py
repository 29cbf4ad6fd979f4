"""`rxllm bench`: models measured from the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from rxllm.chunks import Chunk
from rxllm.command_line import main
from rxllm.models import registry
from rxllm.models.scripted import ScriptedModel
from rxllm.requests import as_request
from rxllm.stream import Stream

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> ScriptedModel:
    """A model that is registered as `recorder`."""
    made = ScriptedModel("Once upon a time", by="word")
    monkeypatch.setitem(registry._registered, "recorder", (lambda _: made, made.info))
    return made


def test_it_prints_a_table_and_bars_and_reports_each_run(
    model: ScriptedModel, capsys: Captured
) -> None:
    assert main(["bench", "-m", "recorder", "-p", "Hi", "-p", "Bye", "--runs", "2"]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[0].split()[:2] == ["first/ms", "between/ms"]
    assert lines[1].startswith("recorder: Hi ")
    assert lines[2].startswith("recorder: Bye ")
    assert "time to first token" in lines
    assert "tokens per second" in lines
    assert captured.err.splitlines()[0] == "recorder, 'Hi', run 1 of 2: 4 tokens"
    assert len(captured.err.splitlines()) == 4


def test_options_are_passed_on_and_others_are_left_to_the_model(
    model: ScriptedModel,
) -> None:
    options = "--runs 1 --max-tokens 2 --temperature 0 --seed 0"
    assert main(["bench", "-m", "recorder", "-p", "Hi", *options.split()]) == 0
    assert main(["bench", "-m", "recorder", "-p", "Hi", "--runs", "1"]) == 0
    asked = [(each.max_tokens, each.temperature, each.seed) for each in model.requests]
    assert asked == [(1, 0.0, 0), (2, 0.0, 0), (1, None, None), (64, None, None)]


def test_it_prints_json(model: ScriptedModel, capsys: Captured) -> None:
    assert main(["bench", "-m", "recorder", "-p", "Hi", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["rows"][0]["consistency"] == 1.0
    assert [run["answer"] for run in report["runs"]] == ["Once upon a time"] * 3


def test_it_draws_an_svg(model: ScriptedModel, tmp_path: Path) -> None:
    path = tmp_path / "bars.svg"
    assert main(["bench", "-m", "recorder", "--runs", "1", "--svg", str(path)]) == 0
    assert path.read_text("utf-8").startswith("<svg ")


def test_a_failure_is_reported_and_sets_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    made = ScriptedModel(["so far", ConnectionResetError("the line\nbroke\x1b[2J")])
    monkeypatch.setitem(registry._registered, "failing", (lambda _: made, made.info))
    assert main(["bench", "-m", "failing", "-p", "Hi", "--runs", "1"]) == 1
    captured = capsys.readouterr()
    assert "failing: Hi: 1 ConnectionResetError" in captured.out.splitlines()
    assert captured.err == "failing, 'Hi', run 1 of 1: failed: the line broke\u241b[2J\n"


class Interrupted(ScriptedModel):
    """A model during whose third call the user presses Ctrl-C."""

    def stream(self, prompt: Any, **options: Any) -> Stream[Chunk]:
        if len(self.requests) == 2:
            raise KeyboardInterrupt
        return super().stream(prompt, **options)


@pytest.mark.parametrize("as_json", [False, True])
def test_ctrl_c_shows_what_was_measured_so_far(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured, tmp_path: Path, as_json: bool
) -> None:
    made, svg = Interrupted("Once"), tmp_path / "bars.svg"
    monkeypatch.setitem(registry._registered, "interrupted", (lambda _: made, made.info))
    options = ["--svg", str(svg), *(["--json"] if as_json else [])]
    assert main(["bench", "-m", "interrupted", "-p", "Hi", *options]) == 130
    captured = capsys.readouterr()
    if as_json:
        assert json.loads(captured.out)["rows"][0]["runs"] == 1
    else:
        assert captured.out.splitlines()[1].startswith("interrupted: Hi ")
    assert captured.err.splitlines() == ["interrupted, 'Hi', run 1 of 3: 1 token", "stopped"]
    assert svg.read_text("utf-8").startswith("<svg ")


def test_ctrl_c_before_the_first_result_shows_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    made = Interrupted("Once")
    made.requests += [as_request("Hi")] * 2
    monkeypatch.setitem(registry._registered, "interrupted", (lambda _: made, made.info))
    assert main(["bench", "-m", "interrupted", "-p", "Hi"]) == 130
    assert capsys.readouterr() == ("", "stopped\n")


def test_a_silent_model_fails_after_the_timeout(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    made = ScriptedModel([3600.0, "late"])
    monkeypatch.setitem(registry._registered, "silent", (lambda _: made, made.info))
    arguments = ["bench", "-m", "silent", "-p", "Hi", "--runs", "1", "--timeout", "0.01"]
    assert main(arguments) == 1
    assert "silent: Hi: 1 TotalTimeoutError" in capsys.readouterr().out.splitlines()


def test_a_full_disk_loses_the_drawing_but_not_the_figures(
    monkeypatch: pytest.MonkeyPatch, model: ScriptedModel, capsys: Captured, tmp_path: Path
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    monkeypatch.setattr(os, "dup2", lambda *_: None)  # keeps the standard output of this test
    path = tmp_path / "bars.svg"
    assert main(["bench", "-m", "recorder", "-p", "Hi", "--svg", str(path)]) == 1
    captured = capsys.readouterr()
    assert captured.out.splitlines()[1].startswith("recorder: Hi ")
    assert captured.err.splitlines()[-1] == "rxllm: No space left on device"


@pytest.mark.parametrize("columns", [70, 80, 120])
def test_lines_fit_into_the_terminal(
    monkeypatch: pytest.MonkeyPatch, model: ScriptedModel, capsys: Captured, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    prompts = ["-p", "Tell me a story about a robot who learns to paint", "-p", "\u7269\u8a9e" * 30]
    assert main(["bench", "-m", "recorder", *prompts]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(cell_len, lines)) == columns


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["-m", "tinny"], "there is no model 'tinny'"),
        (["--runs", "0"], "0 is not in the range x>=1"),
        (["--timeout", "0"], "0.0 is not in the range x>0"),
        (["--temperature", "9"], "temperature must be between 0 and 2, got 9.0"),
        (["-p", " "], "the prompt is empty"),
        (["--svg", "/no/such/place.svg"], "can't be written"),
    ],
)
def test_invalid_arguments_are_reported_in_one_line(
    arguments: list[str], line: str, capsys: Captured
) -> None:
    assert main(["bench", *arguments]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert line in captured.err


def test_bars_are_ascii_if_blocks_cannot_be_printed() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rxllm", "bench", "-m", "scripted/hi", "-p", "Grüße", "--runs", "1"],
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert b"  scripted/hi: Gr??e  ####" in done.stdout
