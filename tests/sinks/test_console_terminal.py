"""`console` on a terminal."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
import reactivex
from hypothesis import given, settings
from hypothesis import strategies as st
from reactivex import Observable
from reactivex.operators import do_action

from rxllm import Chunk, Notice, RxLLMError, Token, run
from rxllm.models.scripted import ScriptedModel
from rxllm.sinks import console
from rxllm.testing import no_leaks, run_virtual
from tests.profiles import draws


def show(terminal: Any, *chunks: Chunk, figures: bool = False) -> list[str]:
    stream: Observable[Chunk] = reactivex.of(*chunks)
    run(console(stream, console=terminal.console, figures=figures))
    lines: list[str] = terminal.lines
    return lines


def test_the_text_is_wrapped_between_words_and_the_figures_are_removed(terminal: Any) -> None:
    words = re.findall(r"\S+ ?", "Once upon a time there was a robot who painted")
    lines = show(terminal, *map(Token, words))
    assert lines == ["Once upon a time", "there was a robot", "who painted"]
    assert terminal.is_cursor_visible


def test_lines_of_the_text_are_kept(terminal: Any) -> None:
    assert show(terminal, Token("a\n\nb"), Token("\n c\n")) == ["a", "", "b", " c"]


def test_an_empty_answer_leaves_no_line(terminal: Any) -> None:
    assert show(terminal) == []


def test_wide_characters_are_wrapped_by_their_width(terminal: Any) -> None:
    assert show(terminal, Token("世界" * 6), Token("🤖")) == ["世界" * 5, "世界🤖"]


def test_model_output_cannot_control_the_terminal(terminal: Any) -> None:
    lines = show(terminal, Token("a\x1b]0;title\x07[red]\x9b2J"), Token(" :smile:\r\n\x7fb\x00"))
    assert lines == ["a␛]0;title␇[red]�2J", ":smile:", "␡b␀"]
    assert not set("\x07\x9b\x7f\x00") & set(terminal.raw)


def test_a_line_of_figures_is_printed_at_the_end(terminal: Any) -> None:
    assert show(terminal, Token("a"), figures=True)[0] == "a"
    assert terminal.lines[1].startswith("1 token, first")


def test_the_figures_are_updated_every_ten_tokens(terminal: Any) -> None:
    """With one token per second; the first figures say "1 token"."""
    model = ScriptedModel("x " * 25, by="word", delay=1.0)
    run_virtual(console(model.stream("count"), console=terminal.console, figures=False))
    shown = [f"{tokens} tokens" for tokens in range(1, 26) if f"\n{tokens} tokens," in terminal.raw]
    assert shown == ["11 tokens", "21 tokens"]


def test_it_is_drawn_every_fifty_milliseconds_not_for_every_token(terminal: Any) -> None:
    model = ScriptedModel("x " * 1000, by="word", delay=0.001)
    run_virtual(console(model.stream("count"), console=terminal.console, figures=False))
    drawings = terminal.raw.count("tokens/s")
    assert 18 <= drawings <= 24


def test_text_is_drawn_even_if_nothing_follows(terminal: Any) -> None:
    async def main() -> None:
        model = ScriptedModel(["so far", 60.0])
        stream = model.stream("tell")
        task = asyncio.create_task(console(stream, console=terminal.console))
        await asyncio.sleep(1.0)
        assert terminal.lines[0] == "so far"
        assert terminal.lines[1].startswith("1 token, ")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert terminal.lines == ["so far"]

    run_virtual(main())


def test_a_restart_is_shown_between_both_answers(terminal: Any) -> None:
    terminal.console.width = 40
    lines = show(terminal, Token("wrong"), Notice("restart"), Token("right"))
    assert lines == ["wrong", "the answer starts over", "right"]


async def test_an_error_leaves_the_text_and_the_cursor(terminal: Any, source: Any) -> None:
    async with no_leaks():
        with pytest.raises(RxLLMError):
            await console(
                source.stream(Token("so far"), RxLLMError("lost")), console=terminal.console
            )
    assert terminal.lines == ["so far"]
    assert terminal.is_cursor_visible


@settings(max_examples=draws(40), deadline=None)
@given(st.lists(st.sampled_from(["a", "bcd", " ", "longer-word", "\n", " x"]), max_size=30))
def test_the_screen_does_not_depend_on_how_the_text_is_cut(
    new_terminal: Any, pieces: list[str]
) -> None:
    whole, cut = new_terminal(), new_terminal()
    show(whole, Token("".join(pieces)))
    model = ScriptedModel(pieces, delay=0.06)
    run_virtual(console(model.stream("tell"), console=cut.console, figures=False))
    assert cut.lines == whole.lines


def test_other_output_is_printed_above_the_line_being_written(
    terminal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout", terminal.console.file)

    def say(chunk: Chunk) -> None:
        if chunk == Token("fox"):
            print("a fox is coming")

    stream = reactivex.of(*map(Token, ("Once a", " small ", "fox"))).pipe(do_action(say))
    run(console(stream, console=terminal.console, figures=False))
    assert terminal.lines == ["a fox is coming", "Once a small fox"]


async def test_a_terminal_that_cannot_be_written_stops_the_model(
    terminal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ScriptedModel("word " * 10_000, by="word", delay=0.01)
    sink = console(model.stream("Hi"), console=terminal.console)
    monkeypatch.setattr(terminal.console, "print", _broken)
    monkeypatch.setattr("rich.live.Live.update", _broken)
    with pytest.raises(OSError, match="no terminal"):
        await sink
    assert model.active == 0


def _broken(*_: object, **__: object) -> None:
    raise OSError("no terminal")
