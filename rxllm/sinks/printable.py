"""Make text safe to print: output of models and providers can't be trusted."""

from __future__ import annotations

from typing import IO, Final

from rxllm.chunks import Notice
from rxllm.result import Result, per_second

__all__ = ["count", "describe", "encodable", "figures_of", "printable", "rate"]

# C0 and DEL become their Unicode control pictures; C1 has none. A carriage return is half of a
# line end, or would let the text after it overwrite the line.
_PICTURES: Final = {
    **{code: 0x2400 + code for code in range(0x20) if code not in b"\n\t"},
    **dict.fromkeys(range(0x80, 0xA0), 0xFFFD),
    0x7F: 0x2421,
    ord("\r"): None,
}


_CUT: Final = {"length": "cut at the token limit", "content_filter": "cut by a content filter"}


def printable(text: str) -> str:
    r"""Return `text` without control characters other than newlines and tabs.

    >>> printable("plain\x1b[31m red")
    'plain␛[31m red'
    """
    return text.translate(_PICTURES)


def encodable(text: str, file: IO[str]) -> str:
    """Return `text` with `?` for each character, such as a lone surrogate, `file` can't encode."""
    encoding = getattr(file, "encoding", None) or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)


def describe(notice: Notice) -> str:
    """Describe `notice` in one printable line.

    >>> describe(Notice("retry", attempt=2, delay=1.5))
    'retry (attempt 2, in 1.5 s)'
    """
    if notice.kind == "restart":
        line = "the answer starts over"
    else:
        details = [
            f"attempt {notice.attempt}" if notice.attempt is not None else "",
            f"in {notice.delay:.3g} s" if notice.delay else "",
            f"{notice.skipped} skipped" if notice.skipped is not None else "",
        ]
        known = ", ".join(detail for detail in details if detail)
        line = f"{notice.kind} ({known})" if known else notice.kind
    if notice.error is not None:
        line += f": {notice.error.type}: {notice.error.message}"
    return printable(" ".join(line.split()))


def figures_of(result: Result) -> str:
    """Summarize `result` in one line: tokens, time to the first token, tokens/s, characters/s."""
    timings = result.timings
    parts = [count(timings.tokens)]
    if timings.first_token is not None:
        parts.append(f"first after {timings.first_token:.2f} s")
    parts.append(rate(timings.tokens, timings.elapsed))
    parts.append(rate(timings.characters, timings.elapsed, "chars"))
    if result.finish_reason in _CUT:
        parts.append(_CUT[result.finish_reason])
    return ", ".join(parts)


def count(tokens: int) -> str:
    """Format a number of tokens."""
    return "1 token" if tokens == 1 else f"{tokens} tokens"


def rate(number: int, seconds: float, unit: str = "tokens") -> str:
    """Format tokens or characters per second, with a question mark if no time has passed.

    >>> rate(10, 4.0), rate(10, 0.0)
    ('2.5 tokens/s', '? tokens/s')
    """
    speed = per_second(number, seconds)
    return f"? {unit}/s" if speed is None else f"{speed:.1f} {unit}/s"
