"""The table of models: facts by name, the bundled one, and one's own over it."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

import rxllm
from rxllm.errors import BadRequestError, UnsupportedError
from rxllm.messages import ImagePart, Message
from rxllm.model_table import ModelFacts, ModelTable, Price, model_table, read_model_table
from rxllm.testing.fault_server import FaultServer, Reply
from rxllm.testing.provider_streams import anthropic_events, openai_events

TODAY = date(2026, 1, 1)
OWN = """
updated = 2026-06-01
[models."openai/*"]
tools = false
[models."mine/model"]
price = { input = 1, output = 2, cached = 0.1, cache_write = 1.25 }
context_length = 4096
"""

# Of https://platform.claude.com/docs: which models continue a last assistant message, and take
# sampling parameters.
CLAUDES = {
    "claude-haiku-4-5": (True, True),
    "claude-haiku-4-5-20251001": (True, True),
    "claude-sonnet-4-5": (True, True),
    "claude-sonnet-4-5-20250929": (True, True),
    "claude-opus-4-5": (True, True),
    "claude-opus-4-5-20251101": (True, True),
    "claude-sonnet-4-6": (False, True),
    "claude-opus-4-6": (False, True),
    "claude-opus-4-6-20260205": (False, True),
    "claude-opus-4-7": (False, False),
    "claude-opus-4-7-20260416": (False, False),
    "claude-opus-4-8": (False, False),
    "claude-sonnet-5": (False, False),
    "claude-sonnet-5-5": (False, False),
    "claude-opus-5": (False, False),
    "claude-opus-5-5": (False, False),
    "claude-haiku-5-5": (False, False),
    "claude-fable-5": (False, False),
    "claude-fable-5-1": (False, False),
    "claude-mythos-5": (False, False),
    "claude-mythos-5-1": (False, False),
    "claude-of-next-year": (False, False),
}


def table(**models: ModelFacts) -> ModelTable:
    return ModelTable(TODAY, models)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "models.toml"
    path.write_text(OWN)
    monkeypatch.setenv("RXLLM_MODELS", str(path))
    return path


def test_an_exact_name_comes_before_a_pattern_and_patterns_from_the_top() -> None:
    facts = {
        "a/*": ModelFacts(tools=True, images=True),
        "a/b*": ModelFacts(tools=False, reasoning=True),
        "a/bc": ModelFacts(images=False),
    }
    assert ModelTable(TODAY, facts).facts_of("a/bc") == ModelFacts(
        images=False, tools=True, reasoning=True
    )
    assert ModelTable(TODAY, facts).facts_of("b/a") == ModelFacts()


@pytest.mark.parametrize(
    ("name", "tools"),
    [("gpt", True), ("gpt-2026-08-06", True), ("gpt-20260806", True), ("gpt-2026-01-01", False),
     ("gpt-mini", None)],
)  # fmt: skip
def test_a_snapshot_is_like_its_model_unless_it_is_listed(name: str, tools: bool | None) -> None:
    facts = {"gpt": ModelFacts(tools=True), "gpt-2026-01-01": ModelFacts(tools=False)}
    assert table(**facts).facts_of(name).tools is tools


def test_a_table_over_another_comes_first_field_by_field() -> None:
    base = table(model=ModelFacts(tools=True, images=True, price=Price(1, 2)))
    layered = ModelTable(TODAY, {"*": ModelFacts(tools=False)}).over(base)
    assert layered.facts_of("model") == ModelFacts(tools=False, images=True, price=Price(1, 2))
    assert layered.price_of("model") == Price(1, 2)


def test_the_bundled_table_has_its_date_its_sources_and_todays_models() -> None:
    bundled = read_model_table()
    assert bundled.updated is not None
    assert bundled.updated >= date(2026, 11, 28)
    assert len(bundled.sources) > 3
    providers = {name.partition("/")[0] for name in bundled.models}
    assert providers >= {"openai", "anthropic", "gemini", "groq", "mistral", "deepseek", "xai"}
    for name, facts in bundled.models.items():
        if facts.price is not None:
            assert 0 < (facts.price.cached or facts.price.input) <= facts.price.input, name
            assert facts.price.input <= facts.price.output, name


@pytest.mark.parametrize("name", CLAUDES)
def test_each_claude_model_has_its_own_prefill_and_sampling(name: str) -> None:
    facts = model_table().facts_of(f"anthropic/{name}")
    assert (facts.prefill, facts.sampling is not False) == CLAUDES[name]
    info = rxllm.model(f"anthropic/{name}").info
    assert (info.supports("prefill"), info.supports("sampling")) == CLAUDES[name]


@pytest.mark.parametrize(
    ("name", "api"),
    [("gpt-5.2-pro", "openai_responses"), ("gpt-5.3-codex", "openai_responses"),
     ("gpt-7-pro", "openai_responses"), ("gpt-5.6", None), ("gpt-4o", None)],
)  # fmt: skip
def test_some_models_have_another_api(name: str, api: str | None) -> None:
    assert model_table().facts_of(f"openai/{name}").api == api


def test_the_table_fills_the_info_of_a_model() -> None:
    info = rxllm.model("openai/gpt-4o-2024-08-06").info
    assert (info.context_length, info.max_output_tokens) == (128_000, 16_384)
    assert info.capabilities == ("text", "tools", "images", "sampling", "json_schema")


def test_a_model_that_is_not_listed_can_do_what_its_api_can() -> None:
    info = rxllm.model("openai_compatible/mine", base_url="http://localhost").info
    assert info.capabilities == (
        "text", "tools", "images", "reasoning", "prefill", "sampling", "json_schema",
    )  # fmt: skip


def test_ones_own_table_is_read_over_the_bundled_one(own: Path) -> None:
    assert model_table().price_of("mine/model") == Price(1, 2, 0.1, 1.25)
    assert model_table().facts_of("openai/gpt-4o").tools is False
    assert model_table().price_of("openai/gpt-4o") is not None
    assert "tools" not in rxllm.model("openai/gpt-4o").info.capabilities


@pytest.mark.parametrize("suffix", [".toml", ".json"])
def test_a_table_may_be_toml_or_json(tmp_path: Path, suffix: str) -> None:
    toml = 'updated = 2026-01-01\n[models]\n"a/b" = { tools = true }\n'
    json = '{"updated": "2026-01-01", "models": {"a/b": {"tools": true}}}'
    path = tmp_path / f"models{suffix}"
    path.write_text(toml if suffix == ".toml" else json)
    assert read_model_table(path) == table(**{"a/b": ModelFacts(tools=True)})
    assert read_model_table(str(path)).updated == TODAY


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("openrouter/anthropic/claude-sonnet-4.5", "anthropic/claude-sonnet-4-5"),
        ("openrouter/anthropic/claude-opus-4.7:beta", "anthropic/claude-opus-4-7"),
        ("openrouter/openai/gpt-5.2", "openai/gpt-5.2"),
        ("openrouter/google/gemini-2.5-pro", "gemini/gemini-2.5-pro"),
        ("azure/gpt-5", "openai/gpt-5"),
        ("azure/gpt-5.2-pro", "openai/gpt-5.2-pro"),
        ("anthropic/claude-haiku-4-5@20251001", "anthropic/claude-haiku-4-5"),
        ("gemini/gemini-2.5-flash-lite-preview-09-2025", "gemini/gemini-2.5-flash-lite"),
        ("gemini/gemini-2.5-flash-001", "gemini/gemini-2.5-flash"),
    ],
)
def test_a_model_has_several_names(name: str, like: str) -> None:
    facts = read_model_table().facts_of(name)
    assert facts.context_length is not None
    assert facts == read_model_table().facts_of(like)


def test_a_model_behind_openrouter_is_asked_through_its_own_api() -> None:
    assert read_model_table().facts_of("openrouter/openai/gpt-5-pro").api is None
    assert read_model_table().facts_of("openrouter/unknown").context_length is None


@pytest.mark.parametrize("name", ["codex-mini-latest", "o3-deep-research", "gpt-5.1-codex-max"])
def test_some_models_have_the_responses_api_only(name: str) -> None:
    assert read_model_table().facts_of(f"openai/{name}").api == "openai_responses"


def test_a_table_of_ones_own_needs_no_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.toml").write_text("[models.'a/b']\ntools = true")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RXLLM_MODELS", " ~/own.toml ")
    assert model_table().facts_of("a/b").tools
    monkeypatch.setenv("RXLLM_MODELS", " ")
    assert model_table().facts_of("a/b").tools is None


@pytest.mark.parametrize(
    "text",
    ["x", "updated = 2026-01-01\n[models.a]\ntool = true",
     "updated = 2026-01-01\n[models.a]\nprice = { input = -1, output = 1 }",
     "updated = 2026-01-01\n[models.a]\ncontext_length = 0"],
)  # fmt: skip
def test_an_invalid_table_is_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "models.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"models\.toml is not a valid table of models"):
        read_model_table(path)
    with pytest.raises(OSError, match="nowhere"):
        read_model_table(tmp_path / "nowhere.toml")


PICTURE = [Message("user", (ImagePart(url="https://a.example/b.png"),))]


@pytest.mark.parametrize(
    ("name", "prompt", "options", "reason", "field"),
    [
        ("anthropic/claude-opus-5", "Hi", {"temperature": 0}, "temperature: omit it",
         "temperature"),
        ("anthropic/claude-opus-5", "Hi", {"top_k": 5}, "top_k: omit it", "top_k"),
        ("openai/gpt-5", "Hi", {"top_p": 0.5}, "top_p: omit it", "top_p"),
        ("anthropic/claude-sonnet-4-6",
         [Message("user", "Hi"), Message("assistant", "Once")], {}, "continuing", "messages"),
        ("openai/gpt-4", "Hi", {"response_format": {"type": "object"}}, "a JSON Schema",
         "response_format"),
        ("deepseek_like/no-tools", "Hi", {"tools": [rxllm.Tool("f")]}, "tools", "tools"),
        ("mistral_like/no-images", PICTURE, {}, "images", "messages"),
    ],
)  # fmt: skip
async def test_what_a_model_can_not_do_is_an_error_before_anything_is_sent(
    name: str,
    prompt: Any,
    options: dict[str, Any],
    reason: str,
    field: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "models.toml"
    path.write_text(
        'updated = 2026-01-01\n[models."openai_compatible/no-*"]\ntools = false\nimages = false\n'
        '[models."openai/gpt-4"]\njson_schema = false\n'
    )
    monkeypatch.setenv("RXLLM_MODELS", str(path))
    provider, _, rest = name.partition("/")
    provider = "openai_compatible" if provider.endswith("_like") else provider
    events = anthropic_events("Hi") if provider == "anthropic" else openai_events("Hi")
    async with FaultServer(Reply(events)) as server:
        model = rxllm.model(f"{provider}/{rest}", api_key="k", base_url=server.url)
        with pytest.raises(UnsupportedError, match=f"{rest} doesn't support {reason}") as caught:
            await model.stream(prompt, **options)
        assert (caught.value.field, server.requests) == (field, [])
        router = rxllm.Router([model, "scripted/Another one."], "quality")
        assert (await router.stream(prompt, **options)).text == "Another one."
    assert isinstance(caught.value, BadRequestError)


async def test_a_router_finds_the_model_that_can_answer_in_json() -> None:
    other = rxllm.model("anthropic/claude-opus-5", api_key="k", base_url="http://127.0.0.1:9")
    router = rxllm.Router([other, "tiny"], "quality")
    result = await router.stream(
        "Give me a JSON record of a cat", response_format="json", max_tokens=60, temperature=0
    )
    assert result.model == "tiny/onnx"
    assert result.text.startswith("{")
