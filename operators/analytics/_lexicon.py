"""Lists of words that tell how a text feels, read from a file."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

import msgspec

from rxllm.operators.analytics._word_reader import WordReader

__all__ = ["Lexicon", "as_lexicon", "read_lexicon"]

_BUNDLED: Final = Path(__file__).with_name("lexicon.toml")


class Lexicon(msgspec.Struct, frozen=True, kw_only=True):
    """Lists of words, in lower case.

    Attributes:
        positive, negative: words that please, and words that don't.
        negations: words that turn what comes after them around; `n't` is always one.
        stop_words: words that are never keywords.
    """

    positive: frozenset[str]
    negative: frozenset[str]
    negations: frozenset[str] = frozenset()
    stop_words: frozenset[str] = frozenset()


class _File(msgspec.Struct, forbid_unknown_fields=True):
    positive: str
    negative: str
    negations: str = ""
    stop_words: str = ""


def read_lexicon(path: Path | None = None) -> Lexicon:
    """Read lists of words.

    Args:
        path: a TOML file in the form of the bundled one, which is read if it is None: four strings
            of words with white space between them.

    Raises:
        OSError: the file can't be read.
        ValueError: it is no such file.
    """
    path = path or _BUNDLED
    try:
        file = msgspec.toml.decode(path.read_bytes(), type=_File)
    except msgspec.DecodeError as error:
        raise ValueError(f"{path} holds no lists of words: {error}") from error
    return Lexicon(
        positive=_words(file.positive),
        negative=_words(file.negative),
        negations=_words(file.negations),
        stop_words=_words(file.stop_words),
    )


def as_lexicon(given: Lexicon | Path | str | None) -> Lexicon:
    """The lexicon that a user has passed, or named, or the bundled one."""
    if isinstance(given, Lexicon):
        return given
    return _bundled() if given is None else read_lexicon(Path(given))


@cache
def _bundled() -> Lexicon:
    return read_lexicon()


def _words(text: str) -> frozenset[str]:
    reader = WordReader()
    return frozenset([*reader.feed(text), *reader.end()])
