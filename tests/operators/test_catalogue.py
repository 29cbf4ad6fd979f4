"""The catalogue: one name for each operator, and one way to import it."""

import importlib
import importlib.util
import pkgutil
from pathlib import Path

import pytest

from rxllm import operators as ops


def test_these_are_the_operators() -> None:
    assert ops.__all__ == sorted(ops.__all__)
    assert set(ops.__all__) == {
        "Accumulated",
        "AfterOutput",
        "AnalyticsReport",
        "AsyncCacheStore",
        "Budget",
        "BufferStatus",
        "CacheStore",
        "Checked",
        "Choice",
        "CircuitBreaker",
        "ContentFigures",
        "Control",
        "DebugEntry",
        "DebugLog",
        "DebugSummary",
        "Html",
        "Intervals",
        "Lexicon",
        "Measurement",
        "MemoryStore",
        "Multiplexed",
        "Limited",
        "Limiter",
        "Permit",
        "Pool",
        "Pooled",
        "RateLimiter",
        "SlotPool",
        "Quality",
        "RaceResult",
        "Redaction",
        "StreamAnalytics",
        "StreamInfo",
        "StreamRecord",
        "StreamRegistry",
        "StreamSummary",
        "TextCount",
        "TextFigures",
        "TrackedStream",
        "accumulate",
        "analyze_text",
        "analyze",
        "arguments_of",
        "batch",
        "best_of",
        "best_of_with",
        "budget",
        "buffered",
        "cache",
        "cache_key",
        "change_case",
        "circuit_breaker",
        "complete_partial",
        "price",
        "debug",
        "degrade",
        "drop_blank",
        "error_boundary",
        "fallback_to",
        "filter_async",
        "filters",
        "guard",
        "json_items",
        "hedge",
        "hedge_with",
        "is_failure_of_model",
        "keep_partial",
        "lines",
        "log_stream",
        "map_async",
        "map_text",
        "markdown_to_html",
        "measure",
        "merge_streams",
        "merge_with",
        "meter",
        "multiplex",
        "not_json",
        "pace",
        "parallel",
        "parse_json",
        "split_reasoning",
        "pausable",
        "limit",
        "limit_concurrency",
        "progress",
        "punctuation",
        "quality_gate",
        "quick_then_detailed",
        "race",
        "race_with",
        "rate_limit",
        "read_lexicon",
        "rechunk",
        "redact",
        "repeats",
        "require_output",
        "resume",
        "retry_with_backoff",
        "sentences",
        "sentiment_and_keywords",
        "side_by_side",
        "side_by_side_with",
        "smooth",
        "track_stages",
        "stop_on",
        "text",
        "throttle",
        "timeouts",
        "too_slow",
        "tool_calls",
        "trace",
        "track",
        "transcribe",
        "typewriter",
        "words",
    }


def test_dir_lists_the_names_that_are_imported_lazily() -> None:
    assert dir(ops) == ops.__all__
    with pytest.raises(AttributeError, match="no_such_operator"):
        ops.no_such_operator  # type: ignore[attr-defined]  # noqa: B018


def test_every_family_is_in_the_catalogue() -> None:
    for family in pkgutil.iter_modules(ops.__path__):
        if family.ispkg:
            module = importlib.import_module(f"rxllm.operators.{family.name}")
            for name in module.__all__:
                assert getattr(ops, name) is getattr(module, name)


def test_importing_it_under_another_name_raises() -> None:
    path = Path(ops.__path__[0]) / "__init__.py"
    spec = importlib.util.spec_from_file_location("operators", path)
    assert spec is not None
    assert spec.loader is not None
    with pytest.raises(ImportError, match=r"import rxllm\.operators, not operators"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
