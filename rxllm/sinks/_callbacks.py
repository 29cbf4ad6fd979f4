"""A stream as events: one callback for each kind of event."""

from __future__ import annotations

from collections.abc import Callable

from reactivex import Observable

from rxllm.chunks import Carried, Notice, Progress, Start
from rxllm.consumer import check_function, check_stream
from rxllm.result import Result
from rxllm.sinks._callback_stream import Callbacks, CallbackStream
from rxllm.sinks._token_event import TokenEvent


def callbacks(
    stream: Observable[Carried],
    *,
    on_start: Callable[[Start], object] | None = None,
    on_token: Callable[[TokenEvent], object] | None = None,
    on_progress: Callable[[Progress], object] | None = None,
    on_notice: Callable[[Notice], object] | None = None,
    on_complete: Callable[[Result], object] | None = None,
    on_cancel: Callable[[Result], object] | None = None,
    on_error: Callable[[Exception], object] | None = None,
    max_pause: float = 300.0,
) -> CallbackStream:
    """Turn a stream into events.

    Nothing happens until `start()` is called or the returned object is awaited. All callbacks are
    plain functions, called on the event loop's thread; their results are ignored.

    - Completion: `on_complete`, or `on_cancel` if the finish reason is `"cancelled"`, once the
      stream has cleaned up; then the `await` returns the `Result`.
    - Error: `on_error`, with the text so far in `partial` if it is an `RxLLMError`; then the
      `await` raises it.
    - A callback that raises stops the stream; its exception is raised by the `await`, and reaches
      neither `on_error` nor a retry upstream.
    - Restart: passed to `on_notice`; counts and running text begin again, for the notice's source,
      or for all sources if it names none.
    - Demand: only `pause()` holds the stream; see `CallbackStream`.

    Args:
        stream: the chunks.
        on_start: called when the model has started; again for each new attempt.
        on_token: called with each piece of text. The pieces of a `Batch` are passed one by one.
        on_progress: called with the `Progress` chunks of the stream. If its pipe has neither
            `progress` nor `track_stages`, also with one made here every 10 tokens (text and
            reasoning), until the stream has some of its own.
        on_notice: called with a retry, a fallback, a restart, ...
        on_complete: called with the whole answer.
        on_cancel: called with the answer so far, after `stop()`, a pause that took too long, or a
            polite stop upstream (`Control.stop`). Not called when the awaiting task is cancelled.
        on_error: called with the error of the stream.
        max_pause: seconds after which a paused stream is stopped, above 0: until then it occupies a
            connection or an engine slot.

    Raises:
        TypeError: `stream` is not a stream, or a function is not a plain function.
        ValueError: `max_pause` is not above 0.

    >>> from rxllm import run
    >>> from rxllm.models.scripted import ScriptedModel
    >>> story = ScriptedModel("Once upon a time. The end.", by="word").stream("Tell me a story")
    >>> def on_token(event):
    ...     if event.new_sentence:
    ...         print(event.sentences, event.running_text)
    >>> run(callbacks(story, on_token=on_token)).finish_reason
    1 Once
    2 Once upon a time. The
    'stop'
    """
    check_stream(stream, "callbacks")
    given = Callbacks(on_start, on_token, on_progress, on_notice, on_complete, on_cancel, on_error)
    for name, function in given._asdict().items():
        if function is not None:
            check_function(function, name)
    if not max_pause > 0:
        raise ValueError(f"max_pause must be above 0 (seconds a pause may last), got {max_pause}")
    return CallbackStream(stream, given, max_pause)
