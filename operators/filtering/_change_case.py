"""`change_case`: upper, lower, title, capitalized or sentence case."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, TypeAlias, get_args

from reactivex import Observable

from rxllm.chunks import Chunk
from rxllm.operators._text_operator import text_operator
from rxllm.operators.filtering._written import Writer, WrittenText
from rxllm.stream import Stream
from rxllm.text.sentences import SentenceBorders

__all__ = ["Case", "change_case"]

Case: TypeAlias = Literal["upper", "lower", "title", "capitalize", "sentence"]

_SIGMA: Final = "\u03a3"
_LONGEST: Final = 256  # ignorable characters that a sigma waits for
_CONTEXTS: Final = ("", "A ", "A", "A'", "\u02b0", "A\u02b0", " \u02b0")
_PROBES: Final = ("a", _SIGMA, f"\u02b0{_SIGMA}")


def change_case(to: Case) -> Callable[[Observable[Chunk]], Stream[Chunk]]:
    r"""Change the case of the text, correctly across chunk borders.

    ::

        S-he-LLo-wor-ld-E|
        [ change_case("capitalize") ]
        S-He-llo-wor-ld-E|

    The joined text is what `str.upper`, `str.lower`, `str.title` or `str.capitalize` return for the
    whole text, however it is cut into chunks. `"sentence"` changes the first letter of each
    sentence to upper case, unless a digit comes before it, and leaves the rest unchanged; sentences
    are those of `sentences`, except that a lower-case letter may start one. Only the text of a
    chunk changes. Code and addresses are changed like any other text; reasoning isn't.

    Only the capital sigma depends on what follows it (`"Σ"` becomes `"ς"` at the end of a word):
    except for `"upper"` and `"sentence"`, it waits for a character that isn't an apostrophe, full
    stop, accent or the like. After 256 of these it is treated as the end of a word, the only case
    in which the text may differ from the result of `str`. Other chunks that arrive after it wait
    with it, in order.

    - Completion, error: held text is sent first.
    - Restart: held text is dropped, other chunks that waited with it are sent, and the text starts
      afresh.
    - Disposal: held text is dropped.
    - Demand: passes through. At most a sigma and 256 characters are held, with the other chunks
      that arrived after it.

    Args:
        to: `"upper"`, `"lower"`, `"title"`, `"capitalize"` or `"sentence"`.

    Raises:
        ValueError: `to` is not one of these.

    >>> from rxllm.models.scripted import ScriptedModel
    >>> from rxllm.testing import Marbles
    >>> stream = ScriptedModel(["ΟΔΟ", "Σ", " tw", "O"]).stream("Hi").pipe(change_case("title"))
    >>> [event.text for _, event in Marbles().run(stream) if hasattr(event, "text")]
    ['Οδο', 'ς', ' Tw', 'o']
    """
    if to not in get_args(Case):
        raise ValueError(f"to must be one of {', '.join(get_args(Case))}, got {to!r}")
    return text_operator("change_case", lambda _: WrittenText(_WRITERS[to]()))


class _Upper:
    """`str.upper`, which converts each character by itself."""

    ahead = 0

    def decided(self, text: str) -> int:
        return len(text)

    def write(self, text: str, _: str) -> str:
        return text.upper()


class _Cased:
    """A method of `str` whose result depends on the word around a character.

    The preceding text is replaced by a short equivalent, for which the method gives the same
    results: `_known` maps the results for the `_PROBES` to that text.
    """

    ahead = _LONGEST + 1

    def __init__(self, change: Callable[[str], str]) -> None:
        self._change = change
        self._before = ""
        self._known = {self._seen(context): context for context in reversed(_CONTEXTS)}

    def decided(self, text: str) -> int:
        if _SIGMA not in text:
            return len(text)
        place = text.rindex(_SIGMA)
        if len(text) - place > _LONGEST:
            return len(text)
        at_the_end = self._change(self._before + text)
        return len(text) if self._change(self._before + text + "A")[:-1] == at_the_end else place

    def write(self, text: str, after: str) -> str:
        begin = len(self._change(self._before))
        before = self._before + text
        changed = self._change(before)
        if after and _SIGMA in text:
            changed = self._change(before + after)[: len(changed)]
        if text:
            self._before = self._context(before)
        return changed[begin:]

    def _context(self, text: str) -> str:
        last = text[-1]
        if last.isascii() and last.isalpha():
            return "A"
        return "A " if last == " " else self._known[self._seen(text)]

    def _seen(self, text: str) -> tuple[str, ...]:
        return tuple(self._change(text + probe)[-1] for probe in _PROBES)


class _Sentence:
    """Changes the first letter of each sentence to upper case."""

    ahead = 0

    def __init__(self) -> None:
        self._borders = SentenceBorders(any_case=True)
        self._length = 0
        self._due = True

    def decided(self, text: str) -> int:
        return len(text)

    def write(self, text: str, _: str) -> str:
        written: list[str] = []
        start = 0
        for border in self._borders.feed(text):
            place = max(0, border - self._length)
            written.append(self._capitalized(text[start:place]))
            start, self._due = place, True
        written.append(self._capitalized(text[start:]))
        self._length += len(text)
        return "".join(written)

    def _capitalized(self, text: str) -> str:
        """Part of a sentence, with its first letter in upper case if it hasn't been written yet."""
        if self._due:
            for place, character in enumerate(text):
                if character.isalnum():
                    self._due = False
                    return text[:place] + character.title() + text[place + 1 :]
        return text


_WRITERS: Final[dict[Case, Callable[[], Writer]]] = {
    "upper": _Upper,
    "lower": lambda: _Cased(str.lower),
    "title": lambda: _Cased(str.title),
    "capitalize": lambda: _Cased(str.capitalize),
    "sentence": _Sentence,
}
