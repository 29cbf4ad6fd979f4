"""`console` for streams of several sources, tool calls and JSON."""

from __future__ import annotations

from typing import Any

import pytest
import reactivex
from hypothesis import given
from hypothesis import strategies as st
from reactivex import Observable

from rxllm import operators as ops
from rxllm import run
from rxllm.chunks import Chunk, End, ErrorInfo, Json, Notice, Reasoning, Token, ToolCall
from rxllm.models.scripted import ScriptedModel
from rxllm.sinks import console
from rxllm.sinks._blocks import Blocks

Captured = pytest.CaptureFixture[str]


def show(*chunks: Chunk) -> None:
    stream: Observable[Chunk] = reactivex.of(*chunks)
    run(console(stream, figures=False))


class RecordingPage:
    """A page that records what is printed."""

    def __init__(self) -> None:
        self.text = ""
        self.notes: list[str] = []

    def write(self, text: str) -> None:
        self.text += text

    def note(self, line: str) -> None:
        self.notes.append(line)

    def end_line(self) -> None:
        if self.text and not self.text.endswith("\n"):
            self.text += "\n"

    def finish(self) -> None:
        self.end_line()


def printed(*chunks: Chunk, finish: bool = True) -> RecordingPage:
    page = RecordingPage()
    blocks = Blocks(page)
    for chunk in chunks:
        blocks.add(chunk)
    if finish:
        blocks.finish()
    return page


def test_two_models_side_by_side_are_two_blocks(capsys: Captured) -> None:
    left, right = ScriptedModel(["a", "b", "c"]), ScriptedModel(["x", "y"])
    stream = ops.side_by_side({"left": left.stream("Hi"), "right": right.stream("Hi")})
    run(console(stream, figures=False))
    assert capsys.readouterr().out == "[left]\nabc\n[right]\nxy\n"


def test_the_first_block_is_printed_live_and_the_next_once_it_has_ended() -> None:
    chunks: list[Chunk] = [
        Token("a", source="a"),
        Token("x", source="b"),
        Token("b", source="a"),
    ]
    assert printed(*chunks, finish=False).text == "[a]\nab"
    chunks.append(End("stop", source="a"))
    assert printed(*chunks, finish=False).text == "[a]\nab\n[b]\nx"
    chunks.append(Token("y", source="b"))
    assert printed(*chunks, finish=False).text == "[a]\nab\n[b]\nxy"


def test_a_block_that_ended_before_its_turn_is_printed_whole() -> None:
    page = printed(
        Token("a", source="a"),
        Token("x", source="b"),
        End("stop", source="b"),
        Token("1", source="c"),
        End("stop", source="a"),
        Token("2", source="c"),
    )
    assert page.text == "[a]\na\n[b]\nx\n[c]\n12"


def test_a_failed_stream_makes_room_for_the_next() -> None:
    failed = Notice("failed", error=ErrorInfo("ServerError", "down"), source="a")
    page = printed(Token("a", source="a"), Token("x", source="b"), failed)
    assert page.text == "[a]\na\n[b]\nx"
    assert page.notes == ["a: failed: ServerError: down"]


def test_an_end_without_a_source_ends_all_blocks() -> None:
    page = printed(
        Token("a", source="a"),
        Token("x", source="b"),
        Token("1", source="c"),
        End("stop"),
        finish=False,
    )
    assert page.text == "[a]\na\n[b]\nx\n[c]\n1"


def test_waiting_text_is_printed_at_the_end_of_a_stream_without_ends() -> None:
    page = printed(Token("a", source="a"), Token("x", source="b"), Token("1", source="c"))
    assert page.text == "[a]\na\n[b]\nx\n[c]\n1"


def test_a_restart_drops_waiting_text_but_not_printed_text() -> None:
    page = printed(
        Token("a", source="a"),
        Token("wrong", source="b"),
        Notice("restart", source="b"),
        Token("right", source="b"),
    )
    assert page.text == "[a]\na\n[b]\nright"
    assert page.notes == ["b: the answer starts over"]


def test_a_stream_without_a_name_has_no_heading() -> None:
    assert printed(Token("a"), Token("x", source="b"), End("stop")).text == "a\n[b]\nx"


def test_a_source_that_continues_after_its_end_gets_a_new_block() -> None:
    page = printed(Token("a", source="a"), End("stop", source="a"), Token("b", source="a"))
    assert page.text == "[a]\na\n[a]\nb"


def test_a_complete_tool_call_is_a_note(capsys: Captured) -> None:
    show(
        ToolCall("c", "weather", '{"city":'),
        ToolCall("c", "weather", '{"city":"\x1b[2JRome"}', complete=True),
        Token("Sunny"),
    )
    captured = capsys.readouterr()
    assert captured.out == "Sunny\n"
    assert captured.err == 'tool call: weather({"city":"␛[2JRome"})\n'


def test_a_complete_json_value_is_printed(capsys: Captured) -> None:
    show(Json({"a": [1]}), Json({"a": [1, "é"]}, complete=True), End("stop"))
    assert capsys.readouterr().out == '{\n  "a": [\n    1,\n    "é"\n  ]\n}\n'


def test_on_a_terminal_blocks_are_below_each_other(terminal: Any) -> None:
    stream: Observable[Chunk] = reactivex.of(
        Token("Once upon", source="a"),
        Token("Hello", source="b"),
        Token(" a time", source="a"),
        End("stop", source="a"),
        Token(" you", source="b"),
    )
    run(console(stream, console=terminal.console, figures=False))
    assert terminal.lines == ["[a]", "Once upon a time", "[b]", "Hello you"]


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.text(min_size=1, max_size=2).filter(str.isalnum)),
        max_size=12,
    ),
    st.permutations("abc"),
)
def test_every_block_contains_the_text_of_its_source(
    texts: list[tuple[str, str]], ends: list[str]
) -> None:
    chunks: list[Chunk] = [Token(text, source=source) for source, text in texts]
    page = printed(Reasoning("hm", source="a"), *chunks, *(End("stop", source=s) for s in ends))
    blocks = dict(block.split("]\n", 1) for block in page.text.split("[")[1:])
    expected = {
        source: "".join(text for each, text in texts if each == source)
        for source in dict.fromkeys(source for source, _ in texts)
    }
    assert {source: text.rstrip("\n") for source, text in blocks.items()} == expected
