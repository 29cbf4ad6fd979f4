"""Sources of streams: models by name, and a fake model that plays a script."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rxllm._lazy_names import lazy_names

if TYPE_CHECKING:
    from rxllm.models import scripted
    from rxllm.models.registry import list_models, model, register
    from rxllm.models.scripted import ScriptedModel

__all__ = ["ScriptedModel", "list_models", "model", "register", "scripted"]

if not TYPE_CHECKING:
    # Loaded on demand, because importing any module of this package imports the package first.
    __getattr__ = lazy_names(
        __name__,
        {
            "ScriptedModel": "scripted",
            "list_models": "registry",
            "model": "registry",
            "register": "registry",
            "scripted": "scripted",
        },
    )


def __dir__() -> list[str]:
    return __all__
