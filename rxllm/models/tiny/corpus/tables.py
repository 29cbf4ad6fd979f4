"""Parsers for the word lists and sentence tables, which are written as text."""


def words(text: str) -> tuple[str, ...]:
    """Return the words of `text`, separated by spaces and line ends."""
    return tuple(text.split())


def entries(text: str, separator: str) -> tuple[str, ...]:
    """Return the entries of `text` between separators; a line end counts as a space."""
    return tuple(" ".join(entry.split()) for entry in text.split(separator) if entry.strip())


def lines(text: str) -> tuple[str, ...]:
    """Return the lines of `text` without indentation."""
    return tuple(line.strip() for line in text.strip().splitlines())


def rows(text: str) -> tuple[tuple[str, ...], ...]:
    """Return the lines of `text`, each split into fields at vertical bars."""
    return tuple(tuple(field.strip() for field in line.split("|")) for line in lines(text))
