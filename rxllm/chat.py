"""`Chat`: a conversation with a model, and its history."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import msgspec
from reactivex import Observable, abc
from reactivex import operators as rxo

from rxllm.answer import assistant_message
from rxllm.arguments import check_int
from rxllm.chunks import Chunk, ErrorInfo, Outcome, ToolCall
from rxllm.errors import BadRequestError, StreamStateError
from rxllm.history import with_history
from rxllm.messages import Message
from rxllm.models.registry import model as model_of
from rxllm.requests import Model, Request, RequestOptions, as_request
from rxllm.run_messages import with_all_calls_answered
from rxllm.stream import Stream
from rxllm.transcript import Transcript

__all__ = ["Chat", "Exchange"]


class Exchange(msgspec.Struct, frozen=True):
    """A question and its answer.

    Attributes:
        messages: the question, the answer, and after an answer with tool calls their results and
            the next answer; of a run of an `Agent`, all of its messages.
        outcome: `"completed"`; `"cancelled"` if it was stopped after some of the answer; `"failed"`
            if it failed then, and isn't sent with later questions.
        asked, answered: when the question was sent and when the answer ended, in Unix seconds.
        model: the model that answered.
        error: why it failed.
    """

    messages: tuple[Message, ...]
    outcome: Outcome
    asked: float
    answered: float
    model: str | None = None
    error: ErrorInfo | None = None

    @property
    def question(self) -> str:
        """The text of the question."""
        return self.messages[0].text

    @property
    def text(self) -> str:
        """The text of the last answer."""
        return self.answer.text

    @property
    def open_calls(self) -> tuple[ToolCall, ...]:
        """The tool calls that wait for their results."""
        answered = {message.tool_call_id for message in self.messages}
        return tuple([call for call in self.answer.calls if call.id not in answered])

    @property
    def is_sent(self) -> bool:
        """Whether later questions take it along: a failed one only if its tools have run."""
        return self.outcome != "failed" or any(each.role == "tool" for each in self.messages)

    @property
    def answer(self) -> Message:
        """The last answer."""
        return next(each for each in reversed(self.messages) if each.role == "assistant")


class _Saved(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """A conversation in a file."""

    exchanges: list[Exchange]
    system: str | None = None


class Chat:
    """A conversation with a model. It keeps the history, which each question takes along.

    ::

        chat = rxllm.Chat("tiny", system="Answer in one sentence.")
        rxllm.run(rxllm.sinks.console(chat.ask("What is a lighthouse?")))
        rxllm.run(rxllm.sinks.console(chat.ask("Who lives there?")))

    One question is answered at a time. What becomes of it:

    - Completion: the exchange is kept, unless the answer is empty.
    - Disposal: what has arrived is kept and sent with later questions, without tool calls; nothing
      is kept before the first text.
    - Error: what has arrived is kept, but neither it nor the question is sent again, unless tools
      of an `Agent` have run; nothing is kept before the first text.
    - A restart: only the restarted answer is kept. A question that is asked again, by a retry for
      example, has one exchange.

    An answer with tool calls is completed by asking with their results, as messages of the role
    `"tool"`, or with approvals; they join its exchange. If the conversation is too long for the
    model, the question is asked again with half of the exchanges, and in the end with none.

    Args:
        model: a model, or a name for `rxllm.model`.
        system: the system prompt.
        keep: exchanges to keep, 1 or more; the oldest is dropped first.
        send: the number of kept exchanges that a question takes along, 0 or more; `None` for all.
        options: options of each question, such as `max_tokens`.

    Attributes:
        model, system, options: as given; a change applies to the questions that follow.
        is_answering: whether a question is being answered.

    Raises:
        BadRequestError: the name of the model or an option is invalid.
        TypeError, ValueError: `system`, `keep` or `send` is invalid.

    >>> import rxllm
    >>> from rxllm.models.scripted import ScriptedModel
    >>> chat = Chat(ScriptedModel("Hello!", "Fine."), system="Be brief.")
    >>> rxllm.run(chat.ask("Hi")).text, rxllm.run(chat.ask("How are you?")).text
    ('Hello!', 'Fine.')
    >>> [(each.question, each.text) for each in chat.history]
    [('Hi', 'Hello!'), ('How are you?', 'Fine.')]
    """

    def __init__(
        self,
        model: Model | str,
        *,
        system: str | None = None,
        keep: int = 20,
        send: int | None = None,
        **options: Unpack[RequestOptions],
    ) -> None:
        as_request("?", **options)
        if not isinstance(system, str | None):
            raise TypeError(f"system must be a string or None, got {system!r}")
        self.model: Model = model_of(model) if isinstance(model, str) else model
        self.system = system
        self.options: RequestOptions = options
        self._send = None if send is None else check_int("send", send, "exchanges", minimum=0)
        self._exchanges: deque[Exchange] = deque(maxlen=check_int("keep", keep, "exchanges"))
        self.is_answering = False

    @property
    def history(self) -> list[Exchange]:
        """The exchanges, oldest first."""
        return list(self._exchanges)

    def clear(self) -> None:
        """Forget the exchanges."""
        self._exchanges.clear()

    def ask(
        self,
        question: str | Message | Sequence[Message] = (),
        *,
        approvals: Mapping[str, bool | str] | None = None,
        **options: Unpack[RequestOptions],
    ) -> Stream[Chunk]:
        """Return a cold Observable of the answer; each subscription asks.

        - Demand: passes through.

        Args:
            question: a text, a message, or several, such as the results of tool calls.
            approvals: instead of a question: decisions about calls of an `Agent` that wait
                (`Result.pending`), by their tokens; see `Agent.stream`.
            options: options of this question, over those of the chat.

        Raises:
            BadRequestError: the question or an option is invalid.
            StreamStateError: through `on_error`: another question is being answered, the last
                answer waits for the results of its tool calls, or no call waits for an approval.
        """
        asked = (question,) if isinstance(question, Message) else question
        merged: RequestOptions = {**self.options, **options}
        if approvals is None:
            request = as_request(asked, **merged)
        elif asked:
            raise BadRequestError("a question can't be asked together with approvals", "approvals")
        else:
            request = msgspec.structs.replace(as_request("?", **merged), messages=())
        return Stream(
            _Question(self, request, approvals).subscribe,
            "chat",
            of_chunks=True,
            answer_schema=request.answer_schema,
        )

    def save(self, path: str | Path) -> None:
        """Write the system prompt and the exchanges to a file, as JSON.

        Raises:
            OSError: the file can't be written.
        """
        saved = _Saved(self.history, self.system)
        Path(path).write_bytes(msgspec.json.format(msgspec.json.encode(saved)) + b"\n")

    def load(self, path: str | Path) -> None:
        """Replace the system prompt and the exchanges by those of a file that `save` has written.

        Raises:
            OSError: the file can't be read.
            BadRequestError: it isn't such a file.
        """
        try:
            saved = msgspec.json.decode(Path(path).read_bytes(), type=_Saved)
        except (msgspec.DecodeError, BadRequestError) as error:
            raise BadRequestError(f"{path} has no saved chat: {error}") from None
        self.system = saved.system
        self.replace(saved.exchanges)

    def answer(
        self,
        request: Request,
        before: Exchange | None,
        approvals: Mapping[str, bool | str] | None = None,
    ) -> Observable[Chunk]:
        """Return the answer to a request with the history before it. Called by a question."""
        sent = [each for each in self._exchanges if each is not before and each.is_sent]
        earlier = sent if self._send is None else sent[max(0, len(sent) - self._send) :]

        def ask(length: int) -> Observable[Chunk]:
            turns = [*earlier[len(earlier) - length :], *([] if before is None else [before])]
            messages = [message for each in turns for message in each.messages]
            system = [] if self.system is None else [Message("system", self.system)]
            conversation = (*system, *messages, *request.messages)
            whole = msgspec.structs.replace(request, messages=conversation)
            stream: Any = self.model.stream
            answer: Observable[Chunk] = (
                stream(whole) if approvals is None else stream(whole, approvals=approvals)
            )
            return answer

        return with_history(ask, len(earlier))

    def replace(self, exchanges: Sequence[Exchange]) -> None:
        """Replace the history."""
        self._exchanges.clear()
        self._exchanges.extend(exchanges)


class _Question:
    """What one call of `ask` asks, and keeps of the answer."""

    def __init__(
        self, chat: Chat, request: Request, approvals: Mapping[str, bool | str] | None
    ) -> None:
        self._chat = chat
        self._request = request
        self._approvals = approvals
        self._earlier: list[Exchange] = []  # the history before it was asked
        self._kept: Exchange | None = None
        self._asked = 0.0
        self._transcript = Transcript()
        self._is_live = False

    def subscribe(
        self, observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        chat = self._chat
        if chat.is_answering:
            raise StreamStateError("the chat is answering another question: wait for its end")
        history = chat.history
        if self._kept is not None and history and history[-1] is self._kept:
            chat.replace(self._earlier)  # asked again, by a retry for example
        self._earlier = chat.history
        before = self._continued()
        self._asked, self._kept = time.time(), None
        self._transcript = Transcript(None if before is None else before.answer)
        answer = chat.answer(self._request, before, self._approvals).pipe(
            rxo.do_action(
                self._transcript.add,
                lambda error: self._end("failed", error),
                lambda: self._end("completed"),
            ),
            rxo.finally_action(lambda: self._end("cancelled")),
        )
        chat.is_answering = self._is_live = True
        return answer.subscribe(observer, scheduler=scheduler)

    def _continued(self) -> Exchange | None:
        """Return the last exchange if the question has the results of its tool calls."""
        last = self._earlier[-1] if self._earlier else None
        calls = () if last is None else last.open_calls
        if self._approvals is not None:
            if not calls:
                raise StreamStateError("no call waits for an approval")
            return last
        given = {each.tool_call_id for each in self._request.messages if each.role == "tool"}
        if missing := [call.id for call in calls if call.id not in given]:
            raise StreamStateError(
                "the last answer has tool calls: ask with a tool message for each of "
                + ", ".join(missing)
            )
        return last if calls else None

    def _answers(self, *, whole: bool) -> tuple[Message, ...]:
        """Return what the stream adds to the conversation; of an answer that was cut, its text."""
        transcript = self._transcript
        if transcript.tools_ran:
            return transcript.messages if whole else with_all_calls_answered(transcript.messages)
        parts = transcript.parts
        if not whole:
            parts = tuple([part for part in parts if not isinstance(part, ToolCall)])
        answer = assistant_message(parts)
        return (answer,) if answer.text.strip() or answer.calls else ()

    def _end(self, outcome: Outcome, error: Exception | None = None) -> None:
        if not self._is_live:
            return
        self._chat.is_answering = self._is_live = False
        transcript = self._transcript
        start, end = transcript.start, transcript.end
        if outcome == "completed" and end is not None and end.finish_reason == "cancelled":
            outcome = "cancelled"
        is_limited = end is not None and end.finish_reason == "limit"
        answers = self._answers(whole=outcome == "completed" and not is_limited)
        if not any(each.role == "assistant" for each in answers):
            return
        before = self._continued()
        self._kept = Exchange(
            (*(() if before is None else before.messages), *self._request.messages, *answers),
            outcome,
            self._asked,
            time.time(),
            None if start is None else start.model,
            None if error is None else ErrorInfo.of(error),
        )
        others = [each for each in self._chat.history if each is not before]
        self._chat.replace([*others, self._kept])
