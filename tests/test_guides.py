"""The page that maps the guides: each of its blocks runs, and is as short as it says."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[1] / "examples" / "guides.md"
TEXT = PAGE.read_text(encoding="utf-8")
PREAMBLE, *BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
SECTIONS = re.split(r"^### ", TEXT, flags=re.MULTILINE)[1:]


def run(program: str, namespace: dict[str, Any]) -> None:
    """Run a program as a notebook does, with top-level `await`."""
    code = compile(program, str(PAGE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if code.co_flags & inspect.CO_COROUTINE:
        asyncio.run(eval(code, namespace))  # noqa: S307 - a program of this repository
    else:
        exec(code, namespace)  # noqa: S102


@pytest.mark.parametrize("block", BLOCKS, ids=[block.splitlines()[0][:60] for block in BLOCKS])
def test_each_block_runs_in_at_most_three_lines(
    block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(block.splitlines()) <= 3
    assert max(map(len, block.splitlines())) <= 100
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    run(PREAMBLE, namespace)
    run(block, namespace)


def test_each_section_has_a_program_a_block_or_a_page() -> None:
    assert len(SECTIONS) >= 75
    for section in SECTIONS:
        links = re.findall(r"\]\(([^)]+)\)", section)
        assert "```python" in section or links or "`rxllm serve`" in section, section
        for link in links:
            assert (PAGE.parent / link).exists(), link
