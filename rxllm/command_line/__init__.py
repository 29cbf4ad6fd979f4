"""The command line: `rxllm run`, `chat`, `models`, `bench`, `serve`, `check`.

Exit codes: 0 for success, 1 if the stream failed or a pipe was closed, 2 if an option, a model or
a prompt is invalid, 130 if stopped by Ctrl-C. Errors are reported in one line on standard error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress

import click

import rxllm
from rxllm.command_line._bench import bench
from rxllm.command_line._chat import chat
from rxllm.command_line._check import check
from rxllm.command_line._models import models
from rxllm.command_line._outcomes import STOPPED, complain, say
from rxllm.command_line._run import run
from rxllm.command_line._serve import serve

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, and return the exit code.

    Args:
        arguments: without the program's name, or `None` to use those of this process.
    """
    _replace_missing_streams()
    try:
        code = commands.main(arguments, "rxllm", standalone_mode=False)
    except OSError as error:
        complain(click.ClickException(error.strerror or str(error)))
        with suppress(OSError):  # buffered output can't be written either
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except click.ClickException as error:
        complain(error)
        return error.exit_code
    except click.Abort:
        say("stopped")
        return STOPPED
    return code if isinstance(code, int) else 0


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    commands=[run, chat, models, bench, serve, check],
)
@click.version_option(rxllm.__version__, prog_name="rxllm")
@click.pass_context
def commands(context: click.Context) -> None:
    """Stream language model answers to the terminal."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def _replace_missing_streams() -> None:
    """Open the null device for standard streams that were closed before Python started."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115
