"""The names in `operators/__init__.py`, generated from those of the families: `make readme`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable

from rxllm import operators as ops


def operator_names() -> str:
    """Return the section: imports for type checkers, the family of each name, and `__all__`."""
    families = {
        module.name: sorted(importlib.import_module(f"rxllm.operators.{module.name}").__all__)
        for module in pkgutil.iter_modules(ops.__path__)
        if module.ispkg
    }
    imports = "".join(
        f"    from rxllm.operators.{family} import (\n{_indented(names, 8)}    )\n"
        for family, names in families.items()
    )
    tuples = "".join(
        f'    "{family}": (\n{_indented(map(_quoted, names), 8)}    ),\n'
        for family, names in families.items()
    )
    public = sorted(name for names in families.values() for name in names)
    return (
        f"if TYPE_CHECKING:\n{imports}\n"
        f"_FAMILIES: Final = {{\n{tuples}}}\n\n"
        f"__all__ = [\n{_indented(map(_quoted, public), 4)}]\n"
    )


def _quoted(name: str) -> str:
    return f'"{name}"'


def _indented(lines: Iterable[str], spaces: int) -> str:
    return "".join(f"{' ' * spaces}{line},\n" for line in lines)
