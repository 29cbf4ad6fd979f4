"""The shape of operators that write text anew (a foundation of `change_case` and `punctuation`)."""

from __future__ import annotations

from rxllm.chunks import Batch, Chunk, Notice, Reasoning, Token, Usage, text_of
from rxllm.operators import change_case
from rxllm.operators.filtering._written import WrittenText
from tests.operators.texts import events_of


class Seeing:
    """A writer that writes down what it is told; an "x" waits for what follows it."""

    ahead = 2

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def decided(self, text: str) -> int:
        return len(text.rstrip("x"))

    def write(self, text: str, after: str) -> str:
        self.told.append((text, after))
        return text.upper()


def test_a_writer_is_told_no_more_of_what_follows_than_it_asks_for() -> None:
    """So a batch of many pieces does not cost the square of their number."""
    writer = Seeing()
    written = WrittenText(writer)
    parts = (Token("ab"), Reasoning("hm"), Token("c"), Token("def"))
    chunks: list[Chunk] = [*written.text(Token("x")), *written.text(Batch(parts, "abcdef"))]
    assert writer.told == [("x", "ab"), ("ab", "cd"), ("c", "de"), ("def", "")]
    assert "".join(map(text_of, chunks)) == "XABCDEF"


def test_what_is_no_text_and_waits_leaves_before_a_restart() -> None:
    usage, thought = Usage(1, 2), Reasoning("hm")
    script: list[str | Chunk] = ["A\u03a3", usage, thought, Notice("restart"), "X"]
    assert events_of(script, change_case("lower"))[1:5] == [
        Token("a"),
        usage,
        Notice("restart"),
        Token("x"),
    ]
