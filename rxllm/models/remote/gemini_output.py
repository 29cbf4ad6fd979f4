"""What Gemini's answers have besides text and calls: files, sources, probabilities, usage.

Source: https://ai.google.dev/api/generate-content#v1beta.GenerateContentResponse.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

from msgspec.structs import replace

from rxllm.chunks import Chunk, Citation, FileOutput, Reasoning, TokenLogprob, Usage
from rxllm.errors import BadRequestError
from rxllm.messages import FilePart, ImagePart
from rxllm.models.remote.coercion import (
    as_float,
    as_int,
    as_object,
    as_objects,
    as_optional_text,
)
from rxllm.models.remote.state import Comparable

__all__ = [
    "CitationReader",
    "UsageReader",
    "file_in",
    "file_of",
    "in_unicode",
    "logprobs_in",
]

_Key: TypeAlias = tuple[str, int | None, int | None]
"""A source, and the place that it supports: a part of the answer, and a place in it."""

_BINARY: Final = "application/octet-stream"
_REPORTED: Final = 16
"""Output tokens between two reports of the usage so far."""


def in_unicode(value: Any) -> Any:
    """Return a JSON value without lone surrogates, which can't be encoded."""
    return json.loads(as_optional_text(json.dumps(value, ensure_ascii=False)) or "null")


def file_in(part: dict[str, Any]) -> FileOutput | None:
    """Return the file in a part of an answer, or `None`."""
    inline, given = as_object(part.get("inlineData")), as_object(part.get("fileData"))
    if data := as_optional_text(inline.get("data")):
        return file_of(data, as_optional_text(inline.get("mimeType")))
    if url := as_optional_text(given.get("fileUri")):
        return FileOutput(as_optional_text(given.get("mimeType")) or _BINARY, url=url)
    return None


def file_of(data: str, media_type: str | None = None) -> FileOutput:
    """Return a file with data in base64, whose media type is detected if it isn't known.

    >>> file_of("iVBORw0KGgo=").media_type, file_of("AAAA").media_type
    ('image/png', 'application/octet-stream')
    """
    for kind in (ImagePart, FilePart):
        if not media_type:
            try:
                media_type = kind(data=base64.b64decode(data[:64])).media_type
            except (ValueError, BadRequestError):
                continue
    return FileOutput(media_type or _BINARY, data)


def logprobs_in(result: dict[str, Any]) -> tuple[TokenLogprob, ...]:
    """Return the log probabilities of the tokens of an event, with the likeliest ones."""
    chosen = as_objects(result.get("chosenCandidates"))
    likeliest = as_objects(result.get("topCandidates"))
    top = [as_objects(each.get("candidates")) for each in likeliest]
    return tuple(
        [_logprob(each, top[at] if at < len(top) else []) for at, each in enumerate(chosen)]
    )


def _logprob(fields: dict[str, Any], top: list[dict[str, Any]]) -> TokenLogprob:
    return TokenLogprob(
        as_optional_text(fields.get("token")) or "",
        as_float(fields.get("logProbability")) or 0.0,
        tuple([_logprob(each, []) for each in top]),
    )


class CitationReader(Comparable):
    """Reads the sources of an answer, which events may repeat, and say more about."""

    def __init__(self) -> None:
        self._known: dict[_Key, Citation] = {}

    def read(self, candidate: dict[str, Any]) -> None:
        """Read the sources that a search has found, with the passages that they support."""
        grounding = as_object(candidate.get("groundingMetadata"))
        given = grounding.get("groundingChunks")
        sources = [_source(each) for each in (given if isinstance(given, list) else [])]
        for support in as_objects(grounding.get("groundingSupports")):
            segment = as_object(support.get("segment"))
            indices = support.get("groundingChunkIndices")
            for each in indices if isinstance(indices, list) else [indices]:
                index = as_int(each)
                if index is not None and 0 <= index < len(sources):
                    self._add(sources[index], segment, as_int(segment.get("partIndex")) or 0)
        for source in sources:
            self._add(source, {})
        cited = as_object(candidate.get("citationMetadata"))
        for source in as_objects(cited.get("citationSources") or cited.get("citations")):  # Vertex
            self._add(source, source, -1)

    def _add(
        self, source: dict[str, Any], segment: dict[str, Any], part: int | None = None
    ) -> None:
        citation = Citation(
            as_optional_text(source.get("uri")),
            as_optional_text(source.get("title")),
            as_optional_text(segment.get("text")),
            as_int(segment.get("startIndex")),
            as_int(segment.get("endIndex")),
        )
        if name := citation.url or citation.title:
            self._known[name, part, citation.start] = citation

    def finish(self) -> Iterator[Citation]:
        """Yield the citations; a source without a passage is one only if it supports none."""
        supported = {name for name, part, _ in self._known if part is not None}
        for (name, part, _), citation in self._known.items():
            if part is not None or name not in supported:
                yield citation


def _source(chunk: Any) -> dict[str, Any]:
    """Return the source in a grounding chunk: from the web, from maps, a document or an image."""
    found = next((each for each in as_object(chunk).values() if isinstance(each, dict)), {})
    return {**found, "uri": found.get("uri") or found.get("sourceUri") or found.get("imageUri")}


class UsageReader(Comparable):
    """Reads the usage, whose counts grow with the events."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._reported = -_REPORTED  # the output tokens in the last usage emitted

    def read(self, counts: dict[str, Any]) -> None:
        """Read the counts of an event; what it leaves out stays as it is."""
        known = {
            name: count for name, each in counts.items() if (count := as_int(each)) is not None
        }
        if any(known.values()) or not self._counts:
            self._counts |= known

    def report(self, counts: dict[str, Any], chunks: list[Chunk], start: int) -> None:
        """Add the usage so far, so that it is known if the stream is left early.

        Args:
            counts: those of the event.
            chunks: where the usage is added.
            start: where those of the event begin. The usage comes before them unless the event
                counts them, too.
        """
        usage = self._usage
        if not counts or usage.output_tokens < self._reported + _REPORTED:
            return
        self._reported = usage.output_tokens
        is_thought = all(type(chunk) is Reasoning for chunk in chunks[start:])
        is_counted = as_int(counts.get(f"{'thoughts' if is_thought else 'candidates'}TokenCount"))
        chunks.insert(len(chunks) if is_counted else start, replace(usage, estimated=True))

    def finish(self, chunks: list[Chunk]) -> None:
        """Append the usage, if it is known."""
        if self._counts:
            chunks.append(self._usage)

    @property
    def _usage(self) -> Usage:
        """The usage; thoughts aren't counted as candidates."""
        count = self._counts.get
        thoughts = count("thoughtsTokenCount")
        return Usage(
            count("promptTokenCount", 0) + count("toolUsePromptTokenCount", 0),
            count("candidatesTokenCount", 0) + (thoughts or 0),
            cached_tokens=count("cachedContentTokenCount"),
            reasoning_tokens=thoughts,
        )
