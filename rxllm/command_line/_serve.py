"""`rxllm serve`: run the server, with its limits and settings."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

import rxllm
from rxllm.command_line._arguments import model_table_option
from rxllm.command_line._outcomes import failure, play, say
from rxllm.errors import BadRequestError, RxLLMError

if TYPE_CHECKING:
    from rxllm import operators as ops
    from rxllm.server.config import StoreConfig
    from rxllm.server.limits import Limits
    from rxllm.server.logs import LogFormat
    from rxllm.web.stream_store import StreamStore

__all__ = ["serve"]

_Numbers = TypeVar("_Numbers", bound=msgspec.Struct)


@click.command()
@click.option(
    "--config",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="TOML file with models, routers, limits, settings and keys; options here come first.",
)
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Port to listen on; 0 picks a free one and prints it.  [default: 8080]",
)
@click.option(
    "--reuse-port", is_flag=True, help="Share the port with other processes, which must do so, too."
)
@click.option(
    "--store",
    metavar="URL",
    help="Redis through which several servers share streams, such as redis://127.0.0.1:6379/0.",
)
@click.option(
    "--take-over/--no-take-over",
    default=None,
    help="Continue the streams of servers that have died.  [default: take-over]",
)
@click.option(
    "--public-url",
    metavar="URL",
    help="URL of this server among those that share a store.  [default: where it listens]",
)
@click.option("--model", "-m", "names", multiple=True, help="Model to serve; repeatable.")
@click.option(
    "--router",
    "routers",
    multiple=True,
    metavar="NAME=MODEL,MODEL",
    help="Router over several models, best first; repeatable.",
)
@click.option(
    "--api-key",
    envvar="RXLLM_API_KEY",
    help="Key that clients must send; defaults to RXLLM_API_KEY.",
)
@click.option("--cors", multiple=True, metavar="ORIGIN", help="Allowed origin; repeatable.")
@click.option(
    "--name",
    "hosts",
    multiple=True,
    help="Host name of the server; repeatable. Rejects other names, except loopback.",
)
@click.option(
    "--trusted-proxy",
    "proxies",
    multiple=True,
    metavar="ADDRESS",
    help="Address or network of a reverse proxy whose X-Forwarded headers count; repeatable.",
)
@click.option(
    "--limit",
    "limits",
    multiple=True,
    metavar="NAME=VALUE",
    help="Limit for clients, such as streams=50 (rxllm.server.Limits); repeatable.",
)
@click.option(
    "--setting",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="Setting for models, such as local_streams=4 (rxllm.Settings); repeatable.",
)
@click.option(
    "--isolate/--no-isolate",
    default=None,
    help="Run local models in processes of their own; by default all but the bundled one.",
)
@click.option(
    "--preload", is_flag=True, help="Load local models before the server accepts requests."
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="Lowest level of the log: failed streams are warnings, others info.  [default: info]",
)
@click.option(
    "--log-format",
    type=click.Choice(["auto", "text", "json"]),
    help="Form of the log; auto is text in a terminal, else JSON.  [default: auto]",
)
@click.option("--log-prompts", is_flag=True, help="Write the prompts into the log.")
@model_table_option
def serve(
    path: Path | None,
    host: str | None,
    port: int | None,
    reuse_port: bool,
    store: str | None,
    take_over: bool | None,
    public_url: str | None,
    names: Sequence[str],
    routers: Sequence[str],
    api_key: str | None,
    cors: Sequence[str],
    hosts: Sequence[str],
    proxies: Sequence[str],
    limits: Sequence[str],
    settings: Sequence[str],
    isolate: bool | None,
    preload: bool,
    log_level: str | None,
    log_format: LogFormat | None,
    log_prompts: bool,
) -> None:
    """Serve streams over HTTP and WebSocket, with a page to try them.

    Serves the bundled model if no --model is given; the first --model is the default. On SIGTERM or
    Ctrl-C, active streams may finish.
    """
    from rxllm.server.app import create_app, default_settings
    from rxllm.server.config import Config, read_config
    from rxllm.server.limits import Limits
    from rxllm.server.logs import new_logger
    from rxllm.server.runner import is_loopback
    from rxllm.server.runner import serve as serve_app
    from rxllm.server.served_models import served_models

    try:
        config = Config() if path is None else read_config(path)
        if config.agents and "" not in sys.path:
            sys.path.insert(0, "")  # their tools may be modules of the current directory
        server = config.server
        given_limits = _numbers("--limit", limits, Limits, msgspec.structs.asdict(config.limits))
        first = {**default_settings(given_limits), **config.settings}
        given_settings = _numbers("--setting", settings, rxllm.Settings, first)
        isolate = server.isolate if isolate is None else isolate
        app = create_app(
            served_models(config, names, _routers(routers), isolate, given_settings.connect),
            server.default_model if not names else None,
            api_key=api_key,
            keys=config.keys,
            cors=[*server.cors, *cors],
            hosts=[*server.names, *hosts],
            proxies=[*server.trusted_proxies, *proxies],
            limits=given_limits,
            settings=given_settings,
            chat=config.chat,
            rooms=config.rooms,
            isolate=isolate,
            preload=preload or server.preload,
            logger=new_logger(log_level or server.log_level, log_format or server.log_format),
            log_prompts=log_prompts or server.log_prompts,
            store=_store(server.store, store, given_settings.buffer_size),
            take_over=server.take_over if take_over is None else take_over,
            address=server.public_url if public_url is None else public_url,
        )
    except RxLLMError as error:
        raise failure(error) from error
    host = server.host if host is None else host
    port = server.port if port is None else port
    if api_key is None and not config.keys and not is_loopback(host):
        say(f"anyone who can reach {host} can use this server: set --api-key to require a key")
    play(
        serve_app(
            app,
            host,
            port,
            reuse_port=reuse_port or server.reuse_port,
            say=lambda line: say(line, err=False),
        )
    )


def _store(
    configured: str | StoreConfig | None, url: str | None, buffer_size: int
) -> Callable[[ops.StreamRegistry, Limits], StreamStore] | None:
    """Return what makes the store of the streams; `None` for one in memory."""
    from rxllm.server.config import StoreConfig
    from rxllm.server.limits import Limits

    given = StoreConfig(url=configured) if isinstance(configured, str) else configured
    if url is not None:
        given = StoreConfig(url=url) if given is None else msgspec.structs.replace(given, url=url)
    if given is None:
        return None
    try:
        from rxllm.redis import RedisStreams

        store = partial(
            RedisStreams,
            given.url,
            buffer_size=buffer_size,
            name=given.name,
            lease=given.lease,
            flush=given.flush,
        )
        store(rxllm.operators.StreamRegistry(), Limits())  # raises what is wrong, before the start
    except (ImportError, ValueError) as error:
        raise BadRequestError(f"the store: {error}") from error
    return store


def _routers(given: Sequence[str]) -> dict[str, list[str]]:
    """Parse NAME=MODEL,MODEL options."""
    routers: dict[str, list[str]] = {}
    for text in given:
        name, equals, models = text.partition("=")
        members = [each.strip() for each in models.split(",") if each.strip()]
        if not (equals and name.strip() and members):
            raise click.UsageError(f"--router must be NAME=MODEL,MODEL, got {text!r}")
        routers[name.strip()] = members
    return routers


def _numbers(
    option: str, given: Sequence[str], kind: type[_Numbers], defaults: Mapping[str, Any]
) -> _Numbers:
    """Parse NAME=VALUE options into a `Limits` or `Settings`; each name may be given once."""
    known = {field.name: field.type for field in msgspec.structs.fields(kind)}
    numbers: dict[str, float] = {}
    for text in given:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals:
            raise click.UsageError(f"{option} must be NAME=VALUE, got {text!r}")
        if name not in known:
            close = get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]}?" if close else f"choose from {', '.join(known)}"
            raise click.UsageError(f"{option} has no {name!r}: {hint}")
        if name in numbers:
            raise click.UsageError(f"{option} {name} is given twice")
        try:
            numbers[name] = float(value) if known[name] is float else int(value)
        except ValueError:
            what = "a number" if known[name] is float else "an integer"
            raise click.UsageError(f"{option}: {name} must be {what}, got {value!r}") from None
    try:
        return kind(**{**defaults, **numbers})
    except ValueError as error:
        raise click.UsageError(f"{option}: {error}") from None
