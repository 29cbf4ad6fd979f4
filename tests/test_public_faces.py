"""The public modules: each `__all__` lists exactly the names that its module binds."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import rxllm
import rxllm.agents
import rxllm.models
import rxllm.redis

USER = Path(__file__).parent / "typing" / "public_api.py"
FACES = [
    rxllm,
    rxllm.agents,
    rxllm.errors,
    rxllm.models,
    rxllm.operators,
    rxllm.redis,
    rxllm.server,
    rxllm.sinks,
    rxllm.testing,
    rxllm.web,
]
each_face = pytest.mark.parametrize("face", FACES, ids=lambda face: face.__name__)
each_lazy_face = pytest.mark.parametrize(
    "face",
    [rxllm, rxllm.models, rxllm.operators, rxllm.server, rxllm.sinks, rxllm.web],
    ids=lambda face: face.__name__,
)


def bound(face: ModuleType) -> set[str]:
    """Return the public names that type checkers see in a module, defined or imported from us."""
    return {
        name
        for node in statements(ast.parse(inspect.getsource(face)).body)
        for name in names_of(node)
        if not name.startswith("_") and name != "lazy_names"
    }


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from node.body
        else:
            yield node


def names_of(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rxllm"):
        return [alias.asname or alias.name for alias in node.names]
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


@each_face
def test_all_lists_what_the_module_binds(face: ModuleType) -> None:
    assert face.__all__ == sorted(bound(face))


@each_face
def test_each_name_exists(face: ModuleType) -> None:
    assert [name for name in face.__all__ if not hasattr(face, name)] == []


@pytest.mark.parametrize("face", [face for face in FACES if face is not rxllm.errors])
def test_type_checkers_check_each_name(face: ModuleType) -> None:
    """Every name appears in the user's file that `.ci/run` passes to mypy and pyright."""
    tree = ast.parse(USER.read_text(encoding="utf-8"))
    imported = {
        alias.asname or alias.name: f"rxllm.{alias.name}"
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module == "rxllm"
        for alias in node.names
    }
    used: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name):
            first, *rest = ast.unparse(node).split(".")
            used.add(".".join((imported.get(first, first), *rest)))
    assert [name for name in face.__all__ if f"{face.__name__}.{name}" not in used] == []


@each_lazy_face
def test_a_name_that_does_not_exist_is_an_attribute_error(face: ModuleType) -> None:
    with pytest.raises(AttributeError, match=f"module '{face.__name__}' has no attribute 'Roter'"):
        face.Roter  # noqa: B018
    assert "Roter" not in dir(face)
    assert dir(face) == face.__all__


@pytest.mark.parametrize(
    "name",
    [
        "errors.RateLimitError",
        "models.scripted.ScriptedModel",
        "operators.words",
        "server.create_app",
        "sinks.sse",
        "testing.Marbles",
    ],
)
def test_packages_are_available_after_import_rxllm(name: str) -> None:
    subprocess.run([sys.executable, "-c", f"import rxllm; rxllm.{name}"], check=True)
