"""Lists of words that tell how a text feels, read from a file."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Final

import msgspec

from rxllm.operators.analytics._word_reader import WordReader

__all__ = ["Lexicon", "as_lexicon", "read_lexicon"]

_BUNDLED: Final = Path(__file__).with_name("lexicon.toml")


class Lexicon(msgspec.Struct, frozen=True, kw_only=True):
    """Sets of words, each one a word as `analyze_text` reads it; in which case, does not matter.

    Args:
        positive: words that please.
        negative: words that don't.
        negations: words that turn what comes after them around; `n't` is always one.
        stop_words: words that are never keywords.

    Raises:
        TypeError: a string takes the place of a set of words.
        ValueError: a word is none, or several: "user-friendly" is read as two.

    >>> Lexicon(positive={"Good"}, negative={"bad"}).positive
    frozenset({'good'})
    """

    positive: frozenset[str]
    negative: frozenset[str]
    negations: frozenset[str] = frozenset()
    stop_words: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            words = frozenset(_plain(name, word) for word in _each(name, getattr(self, name)))
            msgspec.structs.force_setattr(self, name, words)


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
    words = {name: frozenset(getattr(file, name).split()) for name in file.__struct_fields__}
    try:
        return Lexicon(**words)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def as_lexicon(given: Lexicon | Path | str | None) -> Lexicon:
    """The lexicon that a user has passed, or named, or the bundled one."""
    if isinstance(given, Lexicon):
        return given
    if given is None:
        return _bundled()
    if not isinstance(given, Path | str) or not str(given):
        raise TypeError(f"lexicon is a Lexicon or the path of a file, not {given!r}")
    return read_lexicon(Path(given))


@cache
def _bundled() -> Lexicon:
    return read_lexicon()


def _each(name: str, words: object) -> Iterable[str]:
    if isinstance(words, str) or not isinstance(words, Iterable):
        raise TypeError(f"{name} is a set of words, not {words!r}")
    return words


def _plain(name: str, word: str) -> str:
    """`word` as a `WordReader` gives it."""
    reader = WordReader()
    match [*reader.feed(word), *reader.end()]:
        case [plain]:
            return plain
        case words:
            raise ValueError(f"{name} takes single words, and {word!r} is read as {words}")
