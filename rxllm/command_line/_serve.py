"""`rxllm serve`: run the server, with its limits and settings."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, TypeVar

import click
import msgspec

import rxllm
from rxllm.command_line._arguments import model_table_option
from rxllm.command_line._outcomes import failure, play, say
from rxllm.errors import RxLLMError

if TYPE_CHECKING:
    from rxllm.server.logs import LogFormat

__all__ = ["serve"]

_Numbers = TypeVar("_Numbers", bound=msgspec.Struct)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="Port to listen on; 0 picks a free one and prints it.",
)
@click.option("--model", "-m", "names", multiple=True, help="Model to serve; repeatable.")
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
    default="info",
    show_default=True,
    help="Lowest level of the log. Streams that have failed are warnings, others info.",
)
@click.option(
    "--log-format",
    type=click.Choice(["auto", "text", "json"]),
    default="auto",
    show_default=True,
    help="Form of the log; auto is text in a terminal, and otherwise JSON.",
)
@click.option("--log-prompts", is_flag=True, help="Write the prompts into the log.")
@model_table_option
def serve(
    host: str,
    port: int,
    names: Sequence[str],
    api_key: str | None,
    cors: Sequence[str],
    hosts: Sequence[str],
    proxies: Sequence[str],
    limits: Sequence[str],
    settings: Sequence[str],
    isolate: bool | None,
    preload: bool,
    log_level: str,
    log_format: LogFormat,
    log_prompts: bool,
) -> None:
    """Serve streams over HTTP and WebSocket, with a page to try them.

    Serves the bundled model if no --model is given; the first --model is the default. On SIGTERM or
    Ctrl-C, active streams may finish.
    """
    from rxllm.server import Limits
    from rxllm.server.app import create_app
    from rxllm.server.logs import new_logger
    from rxllm.server.runner import is_loopback
    from rxllm.server.runner import serve as serve_app

    given_limits = _numbers("--limit", limits, Limits)
    given_settings = _numbers(
        "--setting", settings, rxllm.Settings, remote_streams=given_limits.streams
    )
    try:
        app = create_app(
            names or None,
            api_key=api_key,
            cors=cors,
            hosts=hosts,
            proxies=proxies,
            limits=given_limits,
            settings=given_settings,
            isolate=isolate,
            preload=preload,
            logger=new_logger(log_level, log_format),
            log_prompts=log_prompts,
        )
    except RxLLMError as error:
        raise failure(error) from error
    if api_key is None and not is_loopback(host):
        say(f"anyone who can reach {host} can use this server: set --api-key to require a key")
    play(serve_app(app, host, port, say=lambda line: say(line, err=False)))


def _numbers(
    option: str, given: Sequence[str], kind: type[_Numbers], **defaults: float
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
            numbers[name] = known[name](value)
        except ValueError:
            what = "an integer" if known[name] is int else "a number"
            raise click.UsageError(f"{option}: {name} must be {what}, got {value!r}") from None
    try:
        return kind(**(defaults | numbers))
    except ValueError as error:
        raise click.UsageError(f"{option}: {error}") from None
