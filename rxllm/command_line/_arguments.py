"""The arguments of the commands: a model, a prompt, an output file."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, get_args

import click
from reactivex import Observable

import rxllm
from rxllm.chunks import Chunk
from rxllm.command_line._outcomes import failure
from rxllm.errors import RxLLMError
from rxllm.model_table import VARIABLE, read_model_table
from rxllm.requests import Prompt, Strategy

__all__ = [
    "ask",
    "check_writable",
    "find_model",
    "model_table_option",
    "models_options",
    "read_prompt",
    "schema_option",
]

_Command = TypeVar("_Command", bound=Callable[..., Any])

_models_option = click.option(
    *("--model", "-m", "names"),
    multiple=True,
    default=["tiny"],
    show_default=True,
    help="Model to use, see `rxllm models`; several are a router.",
)
_strategy_option = click.option(
    "--strategy",
    type=click.Choice(get_args(Strategy)),
    help="How to choose among several models.  [default: balanced]",
)


def models_options(command: _Command) -> _Command:
    """Add the options `--model` and `--strategy` to a command."""
    return _models_option(_strategy_option(command))


def _use_table(context: click.Context, parameter: click.Parameter, path: str | None) -> None:
    """Read the table over the bundled one until the command ends."""
    if path is None:
        return
    try:
        read_model_table(path)
    except (OSError, ValueError) as error:
        raise click.BadParameter(str(error), context, parameter) from None
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = path

    def restore() -> None:
        os.environ.pop(VARIABLE)
        if before is not None:
            os.environ[VARIABLE] = before

    context.call_on_close(restore)


model_table_option = click.option(
    "--models",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    callback=_use_table,
    expose_value=False,
    help="What models can do and cost, read over the bundled table (or set RXLLM_MODELS).",
)


def _read_schema(context: click.Context, parameter: click.Parameter, given: str | None) -> Any:
    """Return `"json"`, or the schema that is given or is in the file that is given."""
    if given is None or given == "json":
        return given
    try:
        text = given if given.lstrip().startswith("{") else Path(given).read_text("utf-8")
        schema = json.loads(text)
    except (OSError, ValueError) as error:
        raise click.BadParameter(str(error), context, parameter) from None
    if not isinstance(schema, dict):
        raise click.BadParameter("a schema must be a JSON object", context, parameter)
    return schema


schema_option = click.option(
    "--schema",
    "response_format",
    metavar="SCHEMA",
    callback=_read_schema,
    help="JSON Schema that the answer follows: a file, or the schema; `json` for any object.",
)


def read_prompt(prompt: str) -> str:
    """Return `prompt`, or standard input for `-`. Raise an error if it is empty or not UTF-8."""
    try:
        text = sys.stdin.buffer.read().decode() if prompt == "-" else prompt
        text.encode()
    except UnicodeError:
        raise click.UsageError("the prompt is not valid UTF-8") from None
    if not text.strip():
        raise click.UsageError("the prompt is empty")
    return text


def check_writable(path: Path) -> None:
    """Raise an error if the file can't be written, before a model is called."""
    try:
        path.open("ab").close()
    except OSError as error:
        raise click.UsageError(f"{path} can't be written: {error.strerror}") from None


def find_model(*names: str, strategy: Strategy | None = None) -> rxllm.Model:
    """Return the model with this name, or a router of several. Raise an error if there is none."""
    if strategy is not None and len(names) == 1:
        raise click.UsageError("--strategy chooses among several models: repeat --model")
    try:
        if len(names) == 1:
            return rxllm.model(names[0])
        return rxllm.Router(names, strategy or "balanced")
    except RxLLMError as error:
        raise failure(error) from error


def ask(model: rxllm.Model, prompt: Prompt, options: dict[str, Any]) -> Observable[Chunk]:
    """Return the stream of the answer. Options that are `None` are left to the model."""
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return model.stream(prompt, **given)
    except RxLLMError as error:
        raise failure(error) from error
