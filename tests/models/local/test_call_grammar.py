"""Where a tool call is demanded, the answer is one: in the form of the model, with arguments that
follow the parameters of the tool."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llguidance import LLMatcher

from rxllm.chunks import Token, ToolCall
from rxllm.errors import BadRequestError, UnsupportedError
from rxllm.messages import Tool
from rxllm.models.local.call_forms import CALL_FORMS
from rxllm.models.local.call_grammar import call_grammar, combined_grammar
from rxllm.models.local.call_reader import CallReader
from rxllm.models.local.guidance import answer_grammar
from rxllm.requests import as_request
from tests.models.local.byte_vocabulary import BYTES, accepts, random_answer

POINT = {
    "type": "object",
    "properties": {"x": {"$ref": "#/$defs/n"}, "y": {"$ref": "#/$defs/n"}},
    "required": ["x"],
    "additionalProperties": False,
    "$defs": {"n": {"type": "integer", "minimum": 0, "maximum": 99}},
}
NAMED: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 9},
        "kind": {"type": "string", "enum": ["a", "b c"]},
        "on": {"type": "boolean"},
    },
    "required": ["kind"],
    "additionalProperties": False,
}
TOOLS = (Tool("move", "", POINT), Tool('ca"ll', "", NAMED), Tool("stop"))
NAMED_FREELY = {**NAMED, "properties": {**NAMED["properties"], "name": {"type": "string"}}}
PLAIN_TOOLS = (TOOLS[0], Tool('ca"ll', "", NAMED_FREELY), TOOLS[2])


def tools_of(form: str) -> tuple[Tool, ...]:
    """Tools whose arguments can be held to their parameters in a form."""
    return PLAIN_TOOLS if form == "qwen_coder" else TOOLS


def no_token(text: str) -> str | None:
    return None


def compiled(
    form: str = "hermes",
    tools: tuple[Tool, ...] | None = None,
    *,
    several: bool = True,
    must_call: bool = True,
    answer: Any = None,
    thinking_end: str | None = None,
) -> LLMatcher:
    grammar = combined_grammar(
        calls=call_grammar(
            form, tools_of(form) if tools is None else tools, several=several, token=no_token
        ),
        must_call=must_call,
        answer=answer_grammar(as_request("Hi", response_format=answer)),
        thinking_end=thinking_end,
    )
    assert grammar is not None
    return BYTES.compile(grammar).result(timeout=20)


def calls_in(form: str, text: str, tools: tuple[Tool, ...] = TOOLS) -> list[tuple[str, Any]]:
    """The calls of an answer, which has no other text."""
    reader = CallReader(CALL_FORMS[form], tools)
    chunks = [*reader.feed(text), *reader.flush()]
    assert [each for each in chunks if isinstance(each, Token)] == []
    complete = [each for each in chunks if isinstance(each, ToolCall) and each.complete]
    return [(call.name, json.loads(call.arguments)) for call in complete]


@pytest.mark.parametrize("form", CALL_FORMS)
@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32), which=st.sampled_from([slice(3), slice(1), slice(1, 2)]))
def test_each_finished_answer_is_calls_of_the_tools(form: str, seed: int, which: slice) -> None:
    tools = tools_of(form)[which]
    answer = random_answer(compiled(form, tools), seed)
    if answer is None:
        return
    calls = calls_in(form, answer, tools)
    assert calls
    parameters = {tool.name: tool.parameters for tool in tools}
    for name, arguments in calls:
        jsonschema.validate(arguments, parameters[name])


@pytest.mark.parametrize("form", CALL_FORMS)
def test_one_call_alone_where_only_one_is_asked_for(form: str) -> None:
    for seed in range(5):
        answer = random_answer(compiled(form, several=False), seed)
        assert answer is None or len(calls_in(form, answer)) == 1


def test_a_call_or_an_answer_in_the_given_form() -> None:
    matcher = compiled(must_call=False, answer={"type": "integer"})
    assert accepts(matcher, "12")
    assert accepts(matcher, '<tool_call>\n{"name": "move", "arguments": {"x": 1}}\n</tool_call>')
    assert not accepts(matcher, "twelve")


def test_where_a_call_is_demanded_there_is_no_other_answer() -> None:
    matcher = compiled(must_call=True, answer={"type": "integer"})
    assert not accepts(matcher, "12")


@pytest.mark.parametrize("thought", ["", "hm\n", "a < b </thin", '{"name": "move"}'])
def test_thinking_comes_first_where_the_answer_begins_inside(thought: str) -> None:
    call = '<tool_call>\n{"name": "move", "arguments": {"x": 1}}\n</tool_call>'
    matcher = compiled(thinking_end="</think>")
    assert accepts(matcher, f"{thought}</think>\n\n{call}")
    assert not accepts(matcher, f"{thought}</think>\n\n{thought}.")
    integer = answer_grammar(as_request("Hi", response_format={"type": "integer"}))
    grammar = combined_grammar(calls=None, must_call=False, answer=integer, thinking_end="</think>")
    assert grammar is not None
    matcher = BYTES.compile(grammar).result(timeout=20)
    assert accepts(matcher, f"{thought}</think>12")


FREE = {
    "hermes": '<tool_call>\n{"name": "move", "arguments": {"x": 1}}\n</tool_call>',
    "qwen_coder": "<tool_call>\n<function=move>\n<parameter=x>\n1\n</parameter>\n</function>\n"
    "</tool_call>",
    "mistral": '[TOOL_CALLS][{"name": "move", "arguments": {"x": 1}}]',
    "mistral_named": '[TOOL_CALLS]move[ARGS]{"x": 1}',
}


@pytest.mark.parametrize("form", FREE)
def test_without_a_demand_an_answer_is_text_and_what_begins_as_a_call_is_one(form: str) -> None:
    matcher = compiled(form, must_call=False)
    call = FREE[form]
    opening = "[TOOL_CALLS]" if "mistral" in form else "<tool_call>"
    right = ["", "Hello.", "a < b, [1] <tool_", opening[:-1], call, f"Let me see.\n{call}"]
    assert [text for text in right if not accepts(matcher, text)] == []
    wrong = [opening, f"{opening} no call", call.replace("move", "fly"), call.replace("1", '"1"')]
    assert [text for text in wrong if accepts(matcher, text)] == []


def test_text_before_a_control_token_that_begins_a_call() -> None:
    grammar = combined_grammar(
        calls=call_grammar("mistral", TOOLS, several=True, token=lambda text: "<[256]>"),
        must_call=False,
        answer=None,
        thinking_end=None,
    )
    assert grammar is not None
    assert "free: TEXT? (<[256]> rest)?" in grammar


def test_a_marker_is_its_control_token_if_there_is_one() -> None:
    rules = call_grammar("mistral", TOOLS[:1], several=False, token=lambda text: f"<[{len(text)}]>")
    assert rules.startswith('calls: <[12]> rest\nrest: "[" call')


@pytest.mark.parametrize(
    ("parameters", "kind"),
    [
        ({"properties": {"a": {"not": {}}}}, UnsupportedError),
        ({"properties": {"a": {"type": "text"}}}, BadRequestError),
    ],
)
def test_parameters_that_cannot_be_promised_name_the_tool(
    parameters: dict[str, Any], kind: type[Exception]
) -> None:
    with pytest.raises(kind, match=r"the parameters of the tool 'odd': .*#/properties/a") as caught:
        compiled(tools=(Tool("odd", "", parameters),))
    assert type(caught.value) is kind
    assert getattr(caught.value, "field", None) == "tools"


def test_too_many_tools_are_refused() -> None:
    tools = tuple([Tool(f"tool{number}", "", NAMED) for number in range(400)])
    with pytest.raises(UnsupportedError, match="at most 65536"):
        compiled(tools=tools)


def test_what_a_text_in_tags_cannot_be_held_to_is_unsupported() -> None:
    short = {"properties": {"name": {"type": "string", "maxLength": 3}}}
    with pytest.raises(UnsupportedError, match=r"'maxLength' isn't .* \(at #/properties/name\)"):
        compiled("qwen_coder", (Tool("odd", "", short),))


def test_parameters_of_all_kinds_in_tags() -> None:
    odd = {"properties": {"a": True, "b": False}, "required": ["c"]}
    matcher = compiled("qwen_coder", (Tool("odd", "", odd),))
    begin, end = "<tool_call>\n<function=odd>\n", "</function>\n</tool_call>"
    third = "<parameter=c>\n[1]\n</parameter>\n"
    assert accepts(matcher, f"{begin}{third}{end}")
    assert not accepts(matcher, f"{begin}{end}")
