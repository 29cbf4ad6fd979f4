"""Text is text: control tokens come from the chat template alone, never from what it is given.

Where a message contains the text of a control token, a mark is put into it before the template is
rendered, so that it differs from those of the template. The prompt is then cut at the template's
control tokens, and what lies between them is tokenized without any.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec

from rxllm.errors import BadRequestError, UnsupportedError
from rxllm.models.local.answer_form import AnswerForm
from rxllm.models.local.call_grammar import call_grammar
from rxllm.models.local.chat_template import ChatTemplate
from rxllm.requests import Request

__all__ = ["ControlToken", "LocalPrompt", "PromptTokenizer"]

_MARKS: Final = tuple([chr(code) for code in range(0xFDD0, 0xFDF0)])
"""Noncharacters of Unicode, which texts don't contain."""

_SHORTEST: Final = 2  # characters; a mark must fit in


@dataclass(frozen=True, slots=True)
class ControlToken:
    """A control token: its id, its text, and whether it takes the white space around it along."""

    id: int
    text: str
    takes_left: bool = False
    takes_right: bool = False


class LocalPrompt(NamedTuple):
    """A prompt, and how its answer is written.

    Attributes:
        tokens: the tokens of the prompt.
        form: how the answer is read.
        calls: the grammar's rules for tool calls, if there are tools.
    """

    tokens: list[int]
    form: AnswerForm
    calls: str | None


class PromptTokenizer:
    """Turns requests into prompts.

    Args:
        template: the chat template.
        tool_template: the one for requests with tools, or `None` if it is the same.
        controls: the control tokens of the vocabulary.
        encode: tokenizes a text with control tokens.
        encode_plain: tokenizes a text without any: they are ordinary text.
        first: the tokens that a prompt begins with, unless it begins with `first_text`.
        first_text: the text of these tokens.
    """

    def __init__(
        self,
        template: ChatTemplate,
        controls: Iterable[ControlToken],
        encode: Callable[[str], list[int]],
        encode_plain: Callable[[str], list[int]],
        *,
        first: list[int],
        first_text: str,
        tool_template: ChatTemplate | None = None,
    ) -> None:
        self._template = template
        self._tool_template = tool_template or template
        self._controls = {each.text: each for each in controls if len(each.text) >= _SHORTEST}
        by_length = sorted(self._controls, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, by_length)) or r"(?!)")
        self._prefixes = _parts_of(by_length, lambda text, length: text[:length])
        self._suffixes = _parts_of(by_length, lambda text, length: text[-length:])
        self._longest = max(map(len, by_length), default=0)
        self._encode = encode
        self._encode_plain = encode_plain
        self._first = first
        self._first_text = first_text

    def prompt(self, request: Request) -> LocalPrompt:
        """Return the prompt for a request.

        Raises:
            UnsupportedError: the template rejects these messages, or has no place for tools.
        """
        mark = _mark_for(request)
        has_tools = bool(request.tools) or any(each.role == "tool" for each in request.messages)
        template = self._tool_template if has_tools else self._template
        prompt = template.render(request, lambda text: self._marked(text, mark))
        begins = bool(self._first_text) and prompt.startswith(self._first_text)
        tokens = [] if begins else [*self._first]
        tokens += self._encode(prompt) if mark not in prompt else self._cut(prompt, mark)
        calls = template.calls if request.tools and request.tool_choice != "none" else None
        form = AnswerForm(template.thinking, template.begins_inside(prompt), calls)
        return LocalPrompt(tokens, form, self._calls(form, request))

    def _calls(self, form: AnswerForm, request: Request) -> str | None:
        choice = request.tool_choice or "auto"
        if form.calls is None:
            return None
        several = choice in ("auto", "required") and request.parallel_tool_calls is not False
        chosen = [tool for tool in request.tools if choice in ("auto", "required", tool.name)]
        is_promise = choice != "auto" or request.response_format is not None
        if is_promise or "grammar" in request.extra:
            if choice == "auto" and form.calls == "llama":
                raise UnsupportedError(
                    "the model writes tool calls as JSON, so an answer in a given form can't be "
                    "told from one: pass tool_choice, or no tools"
                )
            return call_grammar(form.calls, chosen, several=several, token=self._rule_of)
        if form.calls == "llama" or any(tag in self._controls for tag in form.thinking or ()):
            return None  # where a call begins, or that it thinks first, no grammar can say
        with suppress(BadRequestError):  # it wasn't promised
            return call_grammar(form.calls, chosen, several=several, token=self._rule_of)
        return None

    def _rule_of(self, text: str) -> str | None:
        control = self._controls.get(text)
        return None if control is None else f"<[{control.id}]>"

    def _marked(self, text: str, mark: str) -> str:
        """Put a mark into each control token, and beside a part of one at the ends."""
        text = text.replace(mark, "")
        while self._pattern.search(text) is not None:  # again, since they may overlap
            text = self._pattern.sub(lambda found: found[0][0] + mark + found[0][1:], text)
        lengths = range(_SHORTEST, self._longest)
        if any(text[-length:] in self._prefixes for length in lengths):
            text += mark
        if any(text[:length] in self._suffixes for length in lengths):
            text = mark + text
        return text

    def _cut(self, prompt: str, mark: str) -> Iterator[int]:
        place, is_taken = 0, False
        for found in [*self._pattern.finditer(prompt), None]:
            control = self._controls[found[0]] if found is not None else None
            text = prompt[place : found.start() if found is not None else None]
            text = text.lstrip() if is_taken else text
            text = text.rstrip() if control is not None and control.takes_left else text
            if text := text.replace(mark, ""):
                yield from self._encode_plain(text)
            if found is not None and control is not None:
                yield control.id
                place, is_taken = found.end(), control.takes_right


def _parts_of(texts: Iterable[str], part: Callable[[str, int], str]) -> frozenset[str]:
    """The beginnings or the ends of texts, but for single characters and for all of them."""
    return frozenset([part(text, length) for text in texts for length in range(2, len(text))])


def _mark_for(request: Request) -> str:
    """Return a mark that no text of a request contains, if there is one."""
    texts = [message.text for message in request.messages]
    texts += [call.name + call.arguments for each in request.messages for call in each.calls]
    texts += [msgspec.json.encode(tool).decode() for tool in request.tools]
    text = "".join(texts)
    return next((mark for mark in _MARKS if mark not in text), _MARKS[0])
