"""Local models write no files and look up no names, nor do the libraries below them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RECORDER = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

static void record(const char *what, const char *name) {
    FILE *file = fopen(getenv("RECORD"), "a");
    fprintf(file, "%s %s\n", what, name ? name : "?");
    fclose(file);
}

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **found) {
    record("looked up", node);
    return EAI_NONAME;
}

struct hostent *gethostbyname(const char *name) {
    record("looked up", name);
    return NULL;
}

int connect(int fd, const struct sockaddr *address, socklen_t length) {
    if (address->sa_family == AF_INET || address->sa_family == AF_INET6)
        record("connected to", "a host");
    return -1;
}
"""


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that stands before the functions of the network, and records their calls."""
    compiler = shutil.which("cc")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("needs Linux and a C compiler")
    folder = tmp_path_factory.mktemp("recorder")
    (folder / "recorder.c").write_text(RECORDER)
    library = folder / "recorder.so"
    done = subprocess.run([compiler, "-shared", "-fPIC", "-o", library, folder / "recorder.c"])
    assert done.returncode == 0
    return library


def run(program: list[str], recorder: Path, home: Path) -> list[str]:
    """Run a program in a new home; return what it looked up and the files that it left there."""
    record = home.with_suffix(".record")
    record.touch()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
    kept.pop("ORT_DISABLE_TELEMETRY", None)
    paths = {"HOME": str(home), "RECORD": str(record), "LD_PRELOAD": str(recorder)}
    home.mkdir()
    done = subprocess.run(
        [sys.executable, *program],
        env={**kept, **paths},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    files = [str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()]
    return record.read_text().splitlines() + files


@pytest.mark.parametrize("name", ["tiny", "tiny/llama"])
def test_a_first_run_leaves_no_trace(name: str, recorder: Path, tmp_path: Path) -> None:
    if name == "tiny/llama":
        pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    program = f"import sys; sys.argv = ['rxllm', 'run', '--model', {name!r}, 'Hello!']\n"
    program += "from rxllm.command_line import main; main()"
    assert run(["-c", program], recorder, tmp_path / "home") == []


def test_what_is_recorded(recorder: Path, tmp_path: Path) -> None:
    program = "import pathlib, socket; (pathlib.Path.home() / 'a').touch()\n"
    program += "try: socket.getaddrinfo('a.example', 80)\nexcept OSError: pass"
    assert run(["-c", program], recorder, tmp_path / "home") == ["looked up a.example", "a"]
