"""Chat templates render conversations as prompts, in a sandbox."""

from __future__ import annotations

import sys

import jinja2
import pytest

from rxllm.errors import BadRequestError, ModelLoadError, UnsupportedError
from rxllm.messages import Message
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
