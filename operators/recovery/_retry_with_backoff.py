"""`retry_with_backoff`: asks the same model again."""

from __future__ import annotations

from collections.abc import Callable

from reactivex import Observable

from rxllm.chunks import Chunk, ErrorInfo, Notice, NoticeKind
from rxllm.errors import classify_error
from rxllm.operators.recovery._backoff import Backoff, Jitter, check_attempts
from rxllm.operators.recovery._plan import Attempt, Plan
from rxllm.operators.recovery._policy import Policy, policy_of
from rxllm.operators.recovery.attempts import attempts_of
from rxllm.operators.recovery.commit import AfterOutput, check_after_output
from rxllm.stream import Stream

__all__ = ["retry_plan", "retry_with_backoff"]


def retry_with_backoff(
    attempts: int = 3,
    initial: float = 1.0,
    factor: float = 2.0,
    max_delay: float = 60.0,
    jitter: Jitter = True,
    when: Policy = classify_error,
    after_output: AfterOutput = "fail",
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Subscribe to the source again after a failure that may pass, and wait before that.

    ::

        S-#               the first attempt
        S-a-(E,|)         the second one
        [ retry_with_backoff(initial=1, jitter=False) ]
        S-n-S-a-(E,|)     n: Notice("retry", attempt=2, delay=1.0, error=...)

    Errors that are classified as `"retry"` (see `rxllm.classify_error`) are answered: connections
    refused, reset or cut, 408, 409, 429, 5xx, an empty or unreadable stream. Another error is the
    error of the stream, and so is the last one. The wait is `initial` times `factor` for each
    failure after the first one, `max_delay` at most, with full jitter: a random delay between 0 and
    that (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/). A provider's
    Retry-After is the least it waits; one of more than 120 s is an error at once.

    A notice tells of each failure, with the number of the attempt that follows (the first
    attempt is 1) and the wait before it. Once content has been passed on (`Token`, `Reasoning`,
    `ToolCall`, `Json`; empty text is none), `after_output` decides:

    - `"fail"`: the error.
    - `"restart"`: `Notice("restart")`, on which what follows drops the text, then the new answer:
      as soon as that says something, so that an attempt that only began takes nothing away.
    - `"replay"`: the new answer is compared with what was passed on, text and reasoning apart; its
      equal beginning is withheld, and it goes on from there. Where it differs, the error: expect
      that without temperature 0 or a seed.
    - a function of the partial text: the stream that it gives goes on from there, as
      `lambda partial: model.stream(request.continuing(partial))` does. The end of the partial text
      that it begins with is removed, if it is all of that text, has 12 characters, or 3 from the
      beginning of a word on, and begins with a letter or digit.

    The last two are refused, so that it is the error, after a tool call, JSON or `End`, and after
    a merge: put this before it. There is nothing for a function to go on from while reasoning is
    all that was said.

    - Completion, error: passed on. The error has the text that was passed on in `partial`.
    - Restart: passed on; what came before it counts no longer as passed on. Attempts are not given
      back. In a continuation what was said before it is then told again, as one chunk.
    - Disposal: the attempt, or the wait for the next one, ends at once.
    - Demand: passes through. A restart holds the `Start` of the new answer, a replay withholds
      what was passed on already; a continuation holds its beginning while that may repeat the
      partial text: at most as much text as that has. The text passed on is kept, for the error.

    Args:
        attempts: how often the source is subscribed to in all, 1 or more.
        initial: seconds before the second attempt, 0 or more.
        factor: how much longer each wait is than the one before, 1 or more.
        max_delay: seconds that a wait lasts at most, 0 or more.
        jitter: True, False, or a function from the computed delay to the one to wait, in seconds:
            `random.Random(7).random().__mul__`, say, to have it repeatable.
        when: classifies an error, in place of `rxllm.classify_error`; only `"retry"` is
            asked again.
        after_output: what to do once content has been passed on.

    Raises:
        ValueError: a number is out of its range, or `after_output` is none of these.
        TypeError: a number is none, or `jitter` or `when` can't be called.

    >>> from rxllm.models.scripted import ScriptedModel
    >>> from rxllm.testing import Marbles
    >>> model = ScriptedModel([ConnectionResetError()], ["Hello"])
    >>> stream = model.stream("Hi").pipe(retry_with_backoff(initial=1, jitter=False))
    >>> for time, event in Marbles().run(stream):
    ...     print(time, getattr(event, "kind", "") or getattr(event, "text", type(event).__name__))
    0.0 Start
    0.0 retry
    1.0 Start
    1.0 Hello
    1.0 Usage
    1.0 End
    1.0 _Completed
    """
    check_attempts(attempts)
    policy = policy_of(when)
    check_after_output(after_output)
    backoff = Backoff(initial, factor, max_delay, jitter)

    def operator(source: Observable[Chunk]) -> Stream[Chunk]:
        plan = retry_plan(source, attempts, backoff, policy, "retry")
        return attempts_of("retry_with_backoff", source, plan, after_output)

    return operator


def retry_plan(
    source: Observable[Chunk], attempts: int, backoff: Backoff, when: Policy, kind: NoticeKind
) -> Callable[[], Plan]:
    """Makes plans that ask `source` again, `attempts` times in all."""

    def plan_of() -> Plan:
        failures = 0

        def plan(error: Exception) -> Attempt | Exception:
            nonlocal failures
            failures += 1
            if failures >= attempts or when(error) != "retry":
                return error
            delay = backoff.delay_after(error, failures)
            if delay is None:
                return error
            notice = Notice(kind, attempt=failures + 1, delay=delay, error=ErrorInfo.of(error))
            return Attempt(source, notice, delay)

        return plan

    return plan_of
