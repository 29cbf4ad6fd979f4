"""Package attributes that are imported on first access."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["lazy_names"]


def lazy_names(package: str, module_of: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a `__getattr__` for `package` (PEP 562) that imports names from its modules.

    Assign it under `if not TYPE_CHECKING:`, and import the names under `if TYPE_CHECKING:`, so
    that type checkers report a name that doesn't exist.

    Args:
        package: the package's `__name__`.
        module_of: the module that defines each name, relative to the package or as a full path. A
            name mapped to itself is the module.

    >>> find = lazy_names("rxllm", {"Router": "router", "testing": "testing"})
    >>> find("Router")
    <class 'rxllm.router.router.Router'>
    >>> find("testing").__name__
    'rxllm.testing'
    """

    def find(name: str) -> Any:
        module = module_of.get(name)
        if module is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        path = module if module.startswith("rxllm.") else f"{package}.{module}"
        imported = import_module(path)
        value = imported if name == module else getattr(imported, name)
        setattr(sys.modules[package], name, value)
        return value

    return find
