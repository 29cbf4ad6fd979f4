"""The forms in which local models write tool calls, as their chat templates teach them.

- `hermes`: `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, also that of Qwen 2.5 and 3;
  https://github.com/NousResearch/Hermes-Function-Calling.
- `qwen_coder`: `<tool_call><function=...><parameter=...>value</parameter></function></tool_call>`;
  the chat template of Qwen3-Coder.
- `llama`: the answer is `{"name": ..., "parameters": {...}}`;
  https://www.llama.com/docs/model-cards-and-prompt-formats/llama3_1.
- `mistral`: `[TOOL_CALLS]` and a list of objects; `mistral_named`: `[TOOL_CALLS]name[ARGS]{...}`;
  https://docs.mistral.ai/capabilities/function_calling.

What can't be read as a call is text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from rxllm.chunks import ToolCall
from rxllm.messages import Tool
from rxllm.models.local.call_reader import CallReader, Form, Steps, loads

__all__ = ["CALL_FORMS", "CALL_MARKERS", "form_of"]

CALL_MARKERS: Final = (
    "<tool_call>", "</tool_call>", "<|python_tag|>", "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]",
)  # fmt: skip

_LONGEST_NAME: Final = 300  # characters, with the markers around it


def _hermes(reader: CallReader) -> Steps[None]:
    while (yield from reader.say_until("<tool_call>")):
        if (yield from reader.take_call("<tool_call>")):
            yield from reader.take_spaces()
            yield from reader.take_if("</tool_call>")
            yield from reader.take_spaces()


_FUNCTION: Final = re.compile(r"\s*<function=([^>\n]+)>\s*(.*)", re.DOTALL)


def _qwen_coder(reader: CallReader) -> Steps[None]:
    while (yield from reader.say_until("<tool_call>")):
        body = yield from reader.take_until("</function>")
        found = _FUNCTION.fullmatch(body)
        if found is None or not (yield from reader.take_if("</function>")):
            reader.say("<tool_call>")
            reader.put_back(body)
            continue
        tool = reader.tools.get(found[1])
        properties = tool.parameters.get("properties") if tool is not None else None
        arguments = {
            name: _value(text, properties.get(name) if isinstance(properties, dict) else None)
            for name, text in _parameters(found[2])
        }
        reader.call(found[1], json.dumps(arguments, ensure_ascii=False))
        yield from reader.take_spaces()
        yield from reader.take_if("</tool_call>")
        yield from reader.take_spaces()


def _parameters(text: str) -> Iterator[tuple[str, str]]:
    """The parameters of a call, with the text of each."""
    while (begin := text.find("<parameter=")) >= 0:
        name, _, text = text[begin + len("<parameter=") :].partition(">")
        value, end, text = text.partition("</parameter>")
        if end:
            yield name, value.removeprefix("\n").removesuffix("\n")


def _value(text: str, schema: Any) -> Any:
    """The value of a parameter: its text if it is a string, else JSON."""
    if isinstance(schema, dict) and schema.get("type") == "string":
        return text
    try:
        return loads(text)
    except ValueError:
        return text


def _llama(reader: CallReader) -> Steps[None]:
    while True:
        before = yield from reader.take_spaces(" \t\r\n;")
        if (yield from reader.take_if("<|python_tag|>")):
            before += "<|python_tag|>"
        if not (yield from reader.comes("{")):
            reader.say("" if reader.calls and not before.strip(" \t\r\n;") else before)
            return
        if not (yield from reader.take_call(before, known=True)):
            return


def _mistral(reader: CallReader) -> Steps[None]:
    marker = "[TOOL_CALLS]"
    while (yield from reader.say_until(marker)):
        before = marker + (yield from reader.take_spaces())
        is_list = yield from reader.take_if("[")
        before += "[" * is_list
        while (yield from reader.take_call(before)):
            before = yield from reader.take_spaces(" \t\r\n,")
            if not is_list or (yield from reader.take_if("]")):
                yield from reader.take_spaces()
                break


_NAME: Final = re.compile(r"\s*([^\[\]\n]+?)\s*(?:\[CALL_ID\]\w+)?(?:\[ARGS\])?\s*")
_USUAL_NAME: Final = re.compile(r"[\w.\-]+")


def _mistral_named(reader: CallReader) -> Steps[None]:
    marker = "[TOOL_CALLS]"
    while (yield from reader.say_until(marker)):
        head = yield from reader.take_until("{", at_most=_LONGEST_NAME)
        is_followed = yield from reader.comes("{")
        found = _NAME.fullmatch(head)
        name = found[1] if found is not None else ""
        is_name = name in reader.tools or _USUAL_NAME.fullmatch(name)
        if not (is_followed and is_name):
            reader.say(marker)
            reader.put_back(head)
        elif (yield from reader.take_call(marker + head, name)):
            yield from reader.take_spaces()


CALL_FORMS: Final[dict[str, Form]] = {
    "hermes": _hermes,
    "qwen_coder": _qwen_coder,
    "mistral": _mistral,
    "mistral_named": _mistral_named,
    "llama": _llama,
}


def form_of(prompt: str, tool: Tool, call: ToolCall) -> str | None:
    """Return the form in which a prompt shows a call, or `None` if it is none of these."""
    for name, form in CALL_FORMS.items():
        text = prompt
        if name == "llama":
            before, begin, after = prompt.partition(f'{{"name": "{call.name}", "parameters"')
            text = begin + after if before.rstrip().endswith(">") else ""
        reader = CallReader(form, (tool,))
        read = [*reader.feed(text), *reader.flush()]
        calls = [each for each in read if isinstance(each, ToolCall) and each.complete]
        if any(
            each.name == call.name and json.loads(each.arguments) == json.loads(call.arguments)
            for each in calls
        ):
            return name
    return None
