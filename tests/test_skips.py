"""`RXLLM_REQUIRE` makes a skipped test fail the run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(("required", "code"), [("", 0), ("1", 1)])
def test_a_skip_is_a_failure_just_if_all_is_required(
    required: str, code: int, tmp_path: Path
) -> None:
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path)
    (tmp_path / "test_one.py").write_text(
        "import pytest\n\n\ndef test_one():\n    pass\n\n\n"
        "def test_two():\n    pytest.skip('no compiler')\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-c", os.devnull, str(tmp_path)],
        env={**os.environ, "RXLLM_REQUIRE": required},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout
    assert "no compiler" in done.stdout
