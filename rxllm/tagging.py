"""`tagging`: the chunks of a stream with its name as their source."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from rxllm.chunks import Batch, Chunk, End, Token, is_restart

__all__ = ["tagging"]


def tagging(name: str, pass_on: Callable[[Chunk], None]) -> Callable[[Chunk], None]:
    """A function that sets `name` as the source of each chunk and passes it on.

    A stream may itself be a merge: its source `"b"` becomes `"name/b"`. A restart of all its
    sources is sent once for each of them, and an `End` for each that hasn't ended yet.
    """
    replace = msgspec.structs.replace
    names: dict[str | None, str] = {None: name}
    ended: set[str] = set()

    def on_next(chunk: Chunk) -> None:
        source = names.get(chunk.source)
        if source is None:
            source = names[chunk.source] = f"{name}/{chunk.source}"
        if type(chunk) is Token:
            pass_on(replace(chunk, source=source))
        elif type(chunk) is Batch:
            parts = tuple([replace(part, source=source) for part in chunk.chunks])
            pass_on(Batch(parts, chunk.text, source=source))
        elif type(chunk) is End or is_restart(chunk):
            send_for_each(chunk, source)
        else:
            pass_on(replace(chunk, source=source))

    def send_for_each(chunk: Chunk, source: str) -> None:
        inner = [each for each in names.values() if each != name] if chunk.source is None else []
        if type(chunk) is End:
            affected = [each for each in inner if each not in ended]
            ended.update(inner, (source,))
        else:
            affected = inner
            ended.difference_update(inner, (source,))
        for each in (*affected, source):
            pass_on(replace(chunk, source=each))

    return on_next
