"""A model that plays a script, for tests, examples and demonstrations.

It uses no coroutines and no threads. It waits only on timers of the subscribe-time scheduler, so it
runs on a `TestScheduler` as well as on an event loop.

>>> from rxllm.testing import Marbles
>>> model = ScriptedModel("Once upon a time", by="word", delay=0.5)
>>> for time, chunk in Marbles().run(model.stream("Tell me a story", max_tokens=2)):
...     print(time, getattr(chunk, "text", None) or repr(chunk).partition("(")[0])
0.0 Start
0.5 Once
1.0  upon
1.0 Usage
1.0 End
1.0 |
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, Unpack, get_args

from reactivex import abc
from reactivex.disposable import CompositeDisposable, Disposable, SerialDisposable

from rxllm.chunks import Batch, Chunk, FinishReason, Start, Usage, is_restart
from rxllm.errors import BadRequestError, separate_error
from rxllm.models._script import (
    Event,
    Script,
    Step,
    continuation,
    read_script,
    seconds,
    words_in,
)
from rxllm.requests import ModelInfo, Prompt, Request, RequestOptions, as_request, as_request_to
from rxllm.stream import Stream
from rxllm.text.stop_sequences import StopSequences
from rxllm.token_count import TokenCount
from rxllm.trampoline import Trampoline
from rxllm.valve import scheduler_or_default, valve_of

__all__ = ["Script", "ScriptedModel", "Step"]


class ScriptedModel:
    """A model that plays back a script.

    A stream is `Start`, the script, `Usage`, `End`. Each piece of text is one token.

    - Request: `max_tokens` ends the script with `"length"` after that many tokens, and `stop` ends
      it before a stop sequence; a script with a `Batch` or a restart supports neither. Other
      options are recorded and otherwise ignored.
    - Completion: after the script. Error: at an exception in the script.
    - Disposal: stops at once and cancels the timer.
    - Demand: while the subscriber's valve is closed, nothing is emitted and the next step doesn't
      start. At most one chunk is held, the one whose wait was already running. Chunks with no wait
      between them are emitted in one turn of the event loop, as if read from a socket at once.

    Args:
        scripts: one script for each subscription in turn; the last one is repeated for all later
            subscriptions. `["Once", 2.0, " upon", ConnectionResetError()]` waits 2 s between two
            pieces, then fails.
        by: splits each text into `"word"`s (with the white space before them) or `"character"`s.
        delay: seconds before each piece of text, chunk or failure.
        first_delay: seconds between the `Start` and the next event, in place of `delay`.
        name: the id of the model.
        finish_reason: the reason given by `End`, or `None` to leave out `Usage` and `End`, as a
            cut connection does.
        usage: the usage to report, or `None` to count it (one input token per word of the prompt).
            A `Usage` in the script replaces it; an `End` in the script ends the stream.
        capabilities: those of its `info`; see `ModelInfo`.

    Attributes:
        requests: the requests received, one for each subscription.
        active: how many subscriptions are playing.
        completed, failed, cancelled: how many subscriptions completed, failed, or were disposed
            early.

    Raises:
        BadRequestError: no script is given, a step has an unsupported type, or a wait is negative.
    """

    def __init__(
        self,
        *scripts: Script,
        by: Literal["word", "character"] | None = None,
        delay: float = 0.0,
        first_delay: float | None = None,
        name: str = "scripted",
        finish_reason: FinishReason | None = "stop",
        usage: Usage | None = None,
        capabilities: Sequence[str] = ("text", "prefill", "sampling"),
    ) -> None:
        if not scripts:
            raise BadRequestError("at least one script is required: a str, or a list of steps")
        if by not in (None, "word", "character"):
            raise BadRequestError(f"by must be 'word', 'character' or None, got {by!r}")
        if finish_reason not in (None, *get_args(FinishReason)):
            raise BadRequestError(
                f"finish_reason must be None or one of {get_args(FinishReason)}, "
                f"got {finish_reason!r}"
            )
        self._scripts = [read_script(script, by) for script in scripts]
        self._counts_tokens = not any(
            type(step) is Batch or is_restart(step) for script in self._scripts for step in script
        )
        self._delays = (seconds(delay if first_delay is None else first_delay), seconds(delay))
        self._finish = (finish_reason, usage)
        self._info = ModelInfo(name, "scripted", capabilities=tuple(capabilities))
        self._raised: set[int] = set()
        self.requests: list[Request] = []
        self.active = self.completed = self.failed = self.cancelled = 0

    @property
    def info(self) -> ModelInfo:
        """The id and provider of this model."""
        return self._info

    async def load(self) -> None:
        """Do nothing: there is nothing to load."""

    def stream(self, prompt: Prompt, **options: Unpack[RequestOptions]) -> Stream[Chunk]:
        """Return a cold Observable that plays the next script at each subscription.

        Raises:
            BadRequestError: the prompt or an option is invalid.
        """
        request = as_request_to(self._info.id, prompt, **options)
        if (request.stop or request.max_tokens) and not self._counts_tokens:
            raise BadRequestError(
                "a script with a Batch or a restart supports neither `stop` nor `max_tokens`"
            )
        stops = StopSequences(*request.stop) if request.stop else None

        def subscribe(
            observer: abc.ObserverBase[Chunk], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            scheduler = scheduler_or_default(scheduler)
            self.requests.append(request)
            events = self._events(len(self.requests), request, stops)
            return _Player(self, observer, scheduler, events).start()

        return Stream(subscribe, self._info.id, of_chunks=True, answer_schema=request.answer_schema)

    async def count_tokens(self, prompt: Prompt, **options: Unpack[RequestOptions]) -> TokenCount:
        """Return the number of words of the prompt, which is what `Usage` reports.

        Raises:
            BadRequestError: the prompt or an option is invalid.
        """
        return TokenCount(words_in(as_request(prompt, **options)))

    def raised(self, error: Exception) -> Exception:
        """Return `error` for the first stream that fails with it, and a copy for later ones."""
        if id(error) in self._raised:
            return separate_error(error)
        self._raised.add(id(error))
        return error

    def _events(
        self, number: int, request: Request, stops: StopSequences | None
    ) -> Iterator[Event]:
        script = self._scripts[min(number, len(self._scripts)) - 1]
        yield (
            0.0,
            Start(
                f"{self.info.id}-{number}",
                self.info.id,
                "scripted",
                max_tokens=request.max_tokens,
            ),
        )
        yield from continuation(script, request, stops, self._delays, self._finish)


class _Player:
    """One subscription: emits each event once it is due and the valve is open."""

    def __init__(
        self,
        model: ScriptedModel,
        observer: abc.ObserverBase[Chunk],
        scheduler: abc.SchedulerBase,
        events: Iterator[Event],
    ) -> None:
        self._model = model
        self._observer = observer
        self._scheduler = scheduler
        self._events = events
        self._valve = valve_of(scheduler)
        self._timer = SerialDisposable()
        self._subscription = CompositeDisposable(self._timer, Disposable(self._cancel))
        self._trampoline = Trampoline(self._subscription)
        self._due: Chunk | Exception | None = None
        self._waiting = True
        self._ended = False

    def start(self) -> abc.DisposableBase:
        self._model.active += 1
        self._subscription.add(self._valve.on_change(self._resume))
        self._timer.disposable = self._scheduler.schedule(self._fall_due)
        return self._subscription

    def _cancel(self) -> None:
        if not self._ended:
            self._model.cancelled += 1
            self._end()

    def _end(self) -> None:
        self._ended = True
        self._model.active -= 1

    def _fall_due(self, *_: object) -> None:
        self._waiting = False
        self._resume()

    def _resume(self, *_: object) -> None:
        self._trampoline.repeat(self._play_next)

    def _play_next(self) -> bool:
        """Start the next event or emit the one that is due; False if it has to wait."""
        if self._waiting or self._ended or not self._valve.is_open:
            return False
        if self._due is None:
            self._start_next()
        else:
            self._send()
        return True

    def _start_next(self) -> None:
        event = next(self._events, None)
        if event is None:
            self._model.completed += 1
            self._end()
            self._observer.on_completed()
            return
        wait, self._due = event
        if wait > 0:
            self._waiting = True
            self._timer.disposable = self._scheduler.schedule_relative(wait, self._fall_due)

    def _send(self) -> None:
        due, self._due = self._due, None
        if isinstance(due, Exception):
            self._model.failed += 1
            self._end()
            self._observer.on_error(self._model.raised(due))
        elif due is not None:
            self._observer.on_next(due)
