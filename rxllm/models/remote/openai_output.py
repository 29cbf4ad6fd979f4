"""The output of chat completions that isn't text: citations, images and audio.

Sources: https://platform.openai.com/docs/api-reference/chat-streaming (`annotations`, `audio`),
https://openrouter.ai/docs/features/multimodal (`images`), https://docs.perplexity.ai (`citations`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from rxllm.chunks import Citation, FileOutput, Notice
from rxllm.models.remote.coercion import (
    as_int,
    as_object,
    as_objects,
    as_optional_text,
    as_text,
)
from rxllm.models.remote.openai_types import Delta
from rxllm.models.remote.wire import unsupported

__all__ = ["citations_in", "file_in", "output_in"]

_AUDIO: Final = ("audio", "input_audio", "output_audio")
_DATA_URL: Final = re.compile(r"data:([\w.+-]+/[\w.+-]+)(?:;[^,]*)?,(.*)", re.DOTALL)


def citations_in(annotations: Any) -> Iterator[Citation | Notice]:
    """Yield the citations in a list of annotations, or of URLs; a notice for any other one.

    >>> next(citations_in([{"type": "url_citation", "url_citation": {"url": "https://a.example"}}]))
    Citation(url='https://a.example', title=None, text=None, start=None, end=None, source=None)
    """
    for each in annotations if isinstance(annotations, list) else [annotations]:
        if isinstance(each, str):
            yield Citation(each)
            continue
        outer = as_object(each)
        inner = outer.get(str(outer.get("type")))
        fields = {"url": inner} if isinstance(inner, str) else as_object(inner) or outer
        citation = Citation(
            as_optional_text(fields.get("url")),
            as_optional_text(fields.get("title") or fields.get("filename")),
            as_optional_text(fields.get("content") or fields.get("text")),
            as_int(fields.get("start_index")),
            as_int(fields.get("end_index")),
        )
        if citation.url or citation.title or citation.text:
            yield citation
        elif outer:
            yield unsupported(outer)


def output_in(delta: Delta) -> Iterator[FileOutput | Notice]:
    """Yield the files of a delta, and a notice of each part that isn't a known file."""
    for kind, given in (
        ("image_url", delta.images),
        ("image_url", delta.image),
        ("video_url", delta.video),
    ):
        for part in filter(None, given if isinstance(given, list) else [given]):
            file = file_in({"type": kind, "url": part} if isinstance(part, str) else part)
            yield unsupported(as_object(part)) if file is None else file
    audio = delta.audio if isinstance(delta.audio, str) else as_object(delta.audio).get("data")
    if audio:
        yield FileOutput("audio/*", as_text(audio))
    yield from map(unsupported, as_objects(delta.parts))


def file_in(part: Any) -> FileOutput | None:
    """Return the image or the file in a part of an answer, or `None`.

    >>> file_in({"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}})
    FileOutput(media_type='image/png', data='iVBO', url=None, source=None)
    """
    outer = as_object(part)
    kind = str(outer.get("type"))
    inner = outer.get(kind)
    source = as_object(outer.get("source"))  # Anthropic's form
    data = outer.get("b64_json") or source.get("data")
    if kind in _AUDIO:
        heard = as_object(inner)
        media_type = f"audio/{heard.get('format') or '*'}"
        found = heard.get("data") or inner
        return FileOutput(media_type, found) if isinstance(found, str) else None
    if isinstance(data, str):
        media_type = outer.get("media_type") or source.get("media_type") or "image/png"
        return FileOutput(str(media_type), data)
    if not any(name in kind for name in ("image", "video", "file", "url")):
        return None
    url = inner if isinstance(inner, str) else as_object(inner).get("url") or outer.get("url")
    if not isinstance(url, str):
        return None
    if (found := _DATA_URL.fullmatch(url)) is not None:
        return FileOutput(found[1], found[2])
    group = next((name for name in ("image", "video") if name in kind), None)
    return FileOutput(f"{group}/*" if group else "application/octet-stream", url=url)
