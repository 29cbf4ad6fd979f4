"""The command line in a separate process: Ctrl-C, closed pipes, a terminal."""

from __future__ import annotations

import codecs
import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import pytest

PROGRAM = '''
import asyncio, sys
import rxllm
from rxllm.command_line import main

class Endless:
    """Emits a word or nothing, then waits forever; or emits lines forever."""

    info = rxllm.ModelInfo("endless", "endless")

    def __init__(self, what):
        self.what = what

    def stream(self, prompt, **options):
        return rxllm.from_async(self.chunks)

    async def chunks(self):
        print("asked", file=sys.stderr, flush=True)
        try:
            if self.what == "word":
                yield rxllm.Token("so far")
            while self.what == "lines":
                yield rxllm.Token("line\\n")
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            print("cleaned up", file=sys.stderr, flush=True)

rxllm.register("endless", Endless)
sys.exit(main())
'''
SECONDS = 30.0  # maximum wait for anything before a test fails


Start = Callable[..., "subprocess.Popen[Any]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts the program with some arguments, and kills it if it is still running at the end."""
    with ExitStack() as programs:

        def start(*arguments: str, **streams: Any) -> subprocess.Popen[Any]:
            command = [sys.executable, "-c", PROGRAM, *arguments]
            environment = {
                **os.environ,
                "TERM": "xterm",
                "COLUMNS": "60",
                "LINES": "20",
                "XDG_STATE_HOME": str(tmp_path),
            }
            given = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
            options = {"env": environment, "text": True, **given, **streams}
            program: subprocess.Popen[Any] = subprocess.Popen(command, **options)
            programs.enter_context(program)
            programs.callback(program.kill)
            return program

        yield start


def first_line(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline()


@pytest.mark.parametrize(("what", "output"), [("silence", ""), ("word", "so far\n")])
@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_ctrl_c_stops_the_stream_before_and_after_the_first_token(
    start: Start, what: str, output: str, as_json: bool
) -> None:
    program = start("run", "Hi", "-m", f"endless/{what}", *["--json"] * as_json)
    assert first_line(program.stderr) == "asked\n"
    assert program.stdout is not None
    begun = program.stdout.read(6) if output else ""
    program.send_signal(signal.SIGINT)
    out, err = program.communicate(timeout=SECONDS)
    assert (err, program.returncode) == ("cleaned up\nstopped\n", 130)
    if not as_json:
        assert begun + out == output


def test_ctrl_c_leaves_a_file_with_the_text_so_far(start: Start, tmp_path: Any) -> None:
    path = tmp_path / "answer.txt"
    program = start("run", "Hi", "-m", "endless/silence", "-o", str(path))
    assert first_line(program.stderr) == "asked\n"
    program.send_signal(signal.SIGINT)
    _, err = program.communicate(timeout=SECONDS)
    assert (err, program.returncode, path.read_text()) == ("cleaned up\nstopped\n", 130, "")


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_a_closed_pipe_ends_quietly(start: Start, as_json: bool) -> None:
    program = start("run", "Hi", "-m", "endless/lines", *["--json"] * as_json)
    assert "line" in first_line(program.stdout)
    assert program.stdout is not None
    program.stdout.close()
    program.wait(timeout=SECONDS)
    assert program.stderr is not None
    assert program.stderr.read() == "asked\ncleaned up\n"


def test_ctrl_c_in_a_chat_stops_the_answer_but_not_the_chat(start: Start) -> None:
    program = start("chat", "-m", "endless/word")
    assert program.stdin is not None
    program.stdin.write("hello\n")
    program.stdin.flush()
    assert first_line(program.stderr) == "asked\n"
    assert program.stdout is not None
    assert program.stdout.read(6) == "so far"
    program.send_signal(signal.SIGINT)
    out, err = program.communicate("/history\n/nothing\n", timeout=SECONDS)
    assert out.startswith("\nyou (")
    assert out.endswith(", stopped): so far\n")
    assert err.startswith("cleaned up\nstopped\nunknown command /nothing")
    assert program.returncode == 0


class Screen:
    """The other end of a terminal."""

    def __init__(self) -> None:
        self._here, self.there = pty.openpty()
        self.seen = ""
        self._place = 0
        self._decode = codecs.getincrementaldecoder("utf-8")().decode

    def wait_for(self, text: str) -> None:
        """Read until `text` appears after the text of the previous wait."""
        while text not in self.seen[self._place :]:
            readable, _, _ = select.select([self._here], [], [], SECONDS)
            assert readable, f"no {text!r} after {self.seen!r}"
            self.seen += self._decode(os.read(self._here, 4096))
        self._place = self.seen.index(text, self._place) + len(text)

    def type(self, text: str) -> None:
        os.write(self._here, text.encode())

    def close(self) -> None:
        os.close(self._here)
        os.close(self.there)


@pytest.fixture
def screen() -> Iterator[Screen]:
    screen = Screen()
    yield screen
    screen.close()


@pytest.fixture
def start_on(start: Start) -> Start:
    """Starts the program on a terminal."""

    def start_on(screen: Screen, *arguments: str) -> subprocess.Popen[Any]:
        there = screen.there
        return start(*arguments, stdin=there, stdout=there, stderr=there)

    return start_on


def test_a_terminal_shows_figures_below_the_text_and_clears_them(
    screen: Screen, start_on: Start
) -> None:
    program = start_on(screen, "run", "Hi", "-m", "scripted/Once \x1b[31mupon a time")
    screen.wait_for("chars/s\x1b[0m\r\n")
    assert program.wait(timeout=SECONDS) == 0
    text, figures = screen.seen.split("\x1b[?25h")
    assert "waiting for the first token" in text
    assert "Once ␛[31mupon a time" in text
    assert "\x1b[31m" not in screen.seen
    assert "\x1b[2K" in figures
    assert "4 tokens, first after" in figures


def test_ctrl_c_restores_the_cursor(screen: Screen, start_on: Start) -> None:
    program = start_on(screen, "run", "Hi", "-m", "endless/word")
    screen.wait_for("so far")
    program.send_signal(signal.SIGINT)
    screen.wait_for("stopped\r\n")
    assert program.wait(timeout=SECONDS) == 130
    assert "\x1b[?25h" in screen.seen


def test_a_line_in_another_encoding_does_not_end_a_chat(start: Start) -> None:
    program = start("chat", "-m", "scripted/Good day.", text=False)
    out, _ = program.communicate(b"caf\xe9\n/history\n", timeout=SECONDS)
    answer, question = out.decode().splitlines()[:2]
    assert (answer, question[-6:]) == ("Good day.", ": caf\ufffd")
    assert program.returncode == 0


def test_a_chat_on_a_terminal_prompts_and_answers(screen: Screen, start_on: Start) -> None:
    program = start_on(screen, "chat", "-m", "scripted/Good day.")
    screen.wait_for("> ")
    screen.type("hello\n")
    screen.wait_for("Good day.")
    screen.wait_for("> ")
    program.send_signal(signal.SIGINT)
    screen.type("\n")  # a signal just before Python starts to wait is noticed at the next key
    screen.wait_for("Ctrl-D or /exit quits")
    screen.type("/exit\n")
    assert program.wait(timeout=SECONDS) == 0


def test_a_pasted_block_is_one_question(screen: Screen, start_on: Start) -> None:
    program = start_on(screen, "chat", "-m", "scripted/Good day.")
    screen.wait_for("scripted/Good day.: /help lists the commands")
    screen.wait_for("> ")
    screen.type("a tale\nof two\ncities\n")
    screen.wait_for("Good day.")
    screen.wait_for("> ")
    screen.type("/history\n")
    screen.wait_for("): a tale\r\nof two\r\ncities\r\n")
    screen.type("/exit\n")
    assert program.wait(timeout=SECONDS) == 0


def test_the_line_editor_remembers_the_lines_of_earlier_chats(
    screen: Screen, start_on: Start, tmp_path: Path
) -> None:
    pytest.importorskip("readline")
    for line in ("the first question\n", "\x1b[A\x1b[A\n"):  # the arrow up, past `/exit`
        program = start_on(screen, "chat", "-m", "scripted/Good day.")
        screen.wait_for("> ")
        screen.type(line)
        screen.wait_for("the first question")
        screen.wait_for("Good day.")
        screen.wait_for("> ")
        screen.type("/exit\n")
        assert program.wait(timeout=SECONDS) == 0
    path = tmp_path / "rxllm" / "chat_history"
    assert path.stat().st_mode & 0o077 == 0
    assert "the first question" in path.read_text()


def test_models_are_a_table_on_a_terminal(screen: Screen, start_on: Start) -> None:
    program = start_on(screen, "models")
    screen.wait_for("└")
    assert program.wait(timeout=SECONDS) == 0
    assert "tiny/onnx" in screen.seen
