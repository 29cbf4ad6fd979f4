"""The arguments of functions that take a model, or the path of a journal."""

from __future__ import annotations

import os
from pathlib import Path

from rxllm.models.registry import model as registered_model
from rxllm.requests import Model

__all__ = ["check_path", "model_of"]


def model_of(model: Model | str) -> Model:
    """Return `model`, or the model with this name.

    Raises:
        TypeError: it is not a model.
        BadRequestError: no model has this name.
    """
    if isinstance(model, str):
        return registered_model(model)
    if isinstance(model, type) or not callable(getattr(model, "stream", None)):
        raise TypeError(f"model must be a model, such as rxllm.model('tiny'), got {model!r}")
    return model


def check_path(path: str | os.PathLike[str]) -> Path:
    """Return the path of a journal.

    Raises:
        TypeError: it is not a path.
    """
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        raise TypeError(f"path must be the path of a journal, such as 'run.jsonl', got {path!r}")
    return Path(path).expanduser()
