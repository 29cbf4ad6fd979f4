"""Agents of a server: their models, their tools and their approvals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rxllm.chunks import Chunk
from rxllm.errors import BadRequestError
from rxllm.requests import Model, Request
from rxllm.stream import Stream

__all__ = ["asked_by", "begin_run", "runs_tools"]


def asked_by(model: Model) -> Model:
    """Return the model that an agent asks; any other model is returned itself."""
    while runs_tools(model):
        agent: Any = model  # or a wrapper, which has its attributes
        model = agent.model
    return model


def runs_tools(model: Model | None) -> bool:
    """Return whether a model answers its own calls, so that clients of other APIs don't."""
    return bool(getattr(model, "runs_tools", False))


def begin_run(model: Model, request: Request, approvals: Mapping[str, bool | str]) -> Stream[Chunk]:
    """Return a stream that goes on after calls that have waited for an approval.

    Raises:
        BadRequestError: the model isn't an agent.
    """
    if not runs_tools(model):
        raise BadRequestError(
            f"approvals are for agents: {model.info.id!r} runs no tools", "approvals"
        )
    agent: Any = model
    stream: Stream[Chunk] = agent.stream(request, approvals=approvals)
    return stream
