"""`retry_with_backoff`: retry the same model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from reactivex import Observable

from rxllm.chunks import Chunk, ErrorInfo, Notice, NoticeKind
from rxllm.errors import ConnectTimeoutError, ErrorAction, classify_error
from rxllm.operators.recovery._annotations import add_note
from rxllm.operators.recovery._backoff import Backoff, Growth, Jitter, check_attempts
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
    growth: Growth = "exponential",
    when: Policy | None = None,
    after_output: AfterOutput = "fail",
) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    """Subscribe to the source again after a transient failure, with a delay before each attempt.

    ::

        S-#               the first attempt
        S-a-(E,|)         the second one
        [ retry_with_backoff(initial=1, jitter=False) ]
        S-n-S-a-(E,|)     n: Notice("retry", attempt=2, delay=1.0, error=...)

    Handles errors classified as `"retry"` (see `rxllm.classify_error`): connections refused, reset
    or cut, 408, 409, 429, 5xx, an empty or unreadable stream; and the first time that connecting
    takes too long. Any other error is passed on, and so is that of the last attempt, with a note
    that says how many there were. The wait is `initial` times `factor` for each failure after the
    first one, at most `max_delay`, with full jitter: a random delay between 0 and that
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/). The wait is never
    shorter than a provider's Retry-After; a Retry-After of more than 120 s fails immediately.

    A notice reports each failure, with the number of the attempt that follows (the first
    attempt is 1) and the wait before it. Once content has been passed on (`Token`, `Reasoning`,
    `ToolCall`, `Json`; empty text doesn't count), `after_output` decides:

    - `"fail"`: the error.
    - `"restart"`: `Notice("restart")`, on which operators and sinks downstream drop the text, then
      the new answer. The notice is sent with the first content of the new answer, or at its end,
      so an attempt that fails before that takes nothing away.
    - `"replay"`: the new answer is compared with what was passed on, text and reasoning separately;
      its equal beginning is withheld, and the rest is passed on. If it differs, the error: expect
      that without temperature 0 or a seed.
    - a function of the partial text: the stream it returns continues the answer, as in
      `lambda partial: model.stream(request.continuing(partial))`. If the continuation starts with
      the end of the partial text, that is removed if it is all of the partial text, or if it starts
      with a letter or digit and has at least 12 characters, or 3 from the start of a word.

    The last two are refused, and the error is passed on, after a tool call, JSON or `End`, and
    after a merge: put this before the merge. A function is also refused while there was only
    reasoning, since there is no text to continue.

    - Completion, error: passed on. The error has the text that was passed on in `partial`.
    - Restart: passed on; earlier chunks no longer count as passed on. Attempts aren't reset. In a
      continuation, the earlier text is then sent again as one chunk.
    - Disposal: the attempt, or the wait for the next one, ends at once.
    - Demand: passes through. A restart holds the `Start` of the new answer; a replay withholds
      what was already passed on; a continuation holds its beginning while that may repeat the
      partial text: at most as much text as that has. The text passed on is kept for the error.

    Args:
        attempts: the maximum number of subscriptions to the source, 1 or more.
        initial: seconds before the second attempt, 0 or more.
        factor: multiplies the wait after each failure, 1 or more; 1 for equal waits.
        max_delay: the longest wait in seconds, 0 or more.
        jitter: `True`, `False`, or a function from the computed delay to the wait, in seconds, such
            as `random.Random(7).random().__mul__` for repeatable waits.
        growth: `"exponential"`, or `"linear"`: `initial` times the number of failures, without
            `factor`.
        when: classifies an error, in place of the rule above; only `"retry"` is retried.
        after_output: what to do once content has been passed on.

    Raises:
        ValueError: a number is out of range, or `after_output` is invalid.
        TypeError: an argument is not a number, or `jitter` or `when` is not callable.

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
    policy_factory = _default_policy if when is None else partial(policy_of, when)
    policy_factory()  # checks the argument
    check_after_output(after_output)
    backoff = Backoff(initial, factor, max_delay, jitter, growth)

    def operator(source: Observable[Chunk]) -> Stream[Chunk]:
        plan = retry_plan(source, attempts, backoff, policy_factory, "retry")
        return attempts_of("retry_with_backoff", source, plan, after_output)

    return operator


def _default_policy() -> Policy:
    has_timed_out = False

    def policy(error: Exception) -> ErrorAction:
        nonlocal has_timed_out
        if isinstance(error, ConnectTimeoutError) and not has_timed_out:
            has_timed_out = True
            return "retry"
        return classify_error(error)

    return policy


def retry_plan(
    source: Observable[Chunk],
    attempts: int,
    backoff: Backoff,
    policy_factory: Callable[[], Policy],
    kind: NoticeKind,
) -> Callable[[], Plan]:
    """A factory of plans that subscribe to `source` again, up to `attempts` attempts in all.

    Each plan has a policy of its own.
    """

    def plan_of() -> Plan:
        failures, when = 0, policy_factory()

        def plan(error: Exception) -> Attempt | Exception:
            nonlocal failures
            failures += 1
            is_retried = failures < attempts and when(error) == "retry"
            delay = backoff.delay_after(error, failures) if is_retried else None
            if delay is None:
                if failures > 1:
                    add_note(error, f"attempt {failures} of {attempts}")
                return error
            notice = Notice(kind, attempt=failures + 1, delay=delay, error=ErrorInfo.of(error))
            return Attempt(source, notice, delay)

        return plan

    return plan_of
