"""Grammars that hold an answer to tool calls, in llguidance's Lark.

See https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from rxllm.errors import BadRequestError, UnsupportedError
from rxllm.messages import Tool
from rxllm.models.local.guidance import HEAD, json_rule
from rxllm.models.local.json_schema import check_schema

__all__ = ["call_grammar", "combined_grammar"]

_MOST_BYTES: Final = 64 * 1024
_OPENINGS: Final = {
    "hermes": "<tool_call>",
    "qwen_coder": "<tool_call>",
    "llama": "",
    "mistral": "[TOOL_CALLS]",
    "mistral_named": "[TOOL_CALLS]",
}
_SHARED: Final = ("$defs", "definitions")
_TEXT_KEYWORDS: Final = {"type", "enum", "title", "description", "default", "examples"}
_NO_PARAMETERS: Final[dict[str, Any]] = {"properties": {}, "additionalProperties": False}


def call_grammar(
    form: str, tools: Sequence[Tool], *, several: bool, token: Callable[[str], str | None]
) -> str:
    """Return the rules of `calls`, and of `free`: text, calls, or text and then calls.

    Arguments follow the parameters of the tools.

    Args:
        form: one of `CALL_FORMS`.
        tools: the tools that may be called.
        several: more than one call is allowed.
        token: returns the rule for the control token with a text, if there is one.

    Raises:
        BadRequestError: the parameters of a tool aren't a valid schema.
        UnsupportedError: arguments can't be held to them.
    """
    opening = _OPENINGS[form]
    marker = token(opening)
    begin = marker or _quoted(opening)
    new_line = _quoted("\n")
    before, between, end = {
        "mistral": ('"["', '", "', '"]"'),
        "mistral_named": ('""', begin, '""'),
    }.get(form, ('""', f"{new_line} {begin}", '""'))
    again = f"({between} call)*" if several and form != "llama" else '""'
    lines = [
        f"calls: {begin} rest",
        f"rest: {before} call {again} {end}",
        "call: " + " | ".join([f"call_{number}" for number in range(len(tools))]),
        *_free_rules(opening, marker),
    ]
    for number, tool in enumerate(tools):
        _check_parameters(tool)
        arguments = token("[ARGS]") or _quoted("[ARGS]")
        lines += _rules_of(form, tool, f"call_{number}", arguments)
    grammar = "\n".join(lines) + "\n"
    if len(grammar) > _MOST_BYTES:
        raise UnsupportedError(
            f"the tools have {len(grammar)} characters: at most {_MOST_BYTES} are supported where "
            "a call is demanded",
            "tools",
        )
    return grammar


def _free_rules(opening: str, marker: str | None) -> list[str]:
    """Text that doesn't contain the opening of a call, or that ends with it."""
    if marker is not None:
        return [f"free: TEXT? ({marker} rest)?", r"TEXT: /(.|\n)+/"]
    if not opening:
        return []
    return [
        "free: TEXT | before rest",
        rf"TEXT: /(.|\n)*/ & ~/(.|\n)*{re.escape(opening)}(.|\n)*/",
        rf"before[suffix={_quoted(opening)}]: /(.|\n)*/",
    ]


def combined_grammar(
    *, calls: str | None, must_call: bool, answer: str | None, thinking_end: str | None
) -> str | None:
    """Return the grammar of a whole answer, or `None` if it is free.

    Args:
        calls: the rules of `calls` and `free`, or `None` for none.
        must_call: the answer must be calls.
        answer: the grammar of an answer without calls.
        thinking_end: the tag that ends the thinking with which the answer begins, if it does.
    """
    if must_call:
        answer = None
    elif calls is None and (answer is None or thinking_end is None):
        return answer
    rule = " | ".join(["calls"] * (calls is not None) + ["@answer"] * (answer is not None))
    if answer is None and not must_call:
        rule = "free"
    start = f"start: {rule}\n"
    if thinking_end is not None:
        start = (
            f"start: thinking SPACE ({rule})\n"
            f"thinking[suffix={_quoted(thinking_end)}]: /(.|\\n)*/\n"
            "SPACE: /[ \\n]{0,8}/\n"
        )
    grammars = [{"lark_grammar": HEAD + start + (calls or "")}]
    if answer is not None:
        grammars.append({"name": "answer", "lark_grammar": answer})
    return json.dumps({"grammars": grammars})


def _rules_of(form: str, tool: Tool, rule: str, marker: str) -> list[str]:
    """The rules of a call of one tool."""
    if form == "qwen_coder":
        return _rules_with_tags(tool, rule)
    parameters = _parameters(tool)
    if form == "mistral_named":
        named = f"{rule}: {_quoted(tool.name)} {marker} {rule}_x"
        return [named, json_rule(f"{rule}_x", parameters)]
    key = "parameters" if form == "llama" else "arguments"
    begin, end = f'{{"name": {_quoted(tool.name)}, "{key}": ', "}"
    if form == "hermes":
        begin, end = f"\n{begin}", f"{end}\n</tool_call>"
    return [
        f"{rule}: {_quoted(begin)} {rule}_x {_quoted(end)}",
        json_rule(f"{rule}_x", parameters),
    ]


def _rules_with_tags(tool: Tool, rule: str) -> list[str]:
    """Each parameter in tags: a string as it is, other values as JSON.

    Raises:
        UnsupportedError: a string has to follow a keyword that this form has no rule for.
    """
    parameters = _parameters(tool)
    required = parameters.get("required", ())
    properties = {**{name: {} for name in required}, **parameters.get("properties", {})}
    parts, lines = [], []
    for number, (name, schema) in enumerate(properties.items()):
        if schema is False:
            continue
        part = f"{rule}_{number}"
        parts.append(part if name in required else f"{part}?")
        begin = _quoted(f"<parameter={name}>\n")
        lines.append(f"{part}: {begin} {part}_x")
        lines += _value_rules(tool, name, {} if schema is True else schema, f"{part}_x")
    begin, end = f"\n<function={tool.name}>\n", "</function>\n</tool_call>"
    return [f"{rule}: {_quoted(begin)} {' '.join(parts)} {_quoted(end)}", *lines]


def _value_rules(tool: Tool, name: str, schema: dict[str, Any], rule: str) -> list[str]:
    end = "\n</parameter>\n"
    if schema.get("type") != "string":
        parameters = _parameters(tool)
        shared = {key: parameters[key] for key in _SHARED if key in parameters}
        return [f"{rule}: {rule}_y {_quoted(end)}", json_rule(f"{rule}_y", shared | schema)]
    texts = schema.get("enum", ())
    if unknown := schema.keys() - _TEXT_KEYWORDS:
        raise UnsupportedError(
            f"the parameters of the tool {tool.name!r}: the keyword {min(unknown)!r} isn't "
            f"supported for strings in this model's calls (at #/properties/{name})",
            "tools",
        )
    if texts and all(isinstance(text, str) for text in texts):
        return [f"{rule}: " + " | ".join(_quoted(text + end) for text in texts)]
    return [f"{rule}[suffix={_quoted(end)}]: /(.|\\n)*/"]


def _parameters(tool: Tool) -> dict[str, Any]:
    return {"type": "object"} | (tool.parameters or _NO_PARAMETERS)


def _check_parameters(tool: Tool) -> None:
    try:
        check_schema(_parameters(tool))
    except (BadRequestError, UnsupportedError) as error:
        raise type(error)(f"the parameters of the tool {tool.name!r}: {error}", "tools") from None


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
