"""The output of a message that is neither text nor a call: citations, images and other files.

Sources: https://docs.anthropic.com/en/docs/build-with-claude/citations,
https://docs.anthropic.com/en/docs/build-with-claude/search-results.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rxllm.chunks import Citation, FileOutput, Notice
from rxllm.models.remote.anthropic_types import Block
from rxllm.models.remote.coercion import as_object, as_optional_text
from rxllm.models.remote.openai_output import file_in
from rxllm.models.remote.wire import unsupported

__all__ = ["citations_in", "file_of"]


def citations_in(value: Any) -> Iterator[Citation | Notice]:
    """Yield the citations in one, or in a list; a notice for what can't be read as one.

    >>> next(citations_in({"source": "https://a.example", "title": "A"}))
    Citation(url='https://a.example', title='A', text=None, start=None, end=None, source=None)
    >>> next(citations_in(["https://a.example"])).url
    'https://a.example'
    """
    for each in value if isinstance(value, list) else [value]:
        if each is None or each == {}:
            continue
        is_url = isinstance(each, str) and each.startswith(("http://", "https://"))
        fields = {"url": each} if is_url else as_object(each)
        citation = Citation(
            as_optional_text(fields.get("url") or fields.get("source")),
            as_optional_text(fields.get("title") or fields.get("document_title")),
            as_optional_text(fields.get("cited_text")),
        )
        if citation.url or citation.title or citation.text:
            yield citation
        else:
            yield unsupported({"type": fields.get("type") or "citation"})


def file_of(block: Block) -> FileOutput | None:
    """Return the image or the document in a block, or `None`.

    >>> file_of(Block("image", source={"type": "url", "url": "https://a.example/b.png"}))
    FileOutput(media_type='image/*', data=None, url='https://a.example/b.png', source=None)
    """
    source = as_object(block.source)
    if source.get("type") == "text":  # its data isn't base64
        return None
    kind = "image" if "image" in block.type else "file"
    return file_in({"type": kind, "source": source, "url": source.get("url")})
