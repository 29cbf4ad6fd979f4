"""`rxllm check`: check a server."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

import click
import msgspec

from rxllm.command_line._outcomes import play, say
from rxllm.web.wires import WIRE_NAMES

if TYPE_CHECKING:
    from rxllm.doctor import Checkup, Finding

__all__ = ["check"]

_COLORS: Final = {"ok": "green", "odd": "yellow", "wrong": "red", "unknown": "bright_black"}


@click.command()
@click.argument("url")
@click.option(
    "--wire", type=click.Choice(WIRE_NAMES), help="Wire format to check; by default all it has."
)
@click.option("--model", "-m", help="Model to ask; by default the first that the server lists.")
@click.option("--key-env", metavar="NAME", help="Environment variable with the key to send.")
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=60.0,
    show_default=True,
    help="Seconds for each answer.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def check(
    url: str,
    wire: str | None,
    model: str | None,
    key_env: str | None,
    timeout: float,
    as_json: bool,
) -> None:
    """Check a server: ask for a few short streams, and judge them as clients do.

    URL is any server with one of the wire formats, such as http://127.0.0.1:8080. A finding is ok,
    odd (legal, but trips some clients up), wrong, or unknown (it could not be judged). The exit
    code is 1 if something is wrong.
    """
    from rxllm.doctor import check_server

    checkup = play(
        check_server(url, wire=wire, model=model, api_key=_key(key_env), timeout=timeout)
    )
    if as_json:
        click.echo(msgspec.json.encode(checkup))
    else:
        _show(checkup)
    if not checkup.is_clean:
        raise click.exceptions.Exit(1)


def _key(name: str | None) -> str | None:
    if name is None:
        return None
    key = os.environ.get(name)
    if not key:
        raise click.UsageError(f"the environment variable {name} is not set")
    return key


def _show(checkup: Checkup) -> None:
    asked = "" if checkup.model is None else f", model {checkup.model}"
    say(" ".join(f"{checkup.url}{asked}".split()), err=False)
    wire = None
    for finding in checkup.findings:
        if finding.wire != wire:
            wire = finding.wire
            say("", err=False)
            say(wire, err=False)
        _show_finding(finding)
    if checkup.not_served:
        say("", err=False)
        say(f"not served: {', '.join(checkup.not_served)}", err=False)


def _show_finding(finding: Finding) -> None:
    details = finding.details or ("",)
    for number, detail in enumerate(details):
        verdict = finding.verdict if number == 0 else ""
        aspect = finding.aspect if number == 0 else ""
        line = f"  {aspect:<13} {verdict:<8}"
        if sys.stdout.isatty():
            click.echo(click.style(line, fg=_COLORS[finding.verdict]), nl=False)
            say(detail, err=False)
        else:
            say(f"{line}{detail}".rstrip(), err=False)
