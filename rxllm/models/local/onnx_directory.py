"""The files beside an ONNX model: tokenizer, configuration, chat template."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from tokenizers import Tokenizer

from rxllm.errors import ModelLoadError
from rxllm.models.local.chat_template import ChatTemplate

__all__ = ["OnnxDirectory"]

_PRECISIONS: Final = ("fp16", "quantized", "int8", "uint8", "q8", "q4f16", "q4", "bnb4")
_Struct = TypeVar("_Struct", bound=msgspec.Struct)


_MODELS: Final = tuple(
    [
        f"{folder}{name}.onnx"
        for base in ("model", "decoder_model_merged")
        for name in (base, *[f"{base}_{kind}" for kind in _PRECISIONS])
        for folder in ("", "onnx/")
    ]
)
"""What Optimum and transformers.js call the file, the most exact one first."""


class _Config(msgspec.Struct):
    """The fields read from `config.json` and `generation_config.json`."""

    max_position_embeddings: int | None = None
    n_positions: int | None = None
    eos_token_id: int | list[int] | None = None


class _AddedToken(msgspec.Struct):
    content: str


class _NamedTemplate(msgspec.Struct):
    name: str
    template: str


class _TokenizerConfig(msgspec.Struct):
    """The fields read from `tokenizer_config.json`."""

    chat_template: str | list[_NamedTemplate] | None = None
    add_bos_token: bool | None = None
    bos_token: str | _AddedToken | None = None
    eos_token: str | _AddedToken | None = None


@dataclass(frozen=True, slots=True)
class OnnxDirectory:
    """The configuration in a model's directory, loaded and validated."""

    path: Path
    model: Path
    tokenizer: Any
    template: ChatTemplate
    tool_template: ChatTemplate | None
    first_tokens: list[int]
    context_length: int
    end_tokens: frozenset[int]

    @classmethod
    def read(cls, path: Path) -> OnnxDirectory:
        """Read a directory.

        Raises:
            ModelLoadError: the directory or a file is missing, or a file can't be read.
        """
        if not path.is_dir():
            reason = "is a file" if path.exists() else "does not exist"
            raise ModelLoadError(f"{path} must be a directory with an ONNX model, but {reason}")
        model = next((path / name for name in _MODELS if (path / name).is_file()), None)
        if model is None:
            raise ModelLoadError(f"{path} has no model.onnx, nor one of its other names")
        for name in ("tokenizer.json", "config.json"):
            if not (path / name).is_file():
                raise ModelLoadError(f"{path} has no {name}")
        config = _read(path / "config.json", _Config)
        names = _read_if_there(path / "tokenizer_config.json", _TokenizerConfig)
        tokenizer = _read_tokenizer(path / "tokenizer.json")
        bos_token, eos_token = _text(names.bos_token), _text(names.eos_token)
        templates = {
            name: ChatTemplate(source, bos_token=bos_token, eos_token=eos_token, origin=path)
            for name, source in _templates(path, names).items()
        }
        has_template = "default" in templates
        return cls(
            path=path,
            model=model,
            tokenizer=tokenizer,
            template=templates.get("default") or ChatTemplate(None, origin=path),
            tool_template=templates.get("tool_use"),
            first_tokens=[] if has_template else _first_tokens(tokenizer, names),
            context_length=_context_length(path, config),
            end_tokens=_end_tokens(path, config, tokenizer.token_to_id(eos_token)),
        )


def _read(path: Path, kind: type[_Struct]) -> _Struct:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ModelLoadError(f"{path} can't be read: {error}") from error


def _read_if_there(path: Path, kind: type[_Struct]) -> _Struct:
    return _read(path, kind) if path.exists() else kind()


def _read_tokenizer(path: Path) -> Any:
    try:
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.no_truncation()  # of training
        tokenizer.no_padding()
        return tokenizer
    except BaseException as error:  # tokenizers raises plain Exceptions and Rust panics
        raise ModelLoadError(f"{path} isn't a valid tokenizer: {error}") from error


def _text(token: str | _AddedToken | None) -> str:
    return token.content if isinstance(token, _AddedToken) else token or ""


def _templates(path: Path, names: _TokenizerConfig) -> dict[str, str]:
    """The chat templates by their names, of which `default` and `tool_use` are known."""
    file = path / "chat_template.jinja"
    try:
        if file.exists():
            return {"default": file.read_text(encoding="utf-8")}
    except (OSError, UnicodeDecodeError) as error:
        raise ModelLoadError(f"{file} can't be read: {error}") from error
    in_json = _read_if_there(path / "chat_template.json", _TokenizerConfig)
    given = in_json.chat_template if in_json.chat_template is not None else names.chat_template
    if isinstance(given, list):
        return {each.name: each.template for each in given}
    return {} if given is None else {"default": given}


def _first_tokens(tokenizer: Any, names: _TokenizerConfig) -> list[int]:
    """The tokens before a text that no chat template has put there."""
    with_special = tokenizer.encode("a", add_special_tokens=True).ids
    plain = tokenizer.encode("a", add_special_tokens=False).ids
    place = next((at for at, id_ in enumerate(with_special) if id_ == plain[0]), 0) if plain else 0
    bos = tokenizer.token_to_id(_text(names.bos_token))
    if not place and names.add_bos_token and bos is not None:
        return [bos]
    return [*with_special[:place]]


def _context_length(path: Path, config: _Config) -> int:
    length = config.max_position_embeddings or config.n_positions
    if length is None:
        raise ModelLoadError(f"{path / 'config.json'} lacks max_position_embeddings")
    return length


def _end_tokens(path: Path, config: _Config, eos_token: int | None) -> frozenset[int]:
    generation = _read_if_there(path / "generation_config.json", _Config)
    tokens: set[int] = set() if eos_token is None else {eos_token}
    for ids in (config.eos_token_id, generation.eos_token_id):
        tokens.update(ids if isinstance(ids, list) else [] if ids is None else [ids])
    if not tokens:
        raise ModelLoadError(f"{path} doesn't define the end token (eos_token_id)")
    return frozenset(tokens)
