"""`Transcript`: what a stream has said, by source. The one fold of chunks that all others use."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from rxllm.chunks import (
    Batch,
    Chunk,
    End,
    Json,
    Notice,
    Reasoning,
    Start,
    StateKey,
    Token,
    ToolCall,
    Usage,
    has_output,
    is_restart,
    state_key,
)
from rxllm.errors import write_partial
from rxllm.messages import Message
from rxllm.restart import matching_sources

__all__ = ["Answer", "RunningText", "Transcript", "assistant_message"]


class RunningText:
    """A text that grows, kept in pieces: adding costs one `append`, asking joins them once.

    Attributes:
        length: in characters.
    """

    __slots__ = ("_pieces", "length")

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self.length = 0

    def add(self, text: str) -> None:
        """More of it."""
        self._pieces.append(text)
        self.length += len(text)

    def up_to(self, length: int) -> str:
        """The first `length` characters; all of it is kept joined for the next time."""
        if len(self._pieces) != 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0][:length]


class Answer:
    """What one source has said since it last began.

    Attributes:
        tokens: pieces of text and reasoning that say something, also those in a `Batch`.
        calls: the newest state of each tool call, in the order in which the calls began.
        json: the newest JSON value.
        usage: the newest one.
        start, end: its own, if they have come.
        has_output: it has said something: an empty text counts as nothing.
    """

    __slots__ = (
        "_reasoning",
        "_texts",
        "calls",
        "end",
        "has_output",
        "json",
        "start",
        "tokens",
        "usage",
    )

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._reasoning: list[str] = []
        self.tokens: int = 0
        self.calls: dict[StateKey | None, ToolCall] = {}
        self.json: Json | None = None
        self.usage: Usage | None = None
        self.start: Start | None = None
        self.end: End | None = None
        self.has_output: bool = False

    @property
    def text(self) -> str:
        """The answer's text; kept joined for the next time."""
        return _joined(self._texts)

    @property
    def reasoning(self) -> str:
        """The text of the thinking blocks."""
        return _joined(self._reasoning)

    def add(self, chunk: Chunk) -> None:
        """Take in a chunk of this source that is not a notice."""
        match chunk:
            case Token() | Reasoning():
                self._add_piece(chunk)
            case Batch(chunks=parts):
                for part in parts:
                    self._add_piece(part)
            case ToolCall():
                self.calls[state_key(chunk)] = chunk
            case Json():
                self.json = chunk
            case Usage():
                self.usage = chunk
            case Start():
                self.start = chunk
            case End():
                self.end = chunk
        self.has_output = self.has_output or has_output(chunk)

    def _add_piece(self, piece: Token | Reasoning) -> None:
        self.tokens += bool(piece.text)
        (self._texts if type(piece) is Token else self._reasoning).append(piece.text)


class Transcript:
    """What a stream has said, by source, since it last began. A restart keeps notices and usage.

    Adding a chunk costs one `list.append`: the chunks are folded when somebody asks.

    Attributes:
        add: takes in the next chunk.

    >>> transcript = Transcript()
    >>> for chunk in (Token("wrong"), Notice("restart"), Token("Once"), Token(" upon")):
    ...     transcript.add(chunk)
    >>> transcript.text, transcript.tokens, len(transcript.notices)
    ('Once upon', 2, 1)
    """

    __slots__ = ("_answers", "_earlier", "_end", "_new", "_notices", "_start", "add")

    def __init__(self) -> None:
        self._new: list[Chunk] = []
        self.add: Callable[[Chunk], None] = self._new.append
        self._answers: dict[str | None, Answer] = {}
        self._earlier: list[Usage] = []  # of answers that have begun again
        self._notices: list[Notice] = []
        self._start: Start | None = None
        self._end: End | None = None

    @property
    def answers(self) -> dict[str | None, Answer]:
        """The answer of each source, in the order in which they began."""
        self._fold()
        return self._answers

    @property
    def notices(self) -> tuple[Notice, ...]:
        """Everything that happened on the way, in order."""
        self._fold()
        return tuple(self._notices)

    @property
    def start(self) -> Start | None:
        """The last `Start`, of any source."""
        self._fold()
        return self._start

    @property
    def end(self) -> End | None:
        """The last `End` of any source that a restart has not taken back."""
        self._fold()
        return self._end

    @property
    def text(self) -> str:
        """The text; after a merge, one source after another."""
        return "".join([answer.text for answer in self.answers.values()])

    @property
    def reasoning(self) -> str:
        """The text of the thinking blocks."""
        return "".join([answer.reasoning for answer in self.answers.values()])

    @property
    def tokens(self) -> int:
        """Pieces of text and reasoning."""
        return sum([answer.tokens for answer in self.answers.values()])

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The newest state of each tool call."""
        answers = self.answers.values()
        return tuple([call for answer in answers for call in answer.calls.values()])

    @property
    def json(self) -> Any:
        """The newest JSON value, of the source that gave one last; `None` if none did."""
        values = [answer.json.value for answer in self.answers.values() if answer.json is not None]
        return values[-1] if values else None

    @property
    def usage(self) -> Usage | None:
        """What was used and is billed: by all sources together, and also before a restart."""
        now = [answer.usage for answer in self.answers.values() if answer.usage is not None]
        usages = self._earlier + now
        if len(usages) < 2:
            return usages[0] if usages else None
        return sum(usages[1:], usages[0])

    @property
    def message(self) -> Message:
        """What was said, for the history."""
        return assistant_message(self.text, self.tool_calls)

    @property
    def has_begun(self) -> bool:
        """Whether something was said, or the end of an answer was told."""
        return any(answer.has_output or answer.end for answer in self.answers.values())

    @property
    def is_plain(self) -> bool:
        """Whether it is text and reasoning of one answer, not merged, that has not ended."""
        return all(
            source is None and not (answer.calls or answer.json or answer.end)
            for source, answer in self.answers.items()
            if answer.tokens or answer.has_output or answer.end
        )

    def write_partial(self, error: Exception) -> None:
        """Write the text into `error.partial`, where it can be; see `errors.write_partial`."""
        write_partial(error, self.text)

    def _fold(self) -> None:
        if not self._new:
            return
        for chunk in self._new:
            if type(chunk) is Notice:
                self._notices.append(chunk)
                if is_restart(chunk):
                    self._restart(chunk.source)
                continue
            answer = self._answers.get(chunk.source)
            if answer is None:
                answer = self._answers[chunk.source] = Answer()
            answer.add(chunk)
            if type(chunk) is Start:
                self._start = chunk
            elif type(chunk) is End:
                self._end = chunk
        self._new.clear()

    def _restart(self, source: str | None) -> None:
        for each in matching_sources(self._answers, source):
            usage = self._answers.pop(each).usage
            if usage is not None:
                self._earlier.append(usage)
        if self._end is not None and source in (None, self._end.source):
            self._end = None


def assistant_message(text: str, calls: Iterable[ToolCall]) -> Message:
    """An answer as a message for the history: its text, and its complete tool calls."""
    return Message("assistant", text, tool_calls=tuple(call for call in calls if call.complete))


def _joined(pieces: list[str]) -> str:
    if len(pieces) > 1:
        pieces[:] = ["".join(pieces)]
    return pieces[0] if pieces else ""
