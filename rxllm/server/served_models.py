"""The models that a configuration and the command line name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from rxllm.errors import BadRequestError
from rxllm.models.registry import LOCAL_PROVIDERS
from rxllm.models.remote.providers import PROVIDERS
from rxllm.requests import Model
from rxllm.server.catalogue import models_by_name
from rxllm.server.config import Config, ModelConfig, RouterConfig

__all__ = ["served_models"]


def served_models(
    config: Config,
    names: Sequence[str],
    routers: Mapping[str, Sequence[str]],
    isolate: bool | None,
    connect: float,
) -> dict[str, Model] | None:
    """Return the models by their public names; `None` if there are none, for the bundled one.

    Args:
        config: the configuration file.
        names: names for `rxllm.model`, which come first.
        routers: the members of further routers, by name.
        isolate: whether local models run in processes of their own.
        connect: seconds to connect, of remote models that don't say otherwise.

    Raises:
        BadRequestError: a name or an option is invalid, a name is given twice, or an agent can't be
            made.
    """
    models = dict(models_by_name(names, isolate=isolate, connect=connect)) if names else {}
    for name, given in config.models.items():
        _check_new(name, models)
        if isinstance(given, str):
            models |= {name: models_by_name([given], isolate=isolate, connect=connect)[given]}
        else:
            models[name] = _made(given, isolate, connect)
    known = dict(models)
    further = {name: RouterConfig(models=list(members)) for name, members in routers.items()}
    for name, router in {**config.routers, **further}.items():
        _check_new(name, models)
        models[name] = router.make(known)
    known = dict(models)
    for agent in config.agents:
        _check_new(agent.name, models)
        asked = known.get(agent.model)
        if asked is None:
            asked = models_by_name([agent.model], isolate=isolate, connect=connect)[agent.model]
        models[agent.name] = agent.make(asked)
    return models or None


def _made(given: ModelConfig, isolate: bool | None, connect: float) -> Model:
    provider = given.model.partition("/")[0]
    if provider in PROVIDERS and given.connect_timeout is None:
        given = msgspec.structs.replace(given, connect_timeout=connect)
    if provider not in LOCAL_PROVIDERS:
        return given.make(None)
    return given.make(provider != "tiny" if isolate is None else isolate)


def _check_new(name: str, models: Mapping[str, Model]) -> None:
    if name in models:
        raise BadRequestError(f"there are two models with the name {name!r}")
