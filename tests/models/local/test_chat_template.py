"""Chat templates render conversations as prompts, in a sandbox."""

from __future__ import annotations

import sys

import jinja2
import pytest

from rxllm.chunks import ToolCall
from rxllm.errors import BadRequestError, ModelLoadError, UnsupportedError
from rxllm.messages import Message, Tool
from rxllm.models.local.chat_template import ChatTemplate
from rxllm.requests import as_request

CHAT = (
    "{{ bos_token }}{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{{ eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
USER = Message("user", "Hi")


def render(source: str | None, *messages: Message) -> str:
    return ChatTemplate(source, bos_token="<s>", eos_token="</s>").render(as_request(messages))


def test_a_conversation_ends_where_the_answer_begins() -> None:
    system = Message("system", "Be brief.")
    assert render(CHAT, system, USER) == "<s><system>Be brief.</s><user>Hi</s><assistant>"


def test_a_partial_answer_is_continued() -> None:
    assert render(CHAT, USER, Message("assistant", "Hel")) == "<s><user>Hi</s><assistant>Hel"


def test_without_a_template_the_contents_are_the_prompt() -> None:
    assert render(None, USER, Message("assistant", "Hel")) == "Hi\nHel"
    assert render(None, USER) == "Hi"


def test_the_names_of_transformers_are_available() -> None:
    source = "{{ strftime_now('%Y') | length }}{{ messages | tojson }}{% break %}"
    source = "{% for _ in [1, 2] %}" + source + "{% endfor %}"
    assert render(source, USER) == '4[{"role": "user", "content": "Hi"}]'


def test_block_lines_leave_no_blank_lines() -> None:
    assert (
        render("{% if true %}\n  {% for m in messages %}\nx\n  {% endfor %}\n{% endif %}", USER)
        == "x\n"
    )


def test_messages_rejected_by_the_template_are_a_bad_request() -> None:
    with pytest.raises(BadRequestError, match="roles must alternate"):
        render("{{ raise_exception('roles must alternate') }}", USER)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ | length }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__['os'].getcwd() }}",
    ],
)
def test_the_sandbox_holds(source: str) -> None:
    # It works outside of the sandbox.
    jinja2.Environment(autoescape=True).from_string(source).render(messages=[])
    with pytest.raises(BadRequestError, match="unsafe"):
        ChatTemplate(source).render(as_request([USER]))


def test_an_invalid_template_is_reported_at_load() -> None:
    with pytest.raises(ModelLoadError, match="chat template"):
        ChatTemplate("{% for %}")


def test_what_is_not_given_is_none_and_filters_take_all_their_arguments() -> None:
    assert render("{{ tools is none }} {{ documents is none }}", USER) == "True True"
    source = "{{ messages[0] | tojson(separators=(',', ':'), sort_keys=true) }}"
    assert render(source, USER) == '{"content":"Hi","role":"user"}'
    assert render("{{ 'é' | tojson(ensure_ascii=true) }}", USER) == '"\\u00e9"'


def test_the_block_of_generations_is_its_content() -> None:
    source = "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}"
    assert render(source, USER) == "Hi"


def test_a_template_may_want_parts_with_types() -> None:
    source = (
        "{% for m in messages %}{% for part in m.content %}{% if part.type == 'text' %}"
        "[{{ part.text }}]{% endif %}{% endfor %}{% endfor %}"
    )
    assert render(source, USER, Message("user", "ho")) == "[Hi][ho]"
    both = "{% if messages[0].content is string %}{{ messages[0].content }}{% endif %}"
    assert render(both, USER) == "Hi"


@pytest.mark.parametrize(
    "loop",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{{ b }}{% endfor %}{% endfor %}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    ],
)
def test_a_template_that_never_ends_is_stopped(loop: str) -> None:
    source = "{% if messages | length > 1 %}" + loop + "{% endif %}{{ messages[0].content }}"
    template = ChatTemplate(source)
    assert template.render(as_request([USER])) == "Hi"
    with pytest.raises(UnsupportedError, match="more than 1000000 steps"):
        template.render(as_request([USER, USER]))
    assert template.render(as_request([USER])) == "Hi"


def test_a_debugger_goes_on_after_a_template() -> None:
    before = sys.gettrace()
    render(CHAT, USER)
    assert sys.gettrace() is before


TOOL = Tool("look", "Look up", {"type": "object", "properties": {"what": {"type": "string"}}})
CALL = ToolCall("call_1", "look", '{"what": "a \\"star\\""}')
DIALOGUE = [
    USER,
    Message("assistant", "", tool_calls=(CALL,)),
    Message("tool", "42", tool_call_id="call_1"),
]
OBJECT = (
    "{% if tools %}{% for t in tools %}[{{ t | tojson }}]{% endfor %}{% endif %}"
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% for c in m.tool_calls %}"
    '<tool_call>{"name": "{{ c.function.name }}", "arguments": '
    "{{ ARGUMENTS }}}</tool_call>{% endfor %}</s>{% endfor %}"
)


class TestTools:
    @pytest.mark.parametrize(
        "arguments", ["c.function.arguments | tojson", "'' + c.function.arguments"]
    )
    def test_arguments_are_an_object_or_text_as_the_template_wants(self, arguments: str) -> None:
        template = ChatTemplate(OBJECT.replace("ARGUMENTS", arguments))
        prompt = template.render(as_request(DIALOGUE, tools=[TOOL]))
        assert template.calls == "hermes"
        assert '{"name": "look", "arguments": {"what": "a \\"star\\""}}</tool_call>' in prompt
        assert '[{"type": "function", "function": {"name": "look", "description":' in prompt
        assert "<tool>42</s>" in prompt

    def test_without_tools_the_template_gets_none(self) -> None:
        assert render("{{ tools is none }}", USER) == "True"
        source = OBJECT.replace("ARGUMENTS", "c.function.arguments | tojson")
        template = ChatTemplate(source)
        prompt = template.render(as_request([USER], tools=[TOOL], tool_choice="none"))
        assert prompt == "<user>Hi</s>"

    @pytest.mark.parametrize(
        "source",
        [
            None,
            CHAT,
            "{{ tools }}" + CHAT,
            "{% for m in messages %}{{ m.content }}{% for c in m.tool_calls %}"
            "<tool_call>{{ c.function.name }}<arg>{{ c.function.arguments | tojson }}"
            "{% endfor %}{% endfor %}",
        ],
    )
    def test_a_template_without_a_known_form_has_no_tools(self, source: str | None) -> None:
        template = ChatTemplate(source)
        for request in (as_request([USER], tools=[TOOL]), as_request(DIALOGUE)):
            with pytest.raises(UnsupportedError, match="no known form for tools"):
                template.render(request)

    def test_ids_have_nine_letters_and_digits_and_results_the_name_of_their_call(self) -> None:
        source = (
            "{% for m in messages %}{% for c in m.tool_calls %}"
            "<tool_call>{{ c.function | tojson }}</tool_call>|{{ c.id }}|{% endfor %}"
            "{% if m.role == 'tool' %}{{ m.name }}|{{ m.tool_call_id }}|{{ m.content }}{% endif %}"
            "{% endfor %}"
        )
        _, call_id, name, result_id, content = render(source, *DIALOGUE).split("|")
        assert len(call_id) == 9
        assert call_id.isalnum()
        assert (name, result_id, content) == ("look", call_id, "42")

    def test_texts_of_tools_and_calls_are_changed_as_contents_are(self) -> None:
        source = OBJECT.replace("ARGUMENTS", "c.function.arguments | tojson")
        prompt = ChatTemplate(source).render(as_request(DIALOGUE, tools=[TOOL]), str.upper)
        assert '"WHAT": "A \\"STAR\\""' in prompt
        assert "LOOK UP" in prompt


THINKS = "{% for m in messages %}<{{ m.role }}>{{ m.content.split('</think>')[-1] }}{% endfor %}"
SWITCH = "{% if enable_thinking is false %}<think></think>{% endif %}"


class TestThinking:
    def test_a_prompt_may_end_inside(self) -> None:
        template = ChatTemplate(THINKS + "<assistant><think>\n")
        assert template.thinking == ("<think>", "</think>")
        assert template.begins_inside(template.render(as_request([USER])))
        other = ChatTemplate(THINKS + "<assistant>")
        assert not other.begins_inside(other.render(as_request([USER])))

    def test_the_beginning_of_an_answer_is_outside(self) -> None:
        template = ChatTemplate(THINKS + "<assistant><think>\n")
        prompt = template.render(as_request([USER, Message("assistant", "Hel")]))
        assert prompt == "<user>Hi<assistant><think>\n</think>\n\nHel"

    def test_it_can_be_switched_off_where_the_template_has_a_switch(self) -> None:
        template = ChatTemplate(THINKS + SWITCH)
        assert template.render(as_request([USER], reasoning="none")).endswith("<think></think>")
        assert template.render(as_request([USER], reasoning="low")) == "<user>Hi"
        with pytest.raises(UnsupportedError, match="always thinks"):
            ChatTemplate(THINKS).render(as_request([USER], reasoning="none"))

    def test_a_model_that_does_not_think_says_so(self) -> None:
        assert ChatTemplate(CHAT).thinking is None
        assert render(CHAT, USER).endswith("<assistant>")
        assert ChatTemplate(CHAT).render(as_request([USER], reasoning="none"))
        with pytest.raises(UnsupportedError, match="doesn't think"):
            ChatTemplate(CHAT).render(as_request([USER], reasoning="high"))

    def test_an_effort_is_passed_on(self) -> None:
        template = ChatTemplate("{{ reasoning_effort }}" + CHAT)
        assert template.render(as_request([USER], reasoning="high")).startswith("high")

    def test_a_switch_of_another_name_is_used_and_one_without_effect_is_noticed(self) -> None:
        other = "{% if thinking %}<|thinks|>{% endif %}" + CHAT
        template = ChatTemplate(other + "{# <think> #}")
        assert "<|thinks|>" in template.render(as_request([USER], reasoning="low"))
        assert "<|thinks|>" not in template.render(as_request([USER], reasoning="none"))
        deaf = ChatTemplate(THINKS + "{# enable_thinking #}<assistant><think>")
        with pytest.raises(UnsupportedError, match="always thinks"):
            deaf.render(as_request([USER], reasoning="none"))
