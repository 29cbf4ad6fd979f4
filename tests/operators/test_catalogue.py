"""The catalogue: one name for each operator, and one way to import it."""

import importlib
import importlib.util
import pkgutil
from pathlib import Path

import pytest

from rxllm import operators as ops


def test_these_are_the_operators() -> None:
    assert ops.__all__ == sorted(ops.__all__)
    assert set(ops.__all__) == {
        "Control",
        "Intervals",
        "Measurement",
        "Price",
        "Prices",
        "batch",
        "cost",
        "measure",
        "pausable",
        "progress",
        "read_prices",
        "stop_on",
        "text",
    }


def test_every_family_is_in_the_catalogue() -> None:
    for family in pkgutil.iter_modules(ops.__path__):
        if family.ispkg:
            module = importlib.import_module(f"rxllm.operators.{family.name}")
            for name in module.__all__:
                assert getattr(ops, name) is getattr(module, name)


def test_under_another_name_it_is_refused() -> None:
    path = Path(ops.__path__[0]) / "__init__.py"
    spec = importlib.util.spec_from_file_location("operators", path)
    assert spec is not None
    assert spec.loader is not None
    with pytest.raises(ImportError, match=r"import rxllm\.operators, not operators"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
