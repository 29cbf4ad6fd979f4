"""The command line: `rxllm run`, `rxllm chat`, `rxllm models`, `rxllm bench`, `rxllm serve`.

Exit codes: 0, done; 1, the stream failed, or a pipe was closed; 2, an option, a model or a prompt
is wrong; 130, stopped by Ctrl-C. What is wrong is said in one line on standard error.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections import deque
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec
from reactivex import Observable

import rxllm
from rxllm.chunks import Chunk, encode
from rxllm.errors import BadRequestError, ContextLengthError, ModelError, RxLLMError
from rxllm.requests import Message, Prompt
from rxllm.sinks._consume import consume
from rxllm.sinks._printable import count, encodable, figures_of, printable

if TYPE_CHECKING:
    from rxllm.benchmark_report import BenchmarkReport

__all__ = ["main"]

_T = TypeVar("_T")
_Numbers = TypeVar("_Numbers", bound=msgspec.Struct)

_STOPPED = 130
_BENCHMARK = ("Tell me a story about a robot who learns to paint", "Hello! Who are you?")
_COMMANDS = "/clear forgets what was said, /history shows it, /exit leaves"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, and return the exit code.

    Args:
        arguments: without the program's name; those of this process if None.
    """
    _replace_missing_streams()
    try:
        code = commands.main(arguments, "rxllm", standalone_mode=False)
    except OSError as error:
        _complain(click.ClickException(error.strerror or str(error)))
        with suppress(OSError):  # what is still buffered can't be written either
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except click.ClickException as error:
        _complain(error)
        return error.exit_code
    except click.Abort:
        _say("stopped")
        return _STOPPED
    return code if isinstance(code, int) else 0


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(rxllm.__version__, prog_name="rxllm")
@click.pass_context
def commands(context: click.Context) -> None:
    """Stream answers of language models to the terminal."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


_model_option = click.option(
    "--model", "-m", default="tiny", show_default=True, help="`rxllm models` lists what there is."
)


@commands.command()
@click.argument("prompt")
@_model_option
@click.option("--max-tokens", type=int, help="Length of the answer at most.")
@click.option("--temperature", type=float, help="0 (the likeliest token always) to 2.")
@click.option("--top-p", type=float, help="Sample from the likeliest tokens that add up to this.")
@click.option("--seed", type=int, help="Makes sampling repeatable.")
@click.option("--stop", multiple=True, metavar="TEXT", help="End before this text; repeatable.")
@click.option("--system", help="What the model is told before the prompt.")
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Write the text to a file.")
@click.option("--json", "as_json", is_flag=True, help="Print each chunk as a line of JSON.")
def run(
    prompt: str,
    model: str,
    system: str | None,
    output: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Answer PROMPT; `-` reads it from standard input."""
    if as_json and output is not None:
        raise click.UsageError("--json prints the chunks and --output writes the text: choose one")
    messages = [Message("system", system)] if system is not None else []
    messages.append(Message("user", _read_prompt(prompt)))
    stream = _ask(model, messages, options)
    if as_json:
        _play(consume(stream, _print_json))
    elif output is not None:
        _check_writable(output)
        result = _play(rxllm.sinks.file(stream, output))
        _say(f"{output}: {figures_of(result)}")
    else:
        _play(rxllm.sinks.console(stream))


@commands.command()
@_model_option
@click.option("--keep", type=click.IntRange(1), default=20, show_default=True, help="Kept.")
@click.option("--send", type=click.IntRange(0), default=3, show_default=True, help="Sent along.")
def chat(model: str, keep: int, send: int) -> None:
    """Talk with a model: a question a line.

    /clear forgets what was said, /history shows it, /exit or Ctrl-D leaves. Ctrl-C stops an answer.
    An answer that fails or is stopped is forgotten, with its question. The last --keep exchanges
    are kept, and the last --send of them are sent along: fewer, where the context is too small.
    """
    _find(model)
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")  # what is not in UTF-8 shall not end the chat
    if sys.stdin.isatty():
        with suppress(ImportError):
            import readline  # noqa: F401 - its import gives `input` line editing
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
                _say(f"you: {asked}\n{model}: {answered}", err=False)
        elif question.startswith("/"):
            _say(f"there is no command {question}: {_COMMANDS}")
        elif question:
            _answer(model, question, exchanges, send)


@commands.command()
@click.option("--json", "as_json", is_flag=True, help="Print each model as a line of JSON.")
def models(as_json: bool) -> None:
    """List the models that can be asked for by name."""
    listed = rxllm.models()
    rows = [
        (info.id, str(info.context_length or ""), ", ".join(info.capabilities), info.description)
        for info in listed
    ]
    if as_json:
        click.echo(b"\n".join(map(msgspec.json.encode, listed)))
    elif sys.stdout.isatty():
        _print_table(("model", "context", "capabilities", "description"), rows)
    else:
        click.echo("\n".join(map("\t".join, rows)))


@commands.command()
@click.option(
    "--model", "-m", "names", multiple=True, default=["tiny"], show_default=True, help="Repeatable."
)
@click.option("--prompt", "-p", "prompts", multiple=True, help="What to ask; repeatable.")
@click.option("--runs", type=click.IntRange(1), default=3, show_default=True, help="Of each.")
@click.option("--max-tokens", type=click.IntRange(1), default=64, show_default=True)
@click.option("--temperature", type=float, help="0 (the likeliest token always) to 2.")
@click.option("--seed", type=int, help="Makes sampling repeatable.")
@click.option(
    *("--timeout", "total"),
    type=click.FloatRange(0, min_open=True),
    default=300.0,
    show_default=True,
    help="Seconds of an answer at most; then it has failed.",
)
@click.option("--svg", type=click.Path(path_type=Path), help="Draw the bars into a file, too.")
@click.option("--json", "as_json", is_flag=True, help="Print rows and runs as JSON.")
def bench(
    names: Sequence[str],
    prompts: Sequence[str],
    runs: int,
    svg: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure models: first token, intervals, speed, and whether the answers are the same.

    The exit code is 1 if an answer failed. Ctrl-C ends it with the figures so far.
    """
    from rxllm.model_benchmark import BenchmarkReport, BenchmarkRun, Case, benchmark

    done: list[BenchmarkRun] = []

    def tell(run: BenchmarkRun) -> None:
        done.append(run)
        became = count(run.tokens)
        if run.error is not None:
            became = "failed: " + " ".join(run.error.message.split())
        _say(f"{run.model}, {run.case!r}, run {run.number} of {runs}: {became}")

    cases = [Case(prompt, prompt) for prompt in dict.fromkeys(map(_read_prompt, prompts))]
    models = {name: _find(name) for name in names}
    if svg is not None:
        _check_writable(svg)
    given = {name: value for name, value in options.items() if value is not None}
    asked = cases or [Case(prompt, prompt) for prompt in _BENCHMARK]
    try:
        _play(benchmark(models, asked, runs=runs, on_run=tell, **given))
    finally:  # stopped by Ctrl-C, perhaps
        report = BenchmarkReport.of(done)
        if report.rows:
            _show(report, as_json, svg)
    if report.failed:
        raise click.exceptions.Exit(1)


def _show(report: BenchmarkReport, as_json: bool, svg: Path | None) -> None:
    from rxllm import benchmark_charts as charts

    if as_json:
        click.echo(msgspec.json.encode(report))
    else:
        width = shutil.get_terminal_size().columns
        block = "\u2588" if encodable("\u2588", sys.stdout) == "\u2588" else "#"
        bars = charts.as_bars(report, width=width, block=block)
        for line in (*charts.as_table(report, width=width), "", *bars):
            _say(line, err=False)
    if svg is not None:
        svg.write_text(charts.as_svg(report), "utf-8")


@commands.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="0 takes a free one, and says which.",
)
@click.option("--model", "-m", "names", multiple=True, help="What may be asked; repeatable.")
@click.option("--api-key", envvar="RXLLM_API_KEY", help="Ask for it; or RXLLM_API_KEY.")
@click.option("--cors", multiple=True, metavar="ORIGIN", help="Sites that may use it; repeatable.")
@click.option(
    "--name",
    "hosts",
    multiple=True,
    help="Its host name in the network; repeatable. Others are then refused, but for loopback.",
)
@click.option(
    "--limit",
    "limits",
    multiple=True,
    metavar="NAME=VALUE",
    help="What a client may ask for, such as streams=50 (rxllm.server.Limits); repeatable.",
)
@click.option(
    "--setting",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="How models are run, such as local_streams=4 (rxllm.Settings); repeatable.",
)
def serve(
    host: str,
    port: int,
    names: Sequence[str],
    api_key: str | None,
    cors: Sequence[str],
    hosts: Sequence[str],
    limits: Sequence[str],
    settings: Sequence[str],
) -> None:
    """Serve streams over HTTP and WebSocket, and a page to try them.

    Of the bundled model, if no --model is given; the first one is the default. SIGTERM and Ctrl-C
    let live streams finish.
    """
    from rxllm.server import Limits
    from rxllm.server._serve import is_loopback
    from rxllm.server._serve import serve as serve_app
    from rxllm.server.app import create_app

    given_limits = _numbers("--limit", limits, Limits)
    given_settings = _numbers("--setting", settings, rxllm.Settings)
    try:
        app = create_app(
            names or None,
            api_key=api_key,
            cors=cors,
            hosts=hosts,
            limits=given_limits,
            settings=given_settings,
        )
    except RxLLMError as error:
        raise _failure(error) from error
    if api_key is None and not is_loopback(host):
        _say(f"anybody who reaches {host} can use this server: --api-key asks for a key")
    _play(serve_app(app, host, port, say=lambda line: _say(line, err=False)))


def _numbers(option: str, given: Sequence[str], kind: type[_Numbers]) -> _Numbers:
    """A `Limits` or a `Settings` of NAME=VALUE, each name once."""
    known = {field.name: field.type for field in msgspec.structs.fields(kind)}
    numbers: dict[str, float] = {}
    for text in given:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals:
            raise click.UsageError(f"{option} is NAME=VALUE, not {text!r}")
        if name not in known:
            close = get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
            raise click.UsageError(f"{option} has no {name!r}: {hint}")
        if name in numbers:
            raise click.UsageError(f"{option} {name} is given twice")
        try:
            numbers[name] = known[name](value)
        except ValueError:
            what = "a whole number" if known[name] is int else "a number"
            raise click.UsageError(f"{option}: {name} is {what}, not {value!r}") from None
    try:
        return kind(**numbers)
    except ValueError as error:
        raise click.UsageError(f"{option}: {error}") from None


def _replace_missing_streams() -> None:
    """Python gives None for a standard stream that was closed before it began."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115


def _answer(model: str, question: str, exchanges: deque[tuple[str, str]], send: int) -> None:
    sent = list(exchanges)[max(0, len(exchanges) - send) :]
    messages: list[Message] = []
    for asked, answered in sent:
        messages += [Message("user", asked), Message("assistant", answered)]
    try:
        stream = _ask(model, [*messages, Message("user", question)], {})
        result = _play(rxllm.sinks.console(stream))
    except click.ClickException as error:
        if sent and isinstance(error.__cause__, ContextLengthError):
            _answer(model, question, exchanges, len(sent) - 1)  # fewer may fit
        else:
            _complain(error)
    except click.exceptions.Exit:
        pass  # stopped by Ctrl-C, which has been said
    else:
        exchanges.append((question, result.text))


def _read_line() -> str | None:
    """The next line, or None at the end of the input."""
    while True:
        try:
            return input("> " if sys.stdin.isatty() else "")
        except EOFError:
            return None
        except KeyboardInterrupt:
            _say("\nCtrl-D or /exit leaves")


def _read_prompt(prompt: str) -> str:
    try:
        text = sys.stdin.buffer.read().decode() if prompt == "-" else prompt
        text.encode()
    except UnicodeError:
        raise click.UsageError("the prompt is not in UTF-8") from None
    if not text.strip():
        raise click.UsageError("the prompt is empty")
    return text


def _find(model: str) -> rxllm.Model:
    try:
        return rxllm.model(model)
    except RxLLMError as error:
        raise _failure(error) from error


def _ask(model: str, prompt: Prompt, options: dict[str, Any]) -> Observable[Chunk]:
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return _find(model).stream(prompt, **given)
    except RxLLMError as error:
        raise _failure(error) from error


def _play(sink: Awaitable[_T]) -> _T:
    try:
        return rxllm.run(sink)
    except KeyboardInterrupt:
        _say("stopped")
        raise click.exceptions.Exit(_STOPPED) from None
    except BrokenPipeError:
        raise  # click ends the program quietly
    except Exception as error:
        raise _failure(error) from error


def _failure(error: Exception) -> click.ClickException:
    is_request = isinstance(error, BadRequestError | ModelError | ContextLengthError)
    kind = click.UsageError if is_request else click.ClickException
    return kind(str(error) or type(error).__name__)


def _check_writable(path: Path) -> None:
    try:
        path.open("ab").close()
    except OSError as error:
        raise click.UsageError(f"{path} can't be written: {error.strerror}") from None


def _print_json(chunk: Chunk) -> None:
    sys.stdout.buffer.write(encode(chunk) + b"\n")
    sys.stdout.buffer.flush()


def _print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*header)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def _complain(error: click.ClickException) -> None:
    _say("rxllm: " + " ".join(error.format_message().split()))


def _say(line: str, *, err: bool = True) -> None:
    click.echo(encodable(printable(line), sys.stderr if err else sys.stdout), err=err)
