"""What the commands are given: a model, a prompt, a file to write to."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from reactivex import Observable

import rxllm
from rxllm.chunks import Chunk
from rxllm.command_line._outcomes import failure
from rxllm.errors import RxLLMError
from rxllm.requests import Prompt

__all__ = ["ask", "check_writable", "find_model", "model_option", "read_prompt"]

model_option = click.option(
    "--model", "-m", default="tiny", show_default=True, help="`rxllm models` lists what there is."
)


def read_prompt(prompt: str) -> str:
    """`prompt`, or standard input for `-`; an error if it is empty or not in UTF-8."""
    try:
        text = sys.stdin.buffer.read().decode() if prompt == "-" else prompt
        text.encode()
    except UnicodeError:
        raise click.UsageError("the prompt is not in UTF-8") from None
    if not text.strip():
        raise click.UsageError("the prompt is empty")
    return text


def check_writable(path: Path) -> None:
    """An error if the file can't be written: to find out before a model is asked."""
    try:
        path.open("ab").close()
    except OSError as error:
        raise click.UsageError(f"{path} can't be written: {error.strerror}") from None


def find_model(model: str) -> rxllm.Model:
    """The model of this name; an error if there is none."""
    try:
        return rxllm.model(model)
    except RxLLMError as error:
        raise failure(error) from error


def ask(model: str, prompt: Prompt, options: dict[str, Any]) -> Observable[Chunk]:
    """The stream that answers; of `options`, what is None is left to the model."""
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return find_model(model).stream(prompt, **given)
    except RxLLMError as error:
        raise failure(error) from error
