"""`resume`: continue after a lost connection, a limited number of times."""

from typing import Any

import pytest

from rxllm import operators as ops
from rxllm.chunks import Notice, text_of
from rxllm.errors import (
    ConnectionFailedError,
    OverloadedError,
    RateLimitError,
    StallTimeoutError,
    TruncatedStreamError,
)
from rxllm.iteration import to_async
from rxllm.models.scripted import ScriptedModel
from rxllm.testing import COMPLETED, Marbles, no_leaks, run_virtual


def resumed(marbles: Marbles, model: ScriptedModel, **options: Any) -> list[tuple[float, Any]]:
    operator = ops.resume(model, "A tale", **{"jitter": False, **options})
    return marbles.run(model.stream("A tale").pipe(operator))


def text(events: list[tuple[float, Any]]) -> str:
    return "".join(text_of(event) for _, event in events)


@pytest.mark.parametrize(
    "error", [ConnectionFailedError("cut"), TruncatedStreamError("cut"), ConnectionResetError()]
)
def test_the_answer_continues_where_it_was_cut_off(marbles: Marbles, error: Exception) -> None:
    model = ScriptedModel(["Once upon", error], [" a time"])
    events = resumed(marbles, model)
    assert (text(events), events[-1]) == ("Once upon a time", (1.0, COMPLETED))
    (notice,) = [event for _, event in events if isinstance(event, Notice)]
    assert (notice.kind, notice.attempt, notice.delay) == ("resume", 2, 1.0)
    assert model.requests[1].messages[-1].text == "Once upon"


def test_a_model_without_prefill_is_asked_to_continue(marbles: Marbles) -> None:
    cut = ConnectionFailedError("cut")
    model = ScriptedModel(["Once upon", cut], ["Once upon a time"], capabilities=["text"])
    assert text(resumed(marbles, model)) == "Once upon a time"
    assert [message.role for message in model.requests[1].messages] == ["user", "assistant", "user"]


CUT_OFF = [
    ("Items:\n- first item", "- first item is red", " is red"),
    ("def f():\n    return x", "    return x + 1", " + 1"),
    ("def f():\n    return x", "return x + 1", " + 1"),
    ("One. Done.\n\n", "One. Done.\nTwo", "Two"),
    ("One. Done.\n\n", "One. Done.\n\nTwo", "Two"),
    ("**Note:** be", "**Note:** be careful", " careful"),
    ("| 1 |", "| 1 | 2 |", " 2 |"),
    ("Hello wor", "Hello world", "ld"),
    ("12", "123", "3"),
    ("明日", "明日は雪", "は雪"),
    ('"', '"Yes"', 'Yes"'),
    ("a", "\na b", " b"),
    ("Once upon", "a time", "a time"),
    ("Once upon", "Once", "Once"),
    (" ".join(["word"] * 40), " ".join(["word"] * 15) + " end", " end"),
]


@pytest.mark.parametrize("pieces", [1, 3, 1000])
@pytest.mark.parametrize(("partial", "said", "added"), CUT_OFF)
def test_the_words_that_a_model_was_asked_to_repeat_are_removed(
    marbles: Marbles, partial: str, said: str, added: str, pieces: int
) -> None:
    answer = [said[at : at + pieces] for at in range(0, len(said), pieces)]
    cut = ConnectionFailedError("cut")
    model = ScriptedModel([partial, cut], answer, capabilities=["text"])
    assert text(resumed(marbles, model)) == partial + added


@pytest.mark.parametrize(("by", "role"), [("prefill", "assistant"), ("prompt", "user")])
def test_how_the_model_is_asked_may_be_given(marbles: Marbles, by: Any, role: str) -> None:
    model = ScriptedModel(["Once upon", ConnectionFailedError("cut")], [" a time"])
    assert text(resumed(marbles, model, by=by)) == "Once upon a time"
    assert model.requests[1].messages[-1].role == role


def test_an_unknown_way_to_continue_is_an_error_at_the_call() -> None:
    with pytest.raises(ValueError, match="by must be 'prefill', 'prompt' or None, got 'magic'"):
        ops.resume(ScriptedModel("a"), "A tale", by="magic")  # type: ignore[arg-type]


def test_attempts_are_limited_even_if_each_makes_progress(marbles: Marbles) -> None:
    model = ScriptedModel(["a ", ConnectionFailedError("cut")])
    events = resumed(marbles, model)
    assert (len(model.requests), events[-1][0]) == (3, 3.0)
    assert isinstance(events[-1][1], ConnectionFailedError)


def test_each_attempt_continues_where_the_last_was_cut_off(marbles: Marbles) -> None:
    cut = ConnectionFailedError("cut")
    model = ScriptedModel(["a", cut], [" b", cut], [cut], [" c"])
    assert text(resumed(marbles, model, attempts=4)) == "a b c"
    assert [request.messages[-1].text for request in model.requests] == [
        "A tale", "a", "a b", "a b",
    ]  # fmt: skip


def test_before_content_the_source_is_retried(marbles: Marbles) -> None:
    model = ScriptedModel([ConnectionFailedError("refused")], ["a"])
    assert text(resumed(marbles, model)) == "a"
    assert model.requests[0] == model.requests[1]


@pytest.mark.parametrize(
    "error", [OverloadedError("busy"), RateLimitError("slow"), StallTimeoutError("late")]
)
def test_other_errors_are_passed_on(marbles: Marbles, error: Exception) -> None:
    model = ScriptedModel(["a", error], ["never asked"])
    assert resumed(marbles, model)[-1][1] is error
    assert len(model.requests) == 1


def test_disposal_cancels_the_wait(marbles: Marbles) -> None:
    model = ScriptedModel(["a", ConnectionFailedError("cut")])
    operator = ops.resume(model, "A tale", jitter=False, initial=50)
    recording = marbles.subscribe(model.stream("A tale").pipe(operator))
    marbles.advance_to(9)
    recording.dispose()
    assert (marbles.timers, len(model.requests)) == ([], 1)


def test_nothing_leaks_on_an_event_loop() -> None:
    cut = ConnectionFailedError("cut")
    model = ScriptedModel(["a", cut], [" b"], delay=1)

    async def main() -> str:
        async with no_leaks():
            stream = model.stream("A tale").pipe(ops.resume(model, "A tale"))
            return "".join([text_of(chunk) async for chunk in to_async(stream)])

    assert run_virtual(main()) == "a b"


def test_bad_arguments_are_refused_at_the_call() -> None:
    model = ScriptedModel("a")
    several: list[dict[str, Any]] = [{"attempts": 0}, {"initial": -1}, {"factor": 0}]
    for bad in [*several, {"max_delay": -1}]:
        with pytest.raises(ValueError, match=next(iter(bad))):
            ops.resume(model, "Hi", **bad)
    with pytest.raises(TypeError, match="attempts"):
        ops.resume(model, "Hi", attempts=2.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="model"):
        ops.resume("tiny", "Hi")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="prompt"):
        ops.resume(model, "")
