"""The configuration file of `rxllm serve`, in TOML."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from rxllm.errors import BadRequestError
from rxllm.model_table import ModelFacts, ModelTable, Price
from rxllm.models.registry import model as model_by_name
from rxllm.requests import Model, Strategy
from rxllm.router.router import Router
from rxllm.server.agent_config import AgentConfig
from rxllm.server.keys import Key
from rxllm.server.limits import Limits
from rxllm.server.persona import Persona, RoomSettings
from rxllm.settings import Settings

__all__ = [
    "Config",
    "ModelConfig",
    "RouterConfig",
    "ServerConfig",
    "StoreConfig",
    "read_config",
]


class _Section(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    pass


class StoreConfig(_Section):
    """The Redis whose streams several servers share, and arguments of `RedisStreams`."""

    url: str
    name: str = "streams"
    lease: float = 3.0
    flush: float = 0.05


class ServerConfig(_Section):
    """Where and how the server runs; the options of the command line come first."""

    host: str = "127.0.0.1"
    port: int = 8080
    default_model: str | None = None
    names: list[str] = []
    cors: list[str] = []
    trusted_proxies: list[str] = []
    isolate: bool | None = None
    preload: bool = False
    reuse_port: bool = False
    store: str | StoreConfig | None = None
    take_over: bool = True
    public_url: str | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "text", "json"] = "auto"
    log_prompts: bool = False


class ModelConfig(_Section):
    """A model: its name for `rxllm.model`, and the options."""

    model: str
    api_key_env: str | None = None
    base_url: str | None = None
    connect_timeout: float | None = None
    headers: dict[str, str] | None = None
    wire: str | None = None
    api_version: str | None = None
    strict: bool | None = None
    context_length: int | None = None
    slots: int | None = None
    threads: int | None = None
    isolate: bool | None = None

    def make(self, isolate: bool | None) -> Model:
        """Return the model; local ones run in a process of their own if `isolate` says so.

        Raises:
            BadRequestError: the name or an option is invalid.
        """
        options = {
            name: value
            for name in self.__struct_fields__
            if name not in ("model", "api_key_env") and (value := getattr(self, name)) is not None
        }
        if self.api_key_env is not None:
            key = os.environ.get(self.api_key_env)
            if not key:
                raise BadRequestError(f"the environment variable {self.api_key_env} is not set")
            options["api_key"] = key
        if isolate is not None and self.isolate is None:
            options["isolate"] = isolate
        return model_by_name(self.model, **options)


class RouterConfig(_Section):
    """A router over models of this file, or names for `rxllm.model`; prices in USD per million."""

    models: list[str]
    strategy: Strategy = "balanced"
    prices: dict[str, Price] | None = None
    settings: Settings | None = None
    apology: str | None = None

    def make(self, known: dict[str, Model]) -> Router:
        """Return the router.

        Raises:
            BadRequestError: a model is unknown, or there is none.
        """
        options: dict[str, Any] = {}
        if self.settings is not None:
            options["settings"] = self.settings
        if self.prices is not None:
            facts = {name: ModelFacts(price=price) for name, price in self.prices.items()}
            options["prices"] = ModelTable(models=facts)
        members = [known.get(name) or model_by_name(name) for name in self.models]
        return Router(members, self.strategy, apology=self.apology, **options)


class Config(_Section):
    """All of the file."""

    server: ServerConfig = msgspec.field(default_factory=ServerConfig)
    models: dict[str, ModelConfig | str] = {}
    routers: dict[str, RouterConfig] = {}
    limits: Limits = msgspec.field(default_factory=Limits)
    settings: dict[str, Any] = {}
    chat: Persona = msgspec.field(default_factory=Persona)
    rooms: RoomSettings = msgspec.field(default_factory=RoomSettings)
    agents: list[AgentConfig] = []
    keys: list[Key] = []


def read_config(path: Path) -> Config:
    """Read a configuration file.

    Raises:
        BadRequestError: it can't be read, or something in it is invalid, with the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it isn't UTF-8"
        raise BadRequestError(f"{path} can't be read: {reason}") from None
    try:
        config = msgspec.toml.decode(text, type=Config)
    except msgspec.ValidationError as error:
        raise BadRequestError(_located(path, text, str(error))) from None
    except msgspec.DecodeError as error:
        raise BadRequestError(f"{path}: invalid TOML: {error}") from None
    try:
        msgspec.convert(config.settings, Settings)
    except msgspec.ValidationError as error:
        raise BadRequestError(_located(path, text, str(error), "settings")) from None
    return config


_AT: Final = re.compile(r"^(.*) - at `(?:key in )?\$\.?(.*)`$", re.DOTALL)
_UNKNOWN: Final = re.compile(r"(?:unknown|missing required) field `(\w+)`|^(\w+) must be ")


def _located(path: Path, text: str, message: str, *section: str) -> str:
    """Return the message with the line and the name of the field that it is about."""
    found = _AT.match(message)
    what, where = (found[1], found[2]) if found is not None else (message, "")
    parts = re.split(r"[.\[\]]+", where.replace("[...]", ".*"))
    names = [*section, *[part for part in parts if part]]
    if (unknown := _UNKNOWN.search(what)) is not None:
        names.append(unknown[1] or unknown[2])
    line = _line_of(text, names)
    at = f":{line}" if line else ""
    field = ".".join(names)
    return f"{path}{at}: {f'{field}: ' if field else ''}{what[:1].lower()}{what[1:]}"


def _line_of(text: str, names: list[str]) -> int | None:
    """Return the line, from 1, of the field with this path, or of the table that it is in."""
    table: list[str] = []
    counts: dict[str, int] = {}
    best: tuple[int, int | None] = (0, None)
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*(\[\[?)\s*([^\]]+?)\s*\]", line)
        if header is not None:
            table = _keys(header[2])
            if header[1] == "[[":
                index = counts[header[2]] = counts.get(header[2], -1) + 1
                table.append(str(index))
            path = table
        else:
            given = re.match(r"\s*([\w.\"'-]+)\s*=", line)
            path = [*table, *_keys(given[1])] if given is not None else []
        length = 0
        for ours, theirs in zip(path, names, strict=False):
            if theirs not in ("*", ours):
                length = 0
                break
            length += 1
        if length == len(path) and length > best[0]:
            best = length, number
    return best[1]


def _keys(dotted: str) -> list[str]:
    return [key.strip().strip("\"'") for key in re.findall(r"\"[^\"]*\"|'[^']*'|[^.]+", dotted)]
