"""`rxllm chat`: a conversation with a model."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import click

import rxllm
from rxllm.chat import Exchange
from rxllm.command_line._arguments import find_model, model_table_option, models_options
from rxllm.command_line._outcomes import complain, failure, play, say
from rxllm.command_line._questions import line_editor, read_question
from rxllm.errors import RxLLMError
from rxllm.requests import Strategy

__all__ = ["chat"]

_HELP: Final = '''\
/history       show the conversation
/clear         forget the conversation
/system TEXT   set the system prompt; without a text, remove it
/model NAME    ask another model
/save FILE     write the conversation to a file
/load FILE     continue a conversation from a file
/multi         ask a question of several lines, up to /end; or put it in """
/exit          quit, as Ctrl-D does; Ctrl-C stops an answer'''


@click.command()
@models_options
@click.option("--system", help="System prompt.")
@click.option("--max-tokens", type=click.IntRange(1), help="Maximum length of an answer.")
@click.option("--temperature", type=float, help="0 (always the likeliest token) to 2.")
@click.option("--top-p", type=float, help="Sample from the likeliest tokens that add up to this.")
@click.option("--seed", type=int, help="Makes sampling reproducible.")
@click.option("--stop", multiple=True, metavar="TEXT", help="Stop before this text; repeatable.")
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
def chat(
    names: Sequence[str],
    strategy: Strategy | None,
    system: str | None,
    keep: int,
    send: int,
    **options: Any,
) -> None:
    """Chat with a model, one question per line.

    /help lists the commands; case doesn't matter in them. Lines that are pasted at once are one
    question. Ctrl-C stops an answer, and what was said stays in the conversation. The last --keep
    exchanges are kept, and the last --send of them are sent with each question, or fewer if the
    context is too small.
    """
    model = find_model(*names, strategy=strategy)
    given = {name: value for name, value in options.items() if value not in (None, ())}
    try:
        conversation = rxllm.Chat(model, system=system, keep=keep, send=send, **given)
    except RxLLMError as error:
        raise failure(error) from error
    session = _Session(conversation, ", ".join(names))
    with line_editor():
        session.greet()
        while (line := read_question(session.on_interrupt)) is not None:
            if not session.take(line):
                break


class _Session:
    """Answers the lines of a user."""

    def __init__(self, conversation: rxllm.Chat, name: str) -> None:
        self._chat = conversation
        self._name = name
        self._commands: dict[str, Callable[[str], None]] = {
            "/help": self._help,
            "/clear": self._clear,
            "/history": self._show,
            "/system": self._set_system,
            "/model": self._set_model,
            "/save": self._save,
            "/load": self._load,
        }

    def greet(self) -> None:
        if sys.stdin.isatty():
            say(f"{self._name}: /help lists the commands, /exit quits", err=False)

    def on_interrupt(self) -> None:
        say("\nCtrl-D or /exit quits")

    def take(self, line: str) -> bool:
        """Answer a question or obey a command; return False to quit."""
        word, _, argument = line.partition(" ")
        name = word.lower()
        if name in ("/exit", "/quit"):
            return False
        try:
            if name in self._commands:
                self._commands[name](argument.strip())
            elif name.startswith("/") and "\n" not in line and "/" not in name[1:]:
                say(f"unknown command {word}: /help lists them")
            elif line:
                self._ask(line)
        except click.ClickException as error:
            complain(error)
        except click.exceptions.Exit:
            pass  # stopped by Ctrl-C, already reported
        return True

    def _ask(self, question: str) -> None:
        try:
            stream = self._chat.ask(question)
        except RxLLMError as error:
            raise failure(error) from error
        play(rxllm.sinks.console(stream))

    def _help(self, _: str) -> None:
        say(_HELP, err=False)

    def _clear(self, _: str) -> None:
        self._chat.clear()

    def _show(self, _: str) -> None:
        if self._chat.system is not None:
            say(f"system: {self._chat.system}", err=False)
        for exchange in self._chat.history:
            say(f"you ({_clock(exchange.asked)}): {exchange.question}", err=False)
            say(f"{_answerer(exchange)}: {exchange.text}", err=False)

    def _set_system(self, text: str) -> None:
        self._chat.system = text or None

    def _set_model(self, name: str) -> None:
        if name:
            self._chat.model, self._name = find_model(name), name
        say(f"model: {self._name}", err=False)

    def _save(self, path: str) -> None:
        self._with_file(path, self._chat.save)

    def _load(self, path: str) -> None:
        self._with_file(path, self._chat.load)

    def _with_file(self, path: str, action: Callable[[str], None]) -> None:
        if not path:
            raise click.ClickException("name a file: /save FILE, /load FILE")
        try:
            action(path)
        except OSError as error:
            raise click.ClickException(f"{path}: {error.strerror}") from None
        except RxLLMError as error:
            raise failure(error) from error
        say(f"{path}: {len(self._chat.history)} exchanges", err=False)


def _answerer(exchange: Exchange) -> str:
    """The model of an answer, with its time and what went wrong."""
    marks = {"completed": "", "cancelled": ", stopped", "failed": ", failed"}
    mark = marks[exchange.outcome]
    return f"{exchange.model or 'model'} ({_clock(exchange.answered)}{mark})"


def _clock(seconds: float) -> str:
    return time.strftime("%H:%M", time.localtime(seconds))
