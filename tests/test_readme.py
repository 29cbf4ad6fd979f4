"""The READMEs are correct: their programs run, their commands exist, their links resolve."""

from __future__ import annotations

import functools
import re
import shlex
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.readme_sections import SECTIONS, Section
from tests.redis.server import RedisServer

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    page
    for folder in ("rxllm", "operators", "tests", "examples")
    for page in (ROOT / folder).rglob("README.md")
)
PAGES += [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "rxllm/server/SCALING.md"]
TEXTS = {str(page.relative_to(ROOT)): page.read_text(encoding="utf-8") for page in PAGES}
LANGUAGES = {"python", "console", "text", "jsx", "js", "caddy", "nginx", "yaml", "sh", "toml"}

BLOCKS = [
    (page, language, block)
    for page, text in TEXTS.items()
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
]
PROGRAMS = [
    pytest.param(block, id=f"{page}-{number}")
    for number, (page, language, block) in enumerate(BLOCKS)
    if language == "python"
]
COMMANDS = sorted(
    {
        line.removeprefix("$ ")
        for _, language, block in BLOCKS
        if language == "console"
        for line in block.splitlines()
        if line.startswith("$ ")
    }
)
LINKS = [
    (page, link)
    for page, text in TEXTS.items()
    for link in re.findall(
        r"\]\(([^):]+)\)",
        re.sub(r"^```.*?^```$|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL),
    )
]


def test_every_block_has_a_known_language() -> None:
    assert {language for _, language, _ in BLOCKS} <= LANGUAGES
    assert PROGRAMS
    assert COMMANDS
    assert LINKS


def test_the_readme_is_short() -> None:
    assert len(TEXTS["README.md"].splitlines()) <= 200


RUNNER = """
import ast, asyncio, inspect, sys
code = compile(sys.argv[1], "README", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
if code.co_flags & inspect.CO_COROUTINE:
    asyncio.run(eval(code))
else:
    exec(code, {"__name__": "__main__"})
"""
"""Runs a program as Python does or, with top-level `await`, as a notebook does."""


@functools.cache
def output_of(program: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUNNER, program],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("programs")


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_run(program: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each says something, but for the handlers of other frameworks, which wait for requests."""
    with RedisServer(folder) if "REDIS_URL" in program else nullcontext() as redis:
        if redis is not None:
            monkeypatch.setenv("REDIS_URL", redis.url)
        output = output_of(program, folder)
    assert output or "return StreamingResponse(" in program or "Flask" in program


def test_the_first_program_prints_the_output_shown(folder: Path) -> None:
    """Except for the last line, which contains the speed and goes to standard error."""
    program, shown = [
        block
        for page, language, block in BLOCKS
        if page == "README.md" and language in {"python", "text"}
    ][:2]
    assert output_of(program, folder).split() == shown[: shown.rindex("\n", 0, -1)].split()


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_run(command: str, tmp_path: Path) -> None:
    program, *arguments = shlex.split(command)
    match program:
        case "make":
            targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert arguments[0] in targets
            return
        case ".venv/bin/python" | "python":
            words = [word for word in arguments if not word.startswith("-")]
            module = Path(words[0].replace(".", "/"))
            assert any(
                (ROOT / path).exists() for path in (words[0], module, module.with_suffix(".py"))
            )
            return
        case "pip":
            assert arguments[0] == "install"
            return
    assert program == "rxllm"
    if arguments[0] in {"chat", "serve"}:  # they wait for a user
        arguments.append("--help")
    done = subprocess.run(
        [sys.executable, "-m", "rxllm", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.name)
def test_generated_sections_are_up_to_date(section: Section) -> None:
    assert section.split()[1] == section.make(), "run `make readme`"


def test_contributing_lists_the_core_modules_and_the_folders() -> None:
    tree = TEXTS["CONTRIBUTING.md"].split("```text\n")[1].split("```")[0]
    core = {path.name for path in (ROOT / "rxllm").glob("*.py") if not path.name.startswith("_")}
    assert set(re.findall(r"\w+\.py", tree)) == core
    folders = {f"{path.parent.name}/" for path in (ROOT / "rxllm").glob("*/__init__.py")}
    assert folders <= set(re.findall(r"\w+/", tree))


def test_contributing_names_the_shapes_of_operators() -> None:
    shapes = re.findall(r"^  \| `([\w/]+)\.(\w+)`", TEXTS["CONTRIBUTING.md"], re.MULTILINE)
    assert shapes
    for module, name in shapes:
        text = (ROOT / "operators" / f"{module}.py").read_text(encoding="utf-8")
        assert re.search(rf"^(def|class) {name}\b", text, re.MULTILINE)


@pytest.mark.parametrize(("page", "link"), LINKS)
def test_links_resolve(page: str, link: str) -> None:
    path, _, anchor = link.partition("#")
    target = (ROOT / page).parent / path if path else ROOT / page
    assert target.exists()
    if anchor:
        headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
        assert anchor in {
            re.sub(r"[^\w -]", "", name.lower()).replace(" ", "-") for name in headings
        }
