"""The outcome of a command: a result, or an error line and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Awaitable
from typing import Final, TypeVar

import click

import rxllm
from rxllm.errors import BadRequestError, ContextLengthError, ModelError
from rxllm.sinks.printable import encodable, printable

__all__ = ["STOPPED", "complain", "failure", "play", "say"]

STOPPED: Final = 130

_T = TypeVar("_T")


def play(sink: Awaitable[_T]) -> _T:
    """Return the result of a stream; errors and Ctrl-C become an exit code."""
    try:
        return rxllm.run(sink)
    except KeyboardInterrupt:
        say("stopped")
        raise click.exceptions.Exit(STOPPED) from None
    except BrokenPipeError:
        raise  # click ends the program quietly
    except Exception as error:
        raise failure(error) from error


def failure(error: Exception) -> click.ClickException:
    """Return `error` with its exit code: 2 if the request or the model is invalid, 1 otherwise."""
    is_request = isinstance(error, BadRequestError | ModelError | ContextLengthError)
    kind = click.UsageError if is_request else click.ClickException
    return kind(str(error) or type(error).__name__)


def complain(error: click.ClickException) -> None:
    """Print an error in one line."""
    say("rxllm: " + " ".join(error.format_message().split()))


def say(line: str, *, err: bool = True) -> None:
    """Print `line` without control sequences, to standard error unless `err` is false."""
    click.echo(encodable(printable(line), sys.stderr if err else sys.stdout), err=err)
