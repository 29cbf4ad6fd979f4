"""The effects of `conftest.py` on the whole run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

INTERRUPTED = """
import signal, subprocess, sys

import pytest


def test_the_process():
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_its_child():
    program = "import signal, sys; sys.exit(signal.getsignal(signal.SIGINT) == signal.SIG_IGN)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
"""
SKIPPED = """
import pytest


def test_one():
    pass


def test_two():
    pytest.skip("no compiler")
"""

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run pytest on one test file next to a copy of our `conftest.py`."""

    def run(tests: str, **options: object) -> subprocess.CompletedProcess[str]:
        shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path)
        (tmp_path / "test_it.py").write_text(tests)
        return subprocess.run(  # type: ignore[call-overload, no-any-return]
            [sys.executable, "-m", "pytest", "-q", "-rs", "-c", os.devnull, str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
            **options,
        )

    return run


@pytest.mark.parametrize(("required", "code"), [("", 0), ("1", 1)])
def test_a_skip_fails_the_run_only_if_everything_is_required(
    run: Run, required: str, code: int
) -> None:
    done = run(SKIPPED, env={**os.environ, "RXLLM_REQUIRE": required})
    assert done.returncode == code, done.stdout
    assert "no compiler" in done.stdout


def test_ctrl_c_works_in_a_run_started_in_the_background(run: Run) -> None:
    """Such a run starts with SIGINT ignored, and its children would inherit that."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        done = run(INTERRUPTED)
    finally:
        signal.signal(signal.SIGINT, before)
    assert done.returncode == 0, done.stdout
