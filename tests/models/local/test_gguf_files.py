"""Files of other people: a `ModelLoadError` or an answer, and never a signal."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rxllm.errors import ModelLoadError
from rxllm.models import tiny
from rxllm.models.local.gguf_header import check_gguf

gguf = pytest.importorskip("gguf")


def written(path: Path, kind: str, fill: Callable[[Any], object] = lambda writer: None) -> Path:
    """Write a file without tensors."""
    writer = gguf.GGUFWriter(path, kind)
    fill(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(
    ("kind", "fill", "reason"),
    [
        ("t5", lambda writer: None, "encoder-decoder"),
        ("new", lambda writer: writer.add_decoder_start_token_id(0), "encoder-decoder"),
        ("bert", lambda writer: writer.add_causal_attention(False), "an embedding model"),
        ("qwen3", lambda writer: writer.add_pooling_type(gguf.PoolingType.LAST), "embedding"),
        ("clip", lambda writer: None, "isn't a language model"),
        ("llama", lambda writer: writer.add_token_list([b"a", b"b", b"a"]), "same token twice"),
        ("llama", lambda writer: writer.add_token_list([b"a\0b", b"a"]), "same token twice"),
    ],
)
def test_a_model_that_writes_no_text_is_refused_before_it_is_loaded(
    tmp_path: Path, kind: str, fill: Any, reason: str
) -> None:
    with pytest.raises(ModelLoadError, match=reason):
        check_gguf(written(tmp_path / "model.gguf", kind, fill))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "can't be read|isn't a valid"),
        (b"GGML" + bytes(100), "must start with b'GGUF', got b'GGML'"),
        (b"GGUF" + bytes(100), "version must be 2 or 3, got 0"),
        (b"GGUF\x03\0\0\0" + bytes(8) + b"\xff" * 16, "in the middle of its header"),
        (b"GGUF\x03\0\0\0" + bytes(16), "no general.architecture"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, data: bytes, reason: str) -> None:
    (tmp_path / "model.gguf").write_bytes(data)
    with pytest.raises(ModelLoadError, match=reason):
        check_gguf(tmp_path / "model.gguf")


def test_the_bundled_file_is_fine() -> None:
    check_gguf(tiny.directory / "tiny.gguf")


def test_a_control_token_by_which_answers_are_read_has_a_text(tmp_path: Path) -> None:
    llama = pytest.importorskip("rxllm.models.local.llama")
    data = (tiny.directory / "tiny.gguf").read_bytes().replace(b"<|pad|>", b"<think>")
    (tmp_path / "model.gguf").write_bytes(data)
    vocabulary = llama.load_llama(tmp_path / "model.gguf", slots=1).vocabulary
    assert (vocabulary.piece(0), vocabulary.piece(1)) == (b"<think>", b"")


PROGRAM = """
import os, resource, sys
from pathlib import Path
from rxllm.errors import ModelLoadError
from rxllm.models.local.llama import load_llama
from rxllm.requests import as_request

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

def attempt(path):
    request = as_request("Hi", max_tokens=3)
    try:
        engine = load_llama(path, slots=1, threads=1)
    except (ModelLoadError, UnicodeDecodeError):
        return
    tokens = engine.prompt(request).tokens
    if tokens and len(tokens) < engine.context_length:
        sequence = engine.open(tokens, request, None)
        for _ in range(3):
            engine.step([sequence])

for path in sorted(Path(sys.argv[1]).iterdir()):
    child = os.fork()
    if child == 0:
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 2)
        resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
        try:
            attempt(path)
        except Exception as error:
            print(path.name, repr(error), flush=True)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        print(path.name, "ended by the signal", os.WTERMSIG(status), flush=True)
"""
NUMBERS = (0, 1, 2**31 - 1, 2**32 - 1, 10**6)
BORDERS = (600, 7_000, 30_000, 61_400)
"""Ends of the parts of the header of the bundled file: settings, tokens, merges, tensors."""


def changed(data: bytes, chance: random.Random) -> bytes:
    """A file with one change in its header."""
    at = chance.randrange(4, chance.choice(BORDERS))
    kind = chance.choice(["byte", "number", "end", "cut", "insert", "repeat"])
    if kind == "byte":
        return data[:at] + chance.randbytes(1) + data[at + 1 :]
    if kind == "number":
        return data[:at] + chance.choice(NUMBERS).to_bytes(4, "little") + data[at + 4 :]
    if kind == "end":
        return data[: chance.randrange(4, len(data))]
    if kind == "cut":
        return data[:at] + data[at + chance.randrange(1, 50) :]
    if kind == "insert":
        return data[:at] + chance.randbytes(chance.randrange(1, 50)) + data[at:]
    return data[:at] + data[at : at + 100] + data[at:]


@pytest.mark.skipif(sys.platform != "linux", reason="needs fork")
def test_a_changed_file_is_an_error_or_an_answer(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    data, chance = (tiny.directory / "tiny.gguf").read_bytes(), random.Random(14)
    for number in range(80):
        (tmp_path / f"{number:03}.gguf").write_bytes(changed(data, chance))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path], capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stdout) == (0, "")
