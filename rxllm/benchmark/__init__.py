"""Benchmark models on a set of cases; `rxllm bench` does it on the command line."""

from rxllm.benchmark.measure import Case, benchmark
from rxllm.benchmark.report import BenchmarkReport, BenchmarkRow, BenchmarkRun

__all__ = ["BenchmarkReport", "BenchmarkRow", "BenchmarkRun", "Case", "benchmark"]
