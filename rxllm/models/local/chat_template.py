"""Chat templates, which render a conversation as the text that a model was trained on.

Templates come with models, so they run in jinja2's sandbox and within a number of steps, with the
names that Hugging Face transformers provides (`messages`, `tools`, `documents`, `bos_token`,
`eos_token`, `add_generation_prompt`, `raise_exception`, `strftime_now`, `tojson`, the block
`generation`); see https://huggingface.co/docs/transformers/chat_templating.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from rxllm.errors import ModelLoadError, UnsupportedError
from rxllm.requests import Message

__all__ = ["ChatTemplate"]


_MOST_STEPS: Final = 1_000_000
"""Lines of a template's code; a long conversation takes some ten thousand."""

_PROBE: Final = "a text to be found"


class ChatTemplate:
    """One model's template.

    Args:
        source: the jinja2 source, or `None` to join the contents of the messages with newlines.
        bos_token: the text of the token that begins a sequence, `""` if there is none.
        eos_token: the text of the token that ends a sequence, `""` if there is none.
        origin: the file or directory of the model, for the error.

    Raises:
        ModelLoadError: `source` isn't a valid template.

    >>> template = ChatTemplate(
    ...     "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}"
    ...     "{% if add_generation_prompt %}<assistant>{% endif %}",
    ...     eos_token="</s>",
    ... )
    >>> template.render([Message("user", "Hi"), Message("assistant", "Hel")])
    '<user>Hi</s><assistant>Hel'
    """

    def __init__(
        self,
        source: str | None,
        *,
        bos_token: str = "",
        eos_token: str = "",
        origin: Path | None = None,
    ) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.loopcontrols", _Generation],
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = _now
        self._tokens = {"bos_token": bos_token, "eos_token": eos_token}
        try:
            self._template = environment.from_string(source) if source is not None else None
        except jinja2.TemplateError as error:
            where = origin or "the model"
            raise ModelLoadError(f"the chat template of {where} is invalid: {error}") from error
        self._has_typed_parts = self._wants_typed_parts()

    def render(
        self, messages: Sequence[Message], change: Callable[[str], str] = lambda text: text
    ) -> str:
        """Render the messages as a prompt, up to the point where the model's answer begins.

        A final assistant message is the beginning of the answer, which the model continues.

        Args:
            messages: the conversation.
            change: applied to each text of the messages before the template gets it.

        Raises:
            UnsupportedError: the template rejects these messages (because of their order, say).
        """
        begun = ""
        if messages[-1].role == "assistant":
            begun = change(messages[-1].text)
            messages = messages[:-1]
        if self._template is None:
            texts = [change(message.text) for message in messages]
            return "\n".join([*texts, *([begun] if begun else [])])
        given = [_as_mapping(message, change) for message in messages]
        try:
            return self._rendered(given, typed=self._has_typed_parts) + begun
        except (jinja2.TemplateError, TypeError) as error:
            raise UnsupportedError(
                f"the chat template of the model rejects these messages: {error}"
            ) from error

    def _rendered(self, messages: list[dict[str, Any]], *, typed: bool) -> str:
        if typed:
            messages = [
                {**each, "content": [{"type": "text", "text": each["content"]}]}
                for each in messages
            ]
        assert self._template is not None  # noqa: S101 - checked by the callers
        with _limited_steps():
            return self._template.render(
                messages=messages,
                tools=None,
                documents=None,
                add_generation_prompt=True,
                **self._tokens,
            )

    def _wants_typed_parts(self) -> bool:
        """Whether the template shows a content only if it is a list of parts with types."""
        if self._template is None:
            return False
        message = {"role": "user", "content": _PROBE}
        shown = []
        for typed in (False, True):
            try:
                shown.append(_PROBE in self._rendered([message], typed=typed))
            except (jinja2.TemplateError, TypeError):
                shown.append(False)
        return shown == [False, True]


def _as_mapping(message: Message, change: Callable[[str], str]) -> dict[str, Any]:
    fields = {
        "content": message.text,
        "name": message.name,
        "tool_call_id": message.tool_call_id,
    }
    given = {name: change(value) for name, value in fields.items() if value is not None}
    return {"role": message.role, **given}


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


class _Generation(Extension):
    """The block `generation`, which marks what a model writes, for training alone."""

    tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@contextmanager
def _limited_steps() -> Iterator[None]:
    """Raise a `TemplateError` in a template that takes too many steps."""
    left = _MOST_STEPS

    def on_line(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal left
        left -= event == "line"
        if left < 0:
            raise jinja2.TemplateError(f"it takes more than {_MOST_STEPS} steps")
        return on_line

    def on_call(frame: FrameType, event: str, argument: Any) -> Any:
        return on_line if frame.f_code.co_filename == "<template>" else None

    before = sys.gettrace()
    sys.settrace(on_call)
    try:
        yield
    finally:
        sys.settrace(before)


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _now(pattern: str) -> str:
    return datetime.now().astimezone().strftime(pattern)
