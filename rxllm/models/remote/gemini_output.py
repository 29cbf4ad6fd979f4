"""What Gemini's answers have besides text and calls: sources, probabilities, usage.

Source: https://ai.google.dev/api/generate-content#v1beta.GenerateContentResponse.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rxllm.chunks import Citation, TokenLogprob, Usage
from rxllm.models.remote.coercion import as_float, as_int, as_object, as_objects, as_optional_text

__all__ = ["grounding_in", "logprobs_in", "usage_in"]


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


def grounding_in(candidate: dict[str, Any]) -> Iterator[Citation]:
    """Yield the sources that a search has found, with the passages that they support."""
    grounding = as_object(candidate.get("groundingMetadata"))
    sources = [
        as_object(each.get("web") or each.get("retrievedContext"))
        for each in as_objects(grounding.get("groundingChunks"))
    ]
    supported: set[int] = set()
    for support in as_objects(grounding.get("groundingSupports")):
        segment = as_object(support.get("segment"))
        indices = support.get("groundingChunkIndices")
        for index in indices if isinstance(indices, list) else ():
            if isinstance(index, int) and 0 <= index < len(sources):
                supported.add(index)
                yield _citation(sources[index], segment)
    for index, source in enumerate(sources):
        if index not in supported:
            yield _citation(source, {})
    cited = as_object(candidate.get("citationMetadata"))
    for source in as_objects(cited.get("citationSources") or cited.get("citations")):  # of Vertex
        yield _citation(source, source)


def _citation(source: dict[str, Any], segment: dict[str, Any]) -> Citation:
    return Citation(
        as_optional_text(source.get("uri")),
        as_optional_text(source.get("title")),
        as_optional_text(segment.get("text")),
        as_int(segment.get("startIndex")),
        as_int(segment.get("endIndex")),
    )


def usage_in(counts: dict[str, Any]) -> Usage:
    """Return the usage; thoughts aren't counted as candidates."""

    def count(name: str) -> int:
        return as_int(counts.get(name)) or 0

    thoughts = as_int(counts.get("thoughtsTokenCount"))
    return Usage(
        count("promptTokenCount") + count("toolUsePromptTokenCount"),
        count("candidatesTokenCount") + (thoughts or 0),
        cached_tokens=as_int(counts.get("cachedContentTokenCount")),
        reasoning_tokens=thoughts,
    )
