"""The base of `change_case` and `punctuation`, which rewrites text within its chunks."""

from __future__ import annotations

from rxllm.chunks import Batch, Chunk, Notice, Reasoning, Token, Usage, text_of
from rxllm.operators import change_case
from rxllm.operators.filtering._written import WrittenText
from tests.operators.texts import events_of


class RecordingWriter:
    """A writer that records its calls; an "x" waits for the next character."""

    ahead = 2

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    def decided(self, text: str) -> int:
        return len(text.rstrip("x"))

    def write(self, text: str, after: str) -> str:
        self.calls.append((text, after))
        return text.upper()


def test_a_writer_gets_no_more_lookahead_than_it_asks_for() -> None:
    """Otherwise a batch of many pieces would take quadratic time."""
    writer = RecordingWriter()
    written = WrittenText(writer)
    parts = (Token("ab"), Reasoning("hm"), Token("c"), Token("def"))
    chunks: list[Chunk] = [*written.text(Token("x")), *written.text(Batch(parts, "abcdef"))]
    assert writer.calls == [("x", "ab"), ("ab", "cd"), ("c", "de"), ("def", "")]
    assert "".join(map(text_of, chunks)) == "XABCDEF"


def test_waiting_non_text_chunks_are_sent_before_a_restart() -> None:
    usage, thought = Usage(1, 2), Reasoning("hm")
    script: list[str | Chunk] = ["A\u03a3", usage, thought, Notice("restart"), "X"]
    assert events_of(script, change_case("lower"))[1:5] == [
        Token("a"),
        usage,
        Notice("restart"),
        Token("x"),
    ]
