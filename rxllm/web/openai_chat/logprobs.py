"""The log probabilities of tokens in OpenAI's chat completions.

Source: https://platform.openai.com/docs/api-reference/chat/object, `logprobs`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from rxllm.chunks import Batch, Chunk, Token, TokenLogprob
from rxllm.web.openai_chat.types import Logprob, Logprobs, TopLogprob

__all__ = ["logprobs_of"]

_LEAST: Final = -9999.0
"""In place of minus infinity, as the API has it."""


def logprobs_of(chunks: Iterable[Chunk]) -> Logprobs | None:
    """Return the log probabilities of the text in chunks, or `None` if none is known.

    A model that reports only the probability of a piece of text (`Token.confidence`) gets one entry
    for each piece, without others in its place.
    """
    content = [
        _entry(each)
        for chunk in chunks
        for token in (chunk.chunks if isinstance(chunk, Batch) else (chunk,))
        if isinstance(token, Token)
        for each in _reported(token)
    ]
    return {"content": content, "refusal": None} if content else None


def _reported(token: Token) -> tuple[TokenLogprob, ...]:
    if token.logprobs is not None:
        return token.logprobs
    if token.confidence is None or not token.text:
        return ()
    return (TokenLogprob(token.text, math.log(token.confidence) if token.confidence else _LEAST),)


def _entry(of: TokenLogprob) -> Logprob:
    return {**_top(of), "top_logprobs": [_top(each) for each in of.top]}


def _top(of: TokenLogprob) -> TopLogprob:
    data = of.text.encode("utf-8", "replace")
    return {"token": of.text, "logprob": max(of.logprob, _LEAST), "bytes": list(data)}
