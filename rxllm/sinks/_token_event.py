"""The event that `on_token` receives, and the state it is made from."""

from __future__ import annotations

from typing import Final

from rxllm.chunks import Token
from rxllm.text.sentences import SentenceBorders
from rxllm.transcript import RunningText

__all__ = ["Answer", "TokenEvent"]


class TokenEvent:
    """One token, and its place in the answer.

    Attributes:
        token: the chunk.
        index: its position among the tokens of the answer, from 0.
        sentences: how many sentences have begun, including this token, by the rules of
            `rxllm.text.sentences`: neither "3.14" nor "e.g." nor "Dr." ends one.
        new_sentence: whether a sentence has begun in this token. For a sentence that opens with a
            quote or bracket, this is the token with the first character after that.
    """

    __slots__ = ("_answer", "_length", "index", "new_sentence", "sentences", "token")

    def __init__(self, token: Token, answer: Answer) -> None:
        self.token: Token = token
        self.index: int = answer.tokens
        self._answer = answer
        answer.tokens += 1
        answer.text.add(token.text)
        begun = answer.sentence_borders.begun
        answer.sentence_borders.feed(token.text)
        self.sentences: int = answer.sentence_borders.begun
        self.new_sentence: bool = self.sentences > begun
        self._length = answer.text.length

    def __repr__(self) -> str:
        return (
            f"TokenEvent(token={self.token!r}, index={self.index}, sentences={self.sentences}, "
            f"new_sentence={self.new_sentence})"
        )

    @property
    def text(self) -> str:
        """The text of this token."""
        return self.token.text

    @property
    def source(self) -> str | None:
        """The stream that the token came from, after a merge."""
        return self.token.source

    @property
    def running_text(self) -> str:
        """The answer up to and including this token.

        It is joined on access, at a cost that grows with the text: read it occasionally, not for
        every token.
        """
        return self._answer.text.up_to(self._length)


class Answer:
    """The state of the token events of one source since it last began."""

    __slots__ = ("sentence_borders", "text", "tokens")

    def __init__(self) -> None:
        self.text: Final = RunningText()
        self.tokens: int = 0
        self.sentence_borders: Final = SentenceBorders()
