"""`file`: the text of a stream in a file."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
import reactivex
from reactivex import Observable

from rxllm import Batch, Chunk, Notice, RxLLMError, Token, run
from rxllm.errors import RestartedStreamError
from rxllm.sinks import file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answer.txt"


def write(path: Path, *chunks: Chunk, append: bool = False) -> str:
    run(file(reactivex.of(*chunks), path, append=append))
    return content(path)


def content(path: Path) -> str:
    return path.read_text("utf-8")


def open_files() -> list[Path]:
    descriptors = [entry for entry in Path("/proc/self/fd").iterdir() if entry.exists()]
    return [entry.resolve() for entry in descriptors]


def test_the_text_is_written_unchanged(path: Path) -> None:
    batch = Batch((Token(" 世"), Token("界")), " 世界")
    assert write(path, Token("naïve 🤖\r\n"), batch) == "naïve 🤖\n 世界"
    assert path.read_bytes().startswith("naïve 🤖\r\n".encode())


def test_the_result_is_returned(path: Path) -> None:
    assert run(file(reactivex.of(Token("a")), path)).text == "a"


def test_a_file_is_overwritten_unless_appended_to(path: Path) -> None:
    write(path, Token("first"))
    assert write(path, Token("second")) == "second"
    assert write(path, Token(" third"), append=True) == "second third"


async def test_the_text_so_far_can_be_read_while_the_stream_runs(path: Path, source: Any) -> None:
    task = asyncio.create_task(file(source.stream(Token("so far"), waits=True), path))
    await source.emitted_all.wait()
    assert content(path) == "so far"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert content(path) == "so far"


async def test_an_error_keeps_the_text_so_far_and_closes_the_file(path: Path, source: Any) -> None:
    with pytest.raises(RxLLMError):
        await file(source.stream(Token("so far"), RxLLMError("lost")), path)
    assert content(path) == "so far"
    assert path not in open_files()


async def test_with_a_file_that_cannot_be_opened_no_model_is_asked(
    tmp_path: Path, source: Any
) -> None:
    with pytest.raises(FileNotFoundError):
        await file(source.stream(Token("a")), tmp_path / "missing" / "answer.txt")
    assert source.subscriptions == 0


async def test_a_full_disk_is_an_error_that_stops_the_source(source: Any) -> None:
    with pytest.raises(OSError, match="No space left"):
        await file(source.stream(Token("a"), waits=True), "/dev/full")
    assert source.cleaned_up == 1


def test_a_restart_truncates_the_file(path: Path) -> None:
    write(path, Token("kept. "))
    chunks = (Token("wrong, and long"), Notice("restart"), Token("right"))
    assert write(path, *chunks, append=True) == "kept. right"
    assert write(path, *chunks) == "right"


def test_a_restart_of_one_source_keeps_the_text_of_the_others(path: Path) -> None:
    a, b = Token("a", source="a"), Token("b", source="b")
    assert write(path, a, b, a, Notice("restart", source="a"), b, a) == "bba"


def test_a_restart_with_a_pipe_is_an_error() -> None:
    reader, writer = os.pipe()
    try:
        stream: Observable[Chunk] = reactivex.of(Token("a"), Notice("restart"))
        with pytest.raises(RestartedStreamError, match="can't be taken back"):
            run(file(stream, f"/dev/fd/{writer}"))
    finally:
        os.close(reader)
        os.close(writer)


def test_half_a_character_at_the_border_of_a_chunk_becomes_a_question_mark(path: Path) -> None:
    assert write(path, Token("a\ud83d"), Token("b")) == "a?b"


def test_a_non_path_is_rejected_at_the_call() -> None:
    with pytest.raises(TypeError):
        run(file(reactivex.of(Token("a")), 3))  # type: ignore[arg-type]


def test_an_unavailable_model_destroys_nothing(path: Path) -> None:
    path.write_text("kept", "utf-8")
    with pytest.raises(RxLLMError):
        run(file(reactivex.throw(RxLLMError("no such model")), path))
    assert content(path) == "kept"
    assert write(path) == "", "an empty answer is an answer"


def test_a_device_can_be_written_to() -> None:
    run(file(reactivex.of(Token("x")), os.devnull))
