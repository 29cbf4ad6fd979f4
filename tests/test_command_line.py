"""The command line, in this process: output, error messages, exit codes."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import rxllm
from rxllm.command_line import main
from rxllm.errors import ContextLengthError, ModelLoadError
from rxllm.models import registry
from rxllm.models.scripted import ScriptedModel
from rxllm.testing.fault_server import FaultServer, Reply
from rxllm.testing.provider_streams import openai_events

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> ScriptedModel:
    """A model that is registered as `recorder`."""
    made = ScriptedModel("Once upon a time", by="word")
    info = rxllm.ModelInfo("recorder", "recorder", 512, ("text", "seed"), "[records] it all")
    monkeypatch.setitem(registry._registered, "recorder", (lambda _: made, info))
    return made


@pytest.fixture
def fail_with(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Registers a model `failing` that emits some text and then fails."""

    def register(error: Exception) -> None:
        made = ScriptedModel(["so far", error])
        monkeypatch.setitem(registry._registered, "failing", (lambda _: made, made.info))

    return register


def feed(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))


def test_run_prints_the_answer_and_the_figures(model: ScriptedModel, capsys: Captured) -> None:
    assert main(["run", "Tell me a story", "-m", "recorder"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "Once upon a time\n"
    assert captured.err.startswith("4 tokens, first after ")
    assert captured.err.endswith(" chars/s\n")


def test_run_passes_the_options_on_including_zeros(model: ScriptedModel) -> None:
    options = "--max-tokens 9 --temperature 0 --top-p 0.5 --seed 0 --stop END --stop STOP"
    assert main(["run", "Hi", "-m", "recorder", "--system", "Be brief.", *options.split()]) == 0
    (request,) = model.requests
    assert [(each.role, each.content) for each in request.messages] == [
        ("system", "Be brief."),
        ("user", "Hi"),
    ]
    assert (request.max_tokens, request.temperature, request.top_p, request.seed) == (9, 0, 0.5, 0)
    assert request.stop == ("END", "STOP")


def test_run_with_several_models_makes_a_router(capsys: Captured) -> None:
    models = ["-m", "scripted/one", "-m", "scripted/two"]
    assert main(["run", "Hi", *models, "--strategy", "quality"]) == 0
    assert capsys.readouterr().out == "one\n"
    assert main(["run", "Hi", *models[:2], "--strategy", "quality"]) == 2
    assert "--strategy chooses among several models: repeat --model" in capsys.readouterr().err


def test_options_that_are_not_given_are_left_to_the_model(model: ScriptedModel) -> None:
    main(["run", "Hi", "-m", "recorder"])
    assert model.requests == [rxllm.Request(messages=(rxllm.Message("user", "Hi"),))]


def test_run_reads_the_prompt_from_standard_input(
    model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed(monkeypatch, "Grüße,\n世界\n".encode())
    assert main(["run", "-", "-m", "recorder"]) == 0
    assert model.requests[0].messages[0].content == "Grüße,\n世界\n"


def test_run_prints_each_chunk_as_a_line_of_json(model: ScriptedModel, capsys: Captured) -> None:
    assert main(["run", "Hi", "-m", "recorder", "--json"]) == 0
    captured = capsys.readouterr()
    kinds = [json.loads(line)["type"] for line in captured.out.splitlines()]
    assert kinds == ["start", "token", "token", "token", "token", "usage", "end"]
    assert captured.err == ""


def test_run_writes_the_text_to_a_file(
    model: ScriptedModel, tmp_path: Path, capsys: Captured
) -> None:
    path = tmp_path / "story.txt"
    assert main(["run", "Hi", "-m", "recorder", "--output", str(path)]) == 0
    captured = capsys.readouterr()
    assert (path.read_text("utf-8"), captured.out) == ("Once upon a time", "")
    assert captured.err.startswith(f"{path}: 4 tokens, first after ")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["run", "Hi", "--temprature", "1"], "No such option"),
        (["run", "Hi", "--temperature", "warm"], "'warm' is not a valid float"),
        (["run", "Hi", "--temperature", "5"], "temperature must be between 0 and 2, got 5.0"),
        (["run", "Hi", "--max-tokens", "0"], "max_tokens must be 1 or more, got 0"),
        (["run", "Hi", "--stop", ""], "stop sequences must not be empty"),
        (["run", "Hi", "-m", "tinny"], "there is no model 'tinny': did you mean 'tiny'?"),
        (["run", "Hi", "-m", "llama/no.gguf"], "no.gguf"),
        (["run"], "Missing argument 'PROMPT'"),
        (["run", " \n"], "the prompt is empty"),
        (["run", "\udcff"], "the prompt is not valid UTF-8"),
        (["run", "Hi", "-o", "/no/such/place"], "/no/such/place can't be written: No such file"),
        (["run", "Hi", "--json", "-o", "x"], "choose one"),
        (["run", "Hi", "--schema", "no.json"], "No such file or directory: 'no.json'"),
        (["run", "Hi", "--schema", "{"], "Invalid value for '--schema': Expecting property name"),
        (["run", "Hi", "--schema", '{"not": {}}'], "the keyword 'not'"),
        (["chat", "-m", "tinny"], "there is no model 'tinny'"),
        (["chat", "--keep", "0"], "0 is not in the range x>=1"),
        (["sing"], "No such command 'sing'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_invalid_arguments_are_reported_in_one_line(
    arguments: list[str], line: str, capsys: Captured
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("rxllm: ")
    assert line in captured.err
    assert captured.err.count("\n") == 1


def test_a_prompt_in_another_encoding_is_reported_in_one_line(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed(monkeypatch, b"\xff\xfe")
    assert main(["run", "-"]) == 2
    assert capsys.readouterr().err == "rxllm: the prompt is not valid UTF-8\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (rxllm.RxLLMError("the line\nbroke\x1b[2J"), 1),
        (ConnectionResetError("the line broke␛[2J"), 1),
        (ZeroDivisionError("the line broke␛[2J"), 1),
        (ModelLoadError("the line broke␛[2J"), 2),
        (ContextLengthError("the line broke␛[2J"), 2),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("json_option", [[], ["--json"]], ids=["text", "json"])
def test_an_error_while_streaming_is_reported_in_one_line(
    error: Exception, code: int, json_option: list[str], fail_with: Any, capsys: Captured
) -> None:
    fail_with(error)
    assert main(["run", "Hi", "-m", "failing", *json_option]) == code
    captured = capsys.readouterr()
    assert captured.err == "rxllm: the line broke␛[2J\n"
    assert "so far" in captured.out


def test_models_are_listed(model: ScriptedModel, capsys: Captured) -> None:
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "recorder\t512\ttext, seed\t[records] it all" in lines
    assert any(line.startswith("tiny/onnx\t") for line in lines)


def test_models_are_listed_as_json(model: ScriptedModel, capsys: Captured) -> None:
    assert main(["models", "--json"]) == 0
    listed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert listed[-1]["id"] == "recorder"
    assert listed[-1]["contextLength"] == 512


def test_the_version_is_printed(capsys: Captured) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"rxllm, version {rxllm.__version__}\n"


def test_it_runs_as_a_module_too() -> None:
    command = [sys.executable, "-m", "rxllm", "run", "Hi", "-m", "tinny"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_without_a_command_the_help_is_printed(capsys: Captured) -> None:
    assert main([]) == 0
    assert "Usage: rxllm" in capsys.readouterr().out


def test_the_help_loads_no_engine_and_no_web_framework() -> None:
    program = (
        "import sys; from rxllm.command_line import main; main(['run', '--help']);"
        "print({'onnxruntime', 'llama_cpp', 'tokenizers', 'aiohttp', 'rich'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("set()\n")


async def test_run_uses_a_remote_model(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key and the base URL come from the environment, and the key is never printed."""
    monkeypatch.setenv("NO_PROXY", "*")
    async with FaultServer(Reply(openai_events("Hello", " there"))) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret-key")
        assert await asyncio.to_thread(main, ["run", "Hi", "--model", "openai/gpt"]) == 0
        monkeypatch.delenv("OPENAI_API_KEY")
        assert await asyncio.to_thread(main, ["run", "Hi", "--model", "openai/gpt"]) == 1
    captured = capsys.readouterr()
    assert captured.out == "Hello there\n"
    assert "OPENAI_API_KEY" in captured.err
    assert "sk-very" not in captured.out + captured.err


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("run - <&-", 2),
        ("chat -m scripted/hi <&-", 0),
        ("run -m scripted/hi hello >&-", 0),
        ("models >/dev/full", 1),
        ("run -m scripted/hi hello >/dev/full", 1),
    ],
)
def test_closed_or_full_standard_streams_cause_no_traceback(command: str, code: int) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f"{shlex.quote(sys.executable)} -m rxllm {command}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert done.returncode == code, done.stderr


def test_a_table_of_models_is_read_over_the_bundled_one(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RXLLM_MODELS", "/before.toml")
    seen: list[str | None] = []

    def make(_: str) -> rxllm.Model:
        seen.append(os.environ.get("RXLLM_MODELS"))
        return ScriptedModel("Hi")

    monkeypatch.setitem(
        registry._registered, "recorder", (make, rxllm.ModelInfo("recorder", "recorder"))
    )
    path = tmp_path / "models.toml"
    path.write_text('updated = 2026-01-01\n[models."a/b"]\ntools = true\n')
    assert main(["run", "Hi", "-m", "recorder", "--models", str(path)]) == 0
    assert (seen, os.environ["RXLLM_MODELS"]) == ([str(path)], "/before.toml")


@pytest.mark.parametrize("command", [["run", "Hi"], ["chat"], ["models"], ["serve"], ["bench"]])
def test_a_table_of_models_that_can_not_be_read_is_reported(
    command: list[str], tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "models.toml"
    path.write_text("x")
    assert main([*command, "--models", str(path)]) == 2
    assert "models.toml is not a valid table of models" in capsys.readouterr().err
    assert main([*command, "--models", str(tmp_path / "nowhere.toml")]) == 2
    monkeypatch.setenv("RXLLM_MODELS", str(path))
    assert main(["run", "Hi", "-m", "openai/gpt"]) == 2
    assert "the file named by RXLLM_MODELS can't be used" in capsys.readouterr().err
