"""Journals: streams of a model, recorded in a file and played again.

`recorded(model, path)` is a model whose streams are also appended to a journal, and `replay(path)`
is a model that plays them.

A journal is a file of JSON lines, in UTF-8. Several streams, and several processes, may append to
one journal at the same time. Each line has `v` (the version of the format, 1), `stream` (the id of
its stream), `n` (its number among the lines of that stream, from 0), `seconds` (since the
subscription, on a monotonic clock), and one of these:

- `begun`, the first line: the `model` (as in `ModelInfo`), the `time` (Unix seconds) and the
  `request`, whose fields are those of `rxllm.Request`.
- `chunk`: a chunk, as on the wire.
- `ended`, the last line: the `outcome` (`"completed"`, `"failed"` or `"cancelled"`), the `error`.

A number that JSON doesn't have (`NaN`, `Infinity`) and a lone surrogate (`"\\ud83d"`) are written
as Python's `json` module does.

Secrets of a request are left out: the API key is no part of it, and in its `extra`, headers and
whatever is named like a secret (`api_key`, `token`, `password`, ...) are removed. So are the user
and the signature in a URL. The bytes of an image or a file are replaced by their SHA-256 and size.
What the messages say and what the model answers is recorded unchanged, so a new journal is readable
by its owner only.
"""

from rxllm.models.journal._recorded import recorded
from rxllm.models.journal._recordings import Match, ReplayEndedError
from rxllm.models.journal._replay import Replay, replay

__all__ = ["Match", "Replay", "ReplayEndedError", "recorded", "replay"]
