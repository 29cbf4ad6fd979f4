"""The file: its lines, several writers, crashes, and what can go wrong when it is written."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from reactivex import operators as rxo

import rxllm
from rxllm.chunks import Json, Start, Token, text_of
from rxllm.errors import (
    BadRequestError,
    MalformedStreamError,
    ModelLoadError,
    StreamError,
    TruncatedStreamError,
    UnsupportedError,
)
from rxllm.models.scripted import ScriptedModel
from rxllm.testing import COMPLETED, Marbles, no_leaks, run_virtual
from rxllm.valve import StreamScheduler


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal that doesn't exist yet."""
    return tmp_path / "run.jsonl"


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def record(path: Path, *scripts: Any, prompt: str = "Hi") -> None:
    model = rxllm.recorded(ScriptedModel(*scripts), path)
    for _ in scripts:
        Marbles().run(model.stream(prompt))


def played(path: Path, prompt: str = "Hi", **options: Any) -> list[Any]:
    return [event for _, event in Marbles().run(rxllm.replay(path, **options).stream(prompt))]


def text_in(events: list[Any]) -> str:
    return "".join(map(text_of, events))


def test_each_stream_is_a_request_its_chunks_and_its_end(path: Path) -> None:
    model = ScriptedModel(["a", 2.0, "b"], delay=0.5, name="fake")
    Marbles().run(rxllm.recorded(model, path).stream("Hi", temperature=0, stop="x"))
    first, *chunks, last = lines_of(path)
    assert [line["n"] for line in lines_of(path)] == [0, 1, 2, 3, 4, 5, 6]
    assert {(line["v"], line["stream"]) for line in lines_of(path)} == {(1, first["stream"])}
    assert first["begun"]["model"]["id"] == "fake"
    assert first["begun"]["time"] > 1e9
    assert first["begun"]["request"] == {
        "messages": [{"role": "user", "content": "Hi"}],
        "temperature": 0.0,
        "stop": ["x"],
    }
    assert chunks[1]["chunk"] == {"type": "token", "text": "a"}
    assert [line["seconds"] for line in chunks] == [0.0, 0.5, 3.0, 3.0, 3.0]
    assert (last["ended"], last["seconds"]) == ({"outcome": "completed"}, 3.0)


def test_nothing_is_written_before_the_subscription(path: Path) -> None:
    rxllm.recorded(ScriptedModel("Hi"), path).stream("Hi")
    assert not path.exists()


def test_a_new_journal_is_readable_by_its_owner_only(path: Path) -> None:
    record(path, "a")
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_chunk_is_in_the_file_before_its_subscriber_gets_it(path: Path) -> None:
    counts: list[int] = []
    stream = rxllm.recorded(ScriptedModel("a b c", by="word"), path).stream("Hi")
    Marbles().run(stream.pipe(rxo.do_action(lambda _: counts.append(len(lines_of(path))))))
    assert counts == [2, 3, 4, 5, 6, 7]


def test_concurrent_streams_interleave_and_are_told_apart(path: Path) -> None:
    marbles, model = (
        Marbles(),
        rxllm.recorded(ScriptedModel("a b", "c d", by="word", delay=1), path),
    )
    for _ in range(2):
        marbles.subscribe(model.stream("Hi"))
    marbles.advance_to(9)
    streams = [line["stream"] for line in lines_of(path)]
    assert streams != sorted(streams, key=streams.index)
    replay = rxllm.replay(path)
    texts = [text_in([event for _, event in Marbles().run(replay.stream("Hi"))]) for _ in range(2)]
    assert texts == ["a b", "c d"]


WRITER = """
import sys, rxllm
from rxllm.models.scripted import ScriptedModel
name, path = sys.argv[1:]
text = " ".join([name * 50] * 200)
rxllm.run(rxllm.recorded(ScriptedModel(text, by="word"), path).stream(name))
"""


def test_several_processes_append_to_one_journal(path: Path) -> None:
    names = ["a", "b", "c", "d"]
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, name, str(path)]) for name in names]
    assert [writer.wait() for writer in writers] == [0, 0, 0, 0]
    for name in names:
        events = played(path, name)
        assert text_in(events) == " ".join([name * 50] * 200)
        assert events[-1] is COMPLETED


# Crashes.


def test_a_journal_cut_at_any_byte_is_read_up_to_its_last_whole_line(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    record(whole, ["Grüße", Token(" 🦊", state=None), "\u2028!"])
    data = whole.read_bytes()
    chunks = played(whole)
    begun = data.index(b"\n")
    for length in range(len(data)):
        cut.write_bytes(data[:length])
        events = played(cut)
        if length < begun:
            assert isinstance(events[0], UnsupportedError)
            assert "no stream is recorded" in str(events[0])
            continue
        # Only its newline may be missing from a line that is whole.
        count = data[: length + 1].count(b"\n") - 1
        assert events[:-1] == chunks[: min(count, len(chunks) - 1)]
        if count == len(chunks):
            assert events[-1] is COMPLETED
        else:
            assert type(events[-1]) is TruncatedStreamError
            assert "has no end" in str(events[-1])


def test_after_a_crash_further_streams_are_recorded_in_the_same_journal(path: Path) -> None:
    record(path, ["first"])
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        record(path, ["second"], prompt="Again")
        events = played(path, "Again")
        assert (text_in(events), events[-1]) == ("second", COMPLETED)


def test_a_line_that_was_cut_costs_no_stream_but_its_own_and_that_of_the_next_line(
    path: Path,
) -> None:
    """The disk was full for a moment while another process appended to the same journal."""
    record(path, ["first"])
    first = path.read_bytes()
    path.unlink()
    record(path, ["second"], prompt="Second")
    record(path, ["third"], prompt="Third")
    rest = path.read_bytes()
    for length in range(len(first)):
        path.write_bytes(first[:length] + rest)
        assert text_in(played(path, "Third")) == "third"
        is_whole = length == 0 or first[:length].endswith(b"\n")
        assert text_in(played(path, "Second")) == ("second" if is_whole else "")


def test_a_stream_with_a_missing_line_fails_there_and_the_others_are_played(path: Path) -> None:
    record(path, ["a", "b", "c"])
    record(path, ["other"], prompt="Other")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3] + lines[4:]))
    start, token, error = played(path)
    assert (type(start), token) == (Start, Token("a"))
    assert type(error) is MalformedStreamError
    assert str(error) == ("the journal is damaged: line 3 of a stream is missing or can't be read")
    assert text_in(played(path, "Other")) == "other"


def test_a_line_with_an_unknown_chunk_is_named(path: Path) -> None:
    record(path, ["a", "b"])
    path.write_bytes(path.read_bytes().replace(b'{"type":"token","text":"b"}', b'{"type":"new"}'))
    error = played(path)[-1]
    assert type(error) is MalformedStreamError
    assert str(error).startswith(f"the journal is damaged: {path}, line 4 is not a line of a")
    assert "Invalid value 'new'" in str(error)


def test_a_stream_without_its_first_line_has_its_place_in_the_order(path: Path) -> None:
    record(path, ["a"])
    path.write_bytes(path.read_bytes().partition(b"\n")[2])
    record(path, ["b"])
    replay = rxllm.replay(path, match="order")
    first, second = [Marbles().run(replay.stream("Hi")) for _ in range(2)]
    assert type(first[0][1]) is MalformedStreamError
    assert text_in([event for _, event in second]) == "b"
    assert text_in(played(path)) == "b"


# Files that aren't journals.


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"type":"token","text":"Hi"}\n', "line 1 is not a line of a journal"),
        (b'{"v":2,"stream":"s","n":0}\n', "version 2 of the format, and this release reads 1"),
        (b"Dear diary,\ntoday\n", "is not a journal of rxllm.recorded"),
        (b"\x00\xff\n\xfe\n", "is not a journal of rxllm.recorded"),
    ],
)
def test_another_file_is_refused(path: Path, data: bytes, reason: str) -> None:
    path.write_bytes(data)
    (error,) = played(path)
    assert type(error) is ModelLoadError
    assert reason in str(error)


def test_a_missing_journal_is_an_error_of_the_stream(path: Path) -> None:
    (error,) = played(path)
    assert type(error) is ModelLoadError
    assert str(error) == f"the journal {path} can't be read: No such file or directory"


def test_load_reads_the_journal(path: Path) -> None:
    replay = rxllm.replay(path)
    with pytest.raises(ModelLoadError, match="can't be read"):
        rxllm.run(replay.load())
    record(path, "Hello", prompt="Hi")
    rxllm.run(replay.load())
    path.unlink()
    assert rxllm.run(replay.stream("Hi")).text == "Hello"


# Journals that can't be written.


@contextmanager
def no_file_longer_than(size: int) -> Iterator[None]:
    """Writing beyond `size` bytes fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_stops_the_model_and_is_the_error_of_the_stream(path: Path) -> None:
    model = ScriptedModel("x" * 300, by="character", delay=0.1)
    with no_file_longer_than(2_000):
        events = Marbles().run(rxllm.recorded(model, path).stream("Hi"))
    error = events[-1][1]
    assert type(error) is StreamError
    assert not error.retryable
    assert str(error).startswith(f"the journal {path} could not be written: [Errno 27]")
    assert isinstance(error.__cause__, OSError)
    assert (model.active, model.cancelled) == (0, 1)
    received = [event for _, event in events[:-1]]
    assert played(path)[:-1] == received
    record(path, ["later"], prompt="Later")
    assert text_in(played(path, "Later")) == "later"


def test_a_full_disk_at_the_end_turns_completion_into_an_error(path: Path) -> None:
    record(path, ["a"])
    size = path.stat().st_size
    path.unlink()
    with no_file_longer_than(size - 10):
        events = Marbles().run(rxllm.recorded(ScriptedModel(["a"]), path).stream("Hi"))
    assert type(events[-1][1]) is StreamError


def test_a_failure_of_the_model_is_not_hidden_by_a_full_disk(path: Path) -> None:
    failure = ConnectionResetError("cut")
    record(path, [failure])
    size = path.stat().st_size
    path.unlink()
    with no_file_longer_than(size - 10):
        events = Marbles().run(rxllm.recorded(ScriptedModel([failure]), path).stream("Hi"))
    assert events[-1][1] is failure
    assert failure.__notes__[0].startswith(f"the journal {path} could not be written")


def test_a_disposal_that_cannot_be_written_is_reported(path: Path) -> None:
    reported: list[Any] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))
        stream = rxllm.recorded(ScriptedModel(["a", 99.0]), path).stream("Hi")
        async with no_leaks():
            subscription = stream.subscribe(scheduler=StreamScheduler(loop))
            await asyncio.sleep(1)
            with no_file_longer_than(1):
                subscription.dispose()

    run_virtual(main())
    assert [type(error) for error in reported] == [StreamError]


@pytest.mark.parametrize("name", [".", "nowhere/run.jsonl", os.devnull])
def test_a_journal_that_cannot_be_opened_is_an_error_before_the_model_is_asked(
    tmp_path: Path, name: str
) -> None:
    model = ScriptedModel("a")
    ((_, error),) = Marbles().run(rxllm.recorded(model, tmp_path / name).stream("Hi"))
    assert type(error) is StreamError
    assert "could not be written" in str(error)
    assert model.requests == []


def test_a_value_that_is_not_json_is_an_error_of_the_stream(path: Path) -> None:
    model = ScriptedModel([Json(object())])
    events = Marbles().run(rxllm.recorded(model, path).stream("Hi"))
    assert type(events[-1][1]) is StreamError
    assert "object" in str(events[-1][1])
    assert model.cancelled == 1


def test_a_request_that_is_not_json_is_refused_at_the_call(path: Path) -> None:
    with pytest.raises(BadRequestError, match="can't be written as JSON"):
        rxllm.recorded(ScriptedModel("a"), path).stream("Hi", extra={"what": object()})
