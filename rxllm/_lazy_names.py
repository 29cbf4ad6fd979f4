"""Names of a package that are imported when they are asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["lazy_names"]


def lazy_names(package: str, module_of: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of `package` (PEP 562), for names that are in its modules.

    Args:
        package: its `__name__`.
        module_of: the module that each name is in: within the package, or by its whole path.

    >>> find = lazy_names("rxllm", {"Router": "router"})
    >>> find("Router")
    <class 'rxllm.router.router.Router'>
    """

    def find(name: str) -> Any:
        module = module_of.get(name)
        if module is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        path = module if module.startswith("rxllm.") else f"{package}.{module}"
        value = getattr(import_module(path), name)
        setattr(sys.modules[package], name, value)
        return value

    return find
