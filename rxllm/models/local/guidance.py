"""Holds an answer to a JSON Schema or a grammar, by masking tokens; see https://github.com/guidance-ai/llguidance.

llguidance is native code that can't be interrupted, but its limits count steps. Forced tokens are
switched off (`no_forcing`), since no limit covers them.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Final

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from rxllm.errors import BadRequestError, ModelError, UnsupportedError
from rxllm.models.local.compiler import compile_later
from rxllm.models.local.gbnf import lark_of
from rxllm.models.local.json_schema import check_schema, place_of
from rxllm.models.local.sampling import Scores
from rxllm.requests import Request

__all__ = ["HEAD", "Mask", "Pieces", "Vocabulary", "answer_grammar", "apply_mask", "json_rule"]

_LIMITS: Final = LLParserLimits(
    initial_lexer_fuel=200_000,
    step_lexer_fuel=50_000,
    step_max_items=20_000,
    max_lexer_states=20_000,
    max_grammar_size=50_000,
    max_items_in_row=2000,
    verbose_errors=False,
)
HEAD: Final = '%llguidance {"no_forcing": true}\n'
"""The first line of each grammar."""

_JSON: Final = "start: %json "
_STYLE: Final = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}
_MOST_KEPT: Final = 32


def answer_grammar(request: Request) -> str | None:
    """Return the grammar for the answer, in llguidance's form, or `None` if it is free.

    That is `response_format`, or the GBNF of llama.cpp in `extra["grammar"]`.

    Raises:
        BadRequestError: the schema or the grammar is invalid.
        UnsupportedError: an answer can't be held to it.
    """
    grammar = request.extra.get("grammar")
    if request.response_format is None:
        return None if grammar is None else HEAD + lark_of(grammar)
    if grammar is not None:
        raise BadRequestError("pass either a grammar or a response_format, not both")
    wanted = request.response_format
    schema = {"type": "object"} if wanted == "json" else wanted
    check_schema(schema)
    return HEAD + json_rule("start", schema)


def json_rule(name: str, schema: dict[str, Any]) -> str:
    """Return a rule for JSON that follows a schema, in llguidance's Lark."""
    return f"{name}: %json " + json.dumps(schema | {"x-guidance": _STYLE})


class Pieces:
    """The tokens of a vocabulary, in the form that llguidance reads.

    Args:
        tokens: the bytes of each token.
        special: the tokens that have no text.
        end: a token that ends an answer.
    """

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, tokens: Sequence[bytes], special: Sequence[int], end: int) -> None:
        self.tokens = tokens
        self.special_token_ids = special
        self.eos_token_id = end

    def __call__(self, text: str) -> list[int]:
        return []  # only forced tokens need it


class Vocabulary:
    """The tokens of one model, with the grammars that were compiled for them.

    Args:
        read: makes the tokenizer; called on the compiling thread, as it may take a second.
        size: the number of scores that a decode step gives.
    """

    def __init__(self, read: Callable[[], LLTokenizer], size: int) -> None:
        self.size: Final = size
        self._read = read
        self._tokenizer: LLTokenizer | None = None
        self._compiled: OrderedDict[str, Future[LLMatcher]] = OrderedDict()

    def compile(self, grammar: str) -> Future[LLMatcher]:
        """Return the matcher for `grammar`, from the compiling thread. Called on one thread.

        Its errors: `UnsupportedError`, and those of `compile_later`.
        """
        future = self._compiled.get(grammar)
        if future is None or (future.done() and future.exception() is not None):
            future = self._compiled[grammar] = compile_later(lambda: self._matcher(grammar))
        self._compiled.move_to_end(grammar)
        if len(self._compiled) > _MOST_KEPT:
            self._compiled.popitem(last=False)
        return future

    def _matcher(self, grammar: str) -> LLMatcher:
        if self._tokenizer is None:
            self._tokenizer = self._read()
        try:
            matcher = LLMatcher(self._tokenizer, grammar, log_level=0, limits=_LIMITS)
            probe = matcher.deep_copy()  # a schema that refers to itself alone fails only now
            probe.compute_bitmask()
        except Exception as error:  # a lone surrogate, for example
            raise UnsupportedError(f"the answer can't be held to this form: {error}") from error
        if probe.is_error():
            raise _refused(_reason(probe), grammar)
        return matcher


class Mask:
    """Which tokens may come next in one answer.

    Args:
        matcher: a compiled grammar; it isn't changed.
        size: the number of scores.
    """

    def __init__(self, matcher: LLMatcher, size: int) -> None:
        self._matcher = matcher.deep_copy()
        self._bits = np.zeros((size + 31) // 32, np.uint32)

    def apply(self, scores: Scores) -> None:
        """Set the scores of all tokens that may not come next to minus infinity, in place.

        Raises:
            ModelError: the grammar takes too many steps.
        """
        self._matcher.unsafe_compute_mask_ptr(self._bits.ctypes.data, self._bits.nbytes)
        self._check()
        bits = np.unpackbits(self._bits.view(np.uint8), count=len(scores), bitorder="little")
        scores[bits == 0] = -np.inf

    def take(self, token: int) -> None:
        """Go on with the token that was drawn.

        Raises:
            ModelError: the grammar takes too many steps.
        """
        self._matcher.consume_token(token)
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():  # nothing is raised, and only the end would be allowed
            reason = _reason(self._matcher)
            raise ModelError(f"the answer can't be held to its form any further: {reason}")


def apply_mask(mask: Mask | None, scores: Scores, *, keep: bool) -> Scores:
    """Apply the mask of an answer, if it has one, to the scores, in place.

    Returns:
        The scores as they were, if `keep`.

    Raises:
        ModelError: the grammar takes too many steps.
    """
    if mask is None:
        return scores
    before = scores.copy() if keep else scores
    mask.apply(scores)
    return before


def _reason(matcher: LLMatcher) -> str:
    """What llguidance says, without the grammar that it repeats."""
    text = " ".join(matcher.get_error().partition("\n   1 | ")[0].split())
    text = (text.partition("failed to compile JSON schema: ")[2] or text).partition(". Enable")[0]
    return text[:300].replace("NoExtensionBias <non-verbose/>", "it refers to itself alone")


def _refused(reason: str, grammar: str) -> UnsupportedError:
    schema = grammar.partition(_JSON)[2]
    if not schema:
        return UnsupportedError(f"the answer can't be held to the grammar: {reason}")
    written = json.loads(schema)
    del written["x-guidance"]
    place = place_of(reason, written)
    return UnsupportedError(
        f"the answer can't be held to the JSON Schema: {reason} (at {place})", "response_format"
    )
