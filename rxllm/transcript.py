"""`Transcript`: the output of a stream by source. All other code folds chunks through it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from rxllm.answer import Answer, assistant_message
from rxllm.answer_counts import NestedSources
from rxllm.chunks import (
    ApprovalRequest,
    Chunk,
    Citation,
    End,
    FileOutput,
    Notice,
    Start,
    Steering,
    Token,
    ToolCall,
    ToolResult,
    Usage,
    has_output,
    is_restart,
)
from rxllm.errors import write_partial
from rxllm.messages import Message, Part
from rxllm.restart import matching_sources
from rxllm.run_messages import RunMessages

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

    Of a run (one answer after another, with the results of tools between them) it has the last
    answer, and the messages that the run adds to the conversation. A restart takes back the answer
    under way, and none before it. What runs inside a tool, with the id of its call as `source`, is
    not part of the answer.

    Adding a chunk costs one `list.append`; chunks are folded when a property is read.

    Args:
        last: the message whose calls the first results answer, if the run continues after it.

    Attributes:
        add: adds the next chunk.

    >>> from rxllm.chunks import Token
    >>> transcript = Transcript()
    >>> for chunk in (Token("wrong"), Notice("restart"), Token("Once"), Token(" upon")):
    ...     transcript.add(chunk)
    >>> transcript.text, transcript.tokens, len(transcript.notices)
    ('Once upon', 2, 1)
    """

    __slots__ = (
        "_answers",
        "_earlier",
        "_earlier_characters",
        "_earlier_output_tokens",
        "_earlier_tokens",
        "_end",
        "_last",
        "_messages",
        "_nested",
        "_new",
        "_notices",
        "_pending",
        "_start",
        "_steps",
        "_tools_ran",
        "add",
    )

    def __init__(self, last: Message | None = None) -> None:
        self._new: list[Chunk] = []
        self.add: Callable[[Chunk], None] = self._new.append
        self._answers: dict[str | None, Answer] = {}
        self._earlier: list[
            Usage
        ] = []  # usage of answers that have restarted, or that others follow
        # Of answers that others follow:
        self._earlier_tokens = self._earlier_output_tokens = self._earlier_characters = 0
        self._notices: list[Notice] = []
        self._start: Start | None = None
        self._end: End | None = None
        self._last = last
        self._messages: dict[str | None, RunMessages] = {}
        self._nested = NestedSources()
        self._pending: list[ApprovalRequest] = []
        self._steps: Counter[str | None] = Counter()
        self._tools_ran = False

    @property
    def answers(self) -> dict[str | None, Answer]:
        """The last answer of each source, in the order in which the sources began."""
        self._fold()
        return self._answers

    @property
    def messages(self) -> tuple[Message, ...]:
        """The messages that the stream adds to the conversation; none of a merge of streams.

        An answer that was cut off is in them without its calls, which were never made.
        """
        closed, answer = self.closed, self._answers.get(self._source)
        if answer is None or answer.is_closed:
            return closed
        parts = answer.parts
        if answer.end is None:
            parts = [part for part in parts if not isinstance(part, ToolCall)]
        message = assistant_message(parts)
        return (*closed, message) if message.content or message.tool_calls else closed

    @property
    def closed(self) -> tuple[Message, ...]:
        """These messages without the answer under way, or the last one."""
        self._fold()
        messages = self._messages.get(self._source)
        return () if messages is None else messages.messages

    @property
    def pending(self) -> tuple[ApprovalRequest, ...]:
        """The calls that wait for an approval."""
        self._fold()
        source = self._source
        return tuple([request for request in self._pending if request.source == source])

    @property
    def steps(self) -> int:
        """The number of answers, without those of nested runs and those that began again."""
        self._fold()
        return self._steps[self._source]

    def is_nested(self, source: str | None) -> bool:
        """Return whether a stream inside a tool has this source."""
        self._fold()
        return source in self._nested

    @property
    def tools_ran(self) -> bool:
        """Whether an answer of a run is complete, so that nothing may begin it from the start."""
        self._fold()
        return self._tools_ran

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
        return "".join([answer.text for answer in self._own])

    @property
    def reasoning(self) -> str:
        """The text of the thinking blocks."""
        return "".join([answer.reasoning for answer in self._own])

    @property
    def tokens(self) -> int:
        """The tokens of text and reasoning, of all answers."""
        answers = self.answers.values()
        return self._earlier_tokens + sum([answer.tokens for answer in answers])

    @property
    def output_tokens(self) -> int:
        """The same, by the usage of each answer that reports it."""
        answers = self.answers.values()
        return self._earlier_output_tokens + sum([answer.output_tokens for answer in answers])

    @property
    def characters(self) -> int:
        """The characters of text, of all answers."""
        answers = self.answers.values()
        return self._earlier_characters + sum([len(answer.text) for answer in answers])

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The newest state of each tool call."""
        return tuple([call for answer in self._own for call in answer.calls.values()])

    @property
    def json(self) -> Any:
        """The newest JSON value of the last source that has one; `None` if none has."""
        values = [answer.json.value for answer in self._own if answer.json is not None]
        return values[-1] if values else None

    @property
    def citations(self) -> tuple[Citation, ...]:
        """The sources that the answers cite."""
        return tuple([each for answer in self._own for each in answer.citations])

    @property
    def files(self) -> tuple[FileOutput, ...]:
        """The output that isn't text."""
        return tuple([each for answer in self._own for each in answer.files])

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
        return sum([answer.states for answer in self._own])

    @property
    def parts(self) -> tuple[Part, ...]:
        """The text, the reasoning and the complete calls, in order, as parts of a message."""
        return tuple([part for answer in self._own for part in answer.parts])

    @property
    def message(self) -> Message:
        """The output as a message for the history."""
        return assistant_message(self.parts)

    @property
    def has_begun(self) -> bool:
        """Whether there is any output, an `End`, or the result of a tool."""
        answers = self.answers.values()
        return self._tools_ran or any(answer.has_output or answer.end for answer in answers)

    @property
    def is_plain(self) -> bool:
        """Whether this is only text and reasoning of a single unmerged answer that hasn't ended."""
        return not self.tools_ran and all(
            source is None
            and not (answer.calls or answer.json or answer.citations or answer.files or answer.end)
            for source, answer in self.answers.items()
            if answer.tokens or answer.has_output or answer.end
        )

    def write_partial(self, error: Exception) -> None:
        """Store the text in `error.partial` if possible; see `errors.write_partial`."""
        write_partial(error, self.text)

    @property
    def _source(self) -> str | None:
        """The source of the stream's own answers: `None`, or a name that a race has given them."""
        sources = [each for each in self._answers | self._messages if each not in self._nested]
        return sources[0] if len(sources) == 1 else None

    def _run(self, source: str | None) -> RunMessages:
        run = self._messages.get(source)
        if run is None:
            run = self._messages[source] = RunMessages(self._last)
        return run

    @property
    def _own(self) -> list[Answer]:
        """The answers that aren't those of a run inside a tool."""
        answers = self.answers
        if not self._tools_ran:
            return list(answers.values())
        return [answer for source, answer in answers.items() if source not in self._nested]

    def _fold(self) -> None:
        if not self._new:
            return
        answer: Answer | None = None  # which a token of `source` belongs to
        source: str | None = None
        for chunk in self._new:
            if answer is not None and type(chunk) is Token and chunk.source == source:
                answer.add_piece(chunk)
                continue
            answer = None
            if type(chunk) is Notice:
                self._notices.append(chunk)
                if is_restart(chunk):
                    self._restart(chunk.source)
            elif type(chunk) in _BETWEEN_ANSWERS:
                self._add_to_run(chunk)
            else:
                answer, source = self._add_to_answer(chunk), chunk.source
        self._new.clear()

    def _add_to_answer(self, chunk: Chunk) -> Answer | None:
        """Add a chunk to the answer of its source; return the answer unless this ends it."""
        source = chunk.source
        answer = self._answers.get(source)
        is_next = answer is not None and answer.is_closed and _begins(chunk)
        if answer is None or is_next:
            if answer is not None:
                self._follow(answer)
            answer = self._answers[source] = Answer()
            self._steps[source] += 1
        if type(chunk) is not End:
            answer.add(chunk)
            if type(chunk) is Start:
                self._start = chunk
            return None if answer.is_closed else answer
        self._end = chunk
        if not answer.is_closed:  # otherwise it is the end of the run
            answer.add(chunk)
            if chunk.more:
                self._close(source, answer)
        return None

    def _close(self, source: str | None, answer: Answer) -> None:
        self._tools_ran = True
        for call in answer.calls.values():
            self._nested.note(call)
        self._run(source).add_answer(assistant_message(answer.parts))

    def _add_to_run(self, chunk: Chunk) -> None:
        self._tools_ran = True
        if type(chunk) is ToolResult:
            self._nested.note(chunk)
            self._run(chunk.source).add_result(chunk)
        elif type(chunk) is Steering:
            self._run(chunk.source).add_user(chunk.text)
        elif type(chunk) is ApprovalRequest:
            self._pending.append(chunk)

    def _follow(self, answer: Answer) -> None:
        """Book an answer that another one follows."""
        self._earlier_characters += len(answer.text)
        self._earlier_tokens += answer.tokens
        self._earlier_output_tokens += answer.output_tokens
        if answer.usage is not None:
            self._earlier.append(answer.usage)

    def _restart(self, source: str | None) -> None:
        sources = matching_sources(self._answers, source)
        if source is None and self._tools_ran:
            sources = [each for each in sources if each is None]  # runs inside tools have ended
        for each in sources:
            if self._answers[each].is_closed:
                continue
            usage = self._answers.pop(each).usage
            self._steps[each] -= 1
            if usage is not None:
                self._earlier.append(usage)
        if self._end is not None and not self._end.more and source in (None, self._end.source):
            self._end = None


_BETWEEN_ANSWERS: Final = {ToolResult, Steering, ApprovalRequest}


def _begins(chunk: Chunk) -> bool:
    """Whether `chunk` begins another answer of a run."""
    return type(chunk) is Start or has_output(chunk)
