"""What the readers of tool calls are made of: a text that arrives in pieces, read by generators.

A generator is resumed when more text has arrived, or none will; it yields when it needs more.
"""

from __future__ import annotations

import json
import secrets
import string
from collections.abc import Callable, Generator, Sequence
from typing import Any, Final, NoReturn, TypeAlias, TypeVar

from rxllm.chunks import Token, ToolCall
from rxllm.messages import Tool
from rxllm.text.json_scanner import ObjectScanner
from rxllm.text.tags import held_length

__all__ = ["CallReader", "Form", "Read", "Steps", "loads"]

_T = TypeVar("_T")
Read: TypeAlias = Token | ToolCall
Steps: TypeAlias = Generator[None, None, _T]
Form: TypeAlias = Callable[["CallReader"], Steps[None]]
"""Reads a whole answer; when it returns, the rest is text."""

_ARGUMENTS: Final = ("arguments", "parameters")
_ALPHABET: Final = string.ascii_letters + string.digits
_GROWTH: Final = 16
_ID_LENGTH: Final = 9  # Mistral's templates take no other


class CallReader:
    """Reads the text of one answer as text and tool calls.

    Args:
        form: how the model writes calls.
        tools: the tools that it was offered.
    """

    def __init__(self, form: Form, tools: Sequence[Tool]) -> None:
        self.tools: Final = {tool.name: tool for tool in tools}
        self.calls: int = 0
        """Number of complete calls."""

        self._held = ""
        self._has_ended = False
        self._read: list[Read] = []
        self._id = ""
        self._index = 0
        self._steps = self._all(form)
        next(self._steps)

    def feed(self, text: str) -> list[Read]:
        """Read more text, and return what it decides on."""
        self._held += text
        next(self._steps)
        return self._taken()

    def flush(self) -> list[Read]:
        """Return what is still held, at the end of the answer."""
        self._has_ended = True
        for _ in self._steps:
            pass
        return self._taken()

    def _taken(self) -> list[Read]:
        read, self._read = self._read, []
        return read

    def _all(self, form: Form) -> Steps[None]:
        yield
        yield from form(self)
        while not self._has_ended:
            self.say(self._take(len(self._held)))
            yield
        self.say(self._take(len(self._held)))

    def _take(self, length: int) -> str:
        taken, self._held = self._held[:length], self._held[length:]
        return taken

    def say(self, text: str) -> None:
        """Pass on text."""
        if text:
            self._read.append(Token(text))

    def call(self, name: str, arguments: str, *, complete: bool = True) -> None:
        """Pass on a call."""
        self._id = self._id or "".join(secrets.choice(_ALPHABET) for _ in range(_ID_LENGTH))
        self._read.append(ToolCall(self._id, name, arguments, self._index, complete))
        if complete:
            self.calls += 1
            self._index += 1
            self._id = ""

    def put_back(self, text: str) -> None:
        """Read text again that was taken."""
        self._held = text + self._held

    def say_until(self, tag: str) -> Steps[bool]:
        """Pass on the text before `tag`, and take the tag; False if there is none."""
        while (place := self._held.find(tag)) < 0:
            kept = 0 if self._has_ended else held_length(self._held, tag)
            self.say(self._take(len(self._held) - kept))
            if self._has_ended:
                return False
            yield
        self.say(self._take(place))
        self._take(len(tag))
        return True

    def take_until(self, tag: str, *, at_most: int | None = None) -> Steps[str]:
        """Take the text before `tag`, or all if there is none in so many characters."""
        begin = 0
        while (place := self._held.find(tag, begin)) < 0 and not self._has_ended:
            begin = max(0, len(self._held) - len(tag) + 1)
            if at_most is not None and len(self._held) > at_most:
                break
            yield
        return self._take(len(self._held) if place < 0 else place)

    def comes(self, word: str) -> Steps[bool]:
        """Return whether `word` comes next."""
        while len(self._held) < len(word) and word.startswith(self._held) and not self._has_ended:
            yield
        return self._held.startswith(word)

    def take_if(self, word: str) -> Steps[bool]:
        """Take `word` if it comes next."""
        is_next = yield from self.comes(word)
        if is_next:
            self._take(len(word))
        return is_next

    def take_spaces(self, spaces: str = " \t\r\n") -> Steps[str]:
        """Take the white space that comes next."""
        while not (rest := self._held.lstrip(spaces)) and not self._has_ended:
            yield
        return self._take(len(self._held) - len(rest))

    def take_call(
        self, before: str, name: str | None = None, *, known: bool = False
    ) -> Steps[bool]:
        """Read an object that is a call, and pass it on as it arrives.

        What isn't a call is text, and so is what stands before it.

        Args:
            before: what was taken as the beginning of the call.
            name: the name of the tool; `None` if the object has it.
            known: the call must be of a tool that was offered.

        Returns:
            Whether it was a call.
        """
        scanner, is_object, shown = ObjectScanner(), True, 0
        while True:
            try:
                scanner.feed(self._take(len(self._held)))
            except ValueError:
                is_object = False
                break
            if scanner.is_complete or self._has_ended:
                break
            if known and not self._may_be_known(scanner):
                is_object = False
                break
            # A call that grows is passed on again and again: not for each of its last characters.
            if scanner.length >= shown + shown // _GROWTH:
                if (so_far := _so_far(scanner, name)) is not None:
                    self.call(*so_far, complete=False)
                shown = scanner.length
            yield
        self.put_back(scanner.rest)
        whole = _whole(scanner, name) if scanner.is_complete else None
        if whole is not None and (not known or whole[0] in self.tools):
            self.call(*whole)
            return True
        is_cut_off = is_object and not scanner.is_complete
        so_far = _so_far(scanner, name) if is_cut_off and self._id else None
        if so_far is not None and scanner.length > shown:
            self.call(*so_far, complete=False)
        was_shown, self._id = bool(self._id), ""
        self._index += was_shown
        if not (was_shown and is_cut_off):
            self.say(before)  # a call that is cut off isn't text
            self.put_back(scanner.text)
        return False

    def _may_be_known(self, scanner: ObjectScanner) -> bool:
        if "name" in scanner.members and _name_in(scanner) not in self.tools:
            return False
        keys = {*scanner.members, *([scanner.open_key] if scanner.open_key is not None else [])}
        return keys <= {"name", "type", "function", "id", *_ARGUMENTS}


def _so_far(scanner: ObjectScanner, name: str | None) -> tuple[str, str] | None:
    """The name and the arguments so far, once both have begun."""
    if name is not None:
        return name, scanner.text.lstrip()
    name, member = _name_in(scanner), scanner.open_member
    if not name or member is None or member[0] not in _ARGUMENTS:
        return None
    return (name, member[1]) if member[1].startswith("{") else None


def _name_in(scanner: ObjectScanner) -> str:
    """The name so far, `""` if there is none."""
    try:
        name = json.loads(scanner.members.get("name", '""'))
    except ValueError:
        return ""
    return name if isinstance(name, str) else ""


def _whole(scanner: ObjectScanner, name: str | None) -> tuple[str, str] | None:
    """The name and the arguments of a call, or `None` if it isn't one."""
    try:
        parsed = loads(scanner.text)
    except ValueError:
        return None
    if name is not None:
        return name, _as_json(scanner.text, parsed)
    members = scanner.members
    if isinstance(parsed.get("function"), dict):
        parsed = parsed["function"]
        members = {}
    called = parsed.get("name", parsed.get("function"))
    key = next((key for key in _ARGUMENTS if key in parsed), None)
    arguments = parsed[key] if key is not None else {}
    if isinstance(arguments, str):
        try:
            arguments, members = loads(arguments), {}
        except ValueError:
            return None
    if not isinstance(called, str) or not called or not isinstance(arguments, dict):
        return None
    return called, _as_json(members.get(key or "", ""), arguments)


def _as_json(written: str, parsed: object) -> str:
    """The arguments as they were written, if that is JSON."""
    try:
        json.loads(written)
    except (ValueError, RecursionError):
        return json.dumps(parsed, ensure_ascii=False)
    return written.strip()


def loads(text: str) -> Any:
    """Read JSON, with line ends in strings, as models write it.

    Raises:
        ValueError: it isn't JSON, or is nested too deeply.
    """
    try:
        return json.loads(text, strict=False, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} isn't JSON")
