"""`WrappedModel`: the base of models that are another one with something around its streams."""

from __future__ import annotations

from typing import Any

from rxllm.requests import Model, ModelInfo, load_all

__all__ = ["WrappedModel"]


class WrappedModel:
    """A model whose attributes are those of another one; a subclass adds `stream`.

    Args:
        model: the other one.
    """

    def __init__(self, model: Model) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)  # a copy has no `_model` yet
        return getattr(self._model, name)

    @property
    def info(self) -> ModelInfo:
        """That of the model."""
        return self._model.info

    async def load(self) -> None:
        """Load the model, if it is a local one.

        Raises:
            ModelLoadError: it can't be loaded.
        """
        await load_all([self._model])
