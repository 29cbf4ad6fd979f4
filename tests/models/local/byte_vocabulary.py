"""A vocabulary of bytes, on which grammars can be tried without a model."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from llguidance import LLMatcher, LLTokenizer

from rxllm.models.local.guidance import Mask, Pieces, Vocabulary, answer_grammar
from rxllm.requests import as_request

END = 256
CLOSING = {*b']}"', END}


def _tokenizer() -> LLTokenizer:
    pieces: Any = Pieces([*(bytes([each]) for each in range(256)), b"<end>"], [END], END)
    return LLTokenizer(pieces, eos_token=[END])


BYTES = Vocabulary(_tokenizer, END + 1)


def compiled(form: Any = None, **extra: Any) -> LLMatcher:
    """Compile a schema, or a grammar."""
    grammar = answer_grammar(as_request("Hi", response_format=form, extra=extra))
    assert grammar is not None
    return BYTES.compile(grammar).result(timeout=20)


def accepts(matcher: LLMatcher, text: str) -> bool:
    """Whether a whole answer may be this text."""
    tokens = [*text.encode(), END]
    return matcher.deep_copy().validate_tokens(tokens) == len(tokens)


def random_answer(matcher: LLMatcher, seed: int, steps: int = 400) -> str | None:
    """Draw one of the permitted bytes again and again; return the answer if it ends in time."""
    drawn, numbers = bytearray(), random.Random(seed)
    mask = Mask(matcher, BYTES.size)
    for step in range(steps):
        scores = np.zeros(BYTES.size, np.float32)
        mask.apply(scores)
        permitted = np.flatnonzero(np.isfinite(scores)).tolist()
        # What closes is preferred in the end, so that answers do end.
        closing = [token for token in permitted if token in CLOSING]
        token = numbers.choice(closing if closing and step > steps // 4 else permitted)
        if token == END:
            return drawn.decode()
        drawn.append(token)
        mask.take(token)
    return None
