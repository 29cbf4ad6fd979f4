"""The models that a provider offers, or that a server of local models has.

Sources: `GET /models` of https://platform.openai.com/docs/api-reference/models/list,
https://docs.anthropic.com/en/api/models-list and https://ai.google.dev/api/models; `GET /api/tags`
of https://docs.ollama.com/api/tags.
"""

from __future__ import annotations

import json
from typing import Any, Final

from rxllm.errors import MalformedStreamError
from rxllm.model_table import model_table
from rxllm.models.remote.client import Client
from rxllm.models.remote.coercion import as_object, as_objects, as_optional_text
from rxllm.models.remote.provider import Provider
from rxllm.requests import ModelInfo

__all__ = ["info_of", "offered_models"]

_PATHS: Final = {
    "anthropic": "/models?limit=1000",
    "gemini": "/models?pageSize=1000",
    "ollama": "/tags",
}


def info_of(provider: Provider, name: str) -> ModelInfo:
    """Return what the table of models knows about a model; see `Provider.for_model`."""
    facts = model_table().facts_of(f"{provider.name}/{name}")
    return ModelInfo(
        f"{provider.name}/{name}",
        provider.name,
        facts.context_length,
        provider.for_model(facts).capabilities,
        max_output_tokens=facts.max_output_tokens,
    )


async def offered_models(provider: Provider, **options: Any) -> list[ModelInfo]:
    """List the models of a provider, sorted by name.

    Args:
        provider: the provider.
        options: those of `Client`.

    Raises:
        RxLLMError: the request failed, or its response is no list of models.
    """
    path = _PATHS.get(provider.wire, "/models")
    async with Client(provider, **options).request(path) as connection:
        body = await connection.read_all()
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    listed = answer if isinstance(answer, list) else _list_in(as_object(answer))
    if listed is None:
        raise MalformedStreamError(f"{provider.name} sent no list of models")
    found = {_name_of(each) for each in as_objects(listed)}
    return [info_of(provider, name) for name in sorted(name for name in found if name)]


def _list_in(answer: dict[str, Any]) -> Any:
    return next((answer[name] for name in ("data", "models") if name in answer), None)


def _name_of(fields: dict[str, Any]) -> str | None:
    given = fields.get("id") or fields.get("model") or fields.get("name")
    name = as_optional_text(given)
    return None if name is None else name.removeprefix("models/")
