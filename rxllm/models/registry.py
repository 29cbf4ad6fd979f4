"""The registry: models by name, `provider/name`.

- `tiny` or `tiny/onnx`, `tiny/llama`: the bundled model, on either engine.
- `llama/<path>`: any GGUF file. `onnx/<directory>`: any ONNX decoder in Optimum's layout.
- `openai/<model>`, `anthropic/<model>`, `openrouter/<vendor>/<model>`, `groq/<model>`: over HTTP,
  with a key from an option or from the environment.
- `openai_compatible/<model>`: any server with OpenAI's API, by its base URL.
- `scripted/<text>`: the fake of `rxllm.models.scripted`, which plays `text` word by word.
- `replay/<path>`: the streams that `rxllm.recorded` has written to a file.
- Any provider added with `register`.
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias

import msgspec

from rxllm.errors import BadRequestError, ModelLoadError
from rxllm.models import tiny
from rxllm.models.remote.providers import PROVIDERS
from rxllm.requests import Model, ModelInfo
from rxllm.settings import Settings
from rxllm.wire_names import WireName

if TYPE_CHECKING:  # each kind of model is imported when one is made
    from rxllm.models.local.engine import Engine
    from rxllm.models.local.model import LocalModel

__all__ = ["LOCAL_PROVIDERS", "available_models", "list_models", "model", "register"]

Factory: TypeAlias = Callable[..., Model]
"""Makes a model from the part of its name after the provider, and from options."""

LOCAL_PROVIDERS: Final = ("tiny", "llama", "onnx")
"""The providers whose models run in this process."""

_LOCAL: Final = (
    "text", "prefill", "sampling", "seed", "confidence", "json", "json_schema", "grammar", "tools",
)  # fmt: skip
_SCRIPTED: Final = ("text", "prefill", "sampling")
_TINY: Final = 1024

_registered: dict[str, tuple[Factory, ModelInfo]] = {}
_shared: dict[str, LocalModel] = {}


def model(name: str, *, settings: Settings | None = None, **options: Any) -> Model:
    """Return the model with the given name.

    Local models without options are shared: the same name returns the same model, so its weights
    are loaded once. A call with options returns a separate model. Nothing is loaded before the
    first subscription.

    Args:
        name: `"tiny"`, `"llama/path/to/model.gguf"`, ...; see `list_models`.
        settings: time limits, attempts and slots of each stream; `None` for none. The slots are
            those of the model that is returned: each call with settings gives another one.
        options: for local models: `context_length` (tokens per stream), `slots` (live streams, 8),
            `threads` (per decode step), `isolate` (a process of its own). For remote models:
            `api_key`, `base_url`, `connect_timeout` (seconds, 10), `headers`, `strict` (a malformed
            event is an error), `wire` (the API to use), `api_version` (of Azure). For `replay/`:
            those of `rxllm.replay`.

    Raises:
        BadRequestError: no provider has this name, or an option is unknown or invalid.

    >>> model("tiny").info.id
    'tiny/onnx'
    >>> model("tinny")
    Traceback (most recent call last):
        ...
    rxllm.errors.BadRequestError: there is no model 'tinny': did you mean 'tiny'?
    """
    if not isinstance(name, str) or not name.strip():
        raise BadRequestError(
            f"a model name must be a str such as 'tiny' or 'llama/model.gguf', got {name!r}"
        )
    provider, _, rest = name.partition("/")
    factory = _registered[provider][0] if provider in _registered else _providers().get(provider)
    if factory is None:
        raise BadRequestError(f"there is no model {name!r}{_nearest(provider)}")
    if settings is None:
        return factory(rest, **options)
    from rxllm.models.settled import SettledModel

    if not isinstance(settings, Settings):
        raise BadRequestError(f"settings must be an rxllm.Settings, got {settings!r}")
    if provider in PROVIDERS:
        options.setdefault("connect_timeout", settings.connect)
    pool = settings.local_pool if provider in LOCAL_PROVIDERS else settings.remote_pool
    return SettledModel(factory(rest, **options), settings, pool)


def list_models() -> list[ModelInfo]:
    """List the models available by name: bundled, from files, remote, and registered."""
    listed = [
        _tiny_info("onnx", tiny.directory, "the bundled model, on ONNX Runtime"),
        _tiny_info("llama", tiny.directory / "tiny.gguf", "the bundled model, on llama.cpp"),
        ModelInfo("llama/<path>", "llama", None, _LOCAL, "any GGUF file"),
        ModelInfo("onnx/<directory>", "onnx", None, _LOCAL, "any ONNX decoder with a cache"),
        ModelInfo("scripted/<text>", "scripted", None, _SCRIPTED, "a fake that plays the text"),
        ModelInfo("replay/<path>", "replay", description="plays what rxllm.recorded has written"),
    ]
    listed += [
        ModelInfo(f"{name}/<model>", name, None, provider.capabilities, f"remote, {provider.needs}")
        for name, provider in PROVIDERS.items()
    ]
    return listed + [info for _, info in _registered.values()]


async def available_models(provider: str, **options: Any) -> list[ModelInfo]:
    """Ask a provider which models it offers, or a local server (`"ollama"`) which it has.

    Args:
        provider: the name of a remote provider.
        options: `api_key`, `base_url`, `connect_timeout`, `headers` and `api_version`, as in
            `model`.

    Raises:
        BadRequestError: no remote provider has this name, or an option is unknown or invalid.
        RxLLMError: the request failed, as that of a stream may.
    """
    from rxllm.models.remote.listing import offered_models

    if provider not in PROVIDERS:
        names = ", ".join(PROVIDERS)
        raise BadRequestError(f"there is no remote provider {provider!r}: there are {names}")
    given = _remote_options(provider, options)
    if given.wire is not None or given.strict:
        raise BadRequestError("a list of models takes neither wire nor strict")
    kept = msgspec.structs.asdict(given)
    del kept["wire"], kept["strict"]
    return await offered_models(PROVIDERS[provider], **kept)


def register(provider: str, factory: Factory, info: ModelInfo | None = None) -> None:
    """Add a provider so that `model("provider/rest")` calls `factory("rest", **options)`.

    Args:
        provider: a name without a slash, different from every built-in provider.
        factory: makes the model.
        info: the entry in `list_models()`.

    Raises:
        BadRequestError: the name is empty, has a slash, or belongs to a built-in provider.
    """
    if not provider or "/" in provider or provider in _providers():
        raise BadRequestError(
            f"a provider name must have no slash and not be a built-in one, got {provider!r}"
        )
    _registered[provider] = (factory, info or ModelInfo(provider, provider))


def _providers() -> dict[str, Factory]:
    remote: dict[str, Factory] = {name: partial(_remote, name) for name in PROVIDERS}
    local: dict[str, Factory] = {"tiny": _tiny, "llama": _llama, "onnx": _onnx}
    played: dict[str, Factory] = {"scripted": _scripted, "replay": _replay}
    return remote | local | played


def _nearest(provider: str) -> str:
    near = get_close_matches(provider, [*_providers(), *_registered], n=1)
    return f": did you mean {near[0]!r}?" if near else "; see rxllm.list_models()"


def _tiny_info(engine: str, path: Path, description: str) -> ModelInfo:
    info = ModelInfo(f"tiny/{engine}", "tiny", _TINY, _LOCAL, description)
    return _with_file(info, engine, path)


def _with_file(info: ModelInfo, kind: str, path: Path) -> ModelInfo:
    return msgspec.structs.replace(
        info,
        size=_size_of(path),
        type="gguf" if kind == "llama" else kind,
        max_output_tokens=info.context_length,  # of prompt and answer together
    )


def _tiny(engine: str = "", **options: Any) -> Model:
    # A second thread makes a model as small as this one slower.
    if engine in {"", "onnx"}:
        return _local("tiny/onnx", "onnx", tiny.directory, options, threads=1)
    if engine == "llama":
        return _local("tiny/llama", "llama", tiny.directory / "tiny.gguf", options, threads=1)
    raise BadRequestError(f"the bundled model is tiny/onnx or tiny/llama, got tiny/{engine}")


def _llama(path: str, **options: Any) -> Model:
    return _local(f"llama/{path}", "llama", _path(path, "llama/<path>"), options)


def _onnx(path: str, **options: Any) -> Model:
    return _local(f"onnx/{path}", "onnx", _path(path, "onnx/<directory>"), options)


def _scripted(text: str, **options: Any) -> Model:
    from rxllm.models.scripted import ScriptedModel

    if options:
        raise BadRequestError(
            "scripted/<text> takes no options: use rxllm.models.scripted.ScriptedModel"
        )
    return ScriptedModel(text or "Hello from a script.", by="word")


class _ReplayOptions(msgspec.Struct, forbid_unknown_fields=True):
    timing: bool = False
    match: Literal["request", "order"] = "request"
    until: Annotated[int, msgspec.Meta(ge=0)] | None = None


def _replay(path: str, **given: Any) -> Model:
    from rxllm.models.journal import replay

    try:
        options = msgspec.convert(given, _ReplayOptions)
    except msgspec.ValidationError as error:
        raise BadRequestError(f"invalid options for replay: {error}") from None
    return replay(_path(path, "replay/<path>"), **msgspec.structs.asdict(options))


class _RemoteOptions(msgspec.Struct, forbid_unknown_fields=True):
    api_key: str | None = None
    base_url: str | None = None
    connect_timeout: float = 10.0
    headers: dict[str, str] | None = None
    wire: WireName | None = None
    api_version: str | None = None
    strict: bool = False


def _remote(provider: str, name: str, **given: Any) -> Model:
    from rxllm.models.remote.model import RemoteModel

    options = _remote_options(provider, given)
    return RemoteModel(PROVIDERS[provider], name, **msgspec.structs.asdict(options))


def _remote_options(provider: str, given: dict[str, Any]) -> _RemoteOptions:
    try:
        return msgspec.convert(given, _RemoteOptions)
    except msgspec.ValidationError as error:
        raise BadRequestError(f"invalid options for {provider}: {error}") from None


def _path(path: str, form: str) -> Path:
    if not path:
        raise BadRequestError(f"the model name must include a path: {form}")
    return Path(path).expanduser()


class _LocalOptions(msgspec.Struct, forbid_unknown_fields=True):
    context_length: Annotated[int, msgspec.Meta(ge=1)] | None = None
    slots: Annotated[int, msgspec.Meta(ge=1)] = 8
    threads: Annotated[int, msgspec.Meta(ge=1)] | None = None
    isolate: bool = False

    @property
    def of_engine(self) -> dict[str, Any]:
        """The options of an engine."""
        return {name: getattr(self, name) for name in ("context_length", "slots", "threads")}


def _local(
    name: str,
    kind: str,
    path: Path,
    given: dict[str, Any],
    threads: int | None = None,
) -> Model:
    from rxllm.models.local.model import LocalModel
    from rxllm.models.local.worker import WorkerRunner

    try:
        options = msgspec.convert({"threads": threads, **given}, _LocalOptions)
    except msgspec.ValidationError as error:
        raise BadRequestError(f"invalid options for {name}: {error}") from None
    shared = None if given else _shared.get(name)
    if shared is not None and not shared.is_closed:
        return shared
    provider = name.partition("/")[0]
    info = next(
        (info for info in list_models() if info.id == name),
        ModelInfo(name, provider, None, _LOCAL),
    )
    if options.context_length is not None:
        info = msgspec.structs.replace(info, context_length=options.context_length)
    info = _with_file(info, kind, path)
    load = engine_loader(kind, path, options.of_engine)
    made = LocalModel(
        info, WorkerRunner(name, kind, path, options.of_engine) if options.isolate else load
    )
    if not given:
        _shared[name] = made
    return made


def _size_of(path: Path) -> int | None:
    """Return the bytes of a file, or of the ONNX files of a directory; `None` without any."""
    files = path.glob("**/*.onnx*") if path.is_dir() else [path]
    try:
        return sum(each.stat().st_size for each in files) or None
    except OSError:
        return None


def engine_loader(kind: str, path: Path, options: dict[str, Any]) -> Callable[[], Engine[Any]]:
    """Return the function that loads an engine of a kind: `"llama"` or `"onnx"`."""
    return partial(_load_llama if kind == "llama" else _load_onnx, path, options)


def _load_onnx(path: Path, options: dict[str, Any]) -> Engine[Any]:
    from rxllm.models.local.onnx import load_onnx

    return load_onnx(path, **options)


def _load_llama(path: Path, options: dict[str, Any]) -> Engine[Any]:
    try:
        from rxllm.models.local.llama import load_llama
    except ImportError as error:
        raise ModelLoadError(
            f"{path} requires llama-cpp-python: pip install 'rxllm[llama]' ({error})"
        ) from error
    return load_llama(path, **options)
