"""`rxllm chat`: a conversation, one question per line."""

from __future__ import annotations

import io
import sys
from collections import deque
from contextlib import suppress

import click

import rxllm
from rxllm.command_line._arguments import ask, find_model, model_option, model_table_option
from rxllm.command_line._outcomes import complain, play, say
from rxllm.errors import ContextLengthError
from rxllm.requests import Message

__all__ = ["chat"]

_COMMANDS = "/clear forgets the conversation, /history shows it, /exit quits"


@click.command()
@model_option
@click.option(
    "--keep", type=click.IntRange(1), default=20, show_default=True, help="Exchanges to keep."
)
@click.option(
    "--send",
    type=click.IntRange(0),
    default=3,
    show_default=True,
    help="Exchanges to send with a question.",
)
@model_table_option
def chat(model: str, keep: int, send: int) -> None:
    """Chat with a model, one question per line.

    /clear forgets the conversation, /history shows it, /exit or Ctrl-D quits. Ctrl-C stops an
    answer. An answer that fails or is stopped is forgotten, along with its question. The last
    --keep exchanges are kept, and the last --send of them are sent with each question, or fewer if
    the context is too small.
    """
    find_model(model)
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")  # invalid UTF-8 must not end the chat
    if sys.stdin.isatty():
        with suppress(ImportError):
            import readline  # noqa: F401 - importing it gives `input` line editing
        click.echo(_COMMANDS)
    exchanges: deque[tuple[str, str]] = deque(maxlen=keep)
    while (line := _read_line()) is not None:
        question = line.strip()
        if question == "/exit":
            break
        if question == "/clear":
            exchanges.clear()
        elif question == "/history":
            for asked, answered in exchanges:
                say(f"you: {asked}\n{model}: {answered}", err=False)
        elif question.startswith("/"):
            say(f"unknown command {question}: {_COMMANDS}")
        elif question:
            _answer(model, question, exchanges, send)


def _answer(model: str, question: str, exchanges: deque[tuple[str, str]], send: int) -> None:
    sent = list(exchanges)[max(0, len(exchanges) - send) :]
    messages: list[Message] = []
    for asked, answered in sent:
        messages += [Message("user", asked), Message("assistant", answered)]
    try:
        stream = ask(model, [*messages, Message("user", question)], {})
        result = play(rxllm.sinks.console(stream))
    except click.ClickException as error:
        if sent and isinstance(error.__cause__, ContextLengthError):
            _answer(model, question, exchanges, len(sent) - 1)  # fewer may fit
        else:
            complain(error)
    except click.exceptions.Exit:
        pass  # stopped by Ctrl-C, already reported
    else:
        exchanges.append((question, result.text))


def _read_line() -> str | None:
    """Return the next line, or `None` at the end of the input."""
    while True:
        try:
            return input("> " if sys.stdin.isatty() else "")
        except EOFError:
            return None
        except KeyboardInterrupt:
            say("\nCtrl-D or /exit quits")
