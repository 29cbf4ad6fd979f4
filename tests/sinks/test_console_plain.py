"""`console` when standard output isn't a terminal."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import pytest
import reactivex
from reactivex import Observable
from rich.console import Console

from rxllm import Batch, Chunk, ErrorInfo, Notice, Reasoning, RxLLMError, Token, run
from rxllm.models.scripted import ScriptedModel
from rxllm.sinks import console
from rxllm.testing import run_virtual

Captured = pytest.CaptureFixture[str]


def show(*chunks: Chunk, **options: Any) -> None:
    stream: Observable[Chunk] = reactivex.of(*chunks)
    run(console(stream, **options))


def test_exactly_the_text_is_printed(capsys: Captured) -> None:
    show(Token("Once [bold]upon[/] :smile:\t\x1b[31m"), Token(" a 世界 🤖"), Reasoning("hm"))
    assert capsys.readouterr().out == "Once [bold]upon[/] :smile:\t\x1b[31m a 世界 🤖\n"


def test_no_second_newline_is_added(capsys: Captured) -> None:
    show(Token("done\n"))
    assert capsys.readouterr().out == "done\n"


def test_nothing_is_printed_for_an_empty_answer(capsys: Captured) -> None:
    show()
    assert capsys.readouterr().out == ""


def test_a_batch_is_printed_as_its_text(capsys: Captured) -> None:
    show(Batch((Token("a"), Token("b")), "ab"))
    assert capsys.readouterr().out == "ab\n"


def test_force_color_does_not_turn_a_pipe_into_a_terminal(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    show(Token("a"))
    assert capsys.readouterr().out == "a\n"


def test_tokens_and_characters_per_second_go_to_standard_error(capsys: Captured) -> None:
    model = ScriptedModel("one two three", by="word", delay=2.0, first_delay=4.0)
    run_virtual(console(model.stream("count")))
    assert capsys.readouterr().err == "3 tokens, first after 4.00 s, 0.4 tokens/s, 1.6 chars/s\n"


def test_figures_can_be_left_out(capsys: Captured) -> None:
    show(Token("a"), figures=False)
    assert capsys.readouterr().err == ""


async def test_text_is_flushed_as_it_arrives(source: Any) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    task = asyncio.create_task(
        console(source.stream(Token("so far"), waits=True), console=Console(file=out))
    )
    await source.emitted_all.wait()
    assert out.buffer.getvalue() == b"so far"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_leaves_the_text_with_its_last_line_complete(
    capsys: Captured, source: Any
) -> None:
    with pytest.raises(RxLLMError):
        await console(source.stream(Token("so far"), RxLLMError("lost")))
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("so far\n", "")


def test_a_notice_goes_to_standard_error(capsys: Captured) -> None:
    error = ErrorInfo("RateLimitError", "slow\x1b[2J\ndown [b]")
    show(Notice("retry", attempt=2, delay=1.5, error=error), Token("a"), figures=False)
    captured = capsys.readouterr()
    assert captured.out == "a\n"
    assert captured.err == "retry (attempt 2, in 1.5 s): RateLimitError: slow␛[2J down [b]\n"


def test_a_restart_is_reported_and_the_text_continues(capsys: Captured) -> None:
    show(Token("wrong"), Notice("restart"), Token("right"), figures=False)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("wrongright\n", "the answer starts over\n")


def test_unencodable_characters_become_question_marks() -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    show(Token("naïve 世\ud83d"), console=Console(file=out), figures=False)
    assert out.buffer.getvalue() == "naïve ??\n".encode("latin-1")


def test_a_dumb_terminal_gets_no_control_characters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    out = io.StringIO()
    show(Token("a\x1b[31mb"), console=Console(file=out, force_terminal=True), figures=False)
    assert out.getvalue() == "a␛[31mb\n"


async def test_a_closed_pipe_stops_the_source(source: Any) -> None:
    class ClosedPipe(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        await console(source.stream(Token("a"), waits=True), console=Console(file=ClosedPipe()))
    assert source.cleaned_up == 1


def test_a_non_console_is_rejected_at_the_call() -> None:
    with pytest.raises(TypeError, match=r"console must be a rich\.console\.Console, got StringIO"):
        show(Token("a"), console=io.StringIO())
