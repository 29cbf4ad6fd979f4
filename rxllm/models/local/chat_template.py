"""Chat templates, which render a conversation as the text that a model was trained on.

Templates come with models, so they run in jinja2's sandbox, with the names that Hugging Face
transformers provides (`messages`, `bos_token`, `eos_token`, `add_generation_prompt`,
`raise_exception`, `strftime_now`, `tojson`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from rxllm.errors import ModelLoadError, UnsupportedError
from rxllm.requests import Message

__all__ = ["ChatTemplate"]


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
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
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
        try:
            prompt = self._template.render(
                messages=[_as_mapping(message, change) for message in messages],
                add_generation_prompt=True,
                **self._tokens,
            )
        except (jinja2.TemplateError, TypeError) as error:
            raise UnsupportedError(
                f"the chat template of the model rejects these messages: {error}"
            ) from error
        return prompt + begun


def _as_mapping(message: Message, change: Callable[[str], str]) -> dict[str, Any]:
    fields = {
        "content": message.text,
        "name": message.name,
        "tool_call_id": message.tool_call_id,
    }
    given = {name: change(value) for name, value in fields.items() if value is not None}
    return {"role": message.role, **given}


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _now(pattern: str) -> str:
    return datetime.now().astimezone().strftime(pattern)
