"""`operators/` on disk is `rxllm.operators` in the checkout and in the installed package."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections import Counter
from pathlib import Path

import pytest

import rxllm

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
TINY = {"tiny.gguf", "model.onnx", "tokenizer.json", "tokenizer_config.json", "config.json"}
IGNORED = (".git", ".venv", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis")


def packages_on_disk() -> set[str]:
    trees = {"rxllm": ROOT / "rxllm", "rxllm.operators": ROOT / "operators"}
    return {
        ".".join((name, *file.parent.relative_to(tree).parts))
        for name, tree in trees.items()
        for file in tree.rglob("__init__.py")
        if not (name == "rxllm" and "operators" in file.relative_to(tree).parts)
    }


def test_the_list_of_packages_matches_the_disk() -> None:
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == packages_on_disk()


def test_the_link_in_the_checkout_points_to_the_operators() -> None:
    assert (ROOT / "rxllm" / "operators").resolve() == ROOT / "operators"


def test_importing_operators_by_another_name_fails() -> None:
    done = subprocess.run(  # our own program
        [sys.executable, "-c", "import operators"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "import rxllm.operators, not operators" in done.stderr


def test_every_example_and_every_module_parses_on_the_oldest_python() -> None:
    """The parser of a newer Python doesn't catch everything, so CI also runs the oldest one."""
    major, minor = PROJECT["project"]["requires-python"].removeprefix(">=").split(".")

    def parses(text: str) -> bool:
        try:
            ast.parse(text, feature_version=(int(major), int(minor)))
        except SyntaxError:
            return False
        return True

    assert parses("match x:\n    case 1: pass")
    assert not parses("type X = int")
    for tree in ("rxllm", "operators", "examples"):
        files = list((ROOT / tree).rglob("*.py"))
        assert files
        assert [file for file in files if not parses(file.read_text(encoding="utf-8"))] == []


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """A wheel built through the sdist, from a copy of the checkout."""
    copy = tmp_path_factory.mktemp("build") / "rxllm"
    shutil.copytree(ROOT, copy, symlinks=True, ignore=shutil.ignore_patterns(*IGNORED))
    subprocess.run(  # our own project
        [sys.executable, "-m", "build", "--no-isolation", str(copy)],
        check=True,
        capture_output=True,
    )
    return zipfile.ZipFile(next((copy / "dist").glob("*.whl")))


@pytest.mark.slow
def test_the_wheel_contains_each_module_once(wheel: zipfile.ZipFile) -> None:
    held = Counter(name for name in wheel.namelist() if name.endswith(".py"))
    assert set(held.values()) == {1}
    on_disk = {
        f"{package.replace('.', '/')}/{file.name}"
        for package in packages_on_disk()
        for file in (ROOT / package.replace(".", "/")).glob("*.py")
    }
    assert set(held) == on_disk
    assert any(name.startswith("rxllm/operators/buffering/") for name in held)


@pytest.mark.slow
def test_the_wheel_contains_the_bundled_model_the_table_of_models_and_the_type_marker(
    wheel: zipfile.ZipFile,
) -> None:
    held = set(wheel.namelist())
    assert {f"rxllm/models/tiny/{name}" for name in TINY} <= held
    assert "rxllm/py.typed" in held
    assert "rxllm/models/models.toml" in held


@pytest.mark.slow
def test_the_sdist_contains_the_readmes_and_their_images(wheel: zipfile.ZipFile) -> None:
    (sdist,) = Path(wheel.filename or "").parent.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    readmes = {
        str(file.relative_to(ROOT))
        for folder in ("rxllm", "operators", "tests", "examples")
        for file in (ROOT / folder).rglob("README.md")
    }
    assert readmes | {"README.md", "rxllm/server/screenshot.png"} <= held


def test_no_module_imports_private_modules_of_other_packages() -> None:
    """A module whose name begins with an underscore is private to its package."""
    root = Path(rxllm.__file__).parent
    folders = {"rxllm": root, "rxllm.operators": root.parent / "operators"}
    wrong = []
    for name, folder in folders.items():
        for path in folder.rglob("*.py"):
            inside = path.relative_to(folder).parent.parts
            if name == "rxllm" and inside[:1] == ("operators",):
                continue
            package = ".".join((name, *inside))
            for module, private in re.findall(
                r"from (rxllm(?:\.\w+)*)\.(_[a-z]\w*) import", path.read_text()
            ):
                if package != module and not package.startswith(f"{module}."):
                    wrong.append(f"{path}: {module}.{private}")
    assert not wrong
