"""`rxllm run`: answer one prompt."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

import rxllm
from rxllm.chunks import Chunk, encode
from rxllm.command_line._arguments import (
    ask,
    check_writable,
    find_model,
    model_table_option,
    models_options,
    read_prompt,
    schema_option,
)
from rxllm.command_line._outcomes import play, say
from rxllm.consumer import consume
from rxllm.requests import Message, Strategy
from rxllm.sinks.printable import figures_of

__all__ = ["run"]


@click.command()
@click.argument("prompt")
@models_options
@click.option("--max-tokens", type=int, help="Maximum length of the answer.")
@click.option("--temperature", type=float, help="0 (always the likeliest token) to 2.")
@click.option("--top-p", type=float, help="Sample from the likeliest tokens that add up to this.")
@click.option("--seed", type=int, help="Makes sampling reproducible.")
@click.option("--stop", multiple=True, metavar="TEXT", help="Stop before this text; repeatable.")
@click.option("--system", help="System prompt.")
@schema_option
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Write the text to a file.")
@click.option("--record", metavar="FILE", help="Append the stream to a journal.")
@click.option("--json", "as_json", is_flag=True, help="Print each chunk as a line of JSON.")
@model_table_option
def run(
    prompt: str,
    names: Sequence[str],
    strategy: Strategy | None,
    system: str | None,
    output: Path | None,
    record: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Answer PROMPT; `-` reads it from standard input."""
    if as_json and output is not None:
        raise click.UsageError("--json and --output can't be combined: choose one")
    messages = [Message("system", system)] if system is not None else []
    messages.append(Message("user", read_prompt(prompt)))
    model = find_model(*names, strategy=strategy)
    if record is not None:
        model = rxllm.recorded(model, record)
    stream = ask(model, messages, options)
    if as_json:
        play(consume(stream, _print_json))
    elif output is not None:
        check_writable(output)
        result = play(rxllm.sinks.file(stream, output))
        say(f"{output}: {figures_of(result)}")
    else:
        play(rxllm.sinks.console(stream))


def _print_json(chunk: Chunk) -> None:
    sys.stdout.buffer.write(encode(chunk) + b"\n")
    sys.stdout.buffer.flush()
