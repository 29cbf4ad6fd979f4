"""`rxllm models`: list the available models."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click
import msgspec

import rxllm
from rxllm.command_line._arguments import model_table_option
from rxllm.command_line._outcomes import failure
from rxllm.errors import RxLLMError
from rxllm.requests import ModelInfo

__all__ = ["models"]


@click.command()
@click.argument("provider", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print each model as a line of JSON.")
@model_table_option
def models(provider: str | None, as_json: bool) -> None:
    """List the kinds of models, or ask PROVIDER which it has: `rxllm models ollama`."""
    try:
        ask = rxllm.available_models
        listed = rxllm.list_models() if provider is None else rxllm.run(ask(provider))
    except RxLLMError as error:
        raise failure(error) from error
    rows = [(info.id, _tokens(info), ", ".join(info.capabilities), _words(info)) for info in listed]
    if as_json:
        click.echo(b"\n".join(map(msgspec.json.encode, listed)))
    elif sys.stdout.isatty():
        _print_table(("model", "tokens", "capabilities", "description"), rows)
    else:
        click.echo("\n".join(map("\t".join, rows)))


def _tokens(info: ModelInfo) -> str:
    """The tokens of the context, and those of an answer if they are fewer."""
    context, output = info.context_length, info.max_output_tokens
    numbers = [context] if context == output else [context, output]
    return ", ".join([str(number) for number in numbers if number is not None])


def _words(info: ModelInfo) -> str:
    size = "" if info.size is None else f"{info.size / 1e6:.1f} MB"
    return ", ".join(filter(None, (info.description, size)))


def _print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*header)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)
