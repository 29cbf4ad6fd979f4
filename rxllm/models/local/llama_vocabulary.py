"""The tokens of a GGUF model (`llama.h`)."""

from __future__ import annotations

import ctypes
from typing import Any

import llama_cpp
from llguidance import LLTokenizer

from rxllm.models.local.answer_form import MARKERS
from rxllm.models.local.control_tokens import ControlToken
from rxllm.models.local.guidance import Pieces, Vocabulary

__all__ = ["LlamaVocabulary"]

_CONTROL = llama_cpp.LLAMA_TOKEN_ATTR_CONTROL | llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN
_SPECIAL = _CONTROL | llama_cpp.LLAMA_TOKEN_ATTR_UNUSED


class LlamaVocabulary(Vocabulary):
    """The vocabulary of a model, which must stay loaded.

    Args:
        model: llama.cpp's pointer to the model.
    """

    def __init__(self, model: Any) -> None:
        self._vocabulary = llama_cpp.llama_model_get_vocab(model)
        super().__init__(self._tokenizer_of_all, llama_cpp.llama_vocab_n_tokens(self._vocabulary))
        bos = llama_cpp.llama_vocab_bos(self._vocabulary)
        self.bos: str = self._text(bos)
        self.eos: str = self._text(llama_cpp.llama_vocab_eos(self._vocabulary))
        self.first: list[int] = [bos] if llama_cpp.llama_vocab_get_add_bos(self._vocabulary) else []
        self._attributes = [
            llama_cpp.llama_vocab_get_attr(self._vocabulary, token) for token in range(self.size)
        ]
        self._pieces: dict[int, bytes] = {}

    @property
    def controls(self) -> list[ControlToken]:
        """The control tokens."""
        return [
            ControlToken(
                token,
                self._text(token),
                bool(attributes & llama_cpp.LLAMA_TOKEN_ATTR_LSTRIP),
                bool(attributes & llama_cpp.LLAMA_TOKEN_ATTR_RSTRIP),
            )
            for token, attributes in enumerate(self._attributes)
            if attributes & _CONTROL
        ]

    def encode(self, text: str, *, plain: bool = False) -> list[int]:
        """Tokenize a text; if `plain`, the texts of control tokens are ordinary text."""
        data = text.encode()
        tokens = (llama_cpp.llama_token * (len(data) + 8))()
        count = llama_cpp.llama_tokenize(
            self._vocabulary, data, len(data), tokens, len(tokens), False, not plain
        )
        return tokens[:count]

    def piece(self, token: int) -> bytes:
        """The bytes of a token; none for a special one, unless an answer is read by it."""
        piece = self._pieces.get(token)
        if piece is None:
            is_marker = self._attributes[token] & _CONTROL and self._text(token) in MARKERS
            piece = self._text(token).encode() if is_marker else self._piece(token)
            self._pieces[token] = piece
        return piece

    def is_end(self, token: int) -> bool:
        """Whether a token ends an answer."""
        return bool(llama_cpp.llama_vocab_is_eog(self._vocabulary, token))

    def _piece(self, token: int) -> bytes:
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            used = llama_cpp.llama_token_to_piece(self._vocabulary, token, buffer, size, 0, False)
            if used >= 0:
                return buffer.raw[:used]
            size = -used

    def _text(self, token: int) -> str:
        if token < 0:  # the vocabulary has none
            return ""
        text: bytes = llama_cpp.llama_vocab_get_text(self._vocabulary, token)
        return text.decode("utf-8", "replace")

    def _tokenizer_of_all(self) -> LLTokenizer:
        tokens = range(self.size)
        special = [token for token in tokens if self._attributes[token] & _SPECIAL]
        ends = [token for token in tokens if self.is_end(token)]
        pieces: Any = Pieces([self._piece(token) for token in tokens], special, ends[0])
        return LLTokenizer(pieces, eos_token=ends)
