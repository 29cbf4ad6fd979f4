"""Chat templates, which render a conversation as the text that a model was trained on.

Templates come with models, so they run in jinja2's sandbox and within a number of steps, with the
names that Hugging Face transformers provides (`messages`, `tools`, `documents`, `bos_token`,
`eos_token`, `add_generation_prompt`, `raise_exception`, `strftime_now`, `tojson`, the block
`generation`); see https://huggingface.co/docs/transformers/chat_templating.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
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

from rxllm.chunks import ToolCall
from rxllm.errors import ModelLoadError, UnsupportedError
from rxllm.messages import Message, Tool
from rxllm.models.local.answer_form import THINKING_TAGS
from rxllm.models.local.call_forms import form_of
from rxllm.models.local.template_messages import ArgumentsAs, Change, as_mapping, as_tool
from rxllm.requests import ReasoningEffort, Request

__all__ = ["ChatTemplate"]


_MOST_STEPS: Final = 1_000_000
"""Lines of a template's code; a long conversation takes some ten thousand."""

_ALWAYS: Final = "the model always thinks before it answers"
_PROBE: Final = "a text to be found"
_PROBE_TOOL: Final = "a_tool_to_be_found"
_PROBE_RESULT: Final = "a result to be found"
_NO_TOOLS: Final[Mapping[str, Any]] = {"tools": None}


class ChatTemplate:
    """One model's template.

    Args:
        source: the jinja2 source, or `None` to join the contents of the messages with newlines.
        bos_token: the text of the token that begins a sequence, `""` if there is none.
        eos_token: the text of the token that ends a sequence, `""` if there is none.
        origin: the file or directory of the model, for the error.

    Raises:
        ModelLoadError: `source` isn't a valid template.

    >>> from rxllm.requests import as_request
    >>> template = ChatTemplate(
    ...     "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}"
    ...     "{% if add_generation_prompt %}<assistant>{% endif %}",
    ...     eos_token="</s>",
    ... )
    >>> template.render(as_request([Message("user", "Hi"), Message("assistant", "Hel")]))
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
        self._source: Final = source or ""
        self.thinking: Final = next(
            (tags for tags in THINKING_TAGS if any(tag in self._source for tag in tags)), None
        )
        """The tags around thinking, if the model has been taught to think."""

        self.calls: str | None = None
        """The form of tool calls, known once a request with tools has been rendered."""

        self._has_typed_parts = self._wants_typed_parts()
        self._arguments: ArgumentsAs = "object"

    def render(self, request: Request, change: Change = lambda text: text) -> str:
        """Render a request as a prompt, up to the point where the model's answer begins.

        A final assistant message is the beginning of the answer, which the model continues.

        Args:
            request: the conversation and its tools.
            change: applied to each text of the request before the template gets it.

        Raises:
            UnsupportedError: the template rejects these messages (because of their order, say), or
                has no place for tools or for thinking.
        """
        messages, begun = request.messages, ""
        variables = self._variables(request.reasoning)
        if messages[-1].role == "assistant" and not messages[-1].calls:
            begun = change(messages[-1].text)
            messages = messages[:-1]
        tools = request.tools if request.tool_choice != "none" else ()
        if tools or any(message.calls or message.role == "tool" for message in messages):
            self._check_tools()
        if self._template is None:
            texts = [change(message.text) for message in messages]
            return "\n".join([*texts, *([begun] if begun else [])])
        given = [
            as_mapping(message, messages[:place], self._arguments, change)
            for place, message in enumerate(messages)
        ]
        variables["tools"] = [as_tool(tool, change) for tool in tools] or None
        try:
            prompt = self._rendered(given, typed=self._has_typed_parts, variables=variables)
        except (jinja2.TemplateError, TypeError) as error:
            raise UnsupportedError(
                f"the chat template of the model rejects these messages: {error}"
            ) from error
        if request.reasoning == "none" and self.begins_inside(prompt):
            raise UnsupportedError(_ALWAYS, "reasoning")
        if begun and (tags := self.thinking) is not None and self.begins_inside(prompt):
            prompt += f"\n{tags[1]}\n\n"
        return prompt + begun

    def begins_inside(self, prompt: str) -> bool:
        """Whether an answer to a prompt begins inside the thinking."""
        return self.thinking is not None and prompt.rstrip().endswith(self.thinking[0])

    def _rendered(
        self,
        messages: list[dict[str, Any]],
        *,
        typed: bool,
        variables: Mapping[str, Any] = _NO_TOOLS,
    ) -> str:
        if typed:
            messages = [
                {**each, "content": [{"type": "text", "text": each["content"]}]}
                for each in messages
            ]
        assert self._template is not None  # noqa: S101 - checked by the callers
        with _limited_steps():
            return self._template.render(
                messages=messages,
                documents=None,
                add_generation_prompt=True,
                **variables,
                **self._tokens,
            )

    def _variables(self, reasoning: ReasoningEffort | None) -> dict[str, Any]:
        """The variables that say how much to think.

        Raises:
            UnsupportedError: the template has no such variable.
        """
        if reasoning is None:
            return {}
        has_switch = re.search(r"\b(enable_)?thinking\b", self._source) is not None
        has_effort = "reasoning_effort" in self._source
        if reasoning == "none":
            if "think" in self._source.lower() and not has_switch:
                raise UnsupportedError(_ALWAYS, "reasoning")
            return {"enable_thinking": False, "thinking": False}
        if self.thinking is None and not has_effort:
            raise UnsupportedError("the model doesn't think before it answers", "reasoning")
        return {"enable_thinking": True, "thinking": True, "reasoning_effort": reasoning}

    def _wants_typed_parts(self) -> bool:
        """Whether the template shows a content only if it is a list of parts with types."""
        message = {"role": "user", "content": _PROBE}
        shown = [_PROBE in self._tried([message], typed=typed) for typed in (False, True)]
        return shown == [False, True]

    def _check_tools(self) -> None:
        """Find out how the template shows tools, calls and results: once, by an example.

        Raises:
            UnsupportedError: it doesn't, or not in a known form.
        """
        if self.calls is not None:
            return
        tool = Tool(_PROBE_TOOL)
        call = ToolCall("probe0000", _PROBE_TOOL, json.dumps({"text": _PROBE}))
        messages = [
            Message("user", "Hi"),
            Message("assistant", "", tool_calls=(call,)),
            Message("tool", _PROBE_RESULT, tool_call_id=call.id),
        ]
        forms: tuple[ArgumentsAs, ...] = ("object", "text")
        for arguments in forms:
            given = [as_mapping(each, messages, arguments, str) for each in messages]
            prompt = self._tried(
                given, typed=self._has_typed_parts, variables={"tools": [as_tool(tool, str)]}
            )
            if _PROBE_RESULT in prompt and (form := form_of(prompt, tool, call)) is not None:
                self.calls, self._arguments = form, arguments
                return
        raise UnsupportedError("the chat template of the model has no known form for tools")

    def _tried(
        self,
        messages: list[dict[str, Any]],
        *,
        typed: bool,
        variables: Mapping[str, Any] = _NO_TOOLS,
    ) -> str:
        """The prompt, or `""` if the template rejects the messages."""
        if self._template is None:
            return ""
        try:
            return self._rendered(messages, typed=typed, variables=variables)
        except (jinja2.TemplateError, TypeError):
            return ""


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
