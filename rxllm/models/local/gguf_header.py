"""What can be checked of a GGUF file before llama.cpp gets it: some errors end the process there.

Source of the format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import Any, Final

from rxllm.errors import ModelLoadError

__all__ = ["check_gguf"]

_SCALARS: Final = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?",
    10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
_STRING: Final = 8
_ARRAY: Final = 9
_VERSIONS: Final = (2, 3)
_ENCODER_DECODERS: Final = ("t5", "t5encoder")
_NO_DECODERS: Final = ("clip", "wavtokenizer-dec")


def check_gguf(path: Path) -> None:
    """Check the header of a file.

    Raises:
        ModelLoadError: the file can't be read, isn't a GGUF file, is corrupt, or isn't a model
            that writes text.
    """
    try:
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            fields = _Header(data).fields()
    except OSError as error:
        raise ModelLoadError(f"{path} can't be read: {error.strerror or error}") from error
    except (ValueError, struct.error) as error:
        raise ModelLoadError(f"{path} isn't a valid GGUF file: {error}") from error
    if reason := _why_not(fields):
        raise ModelLoadError(f"{path} can't be used: {reason}")


def _why_not(fields: dict[str, Any]) -> str | None:
    kind = fields.get("general.architecture")
    if not isinstance(kind, str):
        return "it has no general.architecture"
    if kind in _ENCODER_DECODERS or f"{kind}.decoder_start_token_id" in fields:
        return f"{kind!r} is an encoder-decoder model, which isn't supported"
    if kind in _NO_DECODERS:
        return f"{kind!r} isn't a language model"
    if fields.get(f"{kind}.attention.causal") is False or fields.get(f"{kind}.pooling_type"):
        return "it is an embedding model, which doesn't write text"
    tokens = fields.get("tokenizer.ggml.tokens")
    if isinstance(tokens, list):
        # llama.cpp reads up to the first NUL, and gives empty tokens a name of their own.
        read = [each.partition(b"\0")[0] or number for number, each in enumerate(tokens)]
        if len(set(read)) != len(read):
            return "its vocabulary has the same token twice"
    return None


class _Header:
    """Reads the key-value pairs of a file; each read is checked against its size."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._at = 0

    def fields(self) -> dict[str, Any]:
        magic = self._bytes(4)
        if magic != b"GGUF":
            raise ValueError(f"it must start with b'GGUF', got {magic!r}")
        version = self._scalar("<I")
        if version not in _VERSIONS:
            raise ValueError(f"its version must be 2 or 3, got {version}")
        self._scalar("<Q")  # the number of tensors
        count = self._scalar("<Q")
        found: dict[str, Any] = {}
        for _ in range(count):
            name = self._bytes(self._scalar("<Q")).decode()
            found[name] = self._value(self._scalar("<I"))
        return found

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._bytes(self._scalar("<Q")).decode("utf-8", "replace")
        if kind != _ARRAY:
            return self._scalar(_format_of(kind))
        kind, count = self._scalar("<I"), self._scalar("<Q")
        if kind == _STRING:
            return [self._bytes(self._scalar("<Q")) for _ in range(count)]
        self._bytes(struct.calcsize(_format_of(kind)) * count)  # of no interest here
        return None

    def _scalar(self, form: str) -> Any:
        (value,) = struct.unpack(form, self._bytes(struct.calcsize(form)))
        return value

    def _bytes(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._data):
            raise ValueError("it ends in the middle of its header")
        data = self._data[self._at : end]
        self._at = end
        return data


def _format_of(kind: int) -> str:
    if kind not in _SCALARS:
        raise ValueError(f"it has a value of the unknown type {kind}")
    return _SCALARS[kind]
