"""`Transcript`: the output of a stream by source. All other code folds chunks through it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rxllm.answer import Answer, assistant_message
from rxllm.chunks import (
    Chunk,
    Citation,
    End,
    FileOutput,
    Notice,
    Start,
    ToolCall,
    Usage,
    is_restart,
)
from rxllm.errors import write_partial
from rxllm.messages import Message, Part
from rxllm.restart import matching_sources

__all__ = ["RunningText", "Transcript"]


class RunningText:
    """A growing text, kept in pieces: adding costs one `append`, reading joins them once.

    Attributes:
        length: the length of the text, in characters.
    """

    __slots__ = ("_pieces", "length")

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self.length: int = 0

    def add(self, text: str) -> None:
        """Append `text`."""
        self._pieces.append(text)
        self.length += len(text)

    def up_to(self, length: int) -> str:
        """Return the first `length` characters; the joined text is kept for the next call."""
        if len(self._pieces) != 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0][:length]


class Transcript:
    """The output of a stream by source, since it last began. A restart keeps notices and usage.

    Adding a chunk costs one `list.append`; chunks are folded when a property is read.

    Attributes:
        add: adds the next chunk.

    >>> from rxllm.chunks import Token
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
        self._earlier: list[Usage] = []  # usage of answers that have restarted
        self._notices: list[Notice] = []
        self._start: Start | None = None
        self._end: End | None = None

    @property
    def answers(self) -> dict[str | None, Answer]:
        """The answer of each source, in the order in which the sources began."""
        self._fold()
        return self._answers

    @property
    def notices(self) -> tuple[Notice, ...]:
        """All notices, in order."""
        self._fold()
        return tuple(self._notices)

    @property
    def start(self) -> Start | None:
        """The last `Start`, of any source."""
        self._fold()
        return self._start

    @property
    def end(self) -> End | None:
        """The last `End` of any source that no restart has discarded."""
        self._fold()
        return self._end

    @property
    def text(self) -> str:
        """The text of all sources; after a merge, one source after another."""
        return "".join([answer.text for answer in self.answers.values()])

    @property
    def reasoning(self) -> str:
        """The text of the thinking blocks."""
        return "".join([answer.reasoning for answer in self.answers.values()])

    @property
    def tokens(self) -> int:
        """The number of non-empty pieces of text and reasoning."""
        return sum([answer.tokens for answer in self.answers.values()])

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The newest state of each tool call."""
        answers = self.answers.values()
        return tuple([call for answer in answers for call in answer.calls.values()])

    @property
    def json(self) -> Any:
        """The newest JSON value of the last source that has one; `None` if none has."""
        values = [answer.json.value for answer in self.answers.values() if answer.json is not None]
        return values[-1] if values else None

    @property
    def citations(self) -> tuple[Citation, ...]:
        """The sources that the answers cite."""
        return tuple([each for answer in self.answers.values() for each in answer.citations])

    @property
    def files(self) -> tuple[FileOutput, ...]:
        """The output that isn't text."""
        return tuple([each for answer in self.answers.values() for each in answer.files])

    @property
    def usage(self) -> Usage | None:
        """The usage billed: the sum over all sources, including answers before a restart."""
        now = [answer.usage for answer in self.answers.values() if answer.usage is not None]
        usages = self._earlier + now
        if len(usages) < 2:
            return usages[0] if usages else None
        return sum(usages[1:], usages[0])

    @property
    def states(self) -> int:
        """The number of states of text and reasoning."""
        return sum([answer.states for answer in self.answers.values()])

    @property
    def parts(self) -> tuple[Part, ...]:
        """The text, the reasoning and the complete calls, in order, as parts of a message."""
        return tuple([part for answer in self.answers.values() for part in answer.parts])

    @property
    def message(self) -> Message:
        """The output as a message for the history."""
        return assistant_message(self.parts)

    @property
    def has_begun(self) -> bool:
        """Whether there is any output, or an `End`."""
        return any(answer.has_output or answer.end for answer in self.answers.values())

    @property
    def is_plain(self) -> bool:
        """Whether this is only text and reasoning of a single unmerged answer that hasn't ended."""
        return all(
            source is None
            and not (answer.calls or answer.json or answer.citations or answer.files or answer.end)
            for source, answer in self.answers.items()
            if answer.tokens or answer.has_output or answer.end
        )

    def write_partial(self, error: Exception) -> None:
        """Store the text in `error.partial` if possible; see `errors.write_partial`."""
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
