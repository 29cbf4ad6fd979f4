"""`log_stream`: structured log lines with dotted event names."""

from typing import Any

import pytest
import reactivex as rx
import structlog
from structlog.testing import capture_logs

from rxllm import operators as ops
from rxllm.chunks import (
    Batch,
    Chunk,
    End,
    ErrorInfo,
    Notice,
    Reasoning,
    Start,
    Token,
    ToolCall,
    ToolResult,
    Usage,
)
from rxllm.testing import Marbles


def lines(diagram: str, *, leave_at: float | None = None, **options: Any) -> list[dict[str, Any]]:
    marbles = Marbles()
    stream = marbles.cold(
        diagram, lookup=options.pop("lookup", None), error=options.pop("err", None)
    )
    with capture_logs() as captured:
        recording = marbles.subscribe(stream.pipe(ops.log_stream(**options)))
        marbles.advance_to(leave_at or 50)
        recording.dispose()
    return [dict(line) for line in captured]


def test_a_stream_from_its_start_to_its_end() -> None:
    got = lines("S--a-b-U-E|", lookup={"U": Usage(3, 2, cost=0.5)})
    assert [line["event"] for line in got] == [
        "stream.start",
        "stream.first_token",
        "stream.usage",
        "stream.end",
        "stream.completed",
    ]
    assert got[0]["model"] == "model"
    assert got[0]["request"] == "request-1"
    assert got[1]["seconds"] == 3.0
    assert (got[2]["output_tokens"], got[2]["cost"]) == (2, 0.5)
    assert got[3]["finish_reason"] == "stop"
    assert (got[4]["chunks"], got[4]["characters"], got[4]["seconds"]) == (2, 2, 10.0)


def test_a_failure_is_logged_as_an_error_with_its_class() -> None:
    last = lines("ab-#", err=ValueError("broken"))[-1]
    assert (last["event"], last["log_level"]) == ("stream.failed", "error")
    assert (last["error"], last["message"], last["characters"]) == ("ValueError", "broken", 2)


def test_a_disposal_is_logged_once() -> None:
    got = lines("a-b-c|", leave_at=2.5)
    assert [line["event"] for line in got] == ["stream.first_token", "stream.cancelled"]


def test_each_notice_is_logged_as_a_warning_under_its_kind() -> None:
    retry = Notice("retry", attempt=2, delay=1.5, error=ErrorInfo("ServerError", "down"))
    got = lines("r-abc-R-d|", lookup={"r": retry})
    assert got[0] == {
        "event": "stream.retry",
        "log_level": "warning",
        "attempt": 2,
        "delay": 1.5,
        "error": "ServerError",
        "message": "down",
    }
    assert got[2]["event"] == "stream.restart"
    assert got[-1]["characters"] == 1


def test_no_text_is_logged() -> None:
    lookup = {"r": Reasoning("secret"), "t": ToolCall("1", "tool", '"secret"')}
    got = lines("secret-r-t-E|", lookup=lookup, chunks=True)
    assert "secret" not in repr(got)
    assert [line["type"] for line in got if line["event"] == "stream.chunk"] == [
        "Token",
        "Reasoning",
        "ToolCall",
    ]


def test_a_batch_counts_its_chunks() -> None:
    batch = Batch((Token("a"), Token("b")), "ab")
    assert lines("B|", lookup={"B": batch})[-1]["chunks"] == 2


def test_in_a_merge_a_restart_of_one_source_keeps_the_counts_of_others(
    marbles: Marbles,
) -> None:
    left = marbles.cold("ab-cd-R-e-|", source="left")
    right = marbles.cold("xyz-|", source="right")
    with capture_logs() as captured:
        marbles.run(rx.merge(left, right).pipe(ops.log_stream()), until=99)
    assert (captured[-1]["chunks"], captured[-1]["characters"]) == (2, 4)
    assert [line.get("source") for line in captured] == ["left", "left", None]


def test_never_and_empty() -> None:
    assert [line["event"] for line in lines("")] == ["stream.cancelled"]
    assert [line["event"] for line in lines("|")] == ["stream.completed"]


def test_subscriptions_are_independent(marbles: Marbles) -> None:
    stream = marbles.cold("ab-c-|").pipe(ops.log_stream())
    with capture_logs() as captured:
        marbles.subscribe(stream)
        marbles.advance_to(3)
        marbles.subscribe(stream)
        marbles.advance_to(99)
    last = [line for line in captured if line["event"] == "stream.completed"]
    assert [(line["chunks"], line["characters"], line["seconds"]) for line in last] == [
        (2, 3, 5.0),
        (2, 3, 5.0),
    ]


def test_disposal_and_demand(marbles: Marbles) -> None:
    marbles.valve.close()
    source = marbles.cold("a-b", demand=True)
    recording = marbles.subscribe(source.pipe(ops.log_stream()))
    marbles.advance_to(9)
    recording.dispose()
    assert (recording.events, source.subscriptions, marbles.timers) == ([], [(0.0, 9.0)], [])


def test_a_chunk_is_logged_with_its_source(marbles: Marbles) -> None:
    source = marbles.cold("a|", source="left")
    with capture_logs() as captured:
        marbles.run(source.pipe(ops.log_stream(chunks=True)))
    assert captured[1] == {
        "event": "stream.chunk",
        "log_level": "debug",
        "source": "left",
        "type": "Token",
        "characters": 1,
    }


def test_fields_and_source_are_bound_to_the_lines() -> None:
    got = lines("x|", lookup={"x": Start("1", "m", source="left")}, user="ada")
    assert (got[0]["user"], got[0]["source"], got[1]["user"]) == ("ada", "left", "ada")


def test_everything_is_passed_on(marbles: Marbles) -> None:
    assert marbles.run(marbles.cold("S-a-R-b-E|").pipe(ops.log_stream())) == marbles.expect(
        "S-a-R-b-E|"
    )


class Broken:
    """A logger that fails."""

    def bind(self, **_: object) -> "Broken":
        return self

    def info(self, *_: object, **__: object) -> None:
        raise OSError("disk full")

    error = warning = debug = info


def test_a_logger_that_raises_fails_the_stream(marbles: Marbles) -> None:
    source = marbles.cold("S-a|")
    events = marbles.run(source.pipe(ops.log_stream(Broken())))
    assert [repr(event) for _, event in events] == ["OSError('disk full')"]
    assert source.subscriptions == [(0.0, 0.0)]


def test_a_logger_that_raises_at_an_error_adds_a_note(marbles: Marbles) -> None:
    error = ValueError("broken")
    assert marbles.run(marbles.cold("#", error=error).pipe(ops.log_stream(Broken())))[0][1] is error
    assert "disk full" in error.__notes__[0]


def test_an_invalid_logger_raises_at_the_call() -> None:
    with pytest.raises(TypeError, match="wrap_logger"):
        ops.log_stream(object())
    with pytest.raises(TypeError, match="wrap_logger"):
        ops.log_stream(structlog.BoundLogger)


RUN: dict[str, Chunk] = {
    "c": ToolCall("1", "look", '"secret"', complete=True),
    "M": End("tool_calls", more=True),
    "i": ToolResult("1", "look", "secret", preliminary=True),
    "r": ToolResult("1", "look", "secret"),
    "f": ToolResult("1", "look", error=ErrorInfo("ToolError", "secret")),
}


def test_a_run_has_lines_for_its_answers_and_the_results_of_its_tools() -> None:
    got = lines("S-a-c-M-i-r-S-b-E|", lookup=RUN)
    assert [line["event"].removeprefix("stream.") for line in got] == [
        *("start", "first_token", "end"),
        *("tool", "start", "end", "completed"),
    ]
    assert got[3] == {
        "event": "stream.tool",
        "log_level": "info",
        "name": "look",
        "call": "1",
        "seconds": 4.0,
    }
    assert (got[-1]["steps"], got[-1]["tool_calls"], got[-1]["characters"]) == (2, 1, 2)
    assert "secret" not in repr(got)


def test_a_failing_tool_is_logged_with_the_class_of_its_error() -> None:
    got = lines("S-c-M-f-S-b-E|", lookup=RUN)
    (line,) = [line for line in got if line["event"] == "stream.tool"]
    assert (line["error"], line["log_level"]) == ("ToolError", "warning")
    assert "secret" not in repr(got)


def test_a_tool_inside_another_is_logged_with_its_source() -> None:
    inside: dict[str, Chunk] = {
        **RUN,
        "d": ToolCall("2", "dig", "{}", complete=True, source="1"),
        "m": End("tool_calls", more=True, source="1"),
        "q": ToolResult("2", "dig", 1, source="1"),
    }
    got = lines("S-c-M-d-m-q-r-S-b-E|", lookup=inside)
    tools = [(line["name"], line.get("source")) for line in got if line["event"] == "stream.tool"]
    assert tools == [("dig", "1"), ("look", None)]
    assert (got[-1]["steps"], got[-1]["tool_calls"]) == (2, 1)


def test_a_restart_keeps_the_counts_of_earlier_answers() -> None:
    got = lines("S-abc-c-M-r-S-de-R-S-f-E|", lookup={**RUN, "f": Token("f")})
    assert (got[-1]["characters"], got[-1]["steps"]) == (4, 2)


def test_a_stream_that_is_no_run_has_no_steps() -> None:
    assert "steps" not in lines("S-a-c-E|", lookup=RUN)[-1]
