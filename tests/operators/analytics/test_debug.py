"""`debug`: the last 1000 entries of a stream, filtering, export."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import reactivex as rx

from rxllm import operators as ops
from rxllm.chunks import Batch, Chunk, End, Json, Notice, Start, Token, ToolCall
from rxllm.operators import DebugEntry, DebugLog, DebugSummary
from rxllm.operators.analytics._watcher import Watcher
from rxllm.testing import Marbles


def logged(diagram: str, log: DebugLog | None = None, **options: Any) -> DebugLog:
    log, marbles = DebugLog() if log is None else log, Marbles()
    marbles.run(marbles.cold(diagram, **options).pipe(ops.debug(log)), until=3000)
    return log


def test_everything_is_logged_with_its_time_and_passed_on(marbles: Marbles) -> None:
    log = DebugLog()
    assert marbles.run(marbles.cold("S-a-E|").pipe(ops.debug(log))) == marbles.expect("S-a-E|")
    assert [(entry.elapsed, entry.event, entry.chunk) for entry in log] == [
        (0.0, "subscribed", None),
        (0.0, "chunk", Start("request-1", "model")),
        (2.0, "chunk", Token("a")),
        (4.0, "chunk", End("stop")),
        (5.0, "completed", None),
    ]


def test_a_failure_and_a_restart_are_logged() -> None:
    log = logged("a-R-#", error=ValueError("broken"))
    assert [entry.event for entry in log][-1] == "failed"
    assert list(log)[2].chunk == Notice("restart")
    error = list(log)[-1].error
    assert error is not None
    assert (error.type, error.message) == ("ValueError", "broken")


def test_a_disposal_is_logged(marbles: Marbles) -> None:
    log, source = DebugLog(), marbles.cold("a-b-c|")
    recording = marbles.subscribe(source.pipe(ops.debug(log)))
    marbles.advance_to(1)
    recording.dispose()
    assert [entry.event for entry in log] == ["subscribed", "chunk", "cancelled"]
    assert (source.subscriptions, marbles.timers) == ([(0.0, 1.0)], [])


def test_never_and_empty() -> None:
    assert [entry.event for entry in logged("")] == ["subscribed"]
    assert [entry.event for entry in logged("|")] == ["subscribed", "completed"]


def test_the_last_1000_entries_are_kept_and_numbering_continues() -> None:
    log = logged("".join(f"({number},)" for number in range(9)) + "|", DebugLog(size=3))
    assert len(log) == 3
    assert [entry.number for entry in log] == [9, 10, 11]
    assert [entry.number for entry in logged("a-" * 1100)] == list(range(102, 1102))


def test_entries_can_be_selected() -> None:
    log, marbles = DebugLog(), Marbles()
    left, right = marbles.cold("a-b|", source="left"), marbles.cold("-x-E|", source="right")
    marbles.run(rx.merge(left, right).pipe(ops.debug(log)))
    texts = [getattr(entry.chunk, "text", None) for entry in log.select(kind=Token)]
    assert texts == ["a", "x", "b"]
    assert [entry.number for entry in log.select(source="right")] == [3, 5]
    assert [entry.event for entry in log.select(event="completed")] == ["completed"]
    assert [entry.number for entry in log.select(after=2, last=2)] == [5, 6]
    assert log.select(subscription=2) == []


def test_several_subscriptions_share_a_log() -> None:
    log = logged("b|", logged("a|"))
    assert [entry.subscription for entry in log] == [1, 1, 1, 2, 2, 2]
    log.clear()
    assert len(log) == 0
    assert next(iter(logged("c|", log))).number == 7


def test_entries_are_exported_as_lines_of_json() -> None:
    lines = logged("S-a-#").export().splitlines()
    entries = [msgspec.json.decode(line, type=DebugEntry) for line in lines]
    assert [entry.event for entry in entries] == ["subscribed", "chunk", "chunk", "failed"]
    assert entries[2].chunk == Token("a")
    assert b'"event":"subscribed"' in lines[0]


def test_values_that_json_cannot_express_do_not_break_the_export() -> None:
    lookup = {"j": Json({"at": object()}), "s": Token("half \ud800"), "n": Json({"\udc00": 1j})}
    lines = logged("a-j-s-n|", lookup=lookup).export().splitlines()
    chunks = [msgspec.json.decode(line).get("chunk", {}) for line in lines]
    assert chunks[1]["text"] == "a"
    assert chunks[2]["value"]["at"].startswith("<object object")
    assert chunks[3] == {"type": "token", "text": "half ?"}
    assert chunks[4]["value"] == {"?": "1j"}


class Full(DebugLog):
    """A log that fails after its first entry."""

    def watcher(self, clock: Callable[[], float], stream_id: str | None = None) -> Watcher:
        writer = super().watcher(clock, stream_id)
        setattr(writer, "chunk", self.refuse)  # noqa: B010 - a method, to the type checker
        return writer

    def refuse(self, _: Chunk) -> None:
        raise MemoryError("full")


def test_a_log_that_raises_fails_the_stream(marbles: Marbles) -> None:
    log, source = Full(), marbles.cold("-a-b|")
    events = marbles.run(source.pipe(ops.debug(log)))
    assert [(time, repr(event)) for time, event in events] == [(1.0, "MemoryError('full')")]
    assert [entry.event for entry in log] == ["subscribed", "failed"]
    assert source.subscriptions == [(0.0, 1.0)]


def test_demand_passes_through(marbles: Marbles) -> None:
    marbles.valve.close()
    stream = marbles.cold("a-b", demand=True).pipe(ops.debug(DebugLog()))
    assert marbles.run(stream, until=9) == []


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"event": "fail"}, "event must be one of subscribed, chunk"),
        ({"kind": "Token"}, "kind must be a chunk class"),
        ({"last": -1}, "last must be"),
        ({"last": 2.5}, "last must be"),
        ({"after": -1}, "after must be"),
    ],
)
def test_invalid_criteria_raise(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        DebugLog().select(**wrong)


@pytest.mark.parametrize("size", [0, True, 1.5, float("nan")])
def test_invalid_arguments_raise_at_the_call(size: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="size"):
        DebugLog(size)
    with pytest.raises(TypeError, match="DebugLog"):
        ops.debug([])  # type: ignore[arg-type]


def test_entries_can_be_selected_by_their_text() -> None:
    said = Token('He said "hi"\n')
    call = ToolCall("1", "find", '{"text": "hi"}', complete=True)
    log = logged("S-a-b-t-#", lookup={"b": said, "t": call}, error=ValueError("no such luck"))
    assert [entry.chunk for entry in log.select(text='"hi"')] == [said, call]
    assert [entry.chunk for entry in log.select(text='hi"\n')] == [said]
    assert [entry.event for entry in log.select(text="such luck")] == ["failed"]
    batch = logged("B|", lookup={"B": Batch((Token("x"),), "x")})
    assert batch.select(text="token") == []
    value = logged("j|", lookup={"j": Json({"type": "token"}, complete=True)})
    assert len(value.select(text="token")) == 1
    for not_said in ("nothing", "chunk", "token", "elapsed"):
        assert log.select(text=not_said) == []


def test_entries_can_be_selected_by_the_id_of_their_stream(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log, marbles = DebugLog(echo=True), Marbles()
    marbles.run(marbles.cold("a|").pipe(ops.debug(log, "first")))
    marbles.run(marbles.cold("b|").pipe(ops.debug(log)))
    assert [entry.chunk for entry in log.select(stream_id="first", kind=Token)] == [Token("a")]
    assert log.select(stream_id="second") == []
    assert b'"streamId":"first"' in log.export()
    assert capsys.readouterr().err.startswith("   0.000 #1 first subscribed")
    with pytest.raises(TypeError, match="stream_id must be a string or None, got 5"):
        ops.debug(log, 5)  # type: ignore[arg-type]


def test_the_summary_counts_events_and_chunks() -> None:
    log = logged("S-a-b-E|")
    logged("a#", log, error=ValueError())
    assert log.summary() == DebugSummary(
        entries=9,
        subscriptions=2,
        completed=1,
        failed=1,
        cancelled=0,
        chunks={"Start": 1, "Token": 3, "End": 1},
    )


def test_entries_are_echoed_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    logged("S-a-#", DebugLog(echo=True), error=ValueError("broken"), lookup={"a": Token("\ud800")})
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert lines[0] == "   0.000 #1 subscribed"
    assert lines[2].startswith("   2.000 #1 chunk Token(text=")
    assert lines[3].endswith("failed ErrorInfo(type='ValueError', message='broken')")


def test_entries_are_echoed_to_a_function() -> None:
    seen: list[DebugEntry] = []
    log = logged("a|", DebugLog(echo=seen.append))
    assert seen == list(log)
    with pytest.raises(TypeError, match="echo must be a bool or a function"):
        DebugLog(echo="stderr")  # type: ignore[arg-type]


def test_a_log_can_be_switched_off_and_on(marbles: Marbles) -> None:
    log = DebugLog(enabled=False)
    stream = marbles.cold("a|").pipe(ops.debug(log))
    assert marbles.run(stream) == marbles.expect("a|")
    assert len(log) == 0
    log.enabled = True
    marbles.run(stream)
    assert len(log) == 3


@pytest.mark.parametrize(
    ("value", "enabled"),
    [(None, True), ("1", True), ("", True), ("0", False), ("False", False), ("off", False)],
)
def test_the_environment_switches_logs_off(
    value: str | None, enabled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if value is None:
        monkeypatch.delenv("RXLLM_DEBUG", raising=False)
    else:
        monkeypatch.setenv("RXLLM_DEBUG", value)
    assert DebugLog().enabled is enabled
    assert DebugLog(enabled=True).enabled
