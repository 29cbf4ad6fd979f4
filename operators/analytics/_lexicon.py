"""Word lists for sentiment analysis, read from a file."""

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
    """Sets of single words, as `analyze_text` defines them; case is ignored.

    Args:
        positive: words with positive sentiment.
        negative: words with negative sentiment.
        negations: words that invert the words after them; `n't` always does.
        stop_words: words that are never keywords.

    Raises:
        TypeError: a string is passed instead of a set of words.
        ValueError: an entry is not exactly one word: "user-friendly" is read as two.

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
    """Read a lexicon from a file.

    Args:
        path: a TOML file with four strings of whitespace-separated words, like the bundled one, or
            `None` to read the bundled one.

    Raises:
        OSError: the file can't be read.
        ValueError: the file is not a valid lexicon.
    """
    path = path or _BUNDLED
    try:
        file = msgspec.toml.decode(path.read_bytes(), type=_File)
    except msgspec.DecodeError as error:
        raise ValueError(f"{path} is not a valid lexicon: {error}") from error
    words = {name: frozenset(getattr(file, name).split()) for name in file.__struct_fields__}
    try:
        return Lexicon(**words)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def as_lexicon(given: Lexicon | Path | str | None) -> Lexicon:
    """Return the given lexicon, read one from the given path, or return the bundled one."""
    if isinstance(given, Lexicon):
        return given
    if given is None:
        return _bundled()
    if not isinstance(given, Path | str) or not str(given):
        raise TypeError(f"lexicon must be a Lexicon or the path of a file, got {given!r}")
    return read_lexicon(Path(given))


@cache
def _bundled() -> Lexicon:
    return read_lexicon()


def _each(name: str, words: object) -> Iterable[str]:
    if isinstance(words, str) or not isinstance(words, Iterable):
        raise TypeError(f"{name} must be a set of words, got {words!r}")
    return words


def _plain(name: str, word: str) -> str:
    """`word` as a `WordReader` returns it."""
    reader = WordReader()
    match [*reader.feed(word), *reader.end()]:
        case [plain]:
            return plain
        case words:
            raise ValueError(f"{name} must contain single words, but {word!r} is read as {words}")
