"""llama.cpp's grammars (GBNF) in the form of llguidance.

Source: https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md.
"""

from __future__ import annotations

import re
from typing import Any, Final

from llguidance.gbnf_to_lark import gbnf_to_lark

from rxllm.errors import BadRequestError, UnsupportedError

__all__ = ["lark_of"]

# The converter's time grows with the square of the grammar.
_MOST_BYTES: Final = 16 * 1024
_MOST_RULES: Final = 200

_PART: Final = re.compile(
    r'"(?:[^"\\\n]|\\.)*"|\[(?:[^\]\\\n]|\\.)*\]|(?P<comment>#[^\n]*)|(?P<rest>[^"\[#]+)'
)
_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|.)")
_SPECIAL: Final = '"\\[]^-/'


def lark_of(grammar: Any) -> str:
    """Convert a grammar. Its own options come before it.

    Raises:
        BadRequestError: it isn't GBNF.
        UnsupportedError: it is too long.
    """
    if not isinstance(grammar, str):
        raise BadRequestError(f"the grammar must be a str, got {type(grammar).__name__}")
    size, rules = len(grammar.encode(errors="replace")), grammar.count("::=")
    if size > _MOST_BYTES or rules > _MOST_RULES:
        raise UnsupportedError(
            f"the grammar has {size} bytes and {rules} rules: at most {_MOST_BYTES} bytes and "
            f"{_MOST_RULES} rules are supported"
        )
    try:
        converted = gbnf_to_lark(_prepared(grammar))
    except Exception as error:  # of all classes, RecursionError among them
        reason = str(error) or type(error).__name__
        raise BadRequestError(f"the grammar (GBNF) can't be read: {reason}") from error
    return converted.removeprefix("%llguidance {}")


def _prepared(grammar: str) -> str:
    """Return the grammar without comments and with the characters that the converter gets wrong.

    A slash inside a class would end it in the result, and what follows could be anything.
    """
    parts: list[str] = []
    end = 0
    for part in _PART.finditer(grammar):
        if part.start() != end:
            break
        end = part.end()
        if part["comment"] is not None:
            continue
        text = part[0]
        if part["rest"] is not None:
            if unknown := set(text) & set("%/\\'`"):
                raise ValueError(f"unexpected {min(unknown)!r}")
        else:
            text = _ESCAPE.sub(_unescaped, text)
            if text.startswith("["):
                text = text.replace("/", r"\x2f")
        parts.append(text)
    if end != len(grammar):
        raise ValueError(f"unterminated {grammar[end]!r} at {end}")
    return "".join(parts)


def _unescaped(escape: re.Match[str]) -> str:
    digits = escape[1] or escape[2]
    if digits is None:
        return escape[0]
    character = chr(int(digits, 16))
    return f"\\x{ord(character):02x}" if character in _SPECIAL or ord(character) < 32 else character
