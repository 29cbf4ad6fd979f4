"""Tool calls in the texts of local models: the same calls, however the text is cut."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxllm.chunks import Token, ToolCall
from rxllm.messages import Tool
from rxllm.models.local.call_forms import CALL_FORMS, form_of
from rxllm.models.local.call_reader import CallReader
from tests.operators.texts import cut_texts

TOOLS = (
    Tool("f", parameters={"properties": {"a": {"type": "string"}, "b": {"type": "integer"}}}),
    Tool("g"),
)
Calls = list[tuple[str, Any]]


def read(form: str, pieces: list[str]) -> tuple[str, Calls, list[ToolCall]]:
    """The text, the complete calls with their arguments, and all chunks of calls."""
    reader = CallReader(CALL_FORMS[form], TOOLS)
    chunks = [chunk for piece in pieces for chunk in reader.feed(piece)] + reader.flush()
    calls = [chunk for chunk in chunks if isinstance(chunk, ToolCall)]
    complete = [(call.name, json.loads(call.arguments)) for call in calls if call.complete]
    assert reader.calls == len(complete)
    return "".join(each.text for each in chunks if isinstance(each, Token)), complete, calls


CASES: list[tuple[str, str, str, Calls]] = [
    (
        "hermes",
        'Let me see.\n<tool_call>\n{"name": "f", "arguments": {"a": "</tool_call> {\\"x"}}\n'
        '</tool_call>\n<tool_call>{"arguments": {"b": [1, {}]}, "name": "g"}</tool_call>\n',
        "Let me see.\n",
        [("f", {"a": '</tool_call> {"x'}), ("g", {"b": [1, {}]})],
    ),
    ("hermes", "a <tool_call> none </tool_call> b", "a <tool_call> none </tool_call> b", []),
    ("hermes", '<tool_call></tool_call>: <tool_call>{"name": "g"}', "<tool_call></tool_call>: ",
     [("g", {})]),
    ("hermes", 'x<tool_call>{"nam', 'x<tool_call>{"nam', []),
    ("hermes", '<tool_call>{"name": "f", "arguments": "{\\"a\\": \\"1\\"}"}', "",
     [("f", {"a": "1"})]),
    ("hermes", '<tool_call>{"name": "f", "arguments": [1]}',
     '<tool_call>{"name": "f", "arguments": [1]}', []),
    ("hermes", '<tool_call>{"name": "f", "arguments": {"a": "two\nlines"}}', "",
     [("f", {"a": "two\nlines"})]),
    (
        "qwen_coder",
        "ok\n<tool_call>\n<function=f>\n<parameter=a>\n12\n3\n</parameter>\n<parameter=b>\n12\n"
        "</parameter>\n</function>\n</tool_call>\n<tool_call><function=g></function></tool_call>",
        "ok\n",
        [("f", {"a": "12\n3", "b": 12}), ("g", {})],
    ),
    ("qwen_coder", "<tool_call>\n<function=f>\n<para", "<tool_call>\n<function=f>\n<para", []),
    (
        "llama",
        '{"name": "f", "parameters": {"a": "x;"}}; {"name": "g", "parameters": {}}',
        "",
        [("f", {"a": "x;"}), ("g", {})],
    ),
    (
        "llama",
        '<|python_tag|>{"type": "function", "name": "f", "parameters": {"b": 1}}',
        "",
        [("f", {"b": 1})],
    ),
    ("llama", ' {"name": "Mia", "age": 3} ', ' {"name": "Mia", "age": 3} ', []),
    ("llama", '{"title": 1}', '{"title": 1}', []),
    ("llama", "<|python_tag|>print(1)", "<|python_tag|>print(1)", []),
    ("llama", "Hello {}", "Hello {}", []),
    (
        "mistral",
        'Hm. [TOOL_CALLS] [{"name": "f", "arguments": {"a": "]"}}, {"name": "g", "arguments": {}}]',
        "Hm. ",
        [("f", {"a": "]"}), ("g", {})],
    ),
    ("mistral", "[TOOL_CALLS] hm", "[TOOL_CALLS] hm", []),
    (
        "mistral_named",
        '[TOOL_CALLS]f[ARGS]{"a": "1"}[TOOL_CALLS]g[CALL_ID]abc123def[ARGS]{}',
        "",
        [("f", {"a": "1"}), ("g", {})],
    ),
    ("mistral_named", "[TOOL_CALLS] !! {", "[TOOL_CALLS] !! {", []),
]  # fmt: skip


@pytest.mark.parametrize(("form", "text", "said", "calls"), CASES)
def test_a_text_is_read_as_text_and_calls(form: str, text: str, said: str, calls: Calls) -> None:
    assert read(form, [text])[:2] == (said, calls)
    assert read(form, [*text])[:2] == (said, calls)


@given(case=st.sampled_from(CASES), data=st.data())
def test_the_calls_are_the_same_however_the_text_is_cut(
    case: tuple[str, str, str, Calls], data: st.DataObject
) -> None:
    form, text, said, calls = case
    assert read(form, data.draw(cut_texts(st.just(text)))[1])[:2] == (said, calls)


@given(form=st.sampled_from([*CALL_FORMS]), text=st.text('{}[]<>"\\/ ,:fn\n'), data=st.data())
def test_text_is_never_lost(form: str, text: str, data: st.DataObject) -> None:
    said, _, calls = read(form, data.draw(cut_texts(st.just(text)))[1])
    assert said == text
    assert calls == []


@pytest.mark.parametrize("form", ["hermes", "mistral", "mistral_named", "llama"])
def test_arguments_are_passed_on_as_they_arrive(form: str) -> None:
    begin = {
        "hermes": '<tool_call>{"name": "f", "arguments": ',
        "mistral": '[TOOL_CALLS][{"name": "f", "arguments": ',
        "mistral_named": "[TOOL_CALLS]f[ARGS]",
        "llama": '{"name": "f", "parameters": ',
    }[form]
    text, complete, calls = read(form, [begin, '{"a": "one', " two", " th"])
    assert (text, complete) == ("", [])
    assert [call.arguments for call in calls] == [
        '{"a": "one',
        '{"a": "one two',
        '{"a": "one two th',
    ]
    assert {call.id for call in calls} == {calls[0].id}
    assert not any(call.complete for call in calls)


def test_a_long_call_is_not_passed_on_for_each_of_its_characters() -> None:
    text = '<tool_call>{"name": "f", "arguments": {"a": "' + "x" * 20_000
    _, _, calls = read("hermes", [*text])
    assert len(calls) < 200
    assert len(calls[-1].arguments) == 20_007, "what there is at the end is all passed on"


@pytest.mark.parametrize("cut", [1, 1000])
def test_a_call_that_turns_out_to_be_none_is_text_in_the_end(cut: int) -> None:
    text = '<tool_call>{"name": "f", "arguments": {"a": 1}, bad}</tool_call> Sorry.'
    good = '<tool_call>{"name": "g"}</tool_call>'
    pieces = [text[at : at + cut] for at in range(0, len(text), cut)]
    said, complete, calls = read("hermes", [*pieces, good])
    assert said == text
    assert complete == [("g", {})]
    assert len({call.id for call in calls}) == len({call.name for call in calls})


@pytest.mark.parametrize("arguments", ['{"a": NaN}', '"' + "[" * 5000 + '"', "[" * 5000])
def test_what_is_no_json_is_text(arguments: str) -> None:
    text = f'<tool_call>{{"name": "f", "arguments": {arguments}}}'
    said, complete, _ = read("hermes", [text])
    assert (said, complete) == (text, [])


def test_a_value_in_tags_that_is_nested_too_deeply_is_text() -> None:
    deep = "[" * 5000
    text = f"<tool_call><function=f><parameter=b>{deep}</parameter></function></tool_call>"
    assert read("qwen_coder", [text])[1] == [("f", {"b": deep})]


def test_json_that_is_no_call_is_passed_on_as_it_arrives() -> None:
    reader = CallReader(CALL_FORMS["llama"], TOOLS)
    assert reader.feed('{"answer": "some words') == [Token('{"answer": "some words')]


def test_ids_are_of_nine_letters_and_digits() -> None:
    """Mistral's templates accept no other."""
    _, _, calls = read("hermes", ['<tool_call>{"name": "g"}</tool_call>' * 2])
    ids = {call.id for call in calls}
    assert len(ids) == 2
    assert all(len(id_) == 9 and id_.isalnum() and id_.isascii() for id_ in ids)
    assert [call.index for call in calls] == [0, 1]


CALL = ToolCall("abcdefghi", "g", '{"x": "y"}')
PROMPTS = {
    "hermes": 'in <tool_call></tool_call>:\n<tool_call>{"name": <name>}</tool_call>\n'
    '<tool_call>\n{"name": "g", "arguments": {"x": "y"}}\n</tool_call><|end|>',
    "qwen_coder": "<tool_call>\n<function=example>\n</function>\n</tool_call>, <tool_call>\n"
    "<function=g>\n<parameter=x>\ny\n</parameter>\n</function>\n</tool_call>",
    "mistral": '[INST] Hi[/INST][TOOL_CALLS] [{"name": "g", "arguments": {"x": "y"}, "id": "a"}]',
    "mistral_named": '[INST]Hi[/INST][TOOL_CALLS]g[ARGS]{"x": "y"}</s>',
    "llama": '<|end_header_id|>\n\n{"name": "g", "parameters": {"x": "y"}}<|eot_id|>',
}


@pytest.mark.parametrize("form", CALL_FORMS)
def test_the_form_is_found_in_a_prompt_that_shows_a_call(form: str) -> None:
    assert form_of(PROMPTS[form], Tool("g"), CALL) == form


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "<tool_call>g\n<arg_key>x</arg_key>\n<arg_value>y</arg_value>\n</tool_call>",
        '<tool_calls>[{"name": "g", "arguments": {"x": "y"}}]</tool_calls>',
        '<|tool▁call▁begin|>g<|tool▁sep|>{"x": "y"}',
    ],
)
def test_other_forms_are_unknown(prompt: str) -> None:
    assert form_of(prompt, Tool("g"), CALL) is None
