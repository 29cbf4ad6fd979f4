"""Readers for the word lists and sentence tables, which are written as text."""


def words(text: str) -> tuple[str, ...]:
    """The words of `text`, parted by spaces and line ends."""
    return tuple(text.split())


def entries(text: str, separator: str) -> tuple[str, ...]:
    """The entries of `text` between separators; a line end counts as a space."""
    return tuple(" ".join(entry.split()) for entry in text.split(separator) if entry.strip())


def lines(text: str) -> tuple[str, ...]:
    """The lines of `text` without the indentation."""
    return tuple(line.strip() for line in text.strip().splitlines())


def rows(text: str) -> tuple[tuple[str, ...], ...]:
    """The lines of `text`, each cut into its fields between vertical bars."""
    return tuple(tuple(field.strip() for field in line.split("|")) for line in lines(text))
